"""Bulk runs, for every face: looked at beforehand, begun, watched, resumed and stopped."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from starter.client import Twinline
from starter.invalid import field_problems
from twinline.bulk import (
    MOST_ITEMS,
    BlockItem,
    BulkKind,
    BulkPlan,
    BulkStart,
    BulkView,
    NewBulk,
    RowProblem,
)
from twinline.errors import InvalidOrder, InvalidRows, UnreadableFile
from twinline.ledger import Ledger, bulk
from twinline.ledger.bulk_judged import Asked, Judged, judge
from twinline.ledger.tx import ReadTx
from twinline.rows import BadRow, Row
from twinline.summaries import bulk_summary

COLUMNS: Final[Mapping[BulkKind, Sequence[str]]] = {BulkKind.BLOCK: ("line", "reason", "owner")}
"""What the rows of each kind of run may have."""
ALONE: Final = {BulkKind.BLOCK: "line"}
"""What stands on each line of a file without a header."""
_ITEMS: Final = {BulkKind.BLOCK: BlockItem}


def items_of(kind: BulkKind, rows: Sequence[Row | BadRow], defaults: Mapping[str, Any]) -> tuple[Asked, ...]:
    """What each row asks for; `defaults` stand where a row says nothing. Raises UnreadableFile for too many rows."""
    if len(rows) > MOST_ITEMS:
        raise UnreadableFile(
            f"there are {len(rows)} rows, and a run has {MOST_ITEMS} at most", hint="Make several runs of them."
        )
    return tuple(_asked(kind, row, defaults) for row in rows)


def _asked(kind: BulkKind, row: Row | BadRow, defaults: Mapping[str, Any]) -> Asked:
    if isinstance(row, BadRow):
        return _bad(row.number, row.sentence)
    try:
        return Asked(row=row.number, item=_ITEMS[kind].model_validate({**defaults, **row.fields}))
    except ValidationError as error:
        problems = field_problems(error, names={}, whole="it is incomplete")
        return _bad(row.number, "; ".join(problem.sentence for problem in problems))


def _bad(number: int, sentence: str) -> Asked:
    hint = "Correct the row, or leave it out."
    problem = RowProblem(row=number, type=InvalidOrder.__name__, message=sentence, hint=hint)
    return Asked(row=number, item=None, problem=problem)


async def plan(ledger: Ledger, new: NewBulk, asked: Sequence[Asked]) -> BulkPlan:
    """Tell what a run would do, and change nothing; raises OrderConflict, InvalidOrder, Unavailable."""
    async with ledger.read() as tx:
        known = await bulk.earlier_bulk(tx, new, bulk.fingerprint(tx, new, asked)) is not None
        judged = () if known else await _judged(tx, new, asked)
    return BulkPlan(
        run=new.run,
        kind=new.job.kind,
        known=known,
        changes=tuple(one.change for one in judged if one.change is not None),
        problems=_problems(judged),
    )


async def begin(
    ledger: Ledger, twinline: Twinline, new: NewBulk, asked: Sequence[Asked], *, skip_invalid: bool
) -> tuple[BulkView, bool]:
    """Begin a run, and tell whether it was begun before; the same run again is the same one, and goes on if it must.

    Raises InvalidRows (unless they are to be skipped), OrderConflict, InvalidOrder, Unavailable.
    """
    async with ledger.read() as tx:
        known = await bulk.earlier_bulk(tx, new, bulk.fingerprint(tx, new, asked))
        judged = () if known is not None else await _judged(tx, new, asked)
    problems = _problems(judged)
    if problems and not skip_invalid:
        raise invalid_rows(problems)
    if known is None and len(problems) == len(judged):
        raise InvalidRows(
            "no row can be carried out", hint="Nothing was begun; a dry run says what is wrong with each."
        )
    if known is None:
        async with ledger.write() as tx:
            bulk_id = await bulk.record_bulk(tx, new, asked, judged, now=datetime.now(UTC))
    else:
        async with ledger.read() as tx:
            bulk_id = await bulk.bulk_id_of(tx, new.caller, new.run)
    if known is None or known.state == "running":
        # Between the ledger and Temporal whoever asks may die: then this is what he asks again.
        summary = bulk_summary(new, len(asked))
        await twinline.run_bulk(BulkStart(bulk_id=bulk_id), caller=new.caller, run=new.run, summary=summary)
    return await view(ledger, new.caller, new.run), known is not None


async def view(ledger: Ledger, caller: str, run: str) -> BulkView:
    """How a run stands; raises UnknownBulk, Unavailable."""
    async with ledger.read() as tx:
        return await bulk.bulk_view(tx, caller, run)


async def resume(ledger: Ledger, twinline: Twinline, caller: str, run: str, *, actor: str) -> BulkView:
    """Go on with a run that was stopped or whose workflow was ended, and try again what may pass by now.

    Raises UnknownBulk, Unavailable.
    """
    async with ledger.write() as tx:
        bulk_id = await bulk.bulk_id_of(tx, caller, run)
        waits = await bulk.resume_bulk(tx, bulk_id, actor=actor, now=datetime.now(UTC))
    found = await view(ledger, caller, run)
    if waits:
        summary = bulk_summary(NewBulk(caller=caller, run=run, job=found.job), found.counts.items)
        await twinline.run_bulk(BulkStart(bulk_id=bulk_id), caller=caller, run=run, summary=summary)
    return found


async def stop(ledger: Ledger, caller: str, run: str, *, actor: str) -> BulkView:
    """Order nothing more of a run; what was ordered goes on. Raises UnknownBulk, Unavailable."""
    async with ledger.write() as tx:
        bulk_id = await bulk.bulk_id_of(tx, caller, run)
        await bulk.stop_bulk(tx, bulk_id, actor=actor, now=datetime.now(UTC))
    return await view(ledger, caller, run)


def invalid_rows(problems: Sequence[RowProblem]) -> InvalidRows:
    """That there are rows which can't be carried out."""
    first = problems[0]
    others = "" if len(problems) == 1 else f", and {len(problems) - 1} more"
    return InvalidRows(
        f"row {first.row} can't be carried out: {first.message}{others}",
        hint="Nothing was begun. A dry run shows all of them; correct them, or have them skipped.",
    )


async def _judged(tx: ReadTx, new: NewBulk, asked: Sequence[Asked]) -> tuple[Judged, ...]:
    return await judge(tx, new, asked, now=datetime.now(UTC))


def _problems(judged: Sequence[Judged]) -> tuple[RowProblem, ...]:
    return tuple(one.problem for one in judged if one.problem is not None)
