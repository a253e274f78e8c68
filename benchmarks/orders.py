"""What an order costs: `python -m benchmarks.orders` measures, prints, and rewrites docs/performance.md.

`--quick` is the smallest run that still uses everything; it shows that the benchmarks work, and its figures are
worth nothing and kept nowhere.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import edits, purchases, storm, transactions, trial
from benchmarks.arena import run_arena
from benchmarks.figures import Table
from benchmarks.noop_runner import run_noop
from benchmarks.report import ORDERS, Run, page_part, rewrite
from tests.support.sshd import run_sshd

PAGE: Final = Path(__file__).parent.parent / "docs" / "performance.md"
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
        _say("hosts with many records …")
        hosts = edits.Edits(size.edits)
        await hosts.open(stack, folder, sshd)
        await hosts.measure()
        tables.extend(hosts.tables())
    async with AsyncExitStack() as stack:
        _say("trials …")
        arenas = [
            await stack.enter_async_context(run_arena(folder / f"world{timescale}", timescale=timescale))
            for timescale in size.timescales
        ]
        noop = await stack.enter_async_context(run_noop(arenas[0].world, arenas[0].client))
        idle, totals = await trial.measure(arenas, noop, times=size.trials)
        _say("purchases …")
        bursts = await purchases.measure(arenas, size.bursts)
    async with AsyncExitStack() as stack:
        _say("purchases over two pairs …")
        grounds = [
            await stack.enter_async_context(storm.run_grounds(folder / f"grounds{timescale}", timescale=timescale))
            for timescale in size.timescales
        ]
        storms, crowds = await storm.measure(grounds, size.storms)
    asked = await transactions.measure(
        folder / "counted", timescale=FAST, alone=size.trials, at_once=size.storms.orders
    )
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


def _keep_compiled_programs(folder: Path) -> None:
    """Let the programs that we start compile their modules once, as an installed twinline does.

    Where PYTHONDONTWRITEBYTECODE is set, each workflow would compile the workflow modules again, because
    Temporal's sandbox imports them for every run.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def run(*, quick: bool) -> None:
    """Measure and print; a whole run also rewrites the page."""
    load_before, begun = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="twinline-bench-") as folder:
        _keep_compiled_programs(Path(folder) / "compiled")
        tables = await measure(Path(folder), QUICK if quick else FULL)
    seconds = time.monotonic() - begun
    part = page_part(Run(datetime.now(UTC), seconds, SEED, load_before, os.getloadavg()[0]), tables)
    print(part)
    if not quick:
        rewrite(PAGE, part, ORDERS)
        _say(f"docs/{PAGE.name} rewritten after {seconds:.0f} s")


def main() -> None:
    """Leave without interpreter finalisation, which the Temporal SDK may abort."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orders", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest run; keeps no figures")
    asyncio.run(run(quick=parser.parse_args().quick))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
