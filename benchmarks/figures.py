"""Numbers of repeated measurements, and how they are shown: medians with their spread, never a single run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Sample:
    """The values of one measurement, in the order in which they were taken."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """At least one value; raises ValueError for none."""
        if not values:
            raise ValueError("a measurement without values")
        return cls(tuple(values))

    @property
    def n(self) -> int:
        """How often it was measured."""
        return len(self.values)

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The 10th and the 90th percentile; of a single value, that value."""
        if self.n == 1:
            return self.values[0], self.values[0]
        tenths = statistics.quantiles(self.values, n=10, method="inclusive")
        return tenths[0], tenths[-1]


def at_share(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies, such as 0.99; they are in order."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(seconds: Sample) -> str:
    """Median and spread of seconds, shown in ms."""
    low, high = seconds.spread
    return f"{_ms(seconds.median)} ({_ms(low)} … {_ms(high)})"


def count(numbers: Sample) -> str:
    """Median and full range of counts."""
    return f"{numbers.median:g} ({min(numbers.values):g} … {max(numbers.values):g})"


def ratio(part: Sample, whole: Sample) -> str:
    """How many times the second median the first one is."""
    times = part.median / whole.median
    return f"{times:.0f}" if times >= 20 else f"{times:.1f}"


def _ms(seconds: float) -> str:
    ms = seconds * 1000
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}"


@dataclass(frozen=True)
class Table:
    """A table with a heading and a sentence that says how to read it."""

    title: str
    reading: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table as it stands in a terminal and in a page alike."""
        widths = [max(len(row[column]) for row in (self.header, *self.rows)) for column in range(len(self.header))]

        def line(cells: Sequence[str]) -> str:
            first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            return f"| {' | '.join((first, *others))} |"

        rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
        body = "\n".join((line(self.header), rule, *(line(row) for row in self.rows)))
        return f"### {self.title}\n\n{self.reading}\n\n{body}\n"
