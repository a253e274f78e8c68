"""When a host counts as away, and when it is looked at again: one failure may be a reload, two in a row are none."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from twinline.messages import HealthSoFar, HealthStanding

DOUBT: Final = timedelta(seconds=10)
"""Until a host that failed once is looked at again; longer than a daemon is silent in a reload of 10,000 accounts."""
AWAY: Final = timedelta(seconds=15)
"""Between two looks at a host that is away."""
SHUT_OUT: Final = timedelta(minutes=5)
"""Between two looks at a host that turns our key away: many lock out whoever goes on knocking."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What came of one look; `code` is None when helper and daemon answered.

    `attention` is why a person has to look at the host, be it that it answers.
    """

    at: datetime
    code: str | None = None
    attention: str | None = None
    hint: str = ""
    shut_out: bool = False
    """Whether the host turned our key away."""


@dataclass(frozen=True)
class Tempo:
    """How often a host is looked at while all is well."""

    every: timedelta

    def pause_after(self, so_far: HealthSoFar, seen: Seen) -> timedelta:
        """How long to wait before the next look, after one that brought `seen`."""
        if seen.shut_out and so_far.standing is HealthStanding.AWAY:
            return max(self.every, SHUT_OUT)
        if seen.code is None:
            return self.every
        return min(self.every, AWAY if so_far.standing is HealthStanding.AWAY else DOUBT)

    @property
    def apart(self) -> timedelta:
        """How far two failures must be apart to count as two: somebody may ask for looks in quick succession."""
        return min(self.every, DOUBT) / 2


def after(so_far: HealthSoFar, seen: Seen, tempo: Tempo) -> HealthSoFar:
    """What is known of a host after one more look: well after one success, away after failures some seconds apart."""
    failing_since = None if seen.code is None else so_far.failing_since or seen.at
    if failing_since is None:
        standing, since = HealthStanding.WELL, seen.at
    elif seen.at - failing_since >= tempo.apart:
        standing, since = HealthStanding.AWAY, failing_since
    else:
        standing, since = so_far.standing, so_far.since
    return HealthSoFar(
        standing=standing,
        since=so_far.since if standing is so_far.standing else since,
        looked_at=seen.at,
        code=seen.code,
        failing_since=failing_since,
        # A person is called when it is certain; what they were called for stays until it is seen to be over.
        attention=_attention(so_far, seen, standing),
        hint=seen.hint,
    )


def _attention(so_far: HealthSoFar, seen: Seen, standing: HealthStanding) -> str | None:
    if seen.code is None or standing is HealthStanding.AWAY:
        return seen.attention
    return so_far.attention
