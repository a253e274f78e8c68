"""How many ledger transactions and statements a purchase costs, alone and among many at once."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from sqlalchemy import event

from activities.host_ledger import LedgerOfHosts
from benchmarks.arena import CALLER, connected, good
from benchmarks.figures import Table
from benchmarks.noop import PAIRS
from benchmarks.storm import PATIENCE
from starter.client import Twinline
from twinline.hosts.factory import writer_for
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.ledger.database import Database
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.mail import SmtpTarget
from twinline.messages import PurchaseOrder
from twinline.sandbox.world import World
from twinline.settings import Settings
from worker import build_workers

_NOT_COUNTED: Final = ("BEGIN", "COMMIT", "ROLLBACK")


@dataclass
class Counts:
    """What was asked of the ledger."""

    writes: int = 0
    reads: int = 0
    statements: int = 0


class CountedLedger(Ledger):
    """The ledger, counting."""

    def __init__(self, database: Database, *, keys: KeyRing, random: Random) -> None:
        super().__init__(database, keys=keys, random=random)
        self.counts = Counts()
        # The writer is another face of this engine, and tells it what it is asked.
        event.listen(database.reader.sync_engine, "before_cursor_execute", self._asked)

    def _asked(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith(_NOT_COUNTED):
            self.counts.statements += 1

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[WriteTx]:
        """As Ledger.write."""
        self.counts.writes += 1
        async with super().write() as tx:
            yield tx

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[ReadTx]:
        """As Ledger.read."""
        self.counts.reads += 1
        async with super().read() as tx:
            yield tx


class Counter:
    """A world's worker in this process, with a ledger that counts."""

    def __init__(self, ledger: CountedLedger, twinline: Twinline) -> None:
        self._ledger = ledger
        self._twinline = twinline
        self._number = 0

    async def purchases(self, number: int) -> Counts:
        """Place that many at once; what they asked of the ledger."""
        self._ledger.counts = Counts()
        await asyncio.gather(*(self._purchase() for _ in range(number)))
        return self._ledger.counts

    async def _purchase(self) -> None:
        self._number += 1
        order = f"t{self._number}"
        placed = PurchaseOrder(caller=CALLER, order=order, days=30, email=f"{order}@example.org", region="eu")
        good(await self._twinline.place(placed, patience=PATIENCE))


async def measure(world: World, *, alone: int, at_once: int) -> Table:
    """Count for purchases one by one, and for many at once; the world's own worker is stopped for it."""
    async with _counter(world) as counter:
        # Through each pair, so that all connections are open.
        for _ in range(PAIRS):
            await counter.purchases(1)
        one_by_one = [await counter.purchases(1) for _ in range(alone)]
        together = await counter.purchases(at_once)

    def row(name: str, orders: int, counts: list[Counts]) -> tuple[str, ...]:
        def share(asked: list[int]) -> str:
            return f"{sum(asked) / orders:.1f}"

        return (
            name,
            share([one.writes for one in counts]),
            share([one.reads for one in counts]),
            share([one.statements for one in counts]),
            str(orders),
        )

    return Table(
        "What a purchase asks of the ledger",
        "Per order. Each write is one transaction that is synced to disk; reads wait for nobody. Halves that are "
        "written together share the transactions of their batch.",
        ("", "write transactions", "read transactions", "statements", "orders"),
        (row("one by one", alone, one_by_one), row(f"{at_once} at once", at_once, [together])),
    )


@asynccontextmanager
async def _counter(world: World) -> AsyncGenerator[Counter]:
    await world.stop_worker()
    async with AsyncExitStack() as stack:
        keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
        settings = Settings.model_validate(
            {name.removeprefix("TWINLINE_").lower(): value for name, value in world.env.items() if "TWINLINE" in name}
        )
        ledger = await CountedLedger.open(world.env["TWINLINE_DATABASE_URL"], keys=keys)
        stack.push_async_callback(ledger.close)
        client = await connected(world)
        writers = [writer_for(host, LedgerOfHosts(ledger)) for host in world.inventory.hosts]
        for writer in writers:
            stack.push_async_callback(writer.close)
        for worker in build_workers(
            client,
            settings=settings,
            inventory=world.inventory,
            keys=keys,
            ledger=ledger,
            target=SmtpTarget.parse(world.mail_catcher.url),
            writers=writers,
        ):
            await stack.enter_async_context(worker)
        yield Counter(ledger, Twinline(client))
