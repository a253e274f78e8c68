"""Independent evidence: what the running daemons, the files and the ledger say, each asked on its own.

Nothing here goes through twinline's engine: the demo checks it, so it must not believe it.
"""

import asyncio
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime

from twinline.hosts.factory import daemon_for
from twinline.hosts.ports import Half, Wanted
from twinline.ledger import Ledger
from twinline.ledger.queries import Holding, holdings, reveal_password
from twinline.sandbox.world import World


@dataclass(frozen=True)
class Loaded:
    """What a running daemon holds of one account."""

    mark: str
    end: str
    enabled: bool


async def loaded(world: World, host: str, username: str) -> Loaded | None:
    """Ask a daemon's own status page; None when it does not know the account."""
    site = world.site(host)
    page = {
        "multics": f"/cccamclient?srvid=1&name={username}",
        "oscam": f"/oscamapi.html?part=userconfig&user={username}",
    }[site.protocol]
    text = await asyncio.to_thread(_get, f"http://127.0.0.1:{site.status_port}", page, site.status_password)
    if site.protocol == "multics":
        mark, end = _row(text, "rev"), _row(text, "enddate")
        return Loaded(mark, end, enabled=True) if mark else None
    if "<account>" not in text:
        return None
    return Loaded(_tag(text, "description"), _tag(text, "expdate"), enabled=_tag(text, "disabled") == "0")


def _get(base: str, page: str, password: str) -> str:
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, base, "admin", password)
    opener = urllib.request.build_opener(
        urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords)
    )
    try:
        with opener.open(base + page, timeout=10) as answer:
            return answer.read().decode("latin-1")
    except (ConnectionError, urllib.error.URLError):
        # MultiCS closes the connection without a word when it does not know the client.
        return ""


def _row(page: str, key: str) -> str:
    found = re.search(rf"<td class=left>{key}</td><td class=right>([^<]*)</td>", page)
    return found[1] if found else ""


def _tag(page: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", page)
    return found[1] if found else ""


@dataclass(frozen=True)
class Record:
    """A line's record as it stands in a host's accounts file."""

    text: str
    as_ordered: bool
    """Whether it is byte for byte what the ledger wants the host to hold."""


async def record(world: World, ledger: Ledger, host: str, username: str) -> Record | None:
    """Find a line's record in the file and compare it with the ledger; None when there is none."""
    data = world.read_accounts(host)
    daemon = daemon_for(world.inventory.host(host))
    offset = daemon.survey(data).slots.get(username)
    if offset is None:
        return None
    slot = data[offset : offset + daemon.width]
    async with ledger.read() as tx:
        held = next(holding for holding in await holdings(tx, host) if holding.username == username)
        password = await reveal_password(tx, username)
    steps = daemon.steps(slot, _half(held, password.get_secret_value()))
    text = slot.decode("latin-1").replace(password.get_secret_value(), "•" * 16)
    return Record(text, as_ordered=all(step.image == slot for step in steps))


def _half(held: Holding, password: str) -> Half:
    return Half(
        held.line_id, held.username, password, Wanted(held.state), held.ends_at, revision=held.wanted, mark=held.mark
    )


def foreign_part(world: World, host: str) -> bytes:
    """Everything in the accounts file that was there before twinline came."""
    site = world.site(host)
    return world.read_accounts(host)[: len(site.accounts_text().encode())]


def when(moment: datetime) -> str:
    """A point in time as the demo shows it."""
    return moment.strftime("%a %d %b %Y, %H:%M UTC")
