"""Reads a bulk run from a request: one JSON object, or a file of rows with the options in the query."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from fastapi import Request
from pydantic import ValidationError
from pydantic_core import to_json

from starter import bulk
from starter.api.bodies import OF_RUN, media_type, read_body, read_object
from starter.api.orders import take_key
from starter.api.problems import BadFields
from starter.bulk_asked import BlockOptions, ExtendRun, ImportOptions, OfRows, RunOptions
from starter.invalid import FieldProblem, field_problems
from twinline.bulk import MOST_ITEMS, NewBulk
from twinline.ledger.bulk_judged import Asked
from twinline.rows import BadRow, Row, read_rows, row_of

KINDS: Final[Mapping[str, type[RunOptions]]] = {
    "blocks": BlockOptions,
    "extensions": ExtendRun,
    "imports": ImportOptions,
}
FILES: Final = ("text/csv", "application/jsonl", "application/x-ndjson")
"""Which of them a file is is seen by how it begins."""
NOT_IN_QUERIES: Final = ("reason",)
"""Addresses stand in the logs of proxies, and a reason may be about a person: each row of a file has its own."""
_ROWS: Final = FieldProblem(field="rows", sentence=f"rows must be a list of 1 to {MOST_ITEMS} objects")


@dataclass(frozen=True)
class AskedRun:
    """A run with its rows."""

    new: NewBulk
    asked: Sequence[Asked]
    skip_invalid: bool


async def read_run(request: Request, kind: str, *, caller: str) -> AskedRun:
    """The run of a request; raises HttpProblem, BadFields, InvalidOrder, UnreadableFile."""
    model = KINDS[kind]
    if issubclass(model, OfRows) and media_type(request) in FILES:
        return await _of_file(request, model, caller)
    if request.query_params:
        raise BadFields((FieldProblem(field=None, sentence="beside a JSON object there is no parameter"),))
    fields = await read_object(request, OF_RUN)
    given: object = fields.pop("rows", None) if issubclass(model, OfRows) else None
    options = _options(request, model, fields, strict=True)
    rows = await asyncio.to_thread(_rows, options, given) if isinstance(options, OfRows) else ()
    return _asked(options, rows, caller)


async def _of_file(request: Request, model: type[OfRows], caller: str) -> AskedRun:
    given = request.query_params.multi_items()
    if len({name for name, _ in given}) < len(given) or any(name in NOT_IN_QUERIES for name, _ in given):
        sentence = "a parameter stands there twice, or has to stand in the rows"
        raise BadFields((FieldProblem(field=None, sentence=sentence),))
    options = _options(request, model, dict(given), strict=False)
    data = await read_body(request, OF_RUN)
    rows = await asyncio.to_thread(read_rows, data, columns=bulk.COLUMNS[options.kind], most=MOST_ITEMS + 1)
    return _asked(options, await asyncio.to_thread(bulk.items_of, options.kind, rows, options.defaults()), caller)


def _options(request: Request, model: type[RunOptions], fields: dict[str, Any], *, strict: bool) -> RunOptions:
    for key in request.headers.getlist("idempotency-key"):
        take_key(fields, "run", key)
    if "caller" in fields:
        # Whose run it is stands in the token.
        raise BadFields((FieldProblem(field="caller", sentence="there is no field caller: the token tells who asks"),))
    try:
        # As JSON: a number is no moment there, and a text no number. A query has texts alone.
        return model.model_validate_json(to_json(fields), strict=strict)
    except ValidationError as error:
        raise BadFields(field_problems(error, names={})) from None


def _rows(options: RunOptions, given: object) -> Sequence[Asked]:
    rows = cast("list[object]", given) if isinstance(given, list) else []
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise BadFields((_ROWS,))
    columns = bulk.COLUMNS[options.kind]
    read: list[Row | BadRow] = [
        row_of(number, cast("Mapping[str, object]", row), columns)
        for number, row in enumerate(rows[: MOST_ITEMS + 1], start=1)
    ]
    return bulk.items_of(options.kind, read, options.defaults())


def _asked(options: RunOptions, rows: Sequence[Asked], caller: str) -> AskedRun:
    skip = isinstance(options, OfRows) and options.skip_invalid
    return AskedRun(NewBulk(caller=caller, run=options.run, job=options.job()), rows, skip)
