"""Bulk runs, for every face: looked at beforehand, begun, watched, resumed and stopped."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from starter.client import Twinline
from starter.invalid import BadRows, field_problems
from twinline.bulk import (
    MOST_ITEMS,
    BlockItem,
    BulkExtend,
    BulkFilter,
    BulkKind,
    BulkPage,
    BulkPlan,
    BulkStart,
    BulkView,
    ImportItem,
    NewBulk,
    RowProblem,
    bulk_workflow_id,
)
from twinline.errors import InvalidOrder, InvalidRows
from twinline.ledger import Ledger, bulk
from twinline.ledger.bulk_judged import Asked, Judged, judge, running_lines
from twinline.ledger.tx import ReadTx
from twinline.mail import AddressError, normalise_person, parse_address
from twinline.rows import BadRow, Row
from twinline.summaries import bulk_summary

COLUMNS: Final[Mapping[BulkKind, Sequence[str]]] = {
    BulkKind.BLOCK: ("line", "reason", "owner"),
    BulkKind.IMPORT: ("username", "password", "email", "ends_at", "region", "pair"),
}
"""What the rows of each kind of run may have; an extension has none."""
ALONE: Final = {BulkKind.BLOCK: "line"}
"""What stands on each line of a file without a header."""
_ITEMS: Final = {BulkKind.BLOCK: BlockItem, BulkKind.IMPORT: ImportItem}
EVERY: Final = 0.3
"""Seconds between two looks at how a run stands; more where a look at all of its items takes long."""
_WHOLE: Final = "a line to import needs a region or a pair, and not both"


def items_of(kind: BulkKind, rows: Sequence[Row | BadRow], defaults: Mapping[str, Any]) -> tuple[Asked, ...]:
    """What each row asks for; `defaults` stand where a row says nothing."""
    return tuple(_asked(kind, row, defaults) for row in rows)


def _asked(kind: BulkKind, row: Row | BadRow, defaults: Mapping[str, Any]) -> Asked:
    if isinstance(row, BadRow):
        return _bad(row.number, row.sentence)
    fields = {**defaults, **row.fields}
    if "region" in row.fields or "pair" in row.fields:
        # A row that names its place needs no other one.
        fields = {key: value for key, value in fields.items() if key not in ("region", "pair") or key in row.fields}
    try:
        item = _ITEMS[kind].model_validate(fields)
        person = normalise_person(parse_address(item.email)) if isinstance(item, ImportItem) else None
    except ValidationError as error:
        problems = field_problems(error, names={}, whole=_WHOLE, repeated=False)
        return _bad(row.number, "; ".join(problem.sentence for problem in problems))
    except AddressError as error:
        return _bad(row.number, str(error))
    return Asked(row=row.number, item=item, person=person)


def _bad(number: int, sentence: str) -> Asked:
    hint = "Correct the row, or leave it out."
    problem = RowProblem(row=number, type=InvalidOrder.__name__, message=sentence, hint=hint)
    return Asked(row=number, item=None, problem=problem)


async def plan(ledger: Ledger, new: NewBulk, asked: Sequence[Asked] = ()) -> BulkPlan:
    """Tell what a run would do, and change nothing.

    An extension asks for no rows: it is for whatever runs by then. Raises OrderConflict, InvalidRows (none, or too
    many), InvalidOrder, UnknownRegion, UnknownPair, Unavailable.
    """
    async with ledger.read() as tx:
        known = await bulk.earlier_bulk(tx, new, bulk.fingerprint(tx, new, asked)) is not None
        judged = () if known else (await _looked_at(tx, new, asked))[1]
    return BulkPlan(
        run=new.run,
        kind=new.job.kind,
        known=known,
        changes=tuple(one.change for one in judged if one.change is not None),
        problems=_problems(judged),
    )


async def begin(
    ledger: Ledger, twinline: Twinline, new: NewBulk, asked: Sequence[Asked] = (), *, skip_invalid: bool = False
) -> tuple[BulkView, bool]:
    """Begin a run, and tell whether it was begun before; the same run again is the same one, and goes on if it must.

    Raises as `plan` does, and InvalidRows for rows that can't be carried out unless they are to be skipped.
    """
    async with ledger.read() as tx:
        known = await bulk.earlier_bulk(tx, new, bulk.fingerprint(tx, new, asked))
        asked, judged = (asked, ()) if known is not None else await _looked_at(tx, new, asked)
    if known is None:
        refuse_invalid(_problems(judged), of=len(judged), skip=skip_invalid)
        async with ledger.write() as tx:
            bulk_id = await bulk.record_bulk(tx, new, asked, judged, now=datetime.now(UTC))
    else:
        async with ledger.read() as tx:
            bulk_id = await bulk.bulk_id_of(tx, new.caller, new.run)
    if known is None or known.state == "running":
        # Between the ledger and Temporal whoever asks may die: then he asks again, or `take_up` does.
        await _work_on(twinline, bulk_id, new, len(asked) if known is None else known.counts.items)
    return await view(ledger, new.caller, new.run), known is not None


def refuse_invalid(problems: Sequence[RowProblem], *, of: int, skip: bool) -> None:
    """Raises InvalidRows where some of so many rows can't be carried out, unless they are skipped and others left."""
    if problems and not skip:
        raise BadRows(problems)
    if len(problems) == of:
        raise InvalidRows(
            "no row can be carried out", hint="Nothing was begun; a dry run says what is wrong with each."
        )


async def view(ledger: Ledger, caller: str, run: str) -> BulkView:
    """How a run stands; raises UnknownBulk, Unavailable."""
    async with ledger.read() as tx:
        return await bulk.bulk_view(tx, caller, run)


async def runs(ledger: Ledger, wanted: BulkFilter, *, cursor: str | None, limit: int) -> BulkPage:
    """List runs, the newest first; raises InvalidOrder (no such cursor), Unavailable."""
    async with ledger.read() as tx:
        return await bulk.list_bulks(tx, wanted, cursor=cursor, limit=limit)


async def follow(ledger: Ledger, caller: str, run: str, *, grace: timedelta) -> AsyncIterator[BulkView]:
    """How a run stands, again and again until all is ordered and then, for as long as one order is waited for, done.

    Raises UnknownBulk, Unavailable.
    """
    ordered_since: float | None = None
    while True:
        began = time.monotonic()
        found = await view(ledger, caller, run)
        yield found
        now = time.monotonic()
        if found.state != "running":
            ordered_since = now if ordered_since is None else ordered_since
            if found.counts.going == 0 or now - ordered_since > grace.total_seconds():
                return
        await asyncio.sleep(max(EVERY, 4 * (now - began)))


async def resume(ledger: Ledger, twinline: Twinline, caller: str, run: str, *, actor: str) -> BulkView:
    """Go on with a run that was stopped or whose workflow was ended, and try again what may pass by now.

    Raises UnknownBulk, Unavailable.
    """
    async with ledger.write() as tx:
        bulk_id = await bulk.bulk_id_of(tx, caller, run)
        waits = await bulk.resume_bulk(tx, bulk_id, actor=actor, now=datetime.now(UTC))
    found = await view(ledger, caller, run)
    if waits:
        await _work_on(twinline, bulk_id, NewBulk(caller=caller, run=run, job=found.job), found.counts.items)
    return found


async def stop(ledger: Ledger, caller: str, run: str, *, actor: str) -> BulkView:
    """Order nothing more of a run; what was ordered goes on. Raises UnknownBulk, Unavailable."""
    async with ledger.write() as tx:
        bulk_id = await bulk.bulk_id_of(tx, caller, run)
        await bulk.stop_bulk(tx, bulk_id, actor=actor, now=datetime.now(UTC))
    return await view(ledger, caller, run)


async def take_up(ledger: Ledger, twinline: Twinline) -> tuple[str, ...]:
    """See that every run that is to go on is worked on; the workflow ids of those that were not.

    Who begins or resumes one may die before Temporal hears of it, and its workflow may be ended there. Raises
    Unavailable.
    """
    async with ledger.read() as tx:
        running = await bulk.running_bulks(tx)
    taken: list[str] = []
    for each in running:
        workflow_id = bulk_workflow_id(each.new.caller, each.new.run)
        if await twinline.standing(workflow_id) != "running":
            await _work_on(twinline, each.bulk_id, each.new, each.items)
            taken.append(workflow_id)
    return tuple(taken)


async def _work_on(twinline: Twinline, bulk_id: str, new: NewBulk, items: int) -> None:
    summary = bulk_summary(new, items)
    await twinline.run_bulk(BulkStart(bulk_id=bulk_id), caller=new.caller, run=new.run, summary=summary)


async def _looked_at(tx: ReadTx, new: NewBulk, asked: Sequence[Asked]) -> tuple[Sequence[Asked], Sequence[Judged]]:
    if isinstance(new.job, BulkExtend):
        asked = await running_lines(tx, new.job, caller=new.caller)
        if not asked:
            raise InvalidRows("no line runs there", hint="A list of the lines of the region shows which there are.")
    if len(asked) > MOST_ITEMS:
        raise InvalidRows(
            f"a run has {MOST_ITEMS} lines at most, and there are more",
            hint="Make several runs: cut the file, or name one pair at a time.",
        )
    return asked, await judge(tx, new, asked, now=datetime.now(UTC))


def _problems(judged: Sequence[Judged]) -> tuple[RowProblem, ...]:
    return tuple(one.problem for one in judged if one.problem is not None)
