"""Many changes that wait for one host at the same moment: how many get through per second, in how many closes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from activities.host_ledger import LedgerOfHosts
from benchmarks.accounts import Accounts, behind
from benchmarks.closes import watching
from benchmarks.contenders import UnwatchedMultiCS
from benchmarks.figures import Sample
from benchmarks.grid import REST_SECONDS
from tests.ledger.stores import SqliteStore
from tests.ledger.support import Desk, Pairing
from tests.support.sshd import Sshd
from twinline.hosts.factory import helper_for
from twinline.hosts.ports import HostLedger
from twinline.hosts.writer import HostWriter
from twinline.keys import KeyRing
from twinline.ledger import Ledger, migrate

HOST: Final = "mc-eu1"


@dataclass
class Crowd:
    """Changes that were all waiting at once, again and again."""

    size: int
    seconds: list[float] = field(default_factory=list[float])
    closes: list[int] = field(default_factory=list[int])

    @property
    def per_second(self) -> Sample:
        """Changes that got through in a second."""
        return Sample.of([self.size / seconds for seconds in self.seconds])


Wish = Callable[[], Awaitable[Sequence[tuple[str, int]]]]
"""Makes changes wanted: line ids with the revision that each must reach."""


async def crowd(writer: HostWriter, accounts: Path, wish: Wish, *, size: int, times: int) -> Crowd:
    """Let `size` callers wait for a change each; the time counts until the last of them is told."""
    found = Crowd(size)
    with watching({"accounts": accounts}) as closes:
        for _ in range(times):
            changes = await wish()
            since = time.time()
            begun = time.perf_counter()
            await asyncio.gather(*(writer.bring(line_id, revision) for line_id, revision in changes))
            found.seconds.append(time.perf_counter() - begun)
            closes.take()
            found.closes.append(len(closes.since("accounts", since)))
            await asyncio.sleep(REST_SECONDS)
    return found


def writer_of(accounts: Accounts, sshd: Sshd, port: int, folder: Path, ledger: HostLedger) -> HostWriter:
    """A writer behind a relay, of a host without a daemon."""
    folder.mkdir(parents=True)
    door = behind(sshd, port, folder)
    host = accounts.host_behind(door.port, door.known_hosts)
    daemon = UnwatchedMultiCS(width=host.record_width, zone=host.timezone, server_id=host.server_id, deadline=0.0)
    return HostWriter(HOST, daemon=daemon, ledger=ledger, start_helper=partial(helper_for, host))


async def in_memory(
    stack: AsyncExitStack, accounts: Accounts, sshd: Sshd, port: int, folder: Path, *, size: int, times: int
) -> Crowd:
    """With a ledger that costs nothing: the engine alone."""
    writer = writer_of(accounts, sshd, port, folder, accounts.big.lines)
    stack.push_async_callback(writer.close)

    async def wish() -> Sequence[tuple[str, int]]:
        return [(half.line_id, half.revision) for half in accounts.renewed(size)]

    (first,) = accounts.renewed(1)
    await writer.bring(first.line_id, first.revision)
    return await crowd(writer, accounts.path, wish, size=size, times=times)


async def in_ledger(
    stack: AsyncExitStack, accounts: Accounts, sshd: Sshd, port: int, folder: Path, *, size: int, times: int
) -> Crowd:
    """With the real ledger in a SQLite file, which is synced at every commit; the file holds these lines only."""
    folder.mkdir(parents=True)
    keys = KeyRing.create(folder / "keys.json")
    url = f"sqlite:///{folder / 'ledger.db'}"
    await migrate(url)
    ledger = await Ledger.open(url, keys=keys)
    stack.push_async_callback(ledger.close)
    desk = Desk(ledger=ledger, keys=keys, store=SqliteStore(folder / "ledger.db"))
    await desk.sync(Pairing(name="eu1"))
    writer = writer_of(accounts, sshd, port, folder / "door", LedgerOfHosts(ledger))
    stack.push_async_callback(writer.close)
    lines = [await desk.purchase(email=f"guest{number}@example.com") for number in range(size)]
    await asyncio.gather(*(writer.bring(line.line_id, line.revision) for line in lines))

    async def wish() -> Sequence[tuple[str, int]]:
        renewed = [await desk.renew(line.username) for line in lines]
        return [(each.line_id, each.revision) for each in renewed]

    return await crowd(writer, accounts.path, wish, size=size, times=times)
