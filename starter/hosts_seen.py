"""Hosts as the ledger knows them, with how much of the last day they answered."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from twinline.health.uptime import Mark, answered_share
from twinline.ledger import Ledger
from twinline.ledger.host_views import HostView, host_views
from twinline.ledger.looks import looks_at

DAY: Final = timedelta(days=1)


class HostSeen(HostView):
    """A host, and which part of the last 24 hours it answered, from 0 to 1; None where nobody looked."""

    answered: float | None


def holds(every: timedelta) -> timedelta:
    """For how long a look speaks where hosts are looked at so often: two may be missed while a worker starts anew."""
    return 3 * every


async def hosts_seen(ledger: Ledger, names: Sequence[str], *, now: datetime, every: timedelta) -> tuple[HostSeen, ...]:
    """The hosts with these names, by name; raises Unavailable."""
    async with ledger.read() as tx:
        views = await host_views(tx, names)
        looks = {view.host: await looks_at(tx, view.host, since=now - DAY) for view in views}
    shares = {
        host: answered_share([Mark(look.at, look.code is None) for look in seen], until=now, holds=holds(every))
        for host, seen in looks.items()
    }
    return tuple(HostSeen(**dict(view), answered=shares[view.host]) for view in views)
