"""Read models of hosts: how many lines each serves, and what it waits for."""

from collections.abc import Sequence

from pydantic import AwareDatetime
from sqlalchemy import ColumnElement
from sqlmodel import col, func, select

from twinline.ledger import models
from twinline.ledger.looks import HostLooks, last_looks
from twinline.ledger.tx import ReadTx
from twinline.ledger.types import utc
from twinline.messages import HalfState, Message, Protocol


class HostPair(Message):
    """A pair that a host is in."""

    pair: str
    region: str
    capacity: int


class HostView(Message):
    """A host as the ledger knows it; `attention` says why a person has to look at it before anything goes on there."""

    host: str
    protocol: Protocol
    pairs: tuple[HostPair, ...]
    served: int
    """Lines that its daemon was last seen to serve."""
    behind: int
    """Halves that have yet to reach their line's revision, those that were given up among them."""
    given_up: int
    attention: str | None
    down_since: AwareDatetime | None
    """Since when nothing gets through; None while it answers."""
    down_code: str | None
    """The code of the error behind that, where it is known."""
    last_proof: AwareDatetime | None
    """When a change of any line was last seen on the running daemon; None for never."""
    looked: HostLooks | None
    """How the last short look ended, and since when they end like that; None where nobody looked yet."""


async def host_views(tx: ReadTx, names: Sequence[str] | None = None) -> tuple[HostView, ...]:
    """All hosts that ever were in the inventory, or those with these names, by name."""
    row, half = models.Host, models.Half
    behind = col(half.wanted) > half.proven
    served = await _counted(tx, col(half.proven_state) == HalfState.APPLIED)
    late = await _counted(tx, behind)
    given_up = await _counted(tx, behind & (col(half.state) == HalfState.ABANDONED))
    proofs = select(half.host, func.max(half.proven_at)).group_by(half.host)
    last = {host: moment for host, moment in await tx.session.exec(proofs) if moment is not None}
    query = select(row).order_by(row.name)
    if names is not None:
        query = query.where(col(row.name).in_(names))
    hosts = (await tx.session.exec(query)).all()
    looked = await last_looks(tx, [host.name for host in hosts])
    pairs = (await tx.session.exec(select(models.Pair).order_by(models.Pair.name))).all()
    return tuple(
        HostView(
            host=host.name,
            protocol=host.protocol,
            pairs=tuple(
                HostPair(pair=pair.name, region=pair.region, capacity=pair.capacity)
                for pair in pairs
                if host.name in (pair.multics, pair.oscam)
            ),
            served=served.get(host.name, 0),
            behind=late.get(host.name, 0),
            given_up=given_up.get(host.name, 0),
            attention=host.attention,
            down_since=host.down_since,
            down_code=host.down_code,
            looked=looked.get(host.name),
            last_proof=utc(last[host.name]) if host.name in last else None,
        )
        for host in hosts
    )


async def _counted(tx: ReadTx, which: ColumnElement[bool]) -> dict[str, int]:
    """How many halves of each host are like that."""
    host = models.Half.host
    return dict((await tx.session.exec(select(host, func.count()).where(which).group_by(host))).all())
