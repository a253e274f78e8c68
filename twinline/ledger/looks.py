"""Short looks at hosts: what came of each, for as long as it is kept."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import AwareDatetime
from sqlmodel import col, delete, select

from twinline.ledger import models
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.ledger.types import error_code, utc
from twinline.messages import Message

KEPT: Final = timedelta(days=30)
FORGOTTEN_AT_ONCE: Final = 100
"""Samples that one look takes away: it adds one, so that no more is ever needed but after a long pause."""


class HostLook(Message):
    """What came of one look; `code` is None when helper and daemon answered."""

    at: AwareDatetime
    code: str | None


class HostLooks(Message):
    """The last look at a host, and since when all looks ended like it, as far as they are kept."""

    last: HostLook
    since: AwareDatetime


async def keep_look(tx: WriteTx, host: str, *, at: datetime, code: str | None, seconds: float) -> bool:
    """Keep a look and forget those that are too old; False when the host is no longer in the inventory.

    Raises ValueError when `code` is more than a code.
    """
    if await tx.session.get(models.Host, host) is None:
        return False
    sample = models.HealthSample
    tx.session.add(sample(host=host, at=utc(at), code=None if code is None else error_code(code), seconds=seconds))
    old = select(sample.at).where(sample.host == host, sample.at < utc(at) - KEPT)
    old = old.order_by(col(sample.at)).limit(FORGOTTEN_AT_ONCE)
    await tx.session.exec(delete(sample).where(col(sample.host) == host, col(sample.at).in_(old)))
    return True


async def looks_at(tx: ReadTx, host: str, *, since: datetime) -> tuple[HostLook, ...]:
    """The looks at a host since a moment, in their order."""
    sample = models.HealthSample
    query = select(sample).where(sample.host == host, sample.at >= utc(since)).order_by(col(sample.at))
    return tuple(HostLook(at=each.at, code=each.code) for each in await tx.session.exec(query))


async def last_look(tx: ReadTx, host: str) -> HostLook | None:
    """The last look at a host; None where nobody looked yet."""
    sample = models.HealthSample
    query = select(sample).where(sample.host == host).order_by(col(sample.at).desc()).limit(1)
    last = (await tx.session.exec(query)).one_or_none()
    return None if last is None else HostLook(at=last.at, code=last.code)


async def last_looks(tx: ReadTx, hosts: Sequence[str]) -> dict[str, HostLooks]:
    """How the last look at each of these hosts ended, and since when they end like that; unknown ones are left out."""
    found: dict[str, HostLooks] = {}
    sample = models.HealthSample
    for host in hosts:
        last = await last_look(tx, host)
        if last is None:
            continue
        of_host, newest = select(sample).where(sample.host == host), col(sample.at).desc()
        other = col(sample.code).is_not(None) if last.code is None else col(sample.code).is_(None)
        changed = (await tx.session.exec(of_host.where(other).order_by(newest).limit(1))).one_or_none()
        alike = of_host if changed is None else of_host.where(sample.at > changed.at)
        first = (await tx.session.exec(alike.order_by(col(sample.at)).limit(1))).one()
        found[host] = HostLooks(last=last, since=first.at)
    return found
