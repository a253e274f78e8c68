"""Panels of lines on a logarithmic scale of time, as an SVG that needs nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from benchmarks.figures import Sample

WIDTH: Final = 1_080
HEIGHT: Final = 470
TOP: Final = 92
BOTTOM: Final = 62
LEFT: Final = 64
GAP: Final = 30
RIGHT: Final = 18
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Line:
    """One contender: a value for each tick, or None where it was not measured."""

    name: str
    colour: str
    points: Sequence[Sample | None]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One diagram: what it shows, what is varied, and the ticks of that."""

    title: str
    axis: str
    ticks: Sequence[str]
    lines: Sequence[Line]


def drawn(panels: Sequence[Panel]) -> str:
    """All panels side by side on the same scale, with one legend above."""
    values = [
        value
        for panel in panels
        for line in panel.lines
        for point in line.points
        if point is not None
        for value in point.spread
    ]
    scale = _Scale.over(values)
    inner = (WIDTH - LEFT - RIGHT - GAP * (len(panels) - 1)) / len(panels)
    parts = [_legend(panels)]
    for number, panel in enumerate(panels):
        parts.append(_panel(panel, scale, LEFT + number * (inner + GAP), inner, labelled=number == 0))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{FONT}" '
        f'font-size="12" fill="#222222" role="img">\n'
        f"<title>How long an edit takes</title>\n"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{"".join(parts)}</svg>\n'
    )


@dataclass(frozen=True)
class _Scale:
    """Seconds to height, logarithmic; the bounds are powers of ten, not whole ones."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float]) -> "_Scale":
        return cls(math.log10(min(values) * 0.7), math.log10(max(values) * 1.5))

    @property
    def decades(self) -> range:
        return range(math.ceil(self.low), math.floor(self.high) + 1)

    def at(self, seconds: float) -> float:
        part = (math.log10(seconds) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)


def _legend(panels: Sequence[Panel]) -> str:
    lines = {line.name: line for panel in panels for line in panel.lines}
    parts: list[str] = []
    x = float(LEFT)
    for line in lines.values():
        parts.append(
            f'<line x1="{x:.0f}" y1="26" x2="{x + 22:.0f}" y2="26" {_stroke(line)}/>'
            f'<text x="{x + 28:.0f}" y="30">{escape(line.name)}</text>\n'
        )
        x += 28 + 6.3 * len(line.name) + 22
    return "".join(parts)


def _stroke(line: Line) -> str:
    dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
    return f'stroke="{line.colour}" stroke-width="{1.5 if line.dashed else 2.2}"{dashes}'


def _panel(panel: Panel, scale: _Scale, left: float, width: float, *, labelled: bool) -> str:
    bottom = HEIGHT - BOTTOM
    middle = left + width / 2
    parts = [f'<text x="{left:.0f}" y="{TOP - 16}" font-size="13" font-weight="600">{escape(panel.title)}</text>\n']
    for power in scale.decades:
        y = scale.at(10.0**power)
        parts.append(f'<line x1="{left:.0f}" y1="{y:.1f}" x2="{left + width:.0f}" y2="{y:.1f}" stroke="#dddddd"/>\n')
        if labelled:
            parts.append(f'<text x="{left - 8:.0f}" y="{y + 4:.1f}" text-anchor="end">{_time(power)}</text>\n')
    places = [left + width * (number + 0.5) / len(panel.ticks) for number in range(len(panel.ticks))]
    for x, tick in zip(places, panel.ticks, strict=True):
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(tick)}</text>\n')
    parts.append(
        f'<text x="{middle:.0f}" y="{bottom + 40}" text-anchor="middle" fill="#555555">{escape(panel.axis)}</text>\n'
    )
    for line in panel.lines:
        parts.append(_line(line, scale, places))
    return "".join(parts)


def _line(line: Line, scale: _Scale, places: Sequence[float]) -> str:
    known = [(x, point) for x, point in zip(places, line.points, strict=True) if point is not None]
    path = " ".join(f"{x:.1f},{scale.at(point.median):.1f}" for x, point in known)
    parts = [f'<polyline points="{path}" fill="none" {_stroke(line)}/>\n']
    if not line.dashed:
        for x, point in known:
            low, high = point.spread
            parts.append(
                f'<line x1="{x:.1f}" y1="{scale.at(low):.1f}" x2="{x:.1f}" y2="{scale.at(high):.1f}" '
                f'stroke="{line.colour}" stroke-width="1"/>'
                f'<circle cx="{x:.1f}" cy="{scale.at(point.median):.1f}" r="3.6" fill="{line.colour}"/>\n'
            )
    return "".join(parts)


def _time(power: int) -> str:
    return f"{10 ** (power + 3):g} ms" if power < 0 else f"{10**power:g} s"
