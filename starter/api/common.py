"""What all routes share: the desk, whose token it is, and how their answers are declared."""

from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from starter.api.problems import NO_STORE
from starter.desk import Desk
from starter.limits import sender_of
from twinline.ledger.tokens import TokenView
from twinline.logs import note

_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="token", description="A token that `twinline token` made.")


async def _desk(request: Request) -> Desk:
    # Not a plain function: FastAPI would send each request to a thread and back for it.
    return request.app.state.desk


TheDesk = Annotated[Desk, Depends(_desk)]


async def _who(
    request: Request,
    response: Response,
    desk: TheDesk,
    shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> TokenView:
    address = "" if request.client is None else request.client.host
    admitted = await desk.admit(None if shown is None else shown.credentials, sender=sender_of(address))
    # For the envelope, which tells it to the caller.
    request.state.allowance = admitted.allowance
    # What a token is told is nobody else's. A route that makes its own Response says so itself.
    response.headers.update(NO_STORE)
    note(token_id=admitted.who.token_id, caller=admitted.who.caller)
    return admitted.who


Who = Annotated[TokenView, Depends(_who)]
"""Whose token it is; every route that asks for it declares OF_TOKENS."""

PREFER: Final[dict[str, Any]] = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string"},
    "example": "wait=30",
    "description": "wait=N: wait up to N seconds, 60 at most, for the end of what is asked for; 0 for not at all.",
}

OF_TOKENS: Final = ("InvalidToken", "ScopeMissing", "TooManyRequests", "Unavailable")
"""The problems of every route that needs a token."""
OF_BODIES: Final = ("BadRequest", "BodyTooLate", "BodyTooLarge", "NotJson", "InvalidOrder")
"""The problems of every route that takes a body."""
