"""How far a host's clock is surely off, when all that is known of the moment is that it lies between two of ours."""

from dataclasses import dataclass
from typing import Final

from twinline.hosts.errors import ClocksApart
from twinline.spans import span

MOST_APART: Final = 120.0
"""Seconds. A daemon ends lines by its own clock, and no customer may lose more of what was promised."""


@dataclass(frozen=True, kw_only=True)
class ClockFacts:
    """The host's clock, read between two readings of ours; POSIX seconds."""

    asked: float
    theirs: float
    answered: float

    @property
    def off(self) -> float:
        """Seconds by which it is surely ahead of ours, below 0 behind; the round trip speaks in its favour."""
        earliest, latest = sorted((self.asked, self.answered))
        return self.theirs - min(max(self.theirs, earliest), latest)


def apart(facts: ClockFacts) -> ClocksApart | None:
    """The error that stops a host whose clock is further from the ledger's than `MOST_APART`."""
    if abs(facts.off) <= MOST_APART:
        return None
    way = "ahead of" if facts.off > 0 else "behind"
    return ClocksApart(f"the host's clock is {span(abs(facts.off))} {way} the ledger's")
