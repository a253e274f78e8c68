"""What customers still have to be told although no order does it any more.

An order mails of its halves as long as it runs. One that ended without a half leaves behind what it has promised
(`Half.owed`); once the half is in step after all, the message is due, whoever repaired it. The rows alone say so, and
storing the message ends it: whatever is cut off in between is found again, and nothing is due twice.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import exists
from sqlmodel import and_, col, or_, select

from twinline.ledger import models, terms
from twinline.ledger.lines import LineRows, line_by_id
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.messages import HalfState, MailKind, MailTask, OrderKind

_TELL: Final = (OrderKind.TRIAL, OrderKind.PURCHASE, OrderKind.PASSWORD, OrderKind.MOVE)
"""Orders that mail credentials; while one of a line runs, it tells what there is to tell."""


async def lines_owed(tx: ReadTx, host: str, *, limit: int) -> Sequence[str]:
    """Lines of this host of which something is owed, and can be told by now.

    Either the half is in step and no order runs that tells it, or the line has ended before anything was told.
    """
    half, line, order, grant = models.Half, models.Line, models.Order, models.Grant
    running = exists().where(
        col(order.line_id) == col(line.id), col(order.settled_at).is_(None), col(order.kind).in_(_TELL)
    )
    serves = and_(line.state == "present", half.proven >= half.wanted, half.proven_state == HalfState.APPLIED, ~running)
    ended = exists().where(col(grant.line_id) == col(line.id), col(grant.ending) == "unserved")
    over = and_(line.state == "absent", ended)
    query = select(half.line_id).join(line).where(half.host == host, col(half.owed).is_not(None), or_(serves, over))
    return (await tx.session.exec(query.order_by(half.line_id).limit(limit))).all()


async def message_owed(tx: WriteTx, line_id: str, *, grace: timedelta, now: datetime) -> MailTask | None:
    """The message about this line that is due by now; None when none is. Raises UnknownLine.

    A trial begins with the message that lets the customer use it, if that comes later than the `grace`.
    """
    rows = await line_by_id(tx, line_id)
    due = _due(rows)
    if due is None:
        return None
    ref = _about(rows, due.ref)
    order = models.Order
    query = select(order.ref).where(order.line_id == line_id, or_(order.grant_id == ref, order.id == ref))
    own_id = (await tx.session.exec(query)).one_or_none()
    if own_id is None:
        # A ledger that has lost rows must not keep a host from being brought in step.
        return None
    if due.kind is MailKind.CREDENTIALS and now > rows.last_grant.starts_at + grace:
        terms.start_with_proof(tx, rows, rows.last_grant, proven_at=now, now=now, who="reconcile")
    return MailTask(line_id=line_id, kind=due.kind, ref=ref, reference=own_id, at=now, hosts=due.hosts)


class _Due(NamedTuple):
    kind: MailKind
    ref: str
    hosts: tuple[str, ...] = ()


def _due(rows: LineRows) -> _Due | None:
    """What there is to tell of a line, by its rows alone."""
    owed = [half for half in rows.told_halves if half.owed is not None]
    if not owed or not rows.grants:
        return None
    if rows.unserved:
        return _Due(MailKind.UNSERVED, rows.last_grant.id)
    ready = [half for half in rows.told_halves if _serves(half) and (rows.untold or half in owed)]
    if rows.line.state != "present" or not ready:
        return None
    kind = MailKind.CREDENTIALS if rows.untold else MailKind.SECOND_HALF
    return _Due(kind, owed[0].owed or "", tuple(half.host for half in ready))


def _serves(half: models.Half) -> bool:
    """Whether the daemon was seen to hold what is wanted now, and to let the line in."""
    return half.proven >= half.wanted and half.proven_state is HalfState.APPLIED


def _about(rows: LineRows, ref: str) -> str:
    """What the message is about: of an order that was taken back nothing is told, and the line has another grant."""
    cancelled = any(grant.id == ref and grant.ending == "cancelled" for grant in rows.grants)
    return rows.last_grant.id if cancelled else ref
