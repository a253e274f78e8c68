"""The line's rules: pure functions of facts, without clock, database or randomness of their own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Final, Literal

from twinline.keys import KeyRing

LineState = Literal["present", "blocked", "absent"]
TermOutcome = Literal["ended", "overtaken", "later"]

_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz"
_LETTERS_AND_DIGITS: Final = _LETTERS + "23456789"
"""Without i, l, o, 0 and 1: names and passwords are copied by eye from a mail with a remote control."""
USERNAME_LENGTH: Final = 10
"""Both daemons see only the first 20 bytes of a name at login (daemons.md, rule 1)."""
PASSWORD_LENGTH: Final = 16
"""63 is the longest that works on both daemons (daemons.md, rule 2)."""


@dataclass(frozen=True, kw_only=True)
class Desired:
    """What every host of a line must hold; `ends_at` is None when that is nothing."""

    state: LineState
    ends_at: datetime | None


def desired_state(*, closed: bool, blocked: bool, open_ends: Iterable[datetime]) -> Desired:
    """Say what hosts must hold, from the ends of the grants that are not ended; time alone changes nothing."""
    ends_at = max(open_ends, default=None)
    if closed or ends_at is None:
        return Desired(state="absent", ends_at=None)
    return Desired(state="blocked" if blocked else "present", ends_at=ends_at)


def on_host(desired: Desired, *, left: bool) -> Desired:
    """What one host must hold: what all must, or nothing once the line was moved away from it."""
    return Desired(state="absent", ends_at=None) if left else desired


def mark(keys: KeyRing, *, line_id: str, username: str, password: str, desired: Desired, revision: int) -> str:
    """The mark of one revision: stands in the record on the host and is read back as proof."""
    end = "-" if desired.ends_at is None else desired.ends_at.isoformat()
    digest = keys.mac("mark", line_id, username, password, end, desired.state, str(revision))
    return f"{revision}-{digest[:4].hex()}"


def renewed_end(*, now: datetime, ends_at: datetime | None, days: int) -> datetime:
    """The end after a renewal: the period counts from now, or from the end that is still to come."""
    return (now if ends_at is None else max(now, ends_at)) + timedelta(days=days)


@dataclass(frozen=True, kw_only=True)
class Period:
    """The time that one grant gives."""

    starts_at: datetime
    ends_at: datetime


def still_to_come(period: Period, *, now: datetime) -> timedelta:
    """How much of a period is left: what a cancellation takes back."""
    return max(period.ends_at - max(now, period.starts_at), timedelta(0))


def without(cancelled: Period, other: Period, *, now: datetime) -> Period:
    """Another period of the same line once one is cancelled: it keeps its length, and moves up if it came later."""
    if other.starts_at < cancelled.ends_at:
        return other
    back = still_to_come(cancelled, now=now)
    return Period(starts_at=other.starts_at - back, ends_at=other.ends_at - back)


def decide_term(*, now: datetime, ends_at: datetime, other_ends: Iterable[datetime]) -> TermOutcome:
    """Say whether a grant's end has come, and whether another grant of the line outlives it."""
    if now < ends_at:
        return "later"
    return "overtaken" if any(other > ends_at for other in other_ends) else "ended"


BLAST_FLOOR: Final = 20
BLAST_PERCENT: Final = 5
BLAST_WINDOW: Final = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one event says of its line once it had happened; None where it says nothing of it.

    `left` are the hosts that the line was moved away from: they must hold nothing, whatever its state.
    """

    revision: int | None
    state: LineState | None
    left: frozenset[str] = frozenset()


def explained(*, host: str, revision: int, state: LineState, told: Iterable[Told]) -> bool:
    """Whether a line's state on a host has a recorded reason: an event after which it had this revision and state.

    Whatever changes a line by the rules raises its revision and tells so in the same transaction. Rows that were
    changed, lost or restored behind the rules' back have no such event, or one of another revision or state.
    """
    return any(each.revision == revision and ("absent" if host in each.left else each.state) == state for each in told)


def blast(*, unexplained: int, served: int) -> bool:
    """Whether so many unexplained removals in an hour are too many for a host that serves so many lines."""
    return unexplained > max(BLAST_FLOOR, served * BLAST_PERCENT // 100)


@dataclass(frozen=True, kw_only=True)
class PairLoad:
    """How full a pair is: `lines` are those that its hosts must hold."""

    name: str
    capacity: int
    lines: int
    healthy: bool


def pick_pair(pairs: Sequence[PairLoad]) -> str | None:
    """The emptiest pair with room, healthy ones first; None when all are full.

    An unhealthy pair still takes the order when no healthy one can: its halves follow when the host is back.
    """
    with_room = [pair for pair in pairs if pair.lines < pair.capacity]
    if not with_room:
        return None
    best = min(with_room, key=lambda pair: (not pair.healthy, pair.lines / pair.capacity, pair.name))
    return best.name


def new_username(random: Random) -> str:
    """A name like `k7mq3xw9ab`: lower-case, typed without mistakes, a letter first."""
    return random.choice(_LETTERS) + _draw(random, USERNAME_LENGTH - 1)


def new_password(random: Random) -> str:
    """A password that both daemons and every remote control can take."""
    return _draw(random, PASSWORD_LENGTH)


def new_id(random: Random) -> str:
    """An opaque id: 16 hexadecimal digits that say nothing about the row."""
    return f"{random.getrandbits(64):016x}"


def _draw(random: Random, length: int) -> str:
    return "".join(random.choice(_LETTERS_AND_DIGITS) for _ in range(length))
