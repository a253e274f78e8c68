"""What an edit on a host costs, next to what people use: `python -m benchmarks.hosts` measures, prints, and rewrites
its part of docs/performance.md and the plot beside it.

Over a real sshd and through relays that hold back every byte; no daemon runs, because the others wait for none.
`--quick` is the smallest run, of ourselves and paramiko only; it shows that the benchmark works, and keeps nothing.
"""

import argparse
import asyncio
import gc
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import crowd, relay
from benchmarks.contenders import HOST_PYTHON, Design, rivals_missing
from benchmarks.crowd import Crowd
from benchmarks.grid import Cell, Course, Grid
from benchmarks.hosts_page import Findings, plot, tables
from benchmarks.report import HOSTS, Run, page_part, rewrite
from benchmarks.watched import Watched, watch
from tests.support.sshd import run_sshd

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "performance.md"
PLOT: Final = ROOT / "docs" / "performance-hosts.svg"
PICTURE: Final = f"![How long an edit takes, by latency, size of the file and number of changes]({PLOT.name})"
SEED: Final = 20_261
RIVALS_AND_US: Final[Sequence[Design]] = ("ours", "paramiko", "pyinfra", "Ansible", "Ansible, unsafe")
WHOLESALE: Final[Sequence[Design]] = ("ours", "paramiko")
"""Who can change hundreds of records in one go."""


@dataclass(frozen=True)
class Size:
    """How much is measured. The middle values are those at which the other two are varied."""

    delays: tuple[int, ...]
    """One way, ms; the second is the one that targets speak of."""
    records: tuple[int, int, int]
    counts: tuple[int, ...]
    courses: tuple[Course, ...]
    crowd: int
    crowd_times: int
    ledger_times: int
    watched: tuple[tuple[Design, int], ...]
    """Who is watched by a reader, for how many edits."""
    tolerance: float
    """By how much a relay's round trip may be too long (seconds)."""


def _full() -> Size:
    delays, records, counts = (0, 20, 80), (1_000, 10_000, 100_000), (1, 10, 100, 1_000)
    middle, size = 20, 10_000
    whole = [Cell(delay, each, 1) for delay in delays for each in records]
    cross = [Cell(delay, size, 1) for delay in delays] + [Cell(middle, each, 1) for each in records if each != size]
    many = [Cell(middle, size, count) for count in counts[1:]]
    often = (
        Course("ours", (*whole, *many[:2]), times=24),
        Course("ours", tuple(Cell(delay, size, 1, "add") for delay in delays), times=12),
        Course("ours", (many[2],), times=12),
        Course("ours, OSCam", tuple(Cell(middle, each, 1) for each in records), times=24),
        Course("paramiko", (*whole, *many), times=4),
        *(Course(design, (*cross, many[0]), times=3) for design in ("pyinfra", "Ansible", "Ansible, unsafe")),
    )
    watched: tuple[tuple[Design, int], ...] = (
        *(("ours", 200), ("paramiko", 10), ("pyinfra", 4), ("Ansible", 4), ("Ansible, unsafe", 4)),
    )
    courses = (*often, *_rest_of_the_grid(often, whole, counts))
    return Size(delays, records, counts, courses, 200, 15, 5, watched, relay.TOLERANCE)


def _rest_of_the_grid(often: Sequence[Course], whole: Sequence[Cell], counts: Sequence[int]) -> Iterator[Course]:
    """Every latency with every size and number of changes that has not been named, for all who can do so many."""
    for design in RIVALS_AND_US:
        named = {cell for course in often if course.design == design for cell in course.cells}
        able = counts if design in WHOLESALE else counts[:2]
        cells = [replace(cell, count=number) for number in able for cell in whole]
        left = tuple(cell for cell in cells if cell not in named)
        yield Course(design, left, times=3 if design == "ours" else 1)


def _quick() -> Size:
    delays, records, counts = (0, 1), (10, 20, 30), (1, 5)
    whole = [Cell(delay, each, 1) for delay in delays for each in records]
    new = [Cell(delay, 20, 1, "add") for delay in delays]
    oscam = tuple(Cell(1, each, 1) for each in records)
    courses = (
        Course("ours", (*whole, *new, Cell(1, 20, 5)), 1),
        Course("ours, OSCam", oscam, 1),
        Course("paramiko", (*whole, Cell(1, 20, 5)), 1),
    )
    return Size(delays, records, counts, courses, 10, 1, 1, (("ours", 1), ("paramiko", 1)), math.inf)


async def measure(folder: Path, size: Size) -> Findings:
    """Take all figures; the folder is for everything that runs."""
    async with AsyncExitStack() as stack:
        sshd = await stack.enter_async_context(run_sshd(folder / "sshd", environment=_plain_login(folder / "home")))
        network = await relay.checked(folder / "check", size.delays, tolerance=size.tolerance)
        ports = await stack.enter_async_context(relay.relays(folder / "relay", sshd.port, size.delays))
        _say("files and connections …")
        grid = Grid(sshd, ports, folder / "grid", SEED)
        await grid.open(stack, size.courses)
        # Our own bookkeeping of 100,000 lines is not what is measured.
        gc.collect()
        gc.freeze()
        _say("edits …")
        await grid.measure(size.courses)
        _say("many at once …")
        crowds, ledger_crowd = await _crowds(stack, grid, size)
        _say("readers …")
        watched = await _watched(grid, size)
    return Findings(size.delays, size.records, size.counts, grid, network, crowds, ledger_crowd, watched)


def _plain_login(home: Path) -> dict[str, str]:
    """What a login on a host finds: no start-up files of whoever runs this, and a Python without an environment."""
    home.mkdir()
    return {"HOME": str(home), "PATH": f"{HOST_PYTHON.parent}:/usr/bin:/bin"}


async def _crowds(stack: AsyncExitStack, grid: Grid, size: Size) -> tuple[dict[int, Crowd], Crowd]:
    crowds: dict[int, Crowd] = {}
    for delay in size.delays:
        accounts = grid.fresh(size.records[1])
        crowds[delay] = await crowd.in_memory(
            stack, accounts, grid.sshd, grid.ports[delay], grid.place(), size=size.crowd, times=size.crowd_times
        )
    middle = grid.ports[size.delays[1]]
    real = await crowd.in_ledger(
        stack, grid.fresh(0), grid.sshd, middle, grid.place(), size=size.crowd, times=size.ledger_times
    )
    return crowds, real


async def _watched(grid: Grid, size: Size) -> dict[Design, Watched]:
    found: dict[Design, Watched] = {}
    for design, edits in size.watched:
        cell = Cell(size.delays[1], size.records[1], 1)
        accounts, contender = await grid.used(design, cell)
        found[design] = await watch(contender, accounts, edits=edits)
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def run(*, quick: bool) -> None:
    """Measure and print; a whole run also rewrites the page and the plot."""
    if not quick and (missing := rivals_missing()) is not None:
        raise SystemExit(missing)
    load_before, begun = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="twinline-bench-") as folder:
        findings = await measure(Path(folder), _quick() if quick else _full())
    seconds = time.monotonic() - begun
    run_facts = Run(datetime.now(UTC), seconds, SEED, load_before, os.getloadavg()[0])
    part = f"{PICTURE}\n\n{page_part(run_facts, tables(findings))}"
    picture = plot(findings)
    print(part)
    if not quick:
        rewrite(PAGE, part, HOSTS)
        PLOT.write_text(picture, encoding="utf-8")
        _say(f"docs/{PAGE.name} and docs/{PLOT.name} rewritten after {seconds:.0f} s")


def main() -> None:
    """Run once."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hosts", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest run; keeps no figures")
    asyncio.run(run(quick=parser.parse_args().quick))


if __name__ == "__main__":
    main()
