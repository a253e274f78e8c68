"""The routes of the HTTP API."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from starter.api.cursors import closed, opened
from starter.api.orders import EXAMPLES, KINDS, patience_of, read_order
from starter.api.problems import MEDIA_TYPE, NO_STORE, HttpProblem, Problem, install, known_types
from starter.desk import Desk, LineAnswer, OrderAnswer, Readiness
from twinline.ledger.queries import LineFilter, LinePage
from twinline.ledger.rules import LineState
from twinline.ledger.tokens import TokenView
from twinline.messages import PairName, RegionName

_ABOUT: Final = """Orders for lines, and how they stand.

Every order carries the caller's own id, in the body or as `Idempotency-Key`: the same id with the same body is the same
order, however often it is sent, and with another body it is refused. `202` says that the order is safe and goes on by
itself; ask for it at `Location`, or send `Prefer: wait=30` to wait for its end."""

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "model": Problem,
        "description": "A problem (RFC 9457).",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="token", description="A token that `twinline token` made.")


class LinesQuery(BaseModel):
    """Which lines; what is left out does not matter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: RegionName | None = None
    pair: PairName | None = None
    state: LineState | None = None
    behind: bool | None = Field(default=None, description="Whether a half has yet to reach the line's revision.")
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(default=None, max_length=200, description="Go on where the last page ended.")


def _desk(request: Request) -> Desk:
    return request.app.state.desk


TheDesk = Annotated[Desk, Depends(_desk)]


async def _who(desk: TheDesk, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> TokenView:
    return await desk.who(None if shown is None else shown.credentials)


Who = Annotated[TokenView, Depends(_who)]
router = APIRouter()


def create_app(desk: Desk) -> FastAPI:
    """The API in front of a desk."""
    app = FastAPI(
        title="twinline",
        version=version("twinline"),
        description=_ABOUT,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.desk = desk
    install(app)
    for kind in KINDS:
        _add_orders(app, kind)
    app.include_router(router)
    # Described once and for all, at the start; FastAPI keeps it.
    for path in app.openapi()["paths"].values():
        for operation in path.values():
            # FastAPI declares models as application/json; problems have a type of their own.
            operation["responses"].get("default", {}).get("content", {}).pop("application/json", None)
            operation["responses"].pop("422", None)
    return app


@router.get("/v1/orders/{order_id}", responses=_PROBLEMS, tags=["orders"])
async def show_order(order_id: str, desk: TheDesk, who: Who, response: Response) -> OrderAnswer:
    """How far an order of this caller is, half by half: by its `id`, or by the caller's own id where that will do."""
    response.headers.update(NO_STORE)
    return await desk.order(order_id, who)


@router.get("/v1/lines", responses=_PROBLEMS, tags=["lines"])
async def list_lines(query: Annotated[LinesQuery, Query()], desk: TheDesk, who: Who, response: Response) -> LinePage:
    """Lines by name; `cursor` leads to the next page and is null on the last."""
    response.headers.update(NO_STORE)
    wanted = LineFilter(region=query.region, pair=query.pair, state=query.state, behind=query.behind)
    after = None if query.cursor is None else opened(query.cursor)
    page = await desk.lines(wanted, who, cursor=after, limit=query.limit)
    return page.model_copy(update={"cursor": None if page.cursor is None else closed(page.cursor)})


@router.get("/v1/lines/{username}", responses=_PROBLEMS, tags=["lines"])
async def show_line(username: str, desk: TheDesk, who: Who, response: Response) -> LineAnswer:
    """One line; its password only for a token with `credentials:read`."""
    response.headers.update(NO_STORE)
    return await desk.line(username, who)


@router.get("/livez", response_class=PlainTextResponse, tags=["house"])
async def livez() -> str:
    """Whether this process answers."""
    return "ok\n"


@router.get("/readyz", response_model=Readiness, tags=["house"], responses={503: {"model": Readiness}})
async def readyz(desk: TheDesk) -> Response:
    """Whether orders can be taken now, and what keeps them from that."""
    found = await desk.readiness()
    return JSONResponse(found.model_dump(), 200 if found.ready else 503, NO_STORE)


@router.get("/api", include_in_schema=False)
async def api() -> Response:
    """Leads to the description of the API."""
    return RedirectResponse("/api/openapi.json")


@router.get("/api/errors/{name}", response_class=PlainTextResponse, responses=_PROBLEMS, tags=["house"])
async def explain(name: str) -> str:
    """What a problem's type means."""
    meaning = known_types().get(name)
    if meaning is None:
        raise HttpProblem("NoSuchPath", "there is no such type", hint="Types stand in `type` of a problem.")
    return f"{name}\n\n{meaning}\n"


def _add_orders(app: FastAPI, kind: str) -> None:
    async def place(request: Request, desk: TheDesk, who: Who) -> Response:
        order = await read_order(request, kind, caller=who.caller)
        patience, applied = patience_of(request)
        answer, known = await desk.place(order, who, patience=patience)
        status = 202 if not answer.done else 200 if known else 201
        headers = {**NO_STORE, "location": f"/v1/orders/{answer.id}"}
        if applied is not None:
            headers["preference-applied"] = applied
        return Response(answer.model_dump_json(), status, headers, "application/json")

    app.add_api_route(
        f"/v1/{kind}",
        place,
        methods=["POST"],
        operation_id=f"create_{kind}",
        summary=(KINDS[kind].__doc__ or "").partition("\n")[0],
        response_model=OrderAnswer,
        status_code=202,
        responses={
            200: {"model": OrderAnswer, "description": "The order was taken before, and is done."},
            201: {"model": OrderAnswer, "description": "The order is done."},
            202: {"description": "The order is safe and goes on; `Location` tells how far it is."},
            **_PROBLEMS,
        },
        openapi_extra=_request_body(kind),
        tags=["orders"],
    )


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
    key = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}
    prefer = {"name": "Prefer", "in": "header", "schema": {"type": "string"}, "example": "wait=30"}
    return {
        "parameters": [
            {**key, "description": f"The caller's own id of the order, instead of `{own_id}`."},
            {**prefer, "description": "wait=N: wait up to N seconds, 60 at most, for the end of the order."},
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": EXAMPLES[kind]}},
        },
    }
