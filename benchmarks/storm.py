"""Many purchases at once over two pairs, next to as many workflows of their shape that do nothing."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from temporalio.client import Client

from benchmarks.arena import CALLER, connected, good
from benchmarks.cpu import descendants, seconds_of
from benchmarks.figures import Sample, Table, at_share
from benchmarks.noop import PAIRS
from benchmarks.noop_runner import NoopRunner, run_noop
from starter.client import Twinline
from twinline.messages import PurchaseOrder
from twinline.sandbox.sites import PairPlan
from twinline.sandbox.world import World

PATIENCE: Final = timedelta(minutes=10)
GRACE: Final = PATIENCE.total_seconds()
"""So long that a burst of any size mails once per order, as orders one by one do."""


@dataclass(frozen=True)
class Plan:
    """How many orders at once, and how often."""

    orders: int
    times: int


@dataclass(frozen=True)
class Storm:
    """Many orders placed at once; seconds."""

    seconds: float
    latencies: Sequence[float]
    worker: float
    """CPU seconds of the worker, as below."""
    server: float
    hosts: float
    """The SSH servers, the helpers and the stand-in daemons."""
    ourselves: float
    """The process that measures: it places the orders, and catches the mails."""

    @property
    def per_second(self) -> float:
        """Orders done per second."""
        return len(self.latencies) / self.seconds


class Grounds:
    """A world of two pairs with its worker, and the no-op worker on the same server."""

    def __init__(self, world: World, client: Client, noop: NoopRunner) -> None:
        self.timescale = world.timescale
        self.world = world
        self._twinline = Twinline(client)
        self._noop = noop
        self._number = 0

    async def purchase(self) -> None:
        """One purchase for a new customer; raises Unusable unless all went as on a machine in good health."""
        self._number += 1
        order = f"s{self._number}"
        placed = PurchaseOrder(caller=CALLER, order=order, days=30, email=f"{order}@example.org", region="eu")
        good(await self._twinline.place(placed, patience=PATIENCE))

    async def purchases(self, number: int) -> Storm:
        """That many purchases, placed at once."""
        return await self._storm(self.purchase, self.world.worker_pid, number)

    async def noops(self, number: int) -> Storm:
        """That many no-op orders, placed at once."""
        return await self._storm(self._noop.run, self._noop.worker_pid, number)

    async def _storm(self, place: Callable[[], Awaitable[object]], worker: int | None, number: int) -> Storm:
        server, ourselves = self.world.temporal.pid, os.getpid()
        if worker is None or server is None:
            raise RuntimeError("the worker or the server does not run")
        others = descendants(ourselves) - {server, self.world.worker_pid, self._noop.worker_pid}

        def used() -> tuple[float, float, float, float]:
            return seconds_of(worker), seconds_of(server), sum(map(seconds_of, others)), seconds_of(ourselves)

        async def timed() -> float:
            placed = time.monotonic()
            await place()
            return time.monotonic() - placed

        before, begun = used(), time.monotonic()
        latencies = await asyncio.gather(*(timed() for _ in range(number)))
        seconds = time.monotonic() - begun
        return Storm(seconds, latencies, *(late - early for early, late in zip(before, used(), strict=True)))


@asynccontextmanager
async def run_grounds(folder: Path, *, timescale: float) -> AsyncGenerator[Grounds]:
    """Start the world and both workers, and send an order through each pair before anything is measured."""
    pairs = [PairPlan(f"eu{number + 1}", region="eu") for number in range(PAIRS)]
    async with World(folder, pairs=pairs, timescale=timescale, grace=GRACE) as world:
        await world.start_worker()
        client = await connected(world)
        async with run_noop(world, client) as noop:
            grounds = Grounds(world, client, noop)
            for _ in range(PAIRS):
                await grounds.purchase()
                await noop.run()
            yield grounds


@dataclass(frozen=True)
class Taken:
    """All storms of one run."""

    orders: int
    noop: Sequence[Storm]
    purchases: Mapping[float, Sequence[Storm]]
    """By timescale of the daemons."""

    def throughput(self, timescale: float) -> float:
        """Purchases per second, as a part of the no-op's."""
        return _rate(self.purchases[timescale]) / _rate(self.noop)


async def measure(grounds: Sequence[Grounds], plan: Plan) -> tuple[Taken, Table]:
    """Send the storms, in turn so that all meet the same machine; the no-op's on the first server only."""
    noop: list[Storm] = []
    purchases: dict[float, list[Storm]] = {ground.timescale: [] for ground in grounds}
    for _ in range(plan.times):
        noop.append(await grounds[0].noops(plan.orders))
        for ground in grounds:
            purchases[ground.timescale].append(await ground.purchases(plan.orders))
    taken = Taken(plan.orders, noop, purchases)
    return taken, _table(taken)


def _rate(storms: Sequence[Storm]) -> float:
    return Sample.of([storm.per_second for storm in storms]).median


def _table(taken: Taken) -> Table:
    return Table(
        f"{taken.orders} purchases at once over {PAIRS} pairs",
        "For new customers, all placed by one client at the same moment; each is done when both halves are proven, "
        "the mail is accepted and the receipt is back. Latency is that of one order among all of them. The CPU time is "
        "in ms per order: hosts are all SSH servers, helpers and stand-in daemons; the client also catches the mails. "
        "Medians over the bursts; of the latency, over the orders of all bursts.",
        (
            *("", "per second", "times the no-op", "p50", "p99"),
            *("CPU: worker", "server", "hosts", "client", "bursts"),
        ),
        (
            _row("no-op", taken.noop, 1.0),
            *(
                _row(f"purchase, daemons at {timescale:g}", storms, taken.throughput(timescale))
                for timescale, storms in taken.purchases.items()
            ),
        ),
    )


def _row(name: str, storms: Sequence[Storm], times: float) -> tuple[str, ...]:
    latencies = sorted(latency for storm in storms for latency in storm.latencies)

    def share(place: float) -> str:
        return f"{at_share(latencies, place):.1f} s"

    def cpu(used: Callable[[Storm], float]) -> str:
        return f"{Sample.of([used(storm) / len(storm.latencies) * 1000 for storm in storms]).median:.0f}"

    return (
        name,
        f"{_rate(storms):.1f}",
        f"{times:.2f}",
        share(0.5),
        share(0.99),
        cpu(lambda storm: storm.worker),
        cpu(lambda storm: storm.server),
        cpu(lambda storm: storm.hosts),
        cpu(lambda storm: storm.ourselves),
        str(len(storms)),
    )
