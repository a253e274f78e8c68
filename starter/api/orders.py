"""Reads an order from a request: what is in the body and what in the headers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from fastapi import Request
from pydantic import Field, ValidationError
from pydantic_core import to_json

from starter.api.bodies import read_object
from starter.api.problems import BadFields
from starter.invalid import LASTING_REASON, FieldProblem, field_problems
from starter.trial_door import AskedTrial
from twinline.errors import InvalidOrder
from twinline.messages import ORDER_TYPES, LastingReason, Message, Order, OrderKind, TrialOrder

LONGEST_WAIT: Final = timedelta(seconds=60)
NOT_AT_ALL: Final = timedelta(0)

KINDS: Final[Mapping[str, type[Order]]] = {
    **{f"{kind}s": model for kind, model in ORDER_TYPES.items() if kind is not OrderKind.CANCEL},
    "trials": AskedTrial,
}
EXAMPLES: Final[Mapping[str, Mapping[str, object]]] = {
    "trials": {"order": "T-1001", "email": "jane@example.com", "region": "eu", "client_address": "203.0.113.7"},
    "purchases": {"order": "P-1002", "email": "jane@example.com", "region": "eu", "days": 30},
    "renewals": {"order": "R-1003", "line": "k7mq3xw9ab", "days": 30},
    "blocks": {"case": "C-7", "line": "k7mq3xw9ab", "owner": "abuse", "reason": "The line was shared."},
    "unblocks": {"case": "C-7", "line": "k7mq3xw9ab", "owner": "abuse"},
    "passwords": {"order": "W-1004", "line": "k7mq3xw9ab"},
    "moves": {"order": "M-1005", "line": "k7mq3xw9ab", "pair": "eu2", "overlap_hours": 24},
    "closes": {"order": "X-1006", "line": "k7mq3xw9ab"},
}

_WAIT: Final = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?([0-9]{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Asked:
    """An order, and from where a customer asks for it, if that is told."""

    order: Order
    client: str | None = None


async def read_order(request: Request, kind: str, *, caller: str) -> Asked:
    """The order of a request; raises HttpProblem, BadFields, InvalidOrder."""
    fields = await read_object(request)
    model = KINDS[kind]
    own_id = "case" if "case" in model.model_fields else "order"
    for key in request.headers.getlist("idempotency-key"):
        take_key(fields, own_id, key)
    if "caller" in fields:
        # Whose order it is stands in the token.
        raise BadFields((FieldProblem(field="caller", sentence="there is no field caller: the token tells who asks"),))
    try:
        # As JSON: a number is no moment there, and a text no number.
        order = model.model_validate_json(to_json({**fields, "caller": caller}), strict=True)
    except ValidationError as error:
        raise BadFields(field_problems(error, names={})) from None
    if not isinstance(order, AskedTrial):
        return Asked(order)
    # From where a customer asks is no part of the order: he may repeat it from elsewhere, and no workflow needs it.
    return Asked(TrialOrder(**order.model_dump(exclude={"client_address"})), client=order.client_address)


class _Cancellation(Message):
    """Why an order is taken back."""

    reason: LastingReason = Field(description="Kept for ever, so let it name no customer.", examples=["Refunded."])


async def read_reason(request: Request) -> str:
    """Why an order is to be taken back; raises HttpProblem, BadFields."""
    fields = await read_object(request)
    try:
        return _Cancellation.model_validate_json(to_json(fields), strict=True).reason
    except ValidationError as error:
        rules = {"reason": LASTING_REASON}
        raise BadFields(field_problems(error, names={}, whole="", rules=rules)) from None


REASON_SCHEMA: Final = _Cancellation.model_json_schema()
REASON_EXAMPLE: Final = {"reason": "Refunded."}


def patience_of(request: Request) -> tuple[timedelta | None, str | None]:
    """How long to wait, None if nothing is said, and what to say about it in `Preference-Applied`."""
    found = _WAIT.search(",".join(request.headers.getlist("prefer")))
    if found is None:
        return None, None
    wait = min(timedelta(seconds=int(found[1])), LONGEST_WAIT)
    return wait, f"wait={wait.seconds}"


def take_key(fields: dict[str, Any], own_id: str, key: str) -> None:
    """Take the order's id from the header when the body has none."""
    key = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if fields.setdefault(own_id, key) != key:
        raise InvalidOrder(f"Idempotency-Key and {own_id} contradict each other", hint="Send one of them.")
