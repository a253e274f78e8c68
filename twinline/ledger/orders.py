"""Commands that take orders, each in one write transaction.

The same order again gives back what was recorded then. A refusal raises and leaves nothing behind.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import select

from twinline.errors import (
    InvalidOrder,
    LineClosed,
    LineEnded,
    OrderConflict,
    TrialAlreadyUsed,
    UnknownBlock,
    UnknownOrder,
)
from twinline.ledger import models, moves, rules
from twinline.ledger.filing import Filing, file_order, filing_of, repeated_order
from twinline.ledger.lines import LineRows, erased_line, line_by_id, line_by_username, listed, note, seal
from twinline.ledger.placement import place, room_on
from twinline.ledger.trial_door import disposable_address
from twinline.ledger.tx import WriteTx
from twinline.ledger.types import utc
from twinline.messages import (
    TRIAL_LENGTH,
    BlockOrder,
    BlockOwner,
    CloseOrder,
    ExtensionOrder,
    HalfState,
    MoveOrder,
    OrderOutcome,
    PasswordOrder,
    Plan,
    Protocol,
    PurchaseOrder,
    Receipt,
    Recorded,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
)


async def record_trial(
    tx: WriteTx, order: TrialOrder, *, person: str, disposable: bool = False, now: datetime, workflow_id: str
) -> Recorded:
    """Open a line with a trial grant, once per `person` (the normalised address), and not for `disposable` ones.

    Raises OrderConflict, TrialAlreadyUsed, DisposableAddress, UnknownRegion, RegionFull.
    """
    filing = filing_of(tx, order, now=now, workflow_id=workflow_id)
    if (repeated := await repeated_order(tx, filing)) is not None:
        return repeated
    if disposable:
        raise disposable_address()
    person_hash = tx.keys.mac("person", person)
    await tx.alone("person", person_hash.hex())
    if await tx.session.get(models.Trial, person_hash) is not None:
        raise TrialAlreadyUsed(
            "this person had a trial before", hint="A person gets one trial; order a purchase instead."
        )
    rows = await _new_line(tx, filing, email=order.email, region=order.region, person_hash=person_hash)
    grant = give(tx, filing, rows, plan="trial", ends_at=filing.now + TRIAL_LENGTH)
    _owe(rows, grant)
    recorded = await file_order(tx, filing, rows, grant=grant, before=None, what="line.opened")
    tx.session.add(models.Trial(person_hash=person_hash, order_id=filing.order_id, used_at=filing.now))
    return recorded


async def record_purchase(
    tx: WriteTx, order: PurchaseOrder, *, person: str | None, now: datetime, workflow_id: str
) -> Recorded:
    """Give paid days: to a new line (then `person` is needed), or to an existing one as a renewal does.

    Raises OrderConflict, UnknownRegion, RegionFull, UnknownLine, LineClosed.
    """
    filing = filing_of(tx, order, now=now, workflow_id=workflow_id)
    if (repeated := await repeated_order(tx, filing)) is not None:
        return repeated
    if order.line is not None:
        return await _extend(tx, filing, username=order.line, days=order.days)
    if person is None or order.email is None or order.region is None:
        raise ValueError("a purchase for a new customer needs the person, the address and the region")
    rows = await _new_line(
        tx, filing, email=order.email, region=order.region, person_hash=tx.keys.mac("person", person)
    )
    ends_at = rules.renewed_end(now=filing.now, ends_at=None, days=order.days)
    grant = give(tx, filing, rows, plan="paid", ends_at=ends_at)
    _owe(rows, grant)
    return await file_order(tx, filing, rows, grant=grant, before=None, what="line.opened")


async def record_renewal(tx: WriteTx, order: RenewalOrder, *, now: datetime, workflow_id: str) -> Recorded:
    """Give further paid days: max(now, end) + days; a line that has ended comes back, a blocked one stays blocked.

    Raises OrderConflict, UnknownLine, LineClosed.
    """
    filing = filing_of(tx, order, now=now, workflow_id=workflow_id)
    if (repeated := await repeated_order(tx, filing)) is not None:
        return repeated
    return await _extend(tx, filing, username=order.line, days=order.days)


async def record_extension(tx: WriteTx, order: ExtensionOrder, *, now: datetime, workflow_id: str) -> Recorded:
    """Give a line that runs further days of the plan that it has; a blocked one stays blocked.

    Raises OrderConflict, UnknownLine, LineClosed, LineEnded.
    """
    filing = filing_of(tx, order, now=now, workflow_id=workflow_id)
    if (repeated := await repeated_order(tx, filing)) is not None:
        return repeated
    rows = await _served_line(tx, order.line)
    before = rows.snapshot()
    ends_at = rules.renewed_end(now=filing.now, ends_at=rows.runs_until, days=order.days)
    grant = give(tx, filing, rows, plan=rows.last_grant.plan, ends_at=ends_at)
    return await file_order(tx, filing, rows, grant=grant, before=before, what="grant.given")


async def record_block(tx: WriteTx, order: BlockOrder, *, now: datetime, workflow_id: str) -> Recorded:
    """Set a block; when this owner's block for this case stands already, the order joins it.

    Raises OrderConflict (also when the block of this case was lifted since: the caller means a new one, and must
    not read in an old receipt that the line is blocked), UnknownLine, LineClosed, InvalidOrder (`until` has passed).
    """
    filing = filing_of(tx, order, now=now, workflow_id=workflow_id)
    if (repeated := await repeated_order(tx, filing)) is not None:
        await _refuse_if_lifted(tx, order, repeated)
        return repeated
    refuse_past(order.until, now=filing.now)
    rows = await _open_line(tx, order.line)
    before = rows.snapshot()
    block = active_block(rows, order.owner, order.case)
    if block is not None:
        return await file_order(tx, filing, rows, block=block, before=before, what="block.joined")
    block = models.Block(
        id=rules.new_id(tx.random),
        line_id=rows.line.id,
        owner=order.owner,
        case=order.case,
        reason=order.reason,
        actor=order.caller,
        order_id=filing.order_id,
        set_at=filing.now,
        until=None if order.until is None else utc(order.until),
    )
    rows.blocks.append(block)
    return await file_order(tx, filing, rows, block=block, before=before, what="block.set")


async def record_unblock(tx: WriteTx, order: UnblockOrder, *, now: datetime, workflow_id: str) -> Recorded:
    """Lift the block that this owner set for this case, and no other.

    Raises OrderConflict, UnknownLine, LineClosed, UnknownBlock.
    """
    filing = filing_of(tx, order, now=now, workflow_id=workflow_id)
    if (repeated := await repeated_order(tx, filing)) is not None:
        return repeated
    rows = await _open_line(tx, order.line)
    before = rows.snapshot()
    block = active_block(rows, order.owner, order.case)
    if block is None:
        raise UnknownBlock(
            f'no active {order.owner} block for case "{order.case}" stands on line "{order.line}"',
            hint=f"Active blocks (owner/case): {listed(before.blocks)}.",
        )
    block.lifted_at = filing.now
    recorded = await file_order(tx, filing, rows, block=block, before=before, what="block.lifted")
    # Only now is the order's row there to be named.
    block.lifted_by_order_id = filing.order_id
    return recorded


async def record_password(tx: WriteTx, order: PasswordOrder, *, now: datetime, workflow_id: str) -> Recorded:
    """Give the line a new password; a blocked line stays blocked, and gets it with the lifting of its blocks.

    Raises OrderConflict, UnknownLine, LineClosed, LineEnded.
    """
    filing = filing_of(tx, order, now=now, workflow_id=workflow_id)
    if (repeated := await repeated_order(tx, filing)) is not None:
        return repeated
    rows = await _served_line(tx, order.line)
    before = rows.snapshot()
    password = rules.new_password(tx.random)
    rows.line.password_sealed = seal(tx.keys, "line", rows.line.id, "password", password.encode())
    return await file_order(tx, filing, rows, before=before, what="password.changed", anew=True)


async def record_move(tx: WriteTx, order: MoveOrder, *, now: datetime, workflow_id: str) -> Recorded:
    """Let the line live on another pair of any region too; `twinline.ledger.moves` ends its life on the old one.

    Raises OrderConflict, UnknownLine, LineClosed, LineEnded, UnknownPair, PairFull, SamePair, MoveRunning.
    """
    filing = filing_of(tx, order, now=now, workflow_id=workflow_id)
    if (repeated := await repeated_order(tx, filing)) is not None:
        return repeated
    rows = await _served_line(tx, order.line)
    await moves.refuse_second(tx, rows)
    pair = await room_on(tx, order.pair)
    before = rows.snapshot()
    anew = moves.begin(rows, pair, order_id=filing.order_id, now=filing.now)
    return await file_order(tx, filing, rows, before=before, what="move.begun", anew=anew)


async def record_close(tx: WriteTx, order: CloseOrder, *, now: datetime, workflow_id: str) -> Recorded:
    """End the line for good; grants and blocks stay as they were, for the record. Raises as `record_renewal` does."""
    filing = filing_of(tx, order, now=now, workflow_id=workflow_id)
    if (repeated := await repeated_order(tx, filing)) is not None:
        return repeated
    rows = await _open_line(tx, order.line)
    before = rows.snapshot()
    rows.line.closed_at = filing.now
    return await file_order(tx, filing, rows, before=before, what="line.closed")


@dataclass(frozen=True)
class Took:
    """How long an order took: until its end, and until the last of its halves was proven.

    `proven` is None where a half was given up, or is at a later revision by now.
    """

    ended: timedelta
    proven: timedelta | None


async def settle_order(tx: WriteTx, outcome: OrderOutcome, *, now: datetime) -> Took | None:
    """Keep the receipt of a finished order; the first one stays. Gives how long an order took that ends now.

    Raises UnknownOrder.
    """
    order = await tx.row(models.Order, outcome.order_id)
    if order is None:
        raise UnknownOrder(
            f"there is no order with the id {outcome.order_id}",
            hint="Was the ledger restored from an older backup? Repeat the order.",
        )
    if order.settled_at is not None:
        return None
    order.settled_at = utc(now)
    order.receipt = outcome.receipt.model_dump_json()
    note(tx, at=utc(now), who=order.caller, what="order.settled", why=order.identity, line_id=order.line_id)
    return Took(utc(now) - order.created_at, await _until_proven(tx, order, outcome.receipt))


async def _until_proven(tx: WriteTx, order: models.Order, receipt: Receipt) -> timedelta | None:
    half, revisions = models.Half, {each.host: each.revision for each in receipt.halves}
    query = select(half.host, half.proven, half.proven_at).where(half.line_id == order.line_id)
    proven = [found for found in await tx.session.exec(query) if found[0] in revisions]
    moments = [utc(at) for host, revision, at in proven if at is not None and revision == revisions[host]]
    done = all(each.state in (HalfState.APPLIED, HalfState.REMOVED) for each in receipt.halves)
    if not moments or not done or len(moments) < len(revisions):
        return None
    return max(max(moments) - order.created_at, timedelta(0))


async def _new_line(tx: WriteTx, filing: Filing, *, email: str, region: str, person_hash: bytes) -> LineRows:
    pair = await place(tx, region)
    # One chance in 10**14 that it is taken: then the table refuses it, and the order is tried again. Only the hash of
    # a name that was erased stands there.
    username = rules.new_username(tx.random)
    while await erased_line(tx, username) is not None:
        username = rules.new_username(tx.random)
    password = rules.new_password(tx.random)
    return line_on(tx, filing, pair, username=username, password=password, email=email, person_hash=person_hash)


def line_on(
    tx: WriteTx, filing: Filing, pair: models.Pair, *, username: str, password: str, email: str, person_hash: bytes
) -> LineRows:
    """A line that is not there yet, with both halves on a pair; `person_hash` is of the normalised address."""
    line_id = rules.new_id(tx.random)
    line = models.Line(
        id=line_id,
        username=username,
        username_casefold=username.casefold(),
        password_sealed=seal(tx.keys, "line", line_id, "password", password.encode()),
        email_sealed=seal(tx.keys, "line", line_id, "email", email.encode()),
        person_hash=person_hash,
        pair=pair.name,
        created_at=filing.now,
    )
    hosts: tuple[tuple[str, Protocol], ...] = ((pair.multics, "multics"), (pair.oscam, "oscam"))
    halves = [models.Half(line_id=line_id, host=host, protocol=protocol) for host, protocol in hosts]
    return LineRows(line=line, grants=[], blocks=[], halves=halves)


def _owe(rows: LineRows, grant: models.Grant) -> None:
    """Whoever orders a line waits to hear of both of its entries."""
    for half in rows.halves:
        half.owed = grant.id


async def _open_line(tx: WriteTx, username: str) -> LineRows:
    rows = await line_by_username(tx, username)
    refuse_closed(rows)
    return rows


async def _served_line(tx: WriteTx, username: str) -> LineRows:
    rows = await _open_line(tx, username)
    refuse_ended(rows)
    return rows


async def _extend(tx: WriteTx, filing: Filing, *, username: str, days: int) -> Recorded:
    rows = await _open_line(tx, username)
    before = rows.snapshot()
    ends_at = rules.renewed_end(now=filing.now, ends_at=rows.runs_until, days=days)
    unserved = rows.unserved
    grant = give(tx, filing, rows, plan="paid", ends_at=ends_at)
    if unserved:
        _owe(rows, grant)
    return await file_order(tx, filing, rows, grant=grant, before=before, what="grant.given")


def give(tx: WriteTx, filing: Filing, rows: LineRows, *, plan: Plan, ends_at: datetime) -> models.Grant:
    """Give a grant that follows the line's others without a gap."""
    grant = models.Grant(
        id=rules.new_id(tx.random),
        line_id=rows.line.id,
        order_id=filing.order_id,
        plan=plan,
        starts_at=max([filing.now, *(grant.ends_at for grant in rows.open_grants)]),
        ends_at=ends_at,
    )
    rows.grants.append(grant)
    return grant


async def _refuse_if_lifted(tx: WriteTx, order: BlockOrder, repeated: Recorded) -> None:
    refuse_lifted(await line_by_id(tx, repeated.line_id), order.owner, order.case)


# --- rules that an order is taken by, and by which is told beforehand what would become of it --------


def refuse_closed(rows: LineRows) -> None:
    """Raises LineClosed for a line that takes no orders any more."""
    if rows.line.closed_at is not None:
        raise LineClosed(
            f'line "{rows.line.username}" was closed for good',
            hint="Order a purchase with an address and a region instead.",
        )


def refuse_ended(rows: LineRows) -> None:
    """Raises LineEnded for a line that no host has to hold."""
    if rows.line.state == "absent":
        raise LineEnded(
            f'the time of line "{rows.line.username}" is over, and no server knows it',
            hint="Renew it first, then repeat this.",
        )


def refuse_past(until: datetime | None, *, now: datetime) -> None:
    """Raises InvalidOrder for a block that would be over already."""
    if until is not None and until <= utc(now):
        raise InvalidOrder(
            "the block's `until` has passed", hint="Give a moment that is still to come, or leave it out."
        )


def refuse_lifted(rows: LineRows, owner: BlockOwner, case: str) -> None:
    """Raises OrderConflict when a block that was ordered before does not stand any more."""
    if active_block(rows, owner, case) is None:
        raise OrderConflict(
            f'the {owner} block of case "{case}" was lifted before; the line is not blocked by it now',
            hint="Block again with a new case id.",
        )


def active_block(rows: LineRows, owner: BlockOwner, case: str) -> models.Block | None:
    """The active block of that owner for that case."""
    return next((block for block in rows.active_blocks if (block.owner, block.case) == (owner, case)), None)
