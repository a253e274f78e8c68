"""Taking an order back: what is left of the time that it gave, or a move that is not over.

A cancellation is an order of its own, filed and carried out like the others. Every other grant of the line keeps its
length; those that came later move up. Blocks stay.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlmodel import col, or_, select

from twinline.errors import CannotCancel, LineClosed, UnknownOrder
from twinline.ledger import models, moves, rules
from twinline.ledger.filing import Filing, file_order, filing_of, identity_of, repeated_order
from twinline.ledger.lines import LineRows, line_by_id
from twinline.ledger.tx import WriteTx
from twinline.messages import (
    CancelInfo,
    CancelOrder,
    Cancels,
    CancelTaken,
    GrantEnd,
    MailState,
    OrderKind,
    Receipt,
    Recorded,
    TakeCancel,
    order_workflow_id,
)

_INSTEAD: Final = {
    OrderKind.BLOCK: "Lift it with `twinline unblock LINE --case ID`.",
    OrderKind.UNBLOCK: "Block again with `twinline block LINE --case ID`, and a new case.",
    OrderKind.PASSWORD: "The old password is gone; give another one with `twinline password LINE --order ID`.",
    OrderKind.CLOSE: "A closed line never comes back; sell a new one with `twinline purchase EMAIL --region REGION`.",
    OrderKind.CANCEL: "Order again, under a new id.",
}
"""What can't be taken back, and what to do instead."""


async def record_cancel(tx: WriteTx, task: TakeCancel) -> CancelTaken:
    """Take an order back, once; it may be long finished, as long as some of its time is still to come.

    An order that still runs and was not taken yet is withdrawn: it will be refused when it comes. Raises UnknownOrder,
    CannotCancel (the hint says what to do instead), LineClosed.
    """
    order = task.order
    if order.of in _INSTEAD:
        raise CannotCancel(f"what a {order.of} order has done can't be taken back", hint=_INSTEAD[order.of])
    filing = filing_of(tx, order, now=task.at, workflow_id=order_workflow_id(order))
    identity = identity_of(order.of, order.caller, order.order)
    # Held by name, so that the order is either taken before this or finds that it was withdrawn.
    await tx.alone("order", identity)
    if (repeated := await repeated_order(tx, filing)) is not None:
        return CancelTaken(recorded=repeated)
    query = select(models.Order).where(models.Order.identity == identity, models.Order.kind == order.of)
    target = (await tx.session.exec(query)).one_or_none()
    if target is None:
        await _withdraw(tx, filing, order, identity, running=task.running)
        return CancelTaken(recorded=None)
    rows = await line_by_id(tx, target.line_id)
    if rows.line.closed_at is not None:
        raise LineClosed("the line was closed for good", hint="Nothing of the order is left to be taken back.")
    return CancelTaken(recorded=await _take_back(tx, filing, order, target, rows))


async def _withdraw(tx: WriteTx, filing: Filing, order: CancelOrder, identity: str, *, running: bool) -> None:
    if await tx.session.get(models.Withdrawal, identity) is not None:
        return
    if not running:
        raise UnknownOrder(
            f'there is no {order.of} order "{order.order}" of caller "{order.caller}"',
            hint="Check id and caller; `twinline order list` shows all orders that were taken.",
        )
    tx.session.add(models.Withdrawal(identity=identity, at=filing.now, who=order.actor, why=order.reason))


async def _take_back(tx: WriteTx, filing: Filing, order: CancelOrder, target: models.Order, rows: LineRows) -> Recorded:
    now, before = filing.now, rows.snapshot()
    ends: tuple[GrantEnd, ...] = ()
    if target.grant_id is None:
        await _stay(tx, rows, target, now=now)
    else:
        ends = await _shorten(tx, rows, rows.grant(target.grant_id), now=now)
    target.cancelled_at = now
    # Written before mails are looked for: one that is stored at this moment waits for it, and is seen here or refused.
    await tx.session.flush()
    recorded = Recorded.model_validate_json(target.recorded)
    return await file_order(
        tx,
        filing,
        rows,
        before=before,
        what="order.cancelled",
        mail_ref=recorded.mail_ref,
        cancels=Cancels(
            info=CancelInfo(at=now, actor=order.actor, reason=order.reason),
            told=await _was_told(tx, target, recorded.mail_ref),
            ends=ends,
        ),
    )


async def _stay(tx: WriteTx, rows: LineRows, move: models.Order, *, now: datetime) -> None:
    if not any(half.leaving_order == move.id for half in rows.leaving_halves):
        raise CannotCancel(
            "the move is over", hint="Where the line is tells `twinline line show LINE`; move it back with a new order."
        )
    await moves.stay(tx, rows, order_id=move.id, now=now)


async def _shorten(tx: WriteTx, rows: LineRows, grant: models.Grant, *, now: datetime) -> tuple[GrantEnd, ...]:
    """Let a grant end now, and those behind it come as much earlier; every grant whose end has moved."""
    cancelled = _period(grant)
    if grant.ended_at is not None or rules.still_to_come(cancelled, now=now) <= timedelta(0):
        raise CannotCancel(
            f"the time that the order gave was over at {grant.ends_at:%Y-%m-%d %H:%M} UTC",
            hint="Nothing is left to take back. If its order still waits for a half, `twinline order abandon` ends it.",
        )
    moved = [grant]
    for other in rows.open_grants:
        left = rules.without(cancelled, _period(other), now=now)
        if other is not grant and left != _period(other):
            other.starts_at, other.ends_at = left.starts_at, left.ends_at
            moved.append(other)
    grant.starts_at, grant.ends_at = min(grant.starts_at, now), now
    grant.ended_at, grant.ending = now, "cancelled"
    for other in rows.open_grants:
        # Left open, one whose Term is late would keep the line up.
        if other.ends_at <= now:
            other.ended_at, other.ending = now, "overtaken"
    references = select(models.Order.grant_id, models.Order.ref)
    references = references.where(col(models.Order.grant_id).in_([each.id for each in moved]))
    own_ids = dict((await tx.session.exec(references)).all())
    return tuple(
        GrantEnd(
            grant_id=each.id,
            plan=each.plan,
            ends_at=each.ends_at,
            open=each.ended_at is None,
            reference=own_ids[each.id],
        )
        for each in moved
    )


def _period(grant: models.Grant) -> rules.Period:
    return rules.Period(starts_at=grant.starts_at, ends_at=grant.ends_at)


async def _was_told(tx: WriteTx, order: models.Order, mail_ref: str) -> bool:
    """Whether a mail about the order may have reached the customer; the receipt outlives the mails."""
    mail = models.Mail
    # A reminder's reference is its grant and how long before the end.
    about = or_(mail.ref == mail_ref, col(mail.ref).startswith(f"{mail_ref}/", autoescape=True))
    query = select(mail.id).where(mail.line_id == order.line_id, about, mail.state != MailState.REFUSED)
    if (await tx.session.exec(query.limit(1))).first() is not None:
        return True
    receipt = None if order.receipt is None else Receipt.model_validate_json(order.receipt)
    return receipt is not None and receipt.mail is not None and receipt.mail.state is not MailState.REFUSED
