"""The page of figures: what machine they are from, and where in the page they stand."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.figures import Table


@dataclass(frozen=True)
class Markers:
    """Two lines of the page between which one script writes."""

    begin: str
    end: str


ORDERS: Final = Markers("<!-- orders: begin (written by `make bench-orders`) -->", "<!-- orders: end -->")
API: Final = Markers("<!-- api: begin (written by `make bench-api`) -->", "<!-- api: end -->")
HOSTS: Final = Markers("<!-- hosts: begin (written by `make bench-hosts`) -->", "<!-- hosts: end -->")


BUSY: Final = "Other work kept the cores busy when it began, so compare within a table and trust no millisecond."


@dataclass(frozen=True)
class Run:
    """One run of the benchmarks: when, how long (seconds), and on how busy a machine."""

    date: datetime
    seconds: float
    seed: int | None
    """None where nothing is chosen at random."""
    load_before: float
    load_after: float

    def described(self) -> str:
        """One sentence about machine and run; no name or path of the machine."""
        cores = len(os.sched_getaffinity(0))
        seed = "" if self.seed is None else f"; seed {self.seed}"
        busy = f"{BUSY} " if self.load_before > 1.5 * cores else ""
        return (
            f"Measured {self.date.astimezone(UTC):%Y-%m-%d} in {self.seconds:.0f} s on {cores} {platform.machine()} "
            f"cores, which everything shares (servers, stand-ins, worker and measurement); Linux "
            f"{platform.release().split('-')[0]}, Python {platform.python_version()}{seed}; load average "
            f"{self.load_before:.1f} before and {self.load_after:.1f} at the end. {busy}Shown is the median, in "
            "brackets the 10th and the 90th percentile."
        )


def page_part(run: Run, tables: Sequence[Table]) -> str:
    """What stands between the markers."""
    return "\n".join((run.described(), "", *(table.markdown() for table in tables)))


def rewrite(page: Path, part: str, markers: Markers) -> None:
    """Put the part between the page's markers; raises ValueError when they are not there once each, in order."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(markers.begin)
    _, end, after = rest.partition(markers.end)
    if not begin or not end or markers.begin in rest or markers.end in after:
        raise ValueError(f"{page.name} lacks the two markers between which the figures stand")
    page.write_text(f"{before}{markers.begin}\n\n{part}\n{markers.end}{after}", encoding="utf-8")
