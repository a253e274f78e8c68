"""How the house stands, in numbers, for whoever watches over it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlmodel import case, col, func, or_, select

from twinline.ledger import models
from twinline.ledger.looks import last_look
from twinline.ledger.placement import pair_loads
from twinline.ledger.tx import ReadTx
from twinline.ledger.types import utc
from twinline.messages import HalfState, MailState

HostState = Literal["up", "degraded", "down", "stopped"]


@dataclass(frozen=True, kw_only=True)
class HostStanding:
    """One host: `degraded` serves most lines, `down` is tried again by itself, `stopped` waits for a person."""

    host: str
    state: HostState
    reason: str
    """The code of the error behind it, where it is known."""
    waiting: int
    """Halves that are behind."""
    oldest: datetime | None
    """Since when the one is behind that waits the longest."""
    stuck: int
    """Those that wait for a person, or were given up and not repaired since."""
    looked: datetime | None = None
    """When somebody last looked whether it answers."""


@dataclass(frozen=True, kw_only=True)
class PairStanding:
    """How full a pair is."""

    pair: str
    lines: int
    capacity: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What waits in the ledger at one moment."""

    hosts: tuple[HostStanding, ...]
    pairs: tuple[PairStanding, ...]
    mails_waiting: int
    oldest_mail: datetime | None
    grants_overdue: int
    oldest_overdue: datetime | None


async def standing(tx: ReadTx, *, now: datetime) -> Standing:
    """Read how everything stands."""
    mail, grant = models.Mail, models.Grant
    waits = select(func.count(), func.min(col(mail.created_at)))
    waits = waits.where(col(mail.state).not_in((MailState.ACCEPTED, MailState.REFUSED)))
    mails, oldest_mail = (await tx.session.exec(waits)).one()
    late = select(func.count(), func.min(col(grant.ends_at)))
    late = late.where(col(grant.ended_at).is_(None), grant.ends_at <= utc(now))
    grants, oldest_overdue = (await tx.session.exec(late)).one()
    names = (await tx.session.exec(select(models.Pair.name).order_by(models.Pair.name))).all()
    return Standing(
        hosts=await _hosts(tx),
        pairs=tuple(
            PairStanding(pair=load.name, lines=load.lines, capacity=load.capacity)
            for load in await pair_loads(tx, names)
        ),
        mails_waiting=mails,
        oldest_mail=oldest_mail,
        grants_overdue=grants,
        oldest_overdue=oldest_overdue,
    )


async def _hosts(tx: ReadTx) -> tuple[HostStanding, ...]:
    half, host = models.Half, models.Host
    behind = half.wanted > half.proven
    asks = or_(col(half.attention).is_not(None), half.state == HalfState.ABANDONED)
    stuck = func.sum(case((asks, 1), else_=0))
    counts = select(half.host, func.count(), func.min(col(half.behind_since)), stuck).where(behind).group_by(half.host)
    reasons = select(half.host, func.max(half.attention), func.max(half.last_error)).where(behind).group_by(half.host)
    counted = {name: (many, oldest, int(stuck)) for name, many, oldest, stuck in await tx.session.exec(counts)}
    told = {name: (asking, failed) for name, asking, failed in await tx.session.exec(reasons)}
    standings: list[HostStanding] = []
    for row in (await tx.session.exec(select(host).order_by(host.name))).all():
        waiting, oldest, many = counted.get(row.name, (0, None, 0))
        asking, failed = told.get(row.name, (None, None))
        look = await last_look(tx, row.name)
        state, reason = _state(row, asks=asking, failed=failed)
        standings.append(
            HostStanding(
                host=row.name,
                state=state,
                reason=reason,
                waiting=waiting,
                oldest=oldest,
                stuck=waiting if row.attention is not None else many,
                looked=None if look is None else look.at,
            )
        )
    return tuple(standings)


def _state(row: models.Host, *, asks: str | None, failed: str | None) -> tuple[HostState, str]:
    if row.attention is not None:
        return "stopped", row.attention
    if row.down_since is not None:
        return "down", row.down_code or failed or ""
    return ("up", "") if asks is None else ("degraded", asks)
