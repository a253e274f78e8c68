"""Which halves wait for a person, which are late, and which workflows wait for them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from pydantic import AwareDatetime
from sqlmodel import and_, col, func, or_, select

from twinline.ledger import models
from twinline.ledger.tx import ReadTx
from twinline.ledger.types import utc
from twinline.messages import HalfState, Message, OrderKind, Protocol, Recorded, term_workflow_id, until_workflow_id
from twinline.problems import unknown_host


class WaitingOrder(Message):
    """An order that is not done because of a half."""

    order: str
    kind: OrderKind
    caller: str
    workflow_id: str


class StuckHalf(Message):
    """A half that goes on only after a person has acted: on its record, on its host, or because it was given up."""

    host: str
    protocol: Protocol
    line_id: str
    username: str
    state: HalfState
    reason: str | None
    """The code of the error to look into; None for a half that was given up without one."""
    of_the_host: bool
    """Whether the host itself is the matter, and with it every half that is behind there."""
    since: AwareDatetime | None
    orders: tuple[WaitingOrder, ...]
    terms: tuple[str, ...]
    """Workflow ids of Terms that carry out an end."""


class AskingHost(Message):
    """A host that a person has to look at although no half waits for it yet."""

    host: str
    reason: str
    since: AwareDatetime | None


class LateHost(Message):
    """A host for which halves wait longer than they should, and go on by themselves once it can be reached."""

    host: str
    protocol: Protocol
    down_since: AwareDatetime | None
    """Since when nothing gets through to it; None while it answers."""
    reason: str | None
    """The code of the error that the last try or look ended with; None where nobody tried."""
    halves: int
    since: AwareDatetime | None
    """Since when the one waits that waits the longest."""
    next_attempt: AwareDatetime | None
    """The earliest that is known."""
    orders: tuple[WaitingOrder, ...]
    terms: tuple[str, ...]
    """Workflow ids of Terms that carry out an end."""


async def require_host(tx: ReadTx, name: str) -> None:
    """Raise UnknownHost when the ledger knows no host of that name."""
    names = (await tx.session.exec(select(models.Host.name).order_by(models.Host.name))).all()
    if name not in names:
        raise unknown_host(name, names)


async def late_hosts(
    tx: ReadTx, *, before: datetime, host: str | None = None, username: str | None = None, limit: int = 1000
) -> tuple[LateHost, ...]:
    """Hosts that are down, or have halves that are behind since `before` and ask for nobody; by name.

    Of at most `limit` halves of each it is told who waits for them, those behind the longest first.
    """
    half, row = models.Half, models.Host
    late = (
        half.wanted > half.proven,
        col(half.attention).is_(None),
        col(row.attention).is_(None),
        half.state != HalfState.ABANDONED,
        or_(col(row.down_since).is_not(None), col(half.behind_since) <= utc(before)),
        *([] if host is None else [half.host == host]),
        *([] if username is None else [models.Line.username_casefold == username.casefold()]),
    )
    counts = select(half.host, func.count(), func.min(col(half.behind_since)), func.min(col(half.next_attempt)))
    counts = counts.join(models.Line).join(row).where(*late).group_by(half.host)
    counted = {name: _Late(many, since, again) for name, many, since, again in await tx.session.exec(counts)}
    rank = func.row_number().over(partition_by=half.host, order_by=(col(half.behind_since), col(half.line_id)))
    ranked = select(half.line_id, half.host, rank.label("rank")).join(models.Line).join(row).where(*late).subquery()
    first = select(half).join(ranked, and_(half.line_id == ranked.c.line_id, half.host == ranked.c.host))
    told = (await tx.session.exec(first.where(ranked.c.rank <= limit).order_by(ranked.c.rank))).all()
    down = select(row).where(col(row.attention).is_(None))
    names = col(row.name).in_(list(counted))
    wanted = names if username is not None else or_(names, col(row.down_since).is_not(None))
    if host is not None:
        down = down.where(row.name == host)
    waiting = await _waiting(tx, {each.line_id for each in told})
    return tuple(
        _late_host(each, counted.get(each.name, _Late()), [half for half in told if half.host == each.name], waiting)
        for each in (await tx.session.exec(down.where(wanted).order_by(row.name))).all()
    )


class _Late(NamedTuple):
    """How many halves of a host are late, since when the first of them, and when one is tried next."""

    halves: int = 0
    since: datetime | None = None
    next_attempt: datetime | None = None


def _late_host(row: models.Host, late: _Late, told: Sequence[models.Half], waiting: "_Waiting") -> LateHost:
    orders = {order.workflow_id: order for half in told for order in waiting.orders(half)}
    tried = [half for half in told if half.last_error is not None]
    return LateHost(
        host=row.name,
        protocol=row.protocol,
        down_since=row.down_since,
        reason=row.down_code or (max(tried, key=lambda half: half.attempts).last_error if tried else None),
        halves=late.halves,
        since=late.since,
        next_attempt=late.next_attempt,
        orders=tuple(orders.values()),
        terms=tuple(dict.fromkeys(term for half in told for term in waiting.terms(half))),
    )


async def asking_hosts(tx: ReadTx, *, host: str | None = None) -> tuple[AskingHost, ...]:
    """Hosts that need a person, without those for which a half waits: `stuck_halves` tells of them. By name."""
    row, half = models.Host, models.Half
    waited_for = select(half.host).where(half.wanted > half.proven)
    query = select(row).where(col(row.attention).is_not(None), col(row.name).not_in(waited_for))
    if host is not None:
        query = query.where(row.name == host)
    return tuple(
        AskingHost(host=each.name, reason=each.attention or "", since=each.down_since)
        for each in await tx.session.exec(query.order_by(row.name))
    )


async def stuck_halves(
    tx: ReadTx, *, host: str | None = None, username: str | None = None, limit: int = 1000
) -> tuple[StuckHalf, ...]:
    """Halves that wait for a person, or were given up and not repaired since, those behind the longest first."""
    half, row = models.Half, models.Host
    asks = or_(col(half.attention).is_not(None), col(row.attention).is_not(None), half.state == HalfState.ABANDONED)
    query = select(half, models.Line.username, row.attention).join(models.Line).join(row)
    query = query.where(half.wanted > half.proven, asks)
    if host is not None:
        query = query.where(half.host == host)
    if username is not None:
        query = query.where(models.Line.username_casefold == username.casefold())
    found = (
        await tx.session.exec(query.order_by(col(half.behind_since), col(half.line_id), col(half.host)).limit(limit))
    ).all()
    waiting = await _waiting(tx, {one.line_id for one, _, _ in found})
    return tuple(
        StuckHalf(
            host=one.host,
            protocol=one.protocol,
            line_id=one.line_id,
            username=name,
            state=one.state,
            reason=one.attention or of_host or one.last_error,
            of_the_host=one.attention is None and of_host is not None,
            since=one.behind_since,
            orders=waiting.orders(one),
            terms=waiting.terms(one),
        )
        for one, name, of_host in found
    )


async def waiting_workflows(tx: ReadTx, line_id: str) -> tuple[str, ...]:
    """The workflows that wait for a half of this line, for whatever reason; those that began first come first."""
    query = select(models.Half).where(models.Half.line_id == line_id, models.Half.wanted > models.Half.proven)
    behind = (await tx.session.exec(query)).all()
    waiting = await _waiting(tx, {line_id})
    found = [
        workflow_id
        for half in behind
        for workflow_id in (*(order.workflow_id for order in waiting.orders(half)), *waiting.terms(half))
    ]
    return tuple(dict.fromkeys(found))


async def running_workflows(tx: ReadTx, line_id: str) -> tuple[str, ...]:
    """What goes on for a line: its orders, the oldest first, then the Terms of its grants and its blocks' own ends."""
    order, grant, block = models.Order, models.Grant, models.Block
    orders = select(order.workflow_id).where(order.line_id == line_id, col(order.settled_at).is_(None))
    terms = select(grant.id).where(grant.line_id == line_id, col(grant.ended_at).is_(None))
    untils = select(order.workflow_id).join(block, col(block.order_id) == order.id).where(block.line_id == line_id)
    untils = untils.where(col(block.lifted_at).is_(None), col(block.until).is_not(None))
    return (
        *await tx.session.exec(orders.order_by(col(order.created_at), col(order.id))),
        *(
            term_workflow_id(line_id, each)
            for each in await tx.session.exec(terms.order_by(col(grant.ends_at), col(grant.id)))
        ),
        *(
            until_workflow_id(each)
            for each in await tx.session.exec(untils.order_by(col(block.until), order.workflow_id))
        ),
    )


class _Waiting:
    """Orders that are not settled, and Terms, by the revision that they wait for."""

    def __init__(self, orders: Sequence[models.Order], grants: Sequence[models.Grant]) -> None:
        self._orders = [(order, Recorded.model_validate_json(order.recorded)) for order in orders]
        self._grants = grants
        # A trial that starts late waits for a revision after the one that it was recorded with.
        self._late = {grant.order_id for grant in grants if grant.started_late_at is not None}

    def orders(self, half: models.Half) -> tuple[WaitingOrder, ...]:
        return tuple(
            WaitingOrder(
                order=order.ref.partition("/")[0],
                kind=order.kind,
                caller=order.caller,
                workflow_id=order.workflow_id,
            )
            for order, recorded in self._orders
            if order.line_id == half.line_id
            and half.host in {ref.host for ref in recorded.halves}
            # A move waits for its old halves at the revision of the break.
            and (recorded.revision > half.proven or order.id in self._late or order.id == half.leaving_order)
        )

    def terms(self, half: models.Half) -> tuple[str, ...]:
        return tuple(
            term_workflow_id(grant.line_id, grant.id)
            for grant in self._grants
            if grant.line_id == half.line_id
            and grant.ending in ("ended", "unserved")
            and (grant.ended_revision or 0) > half.proven
        )


async def _waiting(tx: ReadTx, line_ids: Iterable[str]) -> _Waiting:
    ids = list(line_ids)
    orders: list[models.Order] = []
    grants: list[models.Grant] = []
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        order, grant = models.Order, models.Grant
        open_orders = select(order).where(col(order.line_id).in_(some), col(order.settled_at).is_(None))
        orders += await tx.session.exec(open_orders.order_by(col(order.created_at), col(order.id)))
        of_lines = select(grant).where(col(grant.line_id).in_(some))
        grants += await tx.session.exec(of_lines.order_by(col(grant.ended_at), col(grant.id)))
    return _Waiting(orders, grants)
