"""The whole of twinline on one clock: real workflows, activities, ledger, engine and SMTP; only SSH is left out."""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import worker
from starter.client import Twinline
from tests.whole.box import Box
from tests.whole.clock import Times, test_server
from tests.whole.sticky import Wire, hand_back
from tests.workflows.house import inventory
from twinline.errors import Unavailable
from twinline.hosts.writer import HostWriter
from twinline.keys import KeyRing
from twinline.ledger import Ledger, WriteTx
from twinline.ledger.database import Database
from twinline.ledger.setup import sync_inventory
from twinline.mail import SmtpTarget
from twinline.messages import ORDERS_QUEUE, NameOf, Order, Reconciled, ReconcileTask, TakeCancel, TakeOrder
from twinline.sandbox.mailcatcher import MailCatcher
from twinline.settings import Settings
from twinline.visibility import register_search_attributes

Lapse = Literal["before", "after"]
"""Whether a transaction of the ledger fails before or after it was committed; either way it looks the same."""
Part = Literal["orders", "hosts"]
RECORDS: Final = (
    NameOf.RECORD_PURCHASE,
    NameOf.RECORD_RENEWAL,
    NameOf.RECORD_BLOCK,
    NameOf.RECORD_PASSWORD,
    NameOf.RECORD_MOVE,
    NameOf.RECORD_CLOSE,
    NameOf.RECORD_CANCEL,
)
A_SECOND: Final = timedelta(seconds=1)
FIRST: Final = "default"
FORGETFUL: Final = "forgetful"


@dataclass
class Lapses:
    """Transactions that are still to fail: how many go well before each."""

    ahead: list[tuple[int, Lapse]] = field(default_factory=list[tuple[int, Lapse]])
    happened: int = 0

    def next(self) -> Lapse | None:
        if not self.ahead:
            return None
        left, how = self.ahead.pop(0)
        if left > 0:
            self.ahead.insert(0, (left - 1, how))
            return None
        self.happened += 1
        return how


class LapsingLedger(Ledger):
    """A ledger whose writes fail when they are told to."""

    lapses: Lapses
    older: list[Database]
    """What this was connected to before; what was under way ends there."""

    async def begin_anew(self, url: str) -> None:
        """Connect anew, as a process that was started again does."""
        fresh = await Ledger.open(url, keys=self._keys)
        self.older.append(self._database)
        self._database, self._read_session, self._write_session = (
            fresh._database,
            fresh._read_session,
            fresh._write_session,
        )

    async def close(self) -> None:
        for database in self.older:
            await database.writer.dispose()
        await super().close()

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[WriteTx]:
        lapse = self.lapses.next()
        async with super().write() as tx:
            yield tx
            if lapse == "before":
                raise Unavailable("the ledger was away", hint="Try again.")
        if lapse == "after":
            raise Unavailable("the ledger was away", hint="Try again.")


@dataclass
class Process:
    """One worker process, as it were: its own ledger connection, writers and pollers."""

    ledger: LapsingLedger
    writers: list[HostWriter]
    workers: list[Worker]
    tasks: list[asyncio.Task[None]]
    wire: Wire | None
    """That of the worker of orders, which alone has a queue of its own."""

    async def stop(self) -> None:
        await asyncio.gather(*(each.shutdown() for each in self.workers))
        await asyncio.gather(*self.tasks)
        for writer in self.writers:
            await writer.close()
        await self.ledger.close()
        if self.wire is not None:
            await self.wire.close()


class House:
    """A running twinline with four hosts, all on one clock."""

    def __init__(
        self,
        folder: Path,
        *,
        keys: KeyRing,
        times: Times,
        ledger: Ledger,
        mails: MailCatcher,
    ) -> None:
        self.keys = keys
        self.times = times
        self.clock, self.clients = times.clock, times.clients
        self.ledger = ledger
        """For whoever looks; the workers have connections of their own."""
        self.mails = mails
        self.twinline = Twinline(self.clients[FIRST])
        self.forgetful = Twinline(self.clients[FORGETFUL])
        """The same, through a Temporal that knows of nothing that was ordered before."""
        self.boxes = {
            host.name: Box(host.name, host.protocol, folder / host.name, now=self.clock.now)
            for host in inventory().hosts
        }
        self.lapses = Lapses()
        self.moment: datetime | None = None
        """At which orders are placed to the microsecond that are placed within a second of it."""
        times.watch.before |= dict.fromkeys(RECORDS, self._to_the_moment)
        self.counts: Counter[str] = Counter()
        self._url = f"sqlite:///{folder / 'ledger.db'}"
        self._running: dict[tuple[str, Part], Process] = {}
        self._left: list[asyncio.Task[None]] = []
        """Who looks after the queues of workers that have ended."""

    async def start(self, part: Part, namespace: str = FIRST) -> None:
        """Start one part of a namespace's workers, if it does not run."""
        if (namespace, part) in self._running:
            return
        ledger = await LapsingLedger.open(self._url, keys=self.keys)
        ledger.lapses, ledger.older = self.lapses, []
        writers = [box.writer(ledger, self.clock.now) for box in self.boxes.values()] if part == "hosts" else []
        settings = Settings.model_validate(
            {"inventory": Path("none"), "database_url": self._url, "smtp_url": self.mails.url, "keys": Path("none")}
        )
        made: list[Worker] = []

        def make(client: Client, *, task_queue: str, **options: Any) -> None:
            if (task_queue == ORDERS_QUEUE) == (part == "orders"):
                if "workflow_runner" in options:
                    # Its sandbox, which costs more than all else in a life, is that of the other tests.
                    options["workflow_runner"] = UnsandboxedWorkflowRunner()
                if wire is not None:
                    # Without its deadlock detector, which a machine that is busy for two seconds sets off.
                    options |= {"identity": wire.identity, "debug_mode": True}
                # The SDK would read all modules for a build id that nobody looks at.
                made.append(Worker(client, task_queue=task_queue, build_id="today", **options))

        wire = await self._wire() if part == "orders" else None
        # A connection of its own, as a process has: one connection refuses two workers of one queue.
        client = await self.times.connect(namespace, wire)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(worker, "Worker", make)
            worker.build_workers(
                client,
                settings=settings,
                inventory=inventory(),
                keys=self.keys,
                ledger=ledger,
                target=SmtpTarget.parse(self.mails.url),
                writers=writers,
                graceful=timedelta(0),
            )
        workers = made
        tasks = [asyncio.create_task(each.run()) for each in workers]
        self._running[namespace, part] = Process(ledger, writers, workers, tasks, wire)

    async def _wire(self) -> Wire:
        self.counts["workers of orders"] += 1
        wire = Wire(f"orders-{self.counts['workers of orders']}", self.times.port)
        await wire.open()
        return wire

    async def _to_the_moment(self, task: TakeOrder[Order] | TakeCancel) -> TakeOrder[Order] | TakeCancel:
        if self.moment is None or abs(task.at - self.moment) > A_SECOND:
            return task
        return task.model_copy(update={"at": self.moment})

    async def connect_anew(self) -> None:
        """Let every process open the ledger anew, in the middle of whatever it does."""
        for process in self._running.values():
            await process.ledger.begin_anew(self._url)

    async def end(self, part: Part, namespace: str = FIRST) -> None:
        """End one part in the middle of whatever it does."""
        process = self._running.pop((namespace, part), None)
        if process is not None:
            await self.retire(process, namespace)

    async def retire(self, process: Process, namespace: str = FIRST) -> None:
        """End a process, and see to it that what it had cached is done by another one."""
        await process.stop()
        if process.wire is not None and process.wire.queue is not None:
            handing = hand_back(self.clients[namespace], process.wire.queue, ORDERS_QUEUE)
            self._left.append(asyncio.create_task(handing))

    async def relieve(self, part: Part) -> Process | None:
        """Start another process for a part before the one that runs has ended, and give the old one."""
        old = self._running.pop((FIRST, part), None)
        await self.start(part)
        return old

    async def stop(self) -> None:
        """End everything."""
        for box in self.boxes.values():
            box.wake()
        for namespace, part in list(self._running):
            await self.end(part, namespace)
        for each in self._left:
            each.cancel()
        await asyncio.gather(*self._left, return_exceptions=True)

    async def reconcile(self, host: str) -> Reconciled:
        """Bring a host in step, as it is done every ten minutes."""
        self.counts["reconcile"] += 1
        client = self.clients[FIRST]
        return await client.execute_workflow(
            NameOf.RECONCILE,
            ReconcileTask(host=host),
            id=f"reconcile/{host}/{self.counts['reconcile']}",
            task_queue=ORDERS_QUEUE,
            result_type=Reconciled,
        )


@asynccontextmanager
async def run_house(folder: Path, *, blank: Path, keys: KeyRing) -> AsyncGenerator[House]:
    """Start everything on a fresh copy of an empty ledger."""
    async with AsyncExitStack() as stack:
        path = Path(shutil.copy(blank, folder / "ledger.db"))
        times = await stack.enter_async_context(test_server(keys))
        ledger = await Ledger.open(f"sqlite:///{path}", keys=keys)
        stack.push_async_callback(ledger.close)
        async with ledger.write() as tx:
            await sync_inventory(tx, inventory(), now=times.clock.now())
        mails = await stack.enter_async_context(MailCatcher(folder / "mails"))
        for client in times.clients.values():
            await register_search_attributes(client)
        house = House(folder, keys=keys, times=times, ledger=ledger, mails=mails)
        stack.push_async_callback(house.stop)
        await house.start("orders")
        await house.start("hosts")
        yield house
