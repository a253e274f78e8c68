"""Bulk runs in the ledger: taken once, worked off item by item, told of at any time.

What an item asks for is sealed, and forgotten as soon as its order is in the ledger or refused for good.
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement
from sqlmodel import and_, col, exists, func, or_, select, update

from twinline.bulk import (
    BlockItem,
    BulkCounts,
    BulkExtend,
    BulkFilter,
    BulkImport,
    BulkKind,
    BulkPage,
    BulkView,
    ExtendItem,
    ImportItem,
    Item,
    ItemPage,
    ItemState,
    ItemView,
    Job,
    NewBulk,
    RunState,
    Standing,
    bulk_workflow_id,
    item_order,
    name_of,
)
from twinline.errors import InvalidOrder, OrderConflict, UnknownBulk
from twinline.ledger import models, rules
from twinline.ledger.bulk_bodies import Body, body_of, seal_body
from twinline.ledger.bulk_judged import Asked, Judged
from twinline.ledger.erasure import is_tombstone
from twinline.ledger.lines import note
from twinline.ledger.tx import LOCKED, ReadTx, WriteTx
from twinline.ledger.types import chunks, utc
from twinline.messages import AnyOrder, HalfState, Refusal
from twinline.problems import bounded

_AT_A_TIME: Final = 200
_JOB: Final[TypeAdapter[Job]] = TypeAdapter(Job)
_ITEMS: Final = {BulkKind.BLOCK: BlockItem, BulkKind.EXTEND: ExtendItem, BulkKind.IMPORT: ImportItem}


@dataclass(frozen=True, kw_only=True)
class Work:
    """An item that is to be ordered."""

    item_id: str
    order: AnyOrder


@dataclass(frozen=True, kw_only=True)
class Placed:
    """That an item was ordered, or why it was refused."""

    item_id: str
    refused: Refusal | None


@dataclass(frozen=True, kw_only=True)
class Running:
    """A run of which something waits to be ordered."""

    bulk_id: str
    new: NewBulk
    items: int


def fingerprint(tx: ReadTx, new: NewBulk, asked: Sequence[Asked]) -> bytes:
    """Tells whether a run is the same again: by what is asked for and by every row, but not by its place."""
    # Which lines run may have changed since.
    of_rows = not isinstance(new.job, BulkExtend)
    rows = [None if one.item is None else one.item.model_dump(mode="json") for one in asked if of_rows]
    body = json.dumps([new.model_dump(mode="json"), rows], sort_keys=True)
    return tx.keys.mac("bulk", body)


async def earlier_bulk(tx: ReadTx, new: NewBulk, print_: bytes) -> BulkView | None:
    """The same run, if it was taken before; raises OrderConflict when its id was used for another one."""
    bulk = await _find(tx, new.caller, new.run)
    if bulk is None:
        return None
    if bulk.fingerprint != print_:
        raise OrderConflict(
            f'the run id "{new.run}" of caller "{new.caller}" was used before for something else',
            hint="Repeat a run with exactly the same rows and options; give a new run its own id.",
        )
    return await _view(tx, bulk)


async def record_bulk(
    tx: WriteTx, new: NewBulk, asked: Sequence[Asked], judged: Sequence[Judged], *, now: datetime
) -> str:
    """Take a run with all its items, those with a problem as refused; gives its id. Raises OrderConflict."""
    print_ = fingerprint(tx, new, asked)
    await tx.alone("bulk", _identity(new.caller, new.run))
    if await earlier_bulk(tx, new, print_) is not None:
        return (await _get(tx, new.caller, new.run)).id
    bulk = models.Bulk(
        id=rules.new_id(tx.random),
        identity=_identity(new.caller, new.run),
        kind=new.job.kind,
        caller=new.caller,
        run=new.run,
        fingerprint=print_,
        job=new.job.model_dump_json(),
        created_at=utc(now),
    )
    bulk_id = bulk.id
    tx.session.add(bulk)
    await tx.session.flush()
    for some in chunks(judged, _AT_A_TIME):
        tx.session.add_all([_item_row(tx, bulk, one) for one in some])
        await tx.session.flush()
        # Thousands take seconds, and whoever else is served by this process must not wait for them.
        await asyncio.sleep(0)
    _note(tx, bulk, who=new.caller, what="bulk.begun", now=now)
    return bulk_id


def _item_row(tx: WriteTx, bulk: models.Bulk, judged: Judged) -> models.BulkItem:
    row = models.BulkItem(
        id=rules.new_id(tx.random),
        bulk_id=bulk.id,
        number=judged.number,
        row=judged.row,
        identity=judged.identity,
        line_id=judged.line_id,
        person_hash=None if judged.person is None else tx.keys.mac("person", judged.person),
        body_sealed=b"",
        note="" if judged.change is None else judged.change.note,
    )
    if judged.item is not None:
        seal_body(tx, row, Body(line=name_of(judged.item), item=judged.item.model_dump(mode="json")))
    if judged.problem is not None:
        problem = judged.problem
        _refuse(tx, row, Refusal(type=problem.type, message=problem.message, hint=problem.hint, retryable=False))
    return row


async def next_items(tx: ReadTx, bulk_id: str, *, limit: int) -> tuple[Work, ...]:
    """The first items that wait to be ordered; raises UnknownBulk, KeyRingError."""
    bulk = await tx.session.get(models.Bulk, bulk_id)
    if bulk is None:
        raise _lost(bulk_id)
    new, item = NewBulk(caller=bulk.caller, run=bulk.run, job=_JOB.validate_json(bulk.job)), models.BulkItem
    query = select(item).where(item.bulk_id == bulk_id, item.state == ItemState.WAITING)
    found = await tx.session.exec(query.order_by(col(item.number)).limit(limit))
    return tuple(
        Work(item_id=each.id, order=item_order(new, each.number, each.id, _asked_for(tx, new.job, each)))
        for each in found
    )


async def note_placed(tx: WriteTx, bulk_id: str, results: Sequence[Placed], *, now: datetime) -> BulkCounts:
    """Keep what came of items, and that the run is settled once none waits; how its items stand now."""
    bulk = await tx.session.get(models.Bulk, bulk_id, with_for_update=LOCKED)
    if bulk is None:
        raise _lost(bulk_id)
    for result in results:
        row = await tx.session.get_one(models.BulkItem, result.item_id)
        if result.refused is not None:
            _refuse(tx, row, result.refused)
            continue
        row.state = ItemState.PLACED
        if row.body_sealed and row.line_id is not None:
            seal_body(tx, row, Body(line=body_of(tx, row).line))
    await tx.session.flush()
    counts = await _counts(tx, bulk.id)
    if counts.waiting == 0 and bulk.settled_at is None:
        bulk.settled_at = utc(now)
        _note(tx, bulk, who=bulk.caller, what="bulk.settled", now=now)
    return counts


async def stop_bulk(tx: WriteTx, bulk_id: str, *, actor: str, now: datetime) -> None:
    """Order nothing more of a run; what was ordered goes on. Done again, or once it is over, it changes nothing."""
    bulk = await tx.session.get(models.Bulk, bulk_id, with_for_update=LOCKED)
    if bulk is None:
        raise _lost(bulk_id)
    if bulk.settled_at is not None or bulk.cancelled_at is not None:
        return
    item = models.BulkItem
    waiting = update(item).where(col(item.bulk_id) == bulk_id, col(item.state) == ItemState.WAITING)
    await tx.session.exec(waiting.values(state=ItemState.CANCELLED))
    bulk.cancelled_at, bulk.cancelled_by = utc(now), actor
    _note(tx, bulk, who=actor, what="bulk.cancelled", now=now)


async def resume_bulk(tx: WriteTx, bulk_id: str, *, actor: str, now: datetime) -> bool:
    """Let what was cancelled, and what was refused and may pass by now, wait again; whether anything waits."""
    bulk = await tx.session.get(models.Bulk, bulk_id, with_for_update=LOCKED)
    if bulk is None:
        raise _lost(bulk_id)
    item = models.BulkItem
    again = or_(
        col(item.state) == ItemState.CANCELLED,
        and_(col(item.state) == ItemState.REFUSED, col(item.retryable).is_(True)),
    )
    waits = {"state": ItemState.WAITING, "error": None, "message": "", "hint": "", "retryable": False}
    await tx.session.exec(update(item).where(col(item.bulk_id) == bulk_id, again).values(**waits))
    await tx.session.flush()
    if (await _counts(tx, bulk_id)).waiting == 0:
        return False
    if bulk.settled_at is not None or bulk.cancelled_at is not None:
        bulk.settled_at = bulk.cancelled_at = bulk.cancelled_by = None
        _note(tx, bulk, who=actor, what="bulk.resumed", now=now)
    return True


async def bulk_id_of(tx: ReadTx, caller: str, run: str) -> str:
    """The ledger's own id of a run; raises UnknownBulk."""
    return (await _get(tx, caller, run)).id


async def bulk_view(tx: ReadTx, caller: str, run: str) -> BulkView:
    """Show a run; raises UnknownBulk."""
    return await _view(tx, await _get(tx, caller, run))


async def list_bulks(tx: ReadTx, wanted: BulkFilter, *, cursor: str | None = None, limit: int = 100) -> BulkPage:
    """List runs, the newest first, from behind `cursor` on; raises InvalidOrder."""
    bulk = models.Bulk
    query = select(bulk).order_by(col(bulk.created_at).desc(), col(bulk.id).desc()).limit(limit + 1)
    if wanted.caller is not None:
        query = query.where(bulk.caller == wanted.caller)
    if wanted.kind is not None:
        query = query.where(bulk.kind == wanted.kind)
    if wanted.state is not None:
        query = query.where(*_are(wanted.state))
    if wanted.own:
        # Names and ids of a job hold no quote.
        query = query.where(col(bulk.job).contains('"own":true'))
    if cursor is not None:
        before, last_id = _position(cursor)
        at = col(bulk.created_at)
        query = query.where(or_(at < before, and_(at == before, col(bulk.id) < last_id)))
    found = (await tx.session.exec(query)).all()
    page = found[:limit]
    return BulkPage(
        runs=tuple([await _view(tx, each) for each in page]),
        cursor=f"{page[-1].created_at.isoformat()}~{page[-1].id}" if len(found) > limit else None,
    )


def _are(state: RunState) -> Sequence[ColumnElement[bool]]:
    cancelled, settled = col(models.Bulk.cancelled_at), col(models.Bulk.settled_at)
    match state:
        case "cancelled":
            return (cancelled.is_not(None),)
        case "running":
            return (cancelled.is_(None), settled.is_(None))
        case "over":
            return (cancelled.is_(None), settled.is_not(None))


async def running_bulks(tx: ReadTx) -> tuple[Running, ...]:
    """Runs of which something waits to be ordered, the oldest first."""
    bulk, item = models.Bulk, models.BulkItem
    items = select(func.count()).where(item.bulk_id == bulk.id).correlate(bulk).scalar_subquery()
    query = select(bulk, items).where(*_are("running")).order_by(col(bulk.created_at), col(bulk.id))
    return tuple(
        Running(
            bulk_id=each.id,
            new=NewBulk(caller=each.caller, run=each.run, job=_JOB.validate_json(each.job)),
            items=count,
        )
        for each, count in await tx.session.exec(query)
    )


async def run_ids_like(tx: ReadTx, beginning: str, *, caller: str, limit: int) -> tuple[str, ...]:
    """The caller's own ids of runs with this beginning, of the newest first."""
    bulk = models.Bulk
    query = select(bulk.run).where(bulk.caller == caller, col(bulk.run).startswith(beginning, autoescape=True))
    return tuple(await tx.session.exec(query.order_by(col(bulk.created_at).desc()).limit(limit)))


async def bulk_items(
    tx: ReadTx, caller: str, run: str, *, cursor: str | None = None, limit: int = 100, standing: Standing | None = None
) -> ItemPage:
    """What became of a run's items, by number, from behind `cursor` on; raises UnknownBulk, InvalidOrder."""
    bulk = await _get(tx, caller, run)
    after = 0
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 9):
            raise _bad_cursor()
        after = int(cursor)
    item, order, line = models.BulkItem, models.Order, models.Line
    query = (
        select(item, order, line.username, _asks())
        .outerjoin(order, _its_order())
        .outerjoin(line, col(line.id) == col(item.line_id))
        .where(item.bulk_id == bulk.id, col(item.number) > after)
        .order_by(col(item.number))
    )
    if standing is None:
        query = query.limit(limit + 1)
    found: list[ItemView] = []
    for each, its_order, username, asks in _joined(await tx.session.exec(query)):
        stands = _standing(
            each.state, settled=its_order is not None and its_order.settled_at is not None, asks=bool(asks)
        )
        if standing in (None, stands):
            found.append(_item_view(tx, each, stands, its_order, username))
        if len(found) > limit:
            break
    page = tuple(found[:limit])
    return ItemPage(items=page, cursor=str(page[-1].number) if len(found) > limit else None)


def _joined(found: Iterable[Any]) -> Iterable[tuple[models.BulkItem, models.Order | None, str | None, bool]]:
    """What an outer join has found: the types of the query do not tell that a table may have had no row."""
    return found


def _item_view(
    tx: ReadTx, row: models.BulkItem, standing: Standing, order: models.Order | None, username: str | None
) -> ItemView:
    refused = None
    if row.error is not None:
        refused = Refusal(type=row.error, message=row.message, hint=row.hint, retryable=row.retryable)
    name = username or (body_of(tx, row).line if row.body_sealed else "")
    return ItemView(
        number=row.number,
        row=row.row,
        line="" if is_tombstone(name) else name,
        state=standing,
        order=None if order is None else order.workflow_id,
        problem=refused,
        note=row.note,
    )


def _its_order() -> ColumnElement[bool]:
    item, order = models.BulkItem, models.Order
    # An item that was refused may have the id of somebody else's order.
    return and_(col(order.identity) == col(item.identity), col(item.state) == ItemState.PLACED)


def _asks() -> ColumnElement[bool]:
    """Whether a person has to look at a half of the item's line."""
    half, host, item = models.Half, models.Host, models.BulkItem
    asks = or_(col(half.attention).is_not(None), col(host.attention).is_not(None), half.state == HalfState.ABANDONED)
    behind = col(half.wanted) > col(half.proven)
    return exists().where(col(half.line_id) == col(item.line_id), col(half.host) == col(host.name), behind, asks)


def _standing(state: ItemState, *, settled: bool, asks: bool) -> Standing:
    match state:
        case ItemState.WAITING:
            return "waiting"
        case ItemState.REFUSED:
            return "refused"
        case ItemState.CANCELLED:
            return "cancelled"
        case ItemState.PLACED:
            if settled:
                return "done"
            return "stuck" if asks else "going"


async def _counts(tx: ReadTx, bulk_id: str) -> BulkCounts:
    item, order = models.BulkItem, models.Order
    settled = col(order.settled_at).is_not(None)
    each = select(item.state, settled.label("settled"), _asks().label("asks"))
    # As a table of its own: an expression with parameters is not the same one to PostgreSQL when it stands there twice.
    table = each.select_from(item).outerjoin(order, _its_order()).where(item.bulk_id == bulk_id).subquery()
    columns = table.c.state, table.c.settled, table.c.asks
    query = select(*columns, func.count()).group_by(*columns)
    counted: dict[str, int] = {}
    for state, is_settled, asks, count in (await tx.session.exec(query)).all():
        standing = _standing(ItemState(state), settled=bool(is_settled), asks=bool(asks))
        counted[standing] = counted.get(standing, 0) + count
    return BulkCounts(items=sum(counted.values()), **counted)


async def _view(tx: ReadTx, bulk: models.Bulk) -> BulkView:
    state = "cancelled" if bulk.cancelled_at is not None else "running" if bulk.settled_at is None else "over"
    return BulkView(
        run=bulk.run,
        caller=bulk.caller,
        kind=bulk.kind,
        job=_JOB.validate_json(bulk.job),
        state=state,
        counts=await _counts(tx, bulk.id),
        created_at=bulk.created_at,
        settled_at=bulk.settled_at,
        cancelled_at=bulk.cancelled_at,
        cancelled_by=bulk.cancelled_by,
        workflow_id=bulk_workflow_id(bulk.caller, bulk.run),
    )


def _refuse(tx: WriteTx, row: models.BulkItem, refused: Refusal) -> None:
    row.state = ItemState.REFUSED
    row.error, row.message, row.hint = refused.type, refused.message, refused.hint
    row.retryable = refused.retryable
    if not refused.retryable and row.body_sealed:
        # It is never tried again, so that nobody needs to know any more what was asked for.
        seal_body(tx, row, Body(line=body_of(tx, row).line))


def _asked_for(tx: ReadTx, job: Job, row: models.BulkItem) -> Item | None:
    if isinstance(job, BulkImport):
        # It may be forgotten already: who has ordered it may have died before that was kept here.
        return None
    return _ITEMS[job.kind].model_validate(body_of(tx, row).item)


def _identity(caller: str, run: str) -> str:
    return f"{caller}/{run}"


async def _find(tx: ReadTx, caller: str, run: str) -> models.Bulk | None:
    query = select(models.Bulk).where(models.Bulk.identity == _identity(caller, run))
    return (await tx.session.exec(query)).one_or_none()


async def _get(tx: ReadTx, caller: str, run: str) -> models.Bulk:
    bulk = await _find(tx, caller, run)
    if bulk is None:
        raise UnknownBulk(
            f"there is no bulk run {bounded(run)} of caller {bounded(caller)}",
            hint="Check id and caller; `twinline bulk list` shows all runs that were taken.",
        )
    return bulk


def _lost(bulk_id: str) -> UnknownBulk:
    return UnknownBulk(
        f"there is no bulk run with the id {bulk_id}",
        hint="Was the ledger restored from an older backup? Begin the run again.",
    )


def _position(cursor: str) -> tuple[datetime, str]:
    moment, _, bulk_id = cursor.partition("~")
    try:
        return utc(datetime.fromisoformat(moment)), bulk_id
    except ValueError:
        raise _bad_cursor() from None


def _bad_cursor() -> InvalidOrder:
    return InvalidOrder("the cursor is not one that a list gave", hint="Start again without a cursor.")


def _note(tx: WriteTx, bulk: models.Bulk, *, who: str, what: str, now: datetime) -> None:
    note(tx, at=utc(now), who=who, what=what, why=f"bulk/{bulk.identity}")
