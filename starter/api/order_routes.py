"""Orders over HTTP: placing one of each kind, and how far it is."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from starter.api.answers import ATTENTION, ORDER_CANCELLED, ORDER_DONE, ORDER_GOING_ON, ORDER_LIST
from starter.api.common import OF_BODIES, OF_TOKENS, PREFER, TheDesk, Who
from starter.api.cursors import PageQuery, closed
from starter.api.orders import EXAMPLES, KINDS, REASON_EXAMPLE, REASON_SCHEMA, patience_of, read_order, read_reason
from starter.api.problems import NO_STORE, declared, told
from starter.attention import StuckList
from starter.desk import OrderAnswer, OrderList, Placed
from twinline.ledger.queries import OrderFilter
from twinline.logs import note
from twinline.messages import CallerName, HostName, OrderKind, Username, order_kind, order_ref

router = APIRouter(tags=["orders"])

OrderName = Annotated[str, Path(examples=["P-1002"], description="An order's `id`, or the caller's own id of it.")]


class OrderQuery(BaseModel):
    """Whose order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    caller: CallerName | None = Field(
        default=None, description="If not this token's; only a token with `admin` sees those of other callers."
    )


class OrdersQuery(PageQuery):
    """Which orders; what is left out does not matter."""

    kind: OrderKind | None = None
    line: Username | None = Field(default=None, examples=["k7mq3xw9ab"])
    caller: CallerName | None = Field(
        default=None, description="Whose; only a token with `admin` sees those of other callers than its own."
    )
    settled: bool | None = Field(default=None, description="Whether they are over, or still go on.")


class AttentionQuery(BaseModel):
    """What of it; what is left out does not matter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: HostName | None = Field(default=None, description="Only what waits for this host.")
    line: Username | None = Field(default=None, examples=["k7mq3xw9ab"])
    limit: int = Field(default=100, ge=1, le=1000)


_OF_NEW_LINES: Final = ("UnknownRegion", "RegionFull")
_OF_LINES: Final = ("UnknownLine", "LineErased", "LineClosed")
_REFUSALS: Final[Mapping[str, tuple[str, ...]]] = {
    "trials": (*_OF_NEW_LINES, "TrialAlreadyUsed", "TrialRangeUsed", "DisposableAddress", "LineErased"),
    "purchases": (*_OF_NEW_LINES, *_OF_LINES),
    "renewals": _OF_LINES,
    "blocks": _OF_LINES,
    "unblocks": (*_OF_LINES, "UnknownBlock"),
    "passwords": (*_OF_LINES, "LineEnded"),
    "moves": (*_OF_LINES, "LineEnded", "UnknownPair", "PairFull", "SamePair", "MoveRunning"),
    "closes": _OF_LINES,
}
"""What may refuse an order of a kind, beside what may refuse any."""
_LOCATION: Final = {"Location": {"description": "Where the order is to be asked for.", "schema": {"type": "string"}}}
_APPLIED: Final = {"Preference-Applied": {"description": "How long was waited at most.", "schema": {"type": "string"}}}


_NOT_CANCELLED: Final = ("UnknownOrder", "CannotCancel", "LineClosed", "LineErased", "OrderConflict")


def _responses(done_example: object = ORDER_DONE) -> dict[int | str, dict[str, Any]]:
    done = {
        "model": OrderAnswer,
        "headers": {**_LOCATION, **_APPLIED},
        "content": {"application/json": {"example": done_example}},
    }
    return {
        200: {**done, "description": "The order was taken before, and is done."},
        201: {**done, "description": "The order is done."},
        202: {
            "description": "The order is safe and goes on; `Location` tells how far it is.",
            "headers": {**_LOCATION, **_APPLIED},
            "content": {"application/json": {"example": ORDER_GOING_ON}},
        },
    }


@router.get(
    "/v1/orders",
    responses={
        200: {"content": {"application/json": {"example": ORDER_LIST}}},
        **declared(*OF_TOKENS, "InvalidOrder"),
    },
)
async def list_orders(query: Annotated[OrdersQuery, Query()], desk: TheDesk, who: Who) -> OrderList:
    """Orders that were taken, the newest first; `cursor` leads to the next page and is null on the last."""
    wanted = OrderFilter(kind=query.kind, username=query.line, caller=query.caller, settled=query.settled)
    page = await desk.orders(wanted, who, cursor=query.position, limit=query.limit)
    return page.model_copy(update={"cursor": closed(page.cursor)})


@router.get(
    "/v1/attention",
    responses={
        200: {"content": {"application/json": {"example": ATTENTION}}},
        **declared(*OF_TOKENS, "InvalidOrder", "UnknownHost"),
    },
)
async def show_attention(query: Annotated[AttentionQuery, Query()], desk: TheDesk, who: Who) -> StuckList:
    """What waits for a person, and what is late and goes on by itself: as `twinline order list --stuck` tells it."""
    return await desk.attention(who, host=query.host, line=query.line, limit=query.limit)


@router.get(
    "/v1/orders/{order_id}",
    responses={
        200: {"content": {"application/json": {"example": ORDER_DONE}}},
        **declared(*OF_TOKENS, "UnknownOrder", "InvalidOrder"),
    },
)
async def show_order(
    order_id: OrderName, query: Annotated[OrderQuery, Query()], desk: TheDesk, who: Who
) -> OrderAnswer:
    """How far an order of this caller is, half by half: by its `id`, or by the caller's own id where that will do."""
    answer = await desk.order(order_id, who, caller=query.caller)
    if (refused := answer.refused) is None:
        return answer
    message, hint = told(refused.type, refused.message, refused.hint)
    return answer.model_copy(update={"refused": refused.model_copy(update={"message": message, "hint": hint})})


def _add_orders(kind: str) -> None:
    async def place(request: Request, desk: TheDesk, who: Who) -> Response:
        asked = await read_order(request, kind, caller=who.caller)
        note(kind=order_kind(asked.order), order=order_ref(asked.order).partition("/")[0])
        patience, applied = patience_of(request)
        return _response(await desk.place(asked.order, who, patience=patience, client=asked.client), applied)

    router.add_api_route(
        f"/v1/{kind}",
        place,
        methods=["POST"],
        operation_id=f"create_{kind}",
        summary=(KINDS[kind].__doc__ or "").partition("\n")[0],
        response_model=OrderAnswer,
        status_code=202,
        responses={
            **_responses(),
            **declared(*OF_TOKENS, *OF_BODIES, "OrderConflict", "OrderCancelled", *_REFUSALS[kind]),
        },
        openapi_extra=_request_body(kind),
    )


@router.post(
    "/v1/orders/{order_id}/cancel",
    status_code=202,
    responses={**_responses(ORDER_CANCELLED), **declared(*OF_TOKENS, *OF_BODIES, *_NOT_CANCELLED)},
    response_model=OrderAnswer,
    openapi_extra={
        "parameters": [PREFER],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": REASON_SCHEMA, "example": REASON_EXAMPLE}},
        },
    },
)
async def cancel_order(request: Request, order_id: OrderName, desk: TheDesk, who: Who) -> Response:
    """Take an order of this caller back, once: what is left of the time that it gave, or a move that is not over."""
    reason = await read_reason(request)
    patience, applied = patience_of(request)
    return _response(await desk.cancel(order_id, who, reason=reason, patience=patience), applied)


def _response(placed: Placed, applied: str | None) -> Response:
    answer = placed.answer
    status = 202 if not answer.done else 200 if placed.known else 201
    headers = {**NO_STORE, "location": f"/v1/orders/{answer.id}"}
    if applied is not None and answer.note is None:
        headers["preference-applied"] = applied
    return Response(answer.model_dump_json(), status, headers, "application/json")


def _request_body(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = KINDS[kind].model_json_schema(ref_template="#/components/schemas/{model}")
    defined: Mapping[str, Any] = schema.pop("$defs", {})
    own_id = "case" if "case" in schema["properties"] else "order"
    schema["properties"].pop("caller")
    # It may come as Idempotency-Key instead.
    schema["required"] = [name for name in schema["required"] if name != own_id]
    for name, property_schema in schema["properties"].items():
        if (reference := property_schema.pop("$ref", None)) is not None:
            schema["properties"][name] = {**property_schema, **defined[reference.rpartition("/")[2]]}
    key = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}, "example": EXAMPLES[kind][own_id]}
    return {
        "parameters": [
            {**key, "description": f"The caller's own id of the order, instead of `{own_id}`."},
            PREFER,
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": EXAMPLES[kind]}},
        },
    }


for _kind in KINDS:
    _add_orders(_kind)
