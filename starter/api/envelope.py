"""Around every request: how many may follow, and whatever nobody foresaw becomes a problem too."""

import math
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starter.api.problems import our_fault
from starter.limits import WINDOW, Allowance

RATE_LIMIT: Final = "RateLimit"
RATE_LIMIT_POLICY: Final = "RateLimit-Policy"
"""As draft-ietf-httpapi-ratelimit-headers-10 has them."""


class Envelope:
    """The outermost part of the app that is ours: uvicorn would log an exception's text, which may name customers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            allowance = scope.get("state", {}).get("allowance")
            if message["type"] == "http.response.start" and isinstance(allowance, Allowance):
                _tell(MutableHeaders(scope=message), allowance)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001 - the last place where an answer can be given
            answer = our_fault(error)
            if not started:
                await answer(scope, receive, send)


def _tell(headers: MutableHeaders, allowance: Allowance) -> None:
    headers[RATE_LIMIT_POLICY] = f'"token";q={allowance.rate};w={WINDOW}'
    # With nothing left: after how many seconds there is one again.
    later = "" if allowance.left else f";t={math.ceil(WINDOW / allowance.rate)}"
    headers[RATE_LIMIT] = f'"token";r={allowance.left}{later}'
