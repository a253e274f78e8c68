"""Bulk runs over HTTP: looked at beforehand, begun, watched, stopped and resumed."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import Field

from starter import bulk
from starter.api.answers import BULK_DONE, BULK_GOING_ON, BULK_ITEMS, BULK_PLAN, BULK_RUNS
from starter.api.bulk_asked import FILES, KINDS, NOT_IN_QUERIES, read_run
from starter.api.common import OF_BODIES, OF_TOKENS, PREFER, TheDesk, Who
from starter.api.cursors import PageQuery, closed
from starter.api.orders import NOT_AT_ALL, patience_of
from starter.api.problems import NO_STORE, declared, row_told, told
from starter.bulk_asked import OfRows
from twinline.bulk import MOST_ITEMS, BulkKind, BulkPage, BulkPlan, BulkView, ItemPage, ItemView, RunState, Standing
from twinline.logs import note

router = APIRouter(tags=["bulk"])

RunName = Annotated[str, Path(examples=["leak-7"], description="The caller's own id of the run.")]

_REFUSALS: Final = ("InvalidRows", "OrderConflict", "UnknownRegion", "UnknownPair")
_OF_FILES: Final = ("UnreadableFile",)
_ROWS: Final[Mapping[str, object]] = {
    "line": {"description": "A username or line id."},
    "reason": {"description": "The customer reads it."},
    "owner": {"description": "abuse, payment, reseller or operator."},
    "username": {"description": "4 to 20 of a-z and 0-9."},
    "password": {"description": "Up to 24 characters that both daemons read alike."},
    "email": {"description": "The customer's address."},
    "ends_at": {"description": "A moment with its zone."},
    "region": {"description": "Where the line shall live."},
    "pair": {"description": "The pair that the receiver knows; in place of a region."},
}
"""What is wrong in a row is told of that row; so nothing is ruled out here."""
_EXAMPLES: Final[Mapping[str, Mapping[str, object]]] = {
    "blocks": {"run": "leak-7", "reason": "This line was shared.", "rows": [{"line": "k7mq3xw9ab"}]},
    "extensions": {"run": "outage-7", "region": "eu", "days": 1},
    "imports": {
        "run": "old-shop",
        "pair": "eu1",
        "rows": [
            {
                "username": "jane77",
                "password": "Secret-77",
                "email": "jane@example.com",
                "ends_at": "2031-05-06T12:00+02:00",
            }
        ],
    },
}
_ROW_EXAMPLES: Final[Mapping[str, Sequence[Mapping[str, str]]]] = {
    "blocks": [{"line": "k7mq3xw9ab", "reason": "This line was shared."}],
    "imports": [
        {
            "username": "jane77",
            "password": "Secret-77",
            "email": "jane@example.com",
            "ends_at": "2031-05-06T12:00+02:00",
            "pair": "eu1",
        }
    ],
}
"""The same rows as they stand in a file, where each has all that is said of it."""
_LOCATION: Final = {"Location": {"description": "Where the run is to be asked for.", "schema": {"type": "string"}}}
_APPLIED: Final = {"Preference-Applied": {"description": "How long was waited at most.", "schema": {"type": "string"}}}


class ItemsQuery(PageQuery):
    """Which items; what is left out does not matter."""

    state: Standing | None = Field(default=None, examples=["refused"])


class RunsQuery(PageQuery):
    """Which runs; what is left out does not matter."""

    kind: BulkKind | None = Field(default=None, examples=["block"])
    state: RunState | None = Field(default=None, examples=["running"])


def _answers(headers: Mapping[str, object]) -> dict[int | str, dict[str, Any]]:
    done = {"model": BulkView, "headers": headers, "content": {"application/json": {"example": BULK_DONE}}}
    going_on = {"headers": headers, "content": {"application/json": {"example": BULK_GOING_ON}}}
    return {
        200: {**done, "description": "The run was begun before, and nothing of it is open."},
        201: {**done, "description": "The run was begun, and nothing of it is open."},
        202: {**going_on, "description": "The run is safe and goes on by itself; `Location` tells how far it is."},
    }


def _add_runs(kind: str) -> None:
    model = KINDS[kind]
    of_rows = issubclass(model, OfRows)
    refusals = (*OF_TOKENS, *OF_BODIES, *_REFUSALS, *(_OF_FILES if of_rows else ()))
    about = (model.__doc__ or "").partition("\n")[0]

    async def begin(request: Request, desk: TheDesk, who: Who) -> Response:
        desk.bulk.refuse(model.kind, who)
        asked = await read_run(request, kind, caller=who.caller)
        note(kind=f"bulk-{model.kind}", order=asked.new.run)
        patience, applied = patience_of(request)
        begun = await desk.bulk.begin(
            asked.new, asked.asked, who, skip_invalid=asked.skip_invalid, patience=patience or NOT_AT_ALL
        )
        return _response(begun.view, 200 if begun.known else 201, applied)

    async def look(request: Request, desk: TheDesk, who: Who) -> BulkPlan:
        desk.bulk.refuse(model.kind, who)
        asked = await read_run(request, kind, caller=who.caller)
        plan = await desk.bulk.plan(asked.new, asked.asked, who)
        return plan.model_copy(update={"problems": tuple(row_told(row) for row in plan.problems)})

    router.add_api_route(
        f"/v1/bulk/{kind}",
        begin,
        methods=["POST"],
        operation_id=f"begin_bulk_{kind}",
        summary=about,
        response_model=BulkView,
        status_code=202,
        responses={**_answers({**_LOCATION, **_APPLIED}), **declared(*refusals)},
        openapi_extra=_request_body(kind, prefer=True),
    )
    router.add_api_route(
        f"/v1/bulk/{kind}/dry-run",
        look,
        methods=["POST"],
        operation_id=f"plan_bulk_{kind}",
        summary=f"Tell what it would do, line by line, and change nothing: {about[0].lower()}{about[1:]}",
        response_model=BulkPlan,
        responses={200: {"content": {"application/json": {"example": BULK_PLAN}}}, **declared(*refusals)},
        openapi_extra=_request_body(kind, prefer=False),
    )


def _request_body(kind: str, *, prefer: bool) -> dict[str, Any]:
    model = KINDS[kind]
    schema: dict[str, Any] = model.model_json_schema(ref_template="#/components/schemas/{model}")
    defined: Mapping[str, Any] = schema.pop("$defs", {})
    for name, described in schema["properties"].items():
        if (reference := described.pop("$ref", None)) is not None:
            schema["properties"][name] = {**described, **defined[reference.rpartition("/")[2]]}
    # It may come as Idempotency-Key instead.
    schema["required"] = [name for name in schema["required"] if name != "run"]
    example = _EXAMPLES[kind]
    key = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}, "example": example["run"]}
    parameters = [{**key, "description": "The caller's own id of the run, instead of `run`."}]
    if prefer:
        parameters.append(PREFER)
    content: dict[str, Any] = {"application/json": {"schema": schema, "example": example}}
    if issubclass(model, OfRows):
        parameters += [
            _in_query(name, described) for name, described in schema["properties"].items() if name not in NOT_IN_QUERIES
        ]
        columns = bulk.COLUMNS[model.kind]
        rows = {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_ITEMS,
            "items": {"type": "object", "properties": {name: _ROWS[name] for name in columns}},
        }
        schema["properties"]["rows"] = rows
        schema["required"].append("rows")
        schema["description"] = (
            f"{schema['description']} Or send the rows as a file, and what else there is to be said in the query."
        )
        content |= {media_type: _file(kind, columns, rows, media_type) for media_type in FILES}
    return {"parameters": parameters, "requestBody": {"required": True, "content": content}}


def _in_query(name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """An option as a parameter, where a file leaves no place for it in the body; there is no null in a query."""
    schema = {key: value for key, value in described.items() if key not in ("anyOf", "default", "description", "title")}
    for choice in described.get("anyOf", ()):
        schema |= choice if choice != {"type": "null"} else {}
    about = f"Only beside a file. {described.get('description', '')}".strip()
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": about}


def _file(kind: str, columns: Sequence[str], rows: Mapping[str, Any], media_type: str) -> dict[str, Any]:
    """A file of rows: a text, which holds `rows` by the rules of its type."""
    is_csv = media_type == FILES[0]
    column = f"(?:{'|'.join(columns)})"
    schema = {
        "type": "string",
        "description": "UTF-8. "
        + ("The first row names the columns, which commas separate." if is_csv else "One JSON object on each line.")
        + " The options stand in the query, and of each row all else.",
        "pattern": rf"^{column}(?:,{column})*\r?\n" if is_csv else r"^\s*\{",
        "contentMediaType": media_type,
        "contentSchema": rows,
    }
    examples = _ROW_EXAMPLES[kind]
    lines = [",".join(examples[0]), *(",".join(row.values()) for row in examples)]
    if not is_csv:
        lines = [json.dumps(row) for row in examples]
    return {"schema": schema, "example": "".join(f"{line}\n" for line in lines)}


for _kind in KINDS:
    _add_runs(_kind)


@router.get(
    "/v1/bulk/runs",
    responses={
        200: {"content": {"application/json": {"example": BULK_RUNS}}},
        **declared(*OF_TOKENS, "InvalidOrder"),
    },
)
async def list_runs(query: Annotated[RunsQuery, Query()], desk: TheDesk, who: Who) -> BulkPage:
    """Runs of this caller, the newest first; `cursor` leads to the next page and is null on the last."""
    page = await desk.bulk.runs(who, kind=query.kind, state=query.state, cursor=query.position, limit=query.limit)
    return page.model_copy(update={"cursor": closed(page.cursor)})


@router.get(
    "/v1/bulk/runs/{run}",
    responses={
        200: {"content": {"application/json": {"example": BULK_GOING_ON}}},
        **declared(*OF_TOKENS, "UnknownBulk"),
    },
)
async def show_run(run: RunName, desk: TheDesk, who: Who) -> BulkView:
    """How a run of this caller stands, with how many of its items stand how."""
    return await desk.bulk.run(run, who)


@router.get(
    "/v1/bulk/runs/{run}/items",
    responses={
        200: {"content": {"application/json": {"example": BULK_ITEMS}}},
        **declared(*OF_TOKENS, "UnknownBulk", "InvalidOrder"),
    },
)
async def list_items(run: RunName, query: Annotated[ItemsQuery, Query()], desk: TheDesk, who: Who) -> ItemPage:
    """What became of each item of a run; `cursor` leads to the next page and is null on the last."""
    page = await desk.bulk.items(run, who, standing=query.state, cursor=query.position, limit=query.limit)
    return ItemPage(items=tuple(_told(item) for item in page.items), cursor=closed(page.cursor))


@router.post(
    "/v1/bulk/runs/{run}/cancel",
    responses={
        200: {"content": {"application/json": {"example": BULK_DONE}}},
        **declared(*OF_TOKENS, "UnknownBulk"),
    },
)
async def cancel_run(run: RunName, desk: TheDesk, who: Who) -> BulkView:
    """Order nothing more of a run; what was ordered goes on, and can be taken back order by order."""
    return await desk.bulk.stop(run, who)


@router.post(
    "/v1/bulk/runs/{run}/resume",
    status_code=202,
    response_model=BulkView,
    responses={
        **{status: answer for status, answer in _answers({**_LOCATION, **_APPLIED}).items() if status != 201},
        **declared(*OF_TOKENS, "UnknownBulk"),
    },
    openapi_extra={"parameters": [PREFER]},
)
async def resume_run(request: Request, run: RunName, desk: TheDesk, who: Who) -> Response:
    """Go on with the rest of a run, and try again what may pass by now."""
    patience, applied = patience_of(request)
    return _response(await desk.bulk.resume(run, who, patience=patience or NOT_AT_ALL), 200, applied)


def _told(item: ItemView) -> ItemView:
    if (problem := item.problem) is None:
        return item
    message, hint = told(problem.type, problem.message, problem.hint)
    return item.model_copy(update={"problem": problem.model_copy(update={"message": message, "hint": hint})})


def _response(view: BulkView, done: int, applied: str | None) -> Response:
    is_over = view.state != "running" and view.counts.open == 0
    headers = {**NO_STORE, "location": f"/v1/bulk/runs/{view.run}"}
    if applied is not None:
        headers["preference-applied"] = applied
    return Response(view.model_dump_json(), done if is_over else 202, headers, "application/json")
