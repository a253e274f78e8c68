"""The part of the page that `benchmarks.hosts` writes: targets first, then who took how long, and what it did."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.contenders import Design
from benchmarks.crowd import Crowd
from benchmarks.figures import Sample, Table, count, milliseconds, ratio
from benchmarks.grid import Cell, Grid
from benchmarks.plot import Line, Panel, drawn
from benchmarks.watched import Watched

ONE_CHANGE: Final = 1.15
"""Most that one change may take, in round trips through the kept channel."""

PER_SECOND: Final = 2_000
MOST_CLOSES: Final = 3
BIGGER: Final = 1.2
"""Most that a change may cost more in the largest file than in the smallest."""

NAMES: Final[Mapping[Design, str]] = {
    "ours": "**twinline**",
    "ours, OSCam": "**twinline**, OSCam's file",
    "paramiko": "paramiko, read and rewrite",
    "pyinfra": "pyinfra `files.line`",
    "Ansible": "Ansible `lineinfile`",
    "Ansible, unsafe": "Ansible, `unsafe_writes`",
}
RIVALS: Final[Sequence[Design]] = ("paramiko", "pyinfra", "Ansible", "Ansible, unsafe")


@dataclass(frozen=True)
class Findings:
    """All that was measured. The middle delay and the middle size are those at which the other two are varied."""

    delays: tuple[int, ...]
    records: tuple[int, int, int]
    counts: tuple[int, ...]
    grid: Grid
    network: Mapping[int, Sample]
    """Round trips of a byte over TCP, by one-way delay."""
    crowds: Mapping[int, Crowd]
    ledger_crowd: Crowd
    watched: Mapping[Design, Watched]

    @property
    def delay(self) -> int:
        """The delay of the targets, ms one way."""
        return self.delays[1]

    @property
    def size(self) -> int:
        """Records of the file in the middle."""
        return self.records[1]

    def cell(self, *, delay: int | None = None, records: int | None = None, count: int = 1) -> Cell:
        """Renewals, at the middle of what is not named."""
        return Cell(self.delay if delay is None else delay, self.size if records is None else records, count)

    def sample(self, design: Design, cell: Cell) -> Sample:
        """What was measured; raises KeyError where nothing was."""
        found = self.grid.sample(design, cell)
        if found is None:
            raise KeyError(design)
        return found


def tables(found: Findings) -> list[Table]:
    """Every table, in the order of the page."""
    return [
        _targets(found),
        _latency(found),
        _sizes(found),
        _many(found),
        _everywhere(found),
        _at_once(found),
        _file(found),
    ]


def _targets(found: Findings) -> Table:
    rows = tuple(
        (what, wanted, measured, "met" if met else "**missed**") for what, wanted, measured, met in _judged(found)
    )
    return Table(
        f"Targets, at {found.delay} ms one way",
        "Judged by medians, by the script. A round trip is one through the kept channel, the floor of the tables "
        "below. Renewals are judged unless a row says otherwise.",
        ("target", "wanted", "measured", ""),
        rows,
    )


def _judged(found: Findings) -> Iterator[tuple[str, str, str, bool]]:
    trip = found.grid.floor(found.delay).median
    cells: list[tuple[str, Design, Cell]] = [
        ("one change", "ours", found.cell()),
        ("one change: a new line", "ours", Cell(found.delay, found.size, 1, "add")),
        ("one change: OSCam's file", "ours, OSCam", found.cell()),
    ]
    for what, design, cell in cells:
        trips = found.sample(design, cell).median / trip
        yield what, f"≤ {ONE_CHANGE} round trips", f"{trips:.2f}", trips <= ONE_CHANGE
    crowd = found.crowds[found.delay]
    rate, closes = crowd.per_second.median, max(crowd.closes)
    yield (
        *(f"{crowd.size} changes at once", f"≥ {PER_SECOND:,} per second in ≤ {MOST_CLOSES} closes"),
        *(f"{rate:,.0f} per second in {closes}", rate >= PER_SECOND and closes <= MOST_CLOSES),
    )
    small, _, large = found.records
    sizes: list[tuple[Design, Sequence[int]]] = [("ours", found.delays), ("ours, OSCam", [found.delay])]
    for design, delays in sizes:
        for delay in delays:
            few, many = (found.sample(design, found.cell(delay=delay, records=size)) for size in (small, large))
            grown = many.median / few.median
            name = "" if design == "ours" else ", OSCam's file"
            yield (
                f"{large:,} records against {small:,}, {delay} ms{name}",
                *(f"≤ {BIGGER} times the cost", f"{grown:.2f}", grown <= BIGGER),
            )


def _shown(found: Findings, design: Design, cell: Cell) -> str:
    sample = found.grid.sample(design, cell)
    return "" if sample is None else milliseconds(sample)


def _present(found: Findings) -> list[Design]:
    return [design for design in NAMES if any(key[0] == design for key in found.grid.taken)]


def _latency(found: Findings) -> Table:
    floor = found.grid.floor(found.delay)

    def floors(name: str, samples: Sequence[Sample]) -> tuple[str, ...]:
        middle = samples[found.delays.index(found.delay)]
        return (name, *(milliseconds(each) for each in samples), ratio(middle, floor), str(middle.n))

    def row(design: Design) -> tuple[str, ...]:
        cells = [found.cell(delay=delay) for delay in found.delays]
        middle = found.sample(design, found.cell())
        return (
            *(NAMES[design], *(_shown(found, design, cell) for cell in cells)),
            *(ratio(middle, floor), str(middle.n)),
        )

    def new_line() -> tuple[str, ...]:
        cells = [Cell(delay, found.size, 1, "add") for delay in found.delays]
        middle = found.sample("ours", cells[1])
        return (
            *("**twinline**, a new line", *(_shown(found, "ours", cell) for cell in cells)),
            *(ratio(middle, floor), str(middle.n)),
        )

    trips = [found.grid.floor(delay) for delay in found.delays]
    execs = [found.grid.exec_floor(delay) for delay in found.delays]
    network = ", ".join(f"{milliseconds(found.network[delay])} over {delay} ms" for delay in found.delays)
    return Table(
        f"One change, {found.size:,} records, by latency",
        "One record's end date is moved; ms. One way through a relay of our own, in order, without loss, without a "
        f"limit of rate and without TCP's slow start; a byte there and back takes {network}. n counts the middle "
        "column.",
        ("", *(f"{delay} ms" for delay in found.delays), "round trips", "n"),
        (
            floors("floor: message through a kept channel", trips),
            floors("floor: `true` in a new session", execs),
            *(row(design) for design in _present(found) if design == "ours"),
            *((new_line(),) if ("ours", Cell(found.delay, found.size, 1, "add")) in found.grid.taken else ()),
            *(row(design) for design in _present(found) if design != "ours"),
        ),
    )


def _sizes(found: Findings) -> Table:
    def row(design: Design) -> tuple[str, ...]:
        cells = [found.cell(records=records) for records in found.records]
        few, many = found.sample(design, cells[0]), found.sample(design, cells[-1])
        return (NAMES[design], *(_shown(found, design, cell) for cell in cells), ratio(many, few), str(many.n))

    return Table(
        f"One change at {found.delay} ms, by size of the file",
        "ms, and how much more the largest file costs than the smallest. Records of 128 bytes; of 512 in OSCam's "
        "file, where only plan and edit are measured, because a writer would have to make a daemon reload.",
        ("", *(f"{records:,} records" for records in found.records), "times", "n"),
        tuple(row(design) for design in _present(found)),
    )


def _many(found: Findings) -> Table:
    def row(design: Design) -> tuple[str, ...]:
        cells = [found.cell(count=number) for number in found.counts]
        most = [sample for cell in cells if (sample := found.grid.sample(design, cell)) is not None]
        last = [number for number, cell in zip(found.counts, cells, strict=True) if found.grid.sample(design, cell)]
        each = most[-1].median / last[-1] * 1000
        return (NAMES[design], *(_shown(found, design, cell) for cell in cells), f"{each:,.2f}", str(most[-1].n))

    designs: list[Design] = [design for design in _present(found) if design != "ours, OSCam"]
    return Table(
        f"Many changes in one go, {found.size:,} records, {found.delay} ms",
        "Until all of them stand in the file; ms. The last column but one is a change's share of the longest.",
        ("", *(f"{number:,}" for number in found.counts), "ms each", "n"),
        tuple(row(design) for design in designs),
    )


def _everywhere(found: Findings) -> Table:
    places = [(delay, records) for delay in found.delays for records in found.records]

    def medians(design: Design, number: int) -> list[str]:
        samples = [
            found.grid.sample(design, found.cell(delay=delay, records=records, count=number))
            for delay, records in places
        ]
        return ["" if sample is None else f"{sample.median * 1000:,.0f}" for sample in samples]

    rows = [
        (NAMES[design], f"{number:,}", *shown)
        for design in _present(found)
        if design != "ours, OSCam"
        for number in found.counts
        if any(shown := medians(design, number))
    ]
    return Table(
        "Every latency, size and number of changes",
        "Medians in ms, by latency one way and records in the file (in thousands, K). What stands in no table above "
        "was measured three times for us and once for the others.",
        ("", "changes", *(f"{delay} ms, {records / 1000:g}K" for delay, records in places)),
        tuple(rows),
    )


def _at_once(found: Findings) -> Table:
    def row(name: str, delay: int, crowd: Crowd) -> tuple[str, ...]:
        low, high = crowd.per_second.spread
        rate = f"{crowd.per_second.median:,.0f} ({low:,.0f} … {high:,.0f})"
        return (
            name,
            str(delay),
            rate,
            milliseconds(Sample.of(crowd.seconds)),
            count(Sample.of(crowd.closes)),
            str(crowd.per_second.n),
        )

    size = found.ledger_crowd.size
    return Table(
        f"{size} changes that wait at the same moment",
        "Each is a call of its own, as from a workflow; counted until the last is told. With the real ledger every "
        "change is also read, decrypted and recorded in a SQLite file that is synced at each commit, on the cores "
        "that everything else runs on.",
        ("ledger", "ms one way", "changes per second", "ms for all", "closes", "n"),
        (
            *(row("in memory", delay, crowd) for delay, crowd in found.crowds.items()),
            row("SQLite", found.delay, found.ledger_crowd),
        ),
    )


def _file(found: Findings) -> Table:
    def row(design: Design, watched: Watched) -> tuple[str, ...]:
        reads = sum(watched.reads.values())
        return (
            *(NAMES[design], str(watched.edits), f"{watched.closes / watched.edits:g}"),
            *("yes" if watched.inode_kept else "**no**", f"{reads:,}"),
            *(_share(watched, kind) for kind in ("empty", "short", "torn")),
        )

    return Table(
        f"What happens to the file, {found.size:,} records, {found.delay} ms",
        "Edits of one record each, one after the other, while somebody reads the file again and again without pause. "
        "Measured apart from the times above. MultiCS takes each close after a write for a reload, and no longer "
        "sees the file at all when another takes its name. Short is a file without its end; torn, a record that is "
        "no whole line.",
        ("", "edits", "closes per edit", "inode kept", "reads", "empty", "short", "torn"),
        tuple(row(design, watched) for design, watched in found.watched.items()),
    )


def _share(watched: Watched, kind: str) -> str:
    number = watched.reads.get(kind, 0)
    return f"{number:,} ({watched.share(kind):.0%})" if number else "0"


# -- the plot

_COLOURS: Final[Mapping[Design, str]] = {
    "ours": "#0072b2",
    "ours, OSCam": "#56b4e9",
    "paramiko": "#e69f00",
    "pyinfra": "#009e73",
    "Ansible": "#d55e00",
    "Ansible, unsafe": "#cc79a7",
}


def plot(found: Findings) -> str:
    """Three panels: a change by latency, by size of the file, and many changes."""

    def lines(cells: Sequence[Cell], floor: Sequence[Sample] | None) -> list[Line]:
        drawn_lines = [
            Line(NAMES[design].replace("*", "").replace("`", ""), _COLOURS[design], points)
            for design in _present(found)
            if design != "ours, OSCam"
            and any(points := [None if (one := found.grid.sample(design, cell)) is None else one for cell in cells])
        ]
        bottom = [] if floor is None else [Line("floor: a round trip", "#666666", list(floor), dashed=True)]
        return [*drawn_lines, *bottom]

    middle_floor = found.grid.floor(found.delay)
    return drawn(
        [
            Panel(
                f"one change, {found.size:,} records",
                "latency one way, ms",
                [str(delay) for delay in found.delays],
                lines([found.cell(delay=delay) for delay in found.delays], [found.grid.floor(d) for d in found.delays]),
            ),
            Panel(
                f"one change, {found.delay} ms",
                "records in the file",
                [f"{records:,}" for records in found.records],
                lines([found.cell(records=records) for records in found.records], [middle_floor] * len(found.records)),
            ),
            Panel(
                f"many changes, {found.size:,} records, {found.delay} ms",
                "changes in one go",
                [f"{number:,}" for number in found.counts],
                lines([found.cell(count=number) for number in found.counts], [middle_floor] * len(found.counts)),
            ),
        ]
    )
