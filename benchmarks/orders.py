"""What an order costs: `python -m benchmarks.orders` measures, prints, and rewrites docs/performance.md.

`--quick` is the smallest run that still uses everything; it shows that the benchmarks work, and its figures are
worth nothing and kept nowhere.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import edits, purchases, storm, transactions, trial
from benchmarks.arena import run_arena
from benchmarks.figures import Table
from benchmarks.noop_runner import run_noop
from benchmarks.report import ORDERS
from benchmarks.script import run_script, say
from tests.support.sshd import run_sshd

SEED: Final = 20_260
TRUE_TIME: Final = 1.0
FAST: Final = 0.05
THROUGHPUT: Final = 0.75
LATENCY: Final = 2.0


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    timescales: tuple[float, ...]
    trials: int
    bursts: purchases.Plan
    storms: storm.Plan
    edits: edits.Plan


FULL: Final = Size(
    timescales=(TRUE_TIME, FAST),
    trials=10,
    bursts=purchases.Plan(purchases=100, times=2),
    storms=storm.Plan(orders=300, times=3),
    edits=edits.Plan(
        files=(edits.File(100, ("measured",)), edits.File(10_000, ("none", "measured"))),
        many=100,
        proven_times=3,
        edit_times=20,
        connect_times=3,
        timescale=TRUE_TIME,
        seed=SEED,
    ),
)
QUICK: Final = Size(
    timescales=(FAST,),
    trials=1,
    bursts=purchases.Plan(purchases=5, times=1),
    storms=storm.Plan(orders=5, times=1),
    edits=edits.Plan(
        files=(edits.File(20, ("measured",)),),
        many=10,
        proven_times=1,
        edit_times=1,
        connect_times=1,
        timescale=FAST,
        seed=SEED,
    ),
)


async def measure(folder: Path, size: Size) -> list[Table]:
    """Take all figures; the folder is for everything that runs."""
    tables: list[Table] = []
    # First, while this process has one thread only: sshd is started in a way that others could disturb.
    async with AsyncExitStack() as stack:
        sshd = await stack.enter_async_context(run_sshd(folder / "sshd"))
        say("hosts with many records …")
        hosts = edits.Edits(size.edits)
        await hosts.open(stack, folder, sshd)
        await hosts.measure()
        tables.extend(hosts.tables())
    async with AsyncExitStack() as stack:
        say("trials …")
        arenas = [
            await stack.enter_async_context(run_arena(folder / f"world{timescale}", timescale=timescale))
            for timescale in size.timescales
        ]
        noop = await stack.enter_async_context(run_noop(arenas[0].world, arenas[0].client))
        idle, totals = await trial.measure(arenas, noop, times=size.trials)
        say("purchases …")
        bursts = await purchases.measure(arenas, size.bursts)
    async with AsyncExitStack() as stack:
        say("purchases over two pairs …")
        grounds = [
            await stack.enter_async_context(storm.run_grounds(folder / f"grounds{timescale}", timescale=timescale))
            for timescale in size.timescales
        ]
        storms, crowds = await storm.measure(grounds, size.storms)
        say("what they ask of the ledger …")
        asked = await transactions.measure(grounds[-1].world, alone=size.trials, at_once=size.storms.orders)
    return [_targets(idle, storms, size.timescales), crowds, asked, *totals, bursts, *tables]


def _targets(idle: trial.Taken, storms: storm.Taken, timescales: Sequence[float]) -> Table:
    return Table(
        "Targets",
        "Judged by medians, by the script, next to a workflow of the same shape on the same server that does nothing.",
        ("target", "wanted", *(f"daemons at {timescale:g}" for timescale in timescales)),
        (
            (
                f"throughput, {storms.orders} purchases at once",
                f"≥ {THROUGHPUT:g} times the no-op's",
                *(_judged(rate, met=rate >= THROUGHPUT) for rate in map(storms.throughput, timescales)),
            ),
            (
                "latency of an idle trial, until the receipt is back",
                f"≤ {LATENCY:g} times the no-op's",
                *(_judged(times, met=times <= LATENCY) for times in map(idle.latency, timescales)),
            ),
        ),
    )


def _judged(times: float, *, met: bool) -> str:
    return f"{times:.2f}, {'met' if met else '**missed**'}"


def main() -> None:
    """Measure, print, and rewrite the page."""
    run_script("orders", __doc__, measure, full=FULL, quick=QUICK, markers=ORDERS, seed=SEED)


if __name__ == "__main__":
    main()
