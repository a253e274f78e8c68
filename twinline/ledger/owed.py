"""What customers still have to be told although no order does it any more.

An order mails of its halves as long as it runs. One that ended without a half leaves behind what it has promised
(`Half.owed`); once the half is in step after all, the message is due, whoever repaired it. The rows alone say so, and
storing the message ends it: whatever is cut off in between is found again, and nothing is due twice.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import exists
from sqlmodel import col, or_, select

from twinline.ledger import models, terms
from twinline.ledger.lines import LineRows, line_by_id
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.messages import HalfState, MailKind, MailTask, OrderKind

_TELL: Final = (OrderKind.TRIAL, OrderKind.PURCHASE, OrderKind.PASSWORD, OrderKind.MOVE)
"""Orders that mail credentials; while one of a line runs, it tells what there is to tell."""


async def lines_owed(tx: ReadTx, host: str, *, limit: int) -> Sequence[str]:
    """Lines whose half on this host is in step while something is owed, and that no running order tells of."""
    half, line, order = models.Half, models.Line, models.Order
    running = exists().where(
        col(order.line_id) == col(line.id), col(order.settled_at).is_(None), col(order.kind).in_(_TELL)
    )
    query = select(half.line_id).join(line).where(half.host == host, col(half.owed).is_not(None))
    query = query.where(line.state == "present", half.proven >= half.wanted, half.proven_state == HalfState.APPLIED)
    return (await tx.session.exec(query.where(~running).order_by(half.line_id).limit(limit))).all()


async def message_owed(tx: WriteTx, line_id: str, *, grace: timedelta, now: datetime) -> MailTask | None:
    """The message about this line that is due by now; None when none is. Raises UnknownLine.

    A trial begins with the message that lets the customer use it, if that comes later than the `grace`.
    """
    rows = await line_by_id(tx, line_id)
    owed = [half for half in rows.told_halves if half.owed is not None]
    ready = [half for half in rows.told_halves if _serves(half) and (rows.untold or half in owed)]
    if rows.line.state != "present" or not rows.grants or not owed or not ready:
        return None
    ref = _about(rows, owed[0].owed or "")
    order = models.Order
    query = select(order.ref).where(order.line_id == line_id, or_(order.grant_id == ref, order.id == ref))
    own_id = (await tx.session.exec(query)).one_or_none()
    if own_id is None:
        # A ledger that has lost rows must not keep a host from being brought in step.
        return None
    if rows.untold and now > rows.last_grant.starts_at + grace:
        terms.start_with_proof(tx, rows, rows.last_grant, proven_at=now, now=now, who="reconcile")
    return MailTask(
        line_id=line_id,
        kind=MailKind.CREDENTIALS if rows.untold else MailKind.SECOND_HALF,
        ref=ref,
        reference=own_id,
        at=now,
        hosts=tuple(half.host for half in ready),
    )


def _serves(half: models.Half) -> bool:
    """Whether the daemon was seen to hold what is wanted now, and to let the line in."""
    return half.proven >= half.wanted and half.proven_state is HalfState.APPLIED


def _about(rows: LineRows, ref: str) -> str:
    """What the message is about: of an order that was taken back nothing is told, and the line has another grant."""
    cancelled = any(grant.id == ref and grant.ending == "cancelled" for grant in rows.grants)
    return rows.last_grant.id if cancelled else ref
