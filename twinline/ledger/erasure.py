"""Erasing whose a line was, once no host holds anything of it.

The line's row stays as a tombstone, because events, which can't be changed, point at it, and because no other line may
ever get its name: where that stood is a keyed hash. Events tell nothing of a person. docs/erasure.md says what is left.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement
from sqlmodel import and_, col, delete, func, or_, select, update

from twinline.bulk import ItemState
from twinline.errors import LineErased, LineServed, OrdersRunning, UnknownLine
from twinline.ledger import models
from twinline.ledger.halves import BatchHalf, held_half
from twinline.ledger.lines import LineRows, line_by_id, line_by_username, name_hash, note
from twinline.ledger.trial_door import forget_person
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.ledger.types import utc
from twinline.messages import (
    EraseBegun,
    EraseTask,
    HostGone,
    MailKind,
    Message,
    OrderKind,
    Receipt,
    Recorded,
    erase_workflow_id,
    tell_workflow_id,
    term_workflow_id,
    until_workflow_id,
)

_NOTHING: Final = b""


class OfPerson(Message):
    """A line of somebody who wants to be forgotten, and whether that was done already."""

    line_id: str
    username: str
    erased: bool


class Histories(Message):
    """Where Temporal keeps something of a line: the workflows of its orders and grants, and how to know others."""

    workflow_ids: tuple[str, ...]
    username: str
    person_hash: bytes


async def line_named(tx: ReadTx, username: str) -> OfPerson:
    """The line of that name, also when it was erased; raises UnknownLine."""
    try:
        rows = await line_by_username(tx, username)
    except LineErased as erased:
        return OfPerson(line_id=erased.line_id, username=username, erased=True)
    return OfPerson(line_id=rows.line.id, username=rows.line.username, erased=False)


async def lines_of_person(tx: ReadTx, person: str) -> tuple[OfPerson, ...]:
    """The lines of a person (the normalised address) that are not erased, by age; raises UnknownLine for none."""
    person_hash = tx.keys.mac("person", person)
    line = models.Line
    query = select(line).where(line.person_hash == person_hash).order_by(col(line.created_at), col(line.id))
    found = (await tx.session.exec(query)).all()
    if found:
        return tuple(OfPerson(line_id=each.id, username=each.username, erased=False) for each in found)
    if (trial := await tx.session.get(models.Trial, person_hash)) is not None:
        # All that is left: that somebody of this address had a trial.
        order = await tx.session.get_one(models.Order, trial.order_id)
        return (OfPerson(line_id=order.line_id, username="", erased=True),)
    raise UnknownLine(
        "there is no line of this address",
        hint="Check the spelling. If its lines were erased, this is how that looks: nothing tells any more.",
    )


async def refuse_unready(tx: ReadTx, line_id: str) -> None:
    """Refuse to erase a line that is still served, or about which something still runs.

    Raises LineServed, OrdersRunning, UnknownLine.
    """
    await _ready(tx, await line_by_id(tx, line_id))


async def hosts_of(tx: ReadTx, line_id: str) -> tuple[str, ...]:
    """Every host that the line was ever on; raises UnknownLine."""
    return tuple(half.host for half in (await line_by_id(tx, line_id)).halves)


async def begin_erasure(tx: WriteTx, task: EraseTask, *, now: datetime) -> EraseBegun:
    """Let no order reach the line any more, and name the hosts that must be seen to hold nothing of it.

    Raises as `refuse_unready` does. Done again it changes nothing; of an erased line it names no hosts.
    """
    rows = await line_by_id(tx, task.line_id)
    if rows.line.erased_at is None:
        await _ready(tx, rows)
        if rows.line.closed_at is None:
            before = rows.snapshot()
            rows.line.closed_at = utc(now)
            _note(tx, rows, task, now=now, what="erasure.begun", before=before)
    return EraseBegun(hosts=tuple(half.host for half in rows.halves))


async def half_to_erase(tx: ReadTx, line_id: str, host: str) -> BatchHalf:
    """What this host must be seen to hold nothing of; raises UnknownLine, KeyRingError."""
    return await held_half(tx, line_id, host)


async def histories_of(tx: ReadTx, line_id: str) -> Histories:
    """Where Temporal keeps something of this line; raises UnknownLine."""
    rows = await line_by_id(tx, line_id)
    orders = (await tx.session.exec(select(models.Order).where(models.Order.line_id == line_id))).all()
    of_orders = [order.workflow_id for order in orders]
    of_blocks = [until_workflow_id(order.workflow_id) for order in orders if order.kind is OrderKind.BLOCK]
    of_grants = [term_workflow_id(line_id, grant.id) for grant in rows.grants]
    mails = select(models.Mail.kind, models.Mail.ref).where(models.Mail.line_id == line_id)
    of_mails = [tell_workflow_id(line_id, MailKind(kind), ref) for kind, ref in await tx.session.exec(mails)]
    return Histories(
        workflow_ids=(*of_orders, *of_blocks, *of_grants, *of_mails),
        username=rows.line.username,
        person_hash=rows.line.person_hash,
    )


async def erase_line(tx: WriteTx, task: EraseTask, *, now: datetime, gone: Sequence[HostGone] = ()) -> None:
    """Take out everything that tells whose line it was; done again it changes nothing.

    Only for a line that every host was seen to hold nothing of, or is said to be gone. Raises LineServed,
    OrdersRunning, UnknownLine.
    """
    rows = await line_by_id(tx, task.line_id)
    line = rows.line
    if line.erased_at is not None:
        return
    await _ready(tx, rows)
    tombstone = tombstone_name(line.id)
    for order in await tx.session.exec(select(models.Order).where(models.Order.line_id == line.id)):
        _erase_order(order, tombstone)
    for block in rows.blocks:
        block.reason = ""
    await forget_person(tx, line.person_hash)
    await tx.session.exec(delete(models.Mail).where(col(models.Mail.line_id) == line.id))
    await _erase_bulk_items(tx, line)
    before = rows.snapshot()
    await tx.session.exec(delete(models.Half).where(col(models.Half.line_id) == line.id))
    rows.halves.clear()
    line.username_casefold = name_hash(tx.keys, line.username)
    line.username = tombstone
    line.password_sealed = line.email_sealed = line.person_hash = _NOTHING
    line.erased_at = utc(now)
    for told in gone:
        note(
            tx,
            at=utc(now),
            who=told.actor,
            what="erasure.host_gone",
            why=f"{erase_workflow_id(line.id)}: {told.host}",
            line_id=line.id,
        )
    _note(tx, rows, task, now=now, what="line.erased", before=before)


async def lineless_items(tx: ReadTx, person: str) -> int:
    """How many items of bulk runs hold something of a person (the normalised address) and belong to no line."""
    query = select(func.count()).select_from(models.BulkItem).where(_lineless(tx.keys.mac("person", person)))
    return (await tx.session.exec(query)).one()


async def forget_items(tx: WriteTx, person: str, *, known: Collection[str], actor: str, now: datetime) -> int:
    """Forget what bulk runs hold of a person and belongs to no line, and let none of it be ordered; how many items.

    `known` are the ids of this person's lines as the caller has seen them. Raises OrdersRunning when an item became
    another one meanwhile.
    """
    person_hash, item, bulk = tx.keys.mac("person", person), models.BulkItem, models.Bulk
    theirs = _lineless(person_hash)
    query = select(bulk.identity, func.count()).join(item, col(item.bulk_id) == col(bulk.id)).where(theirs)
    found = (await tx.session.exec(query.group_by(bulk.identity).order_by(bulk.identity))).all()
    await _forget(tx, theirs)
    lines = (await tx.session.exec(select(models.Line.id).where(models.Line.person_hash == person_hash))).all()
    if not set(known) >= set(lines):
        raise OrdersRunning(
            "a line of this address was opened just now", hint="End it as the others were ended, then repeat this."
        )
    for identity, _ in found:
        note(tx, at=utc(now), who=actor, what="bulk.items_erased", why=f"bulk/{identity}")
    return sum(count for _, count in found)


def _lineless(person_hash: bytes) -> ColumnElement[bool]:
    item = models.BulkItem
    return and_(col(item.person_hash) == person_hash, col(item.line_id).is_(None))


async def _erase_bulk_items(tx: WriteTx, line: models.Line) -> None:
    item = models.BulkItem
    await _forget(tx, or_(col(item.line_id) == line.id, col(item.person_hash) == line.person_hash))


async def _forget(tx: WriteTx, theirs: ColumnElement[bool]) -> None:
    """Keep that there were such items; one that still waits must not bring back what is forgotten."""
    item = models.BulkItem
    waiting = update(item).where(theirs, col(item.state).in_((ItemState.WAITING, ItemState.CANCELLED)))
    await tx.session.exec(waiting.values(state=ItemState.REFUSED, error=LineErased.__name__))
    forgotten = {"body_sealed": _NOTHING, "message": "", "hint": "", "person_hash": None, "retryable": False}
    await tx.session.exec(update(item).where(theirs).values(**forgotten))


def tombstone_name(line_id: str) -> str:
    """What stands where an erased line's username stood; no order can name it."""
    return f"~{line_id}"


def is_tombstone(name: str) -> bool:
    """Whether this is what stands where an erased line's username stood."""
    return name.startswith("~")


async def _ready(tx: ReadTx, rows: LineRows) -> None:
    name = rows.line.username
    if rows.line.state != "absent":
        raise LineServed(
            f'line "{name}" has a grant that is not over, so it is not erased',
            hint=f"End it first with `twinline close {name} --order ID`; when that is done, repeat this.",
        )
    query = select(models.Order).where(models.Order.line_id == rows.line.id, col(models.Order.settled_at).is_(None))
    if running := (await tx.session.exec(query.order_by(col(models.Order.created_at)))).all():
        raise OrdersRunning(
            f'line "{name}" is not erased while an order for it runs: {_named(running)}',
            hint="`twinline order show ID` tells what it waits for; when it is done, repeat this.",
        )


def _named(orders: Sequence[models.Order]) -> str:
    return ", ".join(f'{order.kind} "{order.ref.partition("/")[0]}" of caller "{order.caller}"' for order in orders)


def _erase_order(order: models.Order, tombstone: str) -> None:
    """Keep that there was an order of this id: it must not be taken for a new one."""
    # The digest of the body would let whoever has the key ring try addresses.
    order.fingerprint = _NOTHING
    recorded = Recorded.model_validate_json(order.recorded)
    blocks = tuple(block.model_copy(update={"reason": ""}) for block in recorded.blocks)
    order.recorded = recorded.model_copy(update={"username": tombstone, "blocks": blocks}).model_dump_json()
    if order.receipt is not None:
        receipt = Receipt.model_validate_json(order.receipt)
        blocks = tuple(block.model_copy(update={"reason": ""}) for block in receipt.blocks)
        # By its Message-ID the log of a mail server tells whom a message went to.
        erased = {"username": tombstone, "blocks": blocks, "mail": None}
        order.receipt = receipt.model_copy(update=erased).model_dump_json()


def _note(tx: WriteTx, rows: LineRows, task: EraseTask, *, now: datetime, what: str, before: Message) -> None:
    note(
        tx,
        at=utc(now),
        who=task.actor,
        what=what,
        why=erase_workflow_id(task.line_id),
        line_id=task.line_id,
        before=before,
        after=rows.snapshot(),
    )
