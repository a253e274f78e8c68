"""How much of a time a host answered, by the looks at it: pure arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest


@dataclass(frozen=True)
class Mark:
    """One look, and whether the host answered."""

    at: datetime
    answered: bool


def answered_share(marks: Sequence[Mark], *, until: datetime, holds: timedelta) -> float | None:
    """Which part of the time for which it is known the host answered, from 0 to 1; None where nothing is known.

    `marks` are in the order of their time. Each speaks for the time up to the next one, and for `holds` at most: what
    comes after is time in which nobody looked, and counts for neither.
    """
    known = good = timedelta(0)
    for mark, following in zip_longest(marks, marks[1:]):
        end = until if following is None else following.at
        lasted = max(timedelta(0), min(end - mark.at, holds))
        known += lasted
        good += lasted if mark.answered else timedelta(0)
    return good / known if known else None
