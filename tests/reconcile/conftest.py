"""One embedded world with its worker, and a desk at its own ledger, for all tests of Reconcile."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client

from starter.client import Twinline
from tests.cli.conftest import Cli
from tests.ledger.stores import SqliteStore
from tests.ledger.support import Desk
from tests.support.world import FAST
from twinline.codec import data_converter
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.messages import ORDERS_QUEUE, NameOf, Reconciled, ReconcileTask, Recorded, reconcile_workflow_id
from twinline.sandbox.receiver import Receiver
from twinline.sandbox.world import World

HOSTS = ("mc-eu1", "os-eu1")


@dataclass
class House:
    """A running twinline whose hosts are brought in step only when a test says so."""

    world: World
    desk: Desk
    client: Client
    twinline: Twinline
    cli: Cli

    async def reconcile(self, host: str, *, asked: bool = True, accept_loss: bool = False) -> Reconciled:
        """Run a Reconcile to its end."""
        return await self.client.execute_workflow(
            NameOf.RECONCILE,
            ReconcileTask(host=host, asked=asked, accept_loss=accept_loss),
            id=reconcile_workflow_id(host),
            task_queue=ORDERS_QUEUE,
            result_type=Reconciled,
        )

    async def served(self, count: int) -> list[Recorded]:
        """Trials that both daemons hold."""
        self.desk.now = datetime.now(UTC)
        trials = await self.desk.trials(count)
        for host in HOSTS:
            done = await self.reconcile(host)
            assert done.found is not None, done
            assert (done.found.brought, done.found.behind) == (count, {})
        return trials

    async def sessions(self, lines: list[Recorded]) -> list[Receiver]:
        """These lines' customers, connected on both hosts."""
        return [
            await self.world.receiver(host, line.username, await self.desk.password(line.username))
            for line in lines
            for host in HOSTS
        ]

    async def strangers(self) -> list[Receiver]:
        """The accounts that are not ours, connected on both hosts."""
        return [
            await self.world.receiver(host, login.user, login.password)
            for host in HOSTS
            for login in self.world.site(host).foreign
        ]


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Where a sync costs nothing, if this machine has such a place: nothing here is about power cuts."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


@pytest_asyncio.fixture(scope="session")
async def house(folder: Path) -> AsyncIterator[House]:
    async with World(folder / "world", timescale=FAST, grace=1.5) as world:
        await world.start_worker()
        keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
        ledger = await Ledger.open(world.env["TWINLINE_DATABASE_URL"], keys=keys)
        client = await Client.connect(world.temporal.address, data_converter=data_converter(keys))
        desk = Desk(ledger=ledger, keys=keys, store=SqliteStore(world.folder / "ledger.db"), now=datetime.now(UTC))
        yield House(world, desk, client, Twinline(client), Cli(world.env))
        await ledger.close()
