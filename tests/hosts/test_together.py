"""Many lines that lose access at once, on both daemons, out of a real ledger: all when it is told why, else nobody."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest_asyncio
from sqlmodel import col, delete, update

from activities.host_ledger import LedgerOfHosts
from tests.hosts.conftest import PROTOCOLS
from tests.hosts.judge import kind_of
from tests.hosts.lab import Lab, run_lab
from tests.ledger.support import Desk, Pairing
from tests.support.sshd import Sshd
from twinline.hosts.errors import BlastGuard
from twinline.hosts.factory import writer_for
from twinline.hosts.writer import HostWriter
from twinline.keys import KeyRing
from twinline.ledger import Ledger, guard, migrate, models
from twinline.messages import Recorded
from twinline.sandbox.receiver import Receiver

OTHERS = ["oldtom", "oldeve"]


@dataclass
class Pair:
    """Both hosts of a pair, each with its daemon, and the ledger that their writers read."""

    desk: Desk
    labs: Sequence[Lab]
    writers: Sequence[HostWriter]

    async def bring(self, lines: Sequence[Recorded], revision: int) -> list[BaseException]:
        """Bring all lines to a revision on both hosts; what kept them from it."""
        tries = [writer.bring(line.line_id, revision) for writer in self.writers for line in lines]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]

    def served(self) -> list[list[str]]:
        """Who could log in on each host, by its file."""
        files = [(kind_of(lab.host.protocol), lab.accounts.read_bytes()) for lab in self.labs]
        return [[account.user for account in kind.served(data)] for kind, data in files]

    async def sessions(self, line: Recorded) -> list[Receiver]:
        """The line's customer, logged in on both hosts."""
        password = await self.desk.password(line.username)
        return [await lab.login(line.username, password) for lab in self.labs]


@pytest_asyncio.fixture
async def pair(folder: Path, sshd: Sshd) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        keys = KeyRing.create(folder / "keys.json")
        url = f"sqlite:///{folder / 'ledger.db'}"
        await migrate(url)
        ledger = await Ledger.open(url, keys=keys)
        stack.push_async_callback(ledger.close)
        # The daemons live now, so the lines have to.
        desk = Desk(ledger=ledger, keys=keys, path=folder / "ledger.db", now=datetime.now(UTC))
        await desk.sync(Pairing(name="eu1"))
        labs = [await stack.enter_async_context(run_lab(each, folder / each, sshd)) for each in PROTOCOLS]
        writers = [writer_for(lab.host, LedgerOfHosts(ledger)) for lab in labs]
        for writer in writers:
            stack.push_async_callback(writer.close)
        yield Pair(desk, labs, writers)


async def test_three_hundred_trials_that_end_together_all_end_and_nothing_stops(pair: Pair) -> None:
    trials = await pair.desk.trials(300)
    assert await pair.bring(trials, 1) == []
    assert [len(served) for served in pair.served()] == [302, 302]
    toms = [await lab.login("oldtom", "tompass1") for lab in pair.labs]
    customers = await pair.sessions(trials[7])

    pair.desk.now += timedelta(hours=48)
    for trial in trials:
        assert (await pair.desk.end(trial)).outcome == "ended"
    assert await pair.bring(trials, 2) == []

    assert pair.served() == [OTHERS, OTHERS]
    for customer in customers:
        await customer.closed.wait()
    for tom in toms:
        await tom.ping()
        await tom.leave()
    assert [event for event in await pair.desk.rows(models.Event) if event.what == guard.UNEXPLAINED] == []


async def test_a_ledger_that_lost_its_grants_empties_no_host_and_drops_nobody(pair: Pair) -> None:
    trials = await pair.desk.trials(60)
    assert await pair.bring(trials, 1) == []
    served = pair.served()
    customers = [session for trial in trials[:3] for session in await pair.sessions(trial)]
    await lose_grants(pair.desk, trials)

    stopped = await pair.bring(trials, 2)

    assert len(stopped) == 120
    assert {type(error) for error in stopped} == {BlastGuard}
    assert pair.served() == served
    for customer in customers:
        await customer.ping()
        await customer.leave()
    # Who comes meanwhile is served all the same.
    fresh = await pair.desk.trial("late@example.com")
    assert await pair.bring([fresh], 1) == []


async def lose_grants(desk: Desk, lines: Sequence[Recorded]) -> None:
    """What a ledger looks like that was truncated, and then settled by somebody who tells no event."""
    ids = [line.line_id for line in lines]
    line, half = models.Line, models.Half
    async with desk.ledger.write() as tx:
        await tx.session.exec(delete(models.Grant).where(col(models.Grant.line_id).in_(ids)))
        await tx.session.exec(
            update(line).where(col(line.id).in_(ids)).values(state="absent", ends_at=None, revision=line.revision + 1)
        )
        await tx.session.exec(update(half).where(col(half.line_id).in_(ids)).values(wanted=half.wanted + 1))
