"""What it costs to take an order over HTTP: `python -m benchmarks.api` measures, prints, and rewrites its part of
docs/performance.md.

`twinline web` with its ledger and tokens, next to a bare FastAPI endpoint that starts a no-op workflow on the same
server. `--quick` is the smallest run that still uses everything; its figures are worth nothing and kept nowhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.callers import Question
from benchmarks.doors import Burst, Door, Doors, run_doors
from benchmarks.figures import Sample, Table, at_share
from benchmarks.report import API
from benchmarks.script import run_script, say


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    callers: tuple[int, ...]
    """How many send at the same time; the last is also that of whatever is measured once."""
    orders: int
    """In each burst that nobody works on."""
    times: int
    """Bursts of each kind."""
    idle: int
    """Orders one by one."""
    busy: int
    """Orders in each burst that the workers work on."""
    busy_times: int


FULL: Final = Size(callers=(1, 8, 32), orders=200, times=3, idle=15, busy=60, busy_times=2)
QUICK: Final = Size(callers=(2,), orders=4, times=1, idle=1, busy=2, busy_times=1)

Taken = dict[tuple[str, int], list[Burst]]
"""Bursts by who was asked what, and by how many callers."""

BARE: Final = "bare endpoint"
OURS: Final = "twinline web"


async def measure(folder: Path, size: Size) -> list[Table]:
    """Take all figures; the folder is for everything that runs."""
    async with run_doors(folder / "doors") as doors:
        say("one by one …")
        idle = await _idle(doors, size)
        say("with workers …")
        busy = await _busy(doors, size)
        await doors.leave_orders_alone()
        say("without workers …")
        alone = await _alone(doors, size)
        say("other questions …")
        others = await _others(doors, size)
    return [alone, idle, busy, others]


async def _idle(doors: Doors, size: Size) -> Table:
    """In turn, each order once the one before is done."""
    taken: Taken = {(BARE, 1): [], (OURS, 1): []}
    for _ in range(size.idle):
        for name, door in ((BARE, doors.bare), (OURS, doors.twinline)):
            taken[name, 1].append(await door.burst([door.order()], callers=1))
            await door.come_to_rest(1)
    return _table(
        "One order on an idle machine",
        "Until `202` is back; the workers work, and the order before is done.",
        taken,
    )


async def _busy(doors: Doors, size: Size) -> Table:
    callers = size.callers[-1]
    waiting = f"{OURS}, without `Prefer`"
    kinds = (
        (BARE, doors.bare, doors.bare.order),
        (OURS, doors.twinline, doors.twinline.order),
        (waiting, doors.twinline, doors.twinline.as_sent_by_default),
    )
    taken: Taken = {(name, callers): [] for name, _, _ in kinds}
    for _ in range(size.busy_times):
        for name, door, kind in kinds:
            taken[name, callers].append(await door.burst([kind() for _ in range(size.busy)], callers=callers))
            await door.come_to_rest(size.busy)
    return _table(
        f"{size.busy} orders while the workers work on them",
        "Workers, Temporal and hosts take what they can get of the cores, for these orders, as on an installation of "
        "one machine. Who sends no `Prefer` waits until the order is taken or refused, half a second at most.",
        taken,
    )


async def _alone(doors: Doors, size: Size) -> Table:
    taken: Taken = {}
    for _ in range(size.times):
        for callers in size.callers:
            for name, door in ((BARE, doors.bare), (OURS, doors.twinline)):
                questions = [door.order() for _ in range(size.orders)]
                taken.setdefault((name, callers), []).append(await door.burst(questions, callers=callers))
    return _table(
        f"{size.orders} orders that nobody works on",
        "Until `202` is back. The workers are stopped, as if they were on another machine: the orders are safe in "
        "Temporal, and wait there.",
        taken,
    )


async def _others(doors: Doors, size: Size) -> Table:
    callers, ours, strangers = size.callers[-1], doors.twinline, count()
    kinds: tuple[tuple[str, Door, Callable[[], Question]], ...] = (
        ("bare endpoint that only answers", doors.bare, doors.bare.look),
        ("an order that is done, looked at", ours, ours.look),
        ("an order that waits, looked at", ours, ours.look_at_last),
        ("an order that is done, sent again", ours, ours.again),
        ("its id for another order: `422`", ours, ours.another_body),
        ("a field that can't be right: `422`", ours, ours.bad_field),
        ("a token that nobody made: `401`", ours, lambda: ours.stranger(next(strangers))),
    )
    taken: Taken = {(name, callers): [] for name, _, _ in kinds}
    for _ in range(size.times):
        for name, door, kind in kinds:
            questions = [kind() for _ in range(size.orders)]
            taken[name, callers].append(await door.burst(questions, callers=callers))
    return _table("What else is asked", "No worker is needed for any of it.", taken)


def _table(title: str, reading: str, taken: Taken) -> Table:
    return Table(
        title,
        f"{reading} CPU time in ms per request: the client is the process that measures. The rate is the median over "
        "the bursts, the latency that over all requests, the CPU time the mean: it is counted in steps of 10 ms.",
        (
            *("", "callers", "per second", "times the first", "p50", "p99"),
            *("CPU: API", "Temporal", "worker", "client", "requests"),
        ),
        tuple(_row(*key, bursts, _first(taken, key[1])) for key, bursts in taken.items()),
    )


def _first(taken: Taken, callers: int) -> Sequence[Burst]:
    return next(bursts for (_, others), bursts in taken.items() if others == callers)


def _row(name: str, callers: int, bursts: Sequence[Burst], first: Sequence[Burst]) -> tuple[str, ...]:
    latencies = sorted(latency for burst in bursts for latency in burst.answered.latencies)

    def share(place: float) -> str:
        return f"{at_share(latencies, place) * 1000:.1f} ms"

    def cpu(used: Callable[[Burst], float]) -> str:
        return f"{sum(map(used, bursts)) / len(latencies) * 1000:.1f}"

    return (
        name,
        str(callers),
        f"{_rate(bursts):.0f}",
        f"{_rate(bursts) / _rate(first):.2f}",
        share(0.5),
        share(0.99),
        cpu(lambda burst: burst.api),
        cpu(lambda burst: burst.temporal),
        cpu(lambda burst: burst.worker),
        cpu(lambda burst: burst.ourselves),
        str(len(latencies)),
    )


def _rate(bursts: Sequence[Burst]) -> float:
    return Sample.of([burst.per_second for burst in bursts]).median


if __name__ == "__main__":
    run_script("api", __doc__, measure, full=FULL, quick=QUICK, markers=API)
