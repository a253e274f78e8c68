"""How many edits and reloads many purchases cost a host when they come at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.arena import Arena, Burst
from benchmarks.figures import Sample, Table, count


@dataclass(frozen=True)
class Plan:
    """How many purchases at once, and how often in each arena."""

    purchases: int
    times: int


async def measure(arenas: Sequence[Arena], plan: Plan) -> Table:
    """Send the bursts, the arenas in turn."""
    taken: dict[float, list[Burst]] = {arena.timescale: [] for arena in arenas}
    for _ in range(plan.times):
        for arena in arenas:
            taken[arena.timescale].append(await arena.burst(plan.purchases))
    return Table(
        f"{plan.purchases} purchases at once",
        "Closes of the accounts file after a write (inotify) and reloads that the daemon counted, per host; median and "
        "range over the bursts. All are placed at once and wait for both halves, mail and receipt; the orders "
        "reach a host over many seconds, and all that arrive while a reload runs share the next one.",
        ("daemons at", "MultiCS closes", "reloads", "OSCam closes", "reloads", "triggers lost", "all done after", "n"),
        tuple(_row(timescale, bursts) for timescale, bursts in taken.items()),
    )


def _row(timescale: float, bursts: Sequence[Burst]) -> tuple[str, ...]:
    seconds = Sample.of([burst.seconds for burst in bursts])
    low, high = min(seconds.values), max(seconds.values)
    return (
        f"{timescale:g}",
        count(Sample.of([burst.multics_closes for burst in bursts])),
        count(Sample.of([burst.multics_reloads for burst in bursts])),
        count(Sample.of([burst.oscam_closes for burst in bursts])),
        count(Sample.of([burst.oscam_reloads for burst in bursts])),
        count(Sample.of([burst.lost for burst in bursts])),
        f"{seconds.median:.1f} s ({low:.1f} … {high:.1f})",
        str(seconds.n),
    )
