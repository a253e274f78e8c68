"""The engine against daemons that take as long as the real ones. Everything here runs side by side: it mostly waits."""

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from tests.hosts.files import carried_out, plan_for
from tests.hosts.judge import daemon_of, kind_of
from tests.hosts.lab import FAR, FOREIGN, Lab, MemoryLedger, run_lab
from tests.support.sshd import Sshd
from twinline.hosts.ports import Half, Proven, Wanted
from twinline.messages import Protocol
from twinline.sandbox.receiver import LoginRefused, Receiver

SEED: Final = 20_261
ARRIVAL_SECONDS: Final = 5.0
OLD, NEW = "pw23456789abcdef", "new3456789abcdef"
PAST = datetime(2021, 5, 6, 13, 30, tzinfo=UTC)

Order = Callable[[MemoryLedger, str], Half]
ORDERS: dict[str, tuple[int, Order]] = {
    "added": (60, lambda ledger, name: ledger.want(name, OLD)),
    "renewed": (50, lambda ledger, name: ledger.change(name, ends_at=FAR + timedelta(days=30))),
    "blocked": (30, lambda ledger, name: ledger.change(name, wanted=Wanted.BLOCKED)),
    "freed": (15, lambda ledger, name: ledger.change(name, wanted=Wanted.PRESENT)),
    "changed": (25, lambda ledger, name: ledger.change(name, password=NEW)),
    "removed": (20, lambda ledger, name: ledger.change(name, wanted=Wanted.ABSENT)),
}
"""By kind of order: how many, and what each one wants; together 200."""

UNTOUCHED = tuple(f"idle{number}" for number in range(10))
WATCHED = 3
"""How many lines of each kind have somebody connected while their order is carried out."""


def loaded(protocol: Protocol, ledger: MemoryLedger, names: Sequence[str], *, ends_at: datetime) -> bytes:
    """An accounts file that holds these lines already, as the ledger knows."""
    daemon = daemon_of(protocol)
    halves = [ledger.want(name, OLD, ends_at=ends_at) for name in names]
    content = carried_out(FOREIGN[protocol], plan_for(daemon, FOREIGN[protocol], halves))
    parked = [ledger.change(name, wanted=Wanted.BLOCKED) for name in names if name.startswith("freed")]
    content = carried_out(content, plan_for(daemon, content, parked))
    for half in ledger.wanted.values():
        ledger.known[half.line_id] = Proven(half.line_id, half.revision, half.wanted)
    return content


@dataclass(frozen=True)
class Arrival:
    """One order of the storm."""

    after: float
    kind: str
    name: str


def storm(seed: int) -> list[Arrival]:
    """Two hundred orders over five seconds, in any order."""
    chance = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    names = [(kind, f"{kind}{number}") for kind, (count, _) in ORDERS.items() for number in range(count)]
    chance.shuffle(names)
    return [Arrival(chance.uniform(0, ARRIVAL_SECONDS), kind, name) for kind, name in names]


async def take(lab: Lab, arrival: Arrival) -> Proven:
    """Hand the order in when its time has come, and wait until the daemon was seen to hold it."""
    await asyncio.sleep(arrival.after)
    return await lab.bring(ORDERS[arrival.kind][1](lab.ledger, arrival.name))


async def listed(lab: Lab) -> set[str]:
    """Whom the daemon's own page names as usable."""
    path, named = {
        "multics": ("/cccam?action=json&id=1", r'"name": "([^"]*)","status": [01]\b'),
        "oscam": ("/oscamapi.html?part=userstats", r'<user name="([^"]*)" status="(?:offline|online|connected)"'),
    }[lab.host.protocol]
    return set(re.findall(named, await lab.page(path)))


async def held(lab: Lab) -> dict[str, Receiver]:
    """Customers' sessions: on accounts that are not ours, and on lines of every kind that work before the storm."""
    kinds = ("renewed", "blocked", "changed", "removed")
    names = [*UNTOUCHED, *(f"{kind}{number}" for kind in kinds for number in range(WATCHED))]
    sessions = {name: await lab.login(name, OLD) for name in names}
    return sessions | {"oldtom": await lab.login("oldtom", "tompass1"), "oldeve": await lab.login("oldeve", "evepass1")}


async def proven_to_the_last(protocol: Protocol, folder: Path, sshd: Sshd) -> None:
    """Two hundred orders within five seconds: each is proven, and pages, logins and sessions agree with the ledger."""
    ledger = MemoryLedger()
    before = [f"{kind}{number}" for kind, (count, _) in ORDERS.items() if kind != "added" for number in range(count)]
    content = loaded(protocol, ledger, [*UNTOUCHED, *before], ends_at=FAR)
    async with run_lab(protocol, folder, sshd, timescale=1.0, content=content, ledger=ledger) as lab:
        sessions = await held(lab)
        arrivals = storm(SEED)
        assert len(arrivals) == 200

        proofs = await asyncio.gather(*(take(lab, arrival) for arrival in arrivals))

        assert {proof.line_id: proof.revision for proof in proofs} == {
            arrival.name: ledger.wanted[arrival.name].revision for arrival in arrivals
        }
        assert ledger.failures == []
        for name, session in sessions.items():
            if name.startswith(("blocked", "changed", "removed")):
                await session.closed.wait()
            else:
                await session.ping()
        served = {half.username for half in ledger.wanted.values() if half.wanted is Wanted.PRESENT}
        assert await listed(lab) == served | {"oldtom", "oldeve"}
        assert {account.user for account in kind_of(protocol).served(lab.accounts.read_bytes())} == await listed(lab)
        for half in ledger.wanted.values():
            await logs_in_as_wanted(lab, half, sessions.get(half.username))
        assert lab.accounts.read_bytes().startswith(FOREIGN[protocol])


async def logs_in_as_wanted(lab: Lab, half: Half, session: Receiver | None) -> None:
    """The customer gets in with this password exactly if the line is to work, and never with another one."""
    passwords = [half.password] if session is None or not session.connected else []
    if half.wanted is Wanted.PRESENT:
        for password in passwords:
            await (await lab.login(half.username, password)).leave()
        passwords = [OLD if half.password == NEW else NEW]
    for password in passwords:
        with pytest.raises(LoginRefused):
            await lab.login(half.username, password)


async def expired_lines_come_back(folder: Path, sshd: Sshd) -> None:
    """Once flagged, an expired account of MultiCS stays refused until a tick of ten seconds finds a later date."""
    ledger = MemoryLedger()
    names = ("renewed", "changed", "blocked", "stays")
    content = loaded("multics", ledger, names, ends_at=PAST)
    async with run_lab("multics", folder, sshd, timescale=1.0, content=content, ledger=ledger) as lab:
        for name in names:
            await lab.daemon.log.until(f"Client '{name}' Expired")
        ledger.change("renewed", ends_at=FAR)
        ledger.change("changed", ends_at=FAR, password=NEW)
        ledger.change("blocked", wanted=Wanted.BLOCKED)
        await asyncio.gather(*(lab.bring(ledger.wanted[name]) for name in names[:3]))
        # Neither a removed record nor its successor bears the flag.
        await lab.bring(ledger.change("blocked", wanted=Wanted.PRESENT, ends_at=FAR))
        for name in names[:3]:
            await (await lab.login(name, ledger.wanted[name].password)).leave()
        with pytest.raises(LoginRefused):
            await lab.login("stays", OLD)
        assert ledger.failures == []


async def test_everything_is_proven_in_true_time(folder: Path, sshd: Sshd) -> None:
    async with asyncio.TaskGroup() as together:
        together.create_task(proven_to_the_last("multics", folder / "multics", sshd))
        together.create_task(proven_to_the_last("oscam", folder / "oscam", sshd))
        together.create_task(expired_lines_come_back(folder / "expired", sshd))
