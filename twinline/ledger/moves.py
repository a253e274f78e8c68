"""Moving a line to another pair, make before break.

A move adds halves on the new pair and leaves the old ones as they are; only when the new pair was proven, and the
old one was kept for as long as the customer was promised, must the old hosts hold the line no longer. Ends, blocks
and closes count on all four meanwhile.
"""

from datetime import datetime, timedelta

from sqlmodel import col, select

from twinline.errors import MoveRunning, SamePair, UnknownOrder
from twinline.ledger import models, terms
from twinline.ledger.lines import LineRows, Snapshot, line_by_id, note, settle
from twinline.ledger.tx import WriteTx
from twinline.ledger.types import utc
from twinline.messages import HalfState, MoveDecision, MoveMade, MoveStep, OldPairKept, Protocol, Recorded


async def refuse_second(tx: WriteTx, rows: LineRows) -> None:
    """Refuse a move of a line that another one still keeps on two pairs; raises MoveRunning."""
    if not rows.leaving_halves:
        return
    order = await tx.session.get(models.Order, rows.leaving_halves[0].leaving_order)
    name = "" if order is None else f' (order "{order.ref}" of caller "{order.caller}")'
    raise MoveRunning(
        f'line "{rows.line.username}" is being moved to pair "{rows.line.pair}" just now{name}',
        hint="Wait until that move has left the old pair, then repeat this.",
    )


def begin(rows: LineRows, pair: models.Pair, *, order_id: str, now: datetime) -> bool:
    """Let the line live on this pair too; whether its revision must be raised for that.

    The old hosts need not be written to. Only a host that proved the line's absence at this very revision must be
    asked for another one. Raises SamePair, and MoveRunning when an earlier move away from this pair is not over.
    """
    if pair.name == rows.line.pair:
        raise SamePair(f'line "{rows.line.username}" lives on pair "{pair.name}" already', hint="Name another pair.")
    known = {half.host: half for half in rows.halves}
    hosts: tuple[tuple[str, Protocol], ...] = ((pair.multics, "multics"), (pair.oscam, "oscam"))
    if behind := [host for host, _ in hosts if host in known and known[host].proven < known[host].wanted]:
        raise MoveRunning(
            f'line "{rows.line.username}" was moved away from pair "{pair.name}", and {behind[0]} is not proven to '
            "have dropped it",
            hint="Wait until it has; `twinline line show` tells.",
        )
    for half in rows.staying_halves:
        half.leaving_order = order_id
    for host, protocol in hosts:
        if host in known:
            known[host].leaving_order = known[host].leaves_at = known[host].left_at = None
        else:
            rows.halves.append(
                models.Half(
                    line_id=rows.line.id, host=host, protocol=protocol, wanted=rows.line.revision, behind_since=now
                )
            )
    rows.halves.sort(key=lambda half: (half.protocol, half.host))
    rows.line.pair = pair.name
    return bool({pair.multics, pair.oscam} & known.keys())


async def keep_old_pair(tx: WriteTx, made: MoveMade, *, grace: timedelta) -> OldPairKept:
    """Set until when the old pair is kept, once; raises UnknownOrder, UnknownLine.

    A trial that the old pair never served begins now, unless that is within the `grace`: its customer is about to be
    told of the first entries that work.
    """
    _, _, rows = await _moving(tx, made.order_id)
    leaving = [half for half in rows.halves if half.leaving_order == made.order_id]
    never_served = all(half.proven == 0 and half.leaves_at is None for half in leaving)
    if never_served and made.at > rows.last_grant.starts_at + grace:
        terms.start_with_proof(tx, rows, rows.last_grant, proven_at=made.at, now=made.at, who="move")
    for half in leaving:
        half.leaves_at = half.leaves_at or utc(made.keep_until)
    return OldPairKept(until=next((half.leaves_at for half in leaving if half.leaves_at is not None), made.keep_until))


async def break_move(tx: WriteTx, step: MoveStep) -> MoveDecision:
    """Let the old hosts hold the line no longer, once; raises UnknownOrder, UnknownLine.

    Not while the line must be served and no host of the new pair is known to do that.
    """
    order, recorded, rows = await _moving(tx, step.order_id)
    leaving = [half for half in rows.leaving_halves if half.leaving_order == step.order_id]
    if not leaving:
        return _decided(rows, recorded)
    if rows.line.state == "present" and not await _new_pair_serves(tx, rows):
        return MoveDecision(outcome="later", revision=rows.line.revision)
    before = rows.snapshot()
    # While they still count as standing, so that they fall behind: "absent" is not what they were proven to hold.
    settle(rows, now=utc(step.at), anew=rows.line.state != "absent")
    for half in leaving:
        half.left_at = utc(step.at)
    _note(tx, order, rows, step, what="move.broken", before=before)
    return MoveDecision(outcome="broken", revision=rows.line.revision)


async def call_off_move(tx: WriteTx, step: MoveStep) -> MoveDecision:
    """Give a move up before the break: the line stays on its old pair, the new one must hold nothing.

    Raises UnknownOrder, UnknownLine.
    """
    order, recorded, rows = await _moving(tx, step.order_id)
    leaving = [half for half in rows.leaving_halves if half.leaving_order == step.order_id]
    if not leaving:
        return _decided(rows, recorded)
    before = rows.snapshot()
    await stay(tx, rows, order_id=step.order_id, now=utc(step.at))
    _note(tx, order, rows, step, what="move.called_off", before=before)
    return MoveDecision(outcome="called_off", revision=rows.line.revision)


async def stay(tx: WriteTx, rows: LineRows, *, order_id: str, now: datetime) -> None:
    """Let a line stay on the pair that this move was to leave; the new pair must hold nothing from now on."""
    leaving = [half for half in rows.leaving_halves if half.leaving_order == order_id]
    given_up = rows.staying_halves
    for half in leaving:
        half.leaving_order = half.leaves_at = None
    old_hosts = [half.host for half in leaving]
    rows.line.pair = (
        await tx.session.exec(select(models.Pair.name).where(col(models.Pair.multics).in_(old_hosts)))
    ).one()
    abandoned = [half for half in given_up if half.state is HalfState.ABANDONED]
    # While the new ones still count as standing, so that they fall behind.
    settle(rows, now=now, anew=rows.line.state != "absent")
    for half in given_up:
        half.leaving_order, half.left_at = order_id, now
    for half in abandoned:
        # No later order is to wait for a host that somebody gave up on.
        half.state = HalfState.ABANDONED


async def _moving(tx: WriteTx, order_id: str) -> tuple[models.Order, Recorded, LineRows]:
    order = await tx.session.get(models.Order, order_id)
    if order is None:
        raise UnknownOrder(
            f"there is no order with the id {order_id}",
            hint="Was the ledger restored from an older backup? Repeat the order.",
        )
    return order, Recorded.model_validate_json(order.recorded), await line_by_id(tx, order.line_id)


def _decided(rows: LineRows, recorded: Recorded) -> MoveDecision:
    """What was decided before; the halves may have gone further since."""
    old = {half.host for half in recorded.halves if half.leaving}
    left = {half.host for half in rows.halves if half.leaving_order == recorded.order_id}
    return MoveDecision(outcome="called_off" if left - old else "broken", revision=rows.line.revision)


async def _new_pair_serves(tx: WriteTx, rows: LineRows) -> bool:
    serving = [half.host for half in rows.staying_halves if half.proven_state is HalfState.APPLIED]
    up = select(models.Host.name).where(col(models.Host.name).in_(serving), col(models.Host.down_since).is_(None))
    return bool((await tx.session.exec(up.limit(1))).all())


def _note(tx: WriteTx, order: models.Order, rows: LineRows, step: MoveStep, *, what: str, before: Snapshot) -> None:
    note(
        tx,
        at=utc(step.at),
        who=order.caller,
        what=what,
        why=order.identity,
        line_id=rows.line.id,
        before=before,
        after=rows.snapshot(),
    )
