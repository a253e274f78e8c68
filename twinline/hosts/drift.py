"""Where ledger, accounts file and running daemon differ, line by line; pure.

What is only still to be written is no drift: it is behind, and follows by itself.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from twinline.hosts.daemon import CANARY, MARK, Daemon, Reading, Survey
from twinline.hosts.looking import Access, Loaded, Look
from twinline.hosts.ports import Half, Wanted
from twinline.messages import Message


class Kind(StrEnum):
    """One way in which a line is not as the ledger wants it."""

    MISSING = "missing"
    OFF = "off"
    PASSWORD = "password"
    END = "end"
    MARK = "mark"
    ALTERED = "altered"
    MOVED = "moved"
    LIVE = "live"
    NOT_LOADED = "not_loaded"
    LOADED_OTHERWISE = "loaded_otherwise"
    STILL_LOADED = "still_loaded"
    SHUT = "shut"
    TAKEN = "taken"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Meaning:
    """A kind of drift in words, and what to do about it."""

    sentence: str
    hint: str
    repaired: bool = True
    """Whether writing the line again, at the revision that it has, puts it right."""


_REPAIRED: Final = "Reconcile writes it again within ten minutes; `twinline drift repair` does it now"
_TAKEN_AWAY: Final = "Reconcile takes it away within ten minutes; `twinline drift repair` does it now"
_LOADED_AGAIN: Final = "Reconcile asks the daemon to load it again; if it stays, see `twinline host check`"

MEANINGS: Final[Mapping[Kind, Meaning]] = {
    Kind.MISSING: Meaning("to be served, and not in the file", _REPAIRED),
    Kind.OFF: Meaning("to be served, and switched off in the file", _REPAIRED),
    Kind.PASSWORD: Meaning("another password in the file", _REPAIRED),
    Kind.END: Meaning("another end date in the file", _REPAIRED),
    Kind.MARK: Meaning("another mark in the file", _REPAIRED),
    Kind.ALTERED: Meaning("altered in the file", _REPAIRED),
    Kind.MOVED: Meaning("out of its place in the file, or there twice", _REPAIRED),
    Kind.LIVE: Meaning("live in the file, though blocked or ended", _TAKEN_AWAY),
    Kind.NOT_LOADED: Meaning("right in the file, and not loaded", _LOADED_AGAIN),
    Kind.LOADED_OTHERWISE: Meaning("right in the file, and loaded otherwise", _LOADED_AGAIN),
    Kind.STILL_LOADED: Meaning("off in the file, and still loaded", _LOADED_AGAIN),
    Kind.SHUT: Meaning(
        "right in the file, and refused by the daemon",
        "somebody disabled it in the daemon's own pages, and no reload changes that: enable it there",
        repaired=False,
    ),
    Kind.TAKEN: Meaning(
        "a record that is not ours has its username", "remove or rename that record on the host", repaired=False
    ),
    Kind.UNKNOWN: Meaning(
        "looks like ours, and is not in the ledger",
        "does another twinline write here, or was the ledger restored from a backup? If not, take the record out",
        repaired=False,
    ),
}


class Side(Message):
    """How one side holds a line; `end` in the daemon's own words, never a password."""

    state: Literal["served", "off", "absent", "foreign"]
    end: str | None = None
    revision: int | None = None
    another_password: bool = False


class LineDrift(Message):
    """One line that differs; `line_id` and `ledger` are None for a record that the ledger does not know."""

    username: str
    line_id: str | None
    kinds: tuple[Kind, ...]
    ledger: Side | None
    file: Side
    daemon: Side | None

    @property
    def repaired(self) -> bool:
        """Whether writing the line again puts it right."""
        return all(MEANINGS[kind].repaired for kind in self.kinds)

    @property
    def loaded_otherwise(self) -> bool:
        """Whether the daemon differs from a file that is right, as it does while it reloads."""
        return not {Kind.NOT_LOADED, Kind.LOADED_OTHERWISE, Kind.STILL_LOADED}.isdisjoint(self.kinds)

    @property
    def loses_access(self) -> bool:
        """Whether a repair takes access away."""
        return Kind.LIVE in self.kinds or Kind.STILL_LOADED in self.kinds


class Drift(Message):
    """What a comparison came to."""

    lines: tuple[LineDrift, ...]
    behind: tuple[str, ...]
    """Names of lines with a change that is still to be written or proven."""
    served: int
    """How many lines the ledger wants served here, those behind not counted."""
    others: int
    """How many accounts of others stand in the file; they are never touched."""
    daemon_told: bool
    """Whether the daemon could be asked."""

    def to_restore(self, *, together: bool) -> tuple[str, ...]:
        """Ids of the lines to write again, those that must lose access first.

        `together`: one that is only out of place brings all others back, too.
        """
        ours = [line for line in self.lines if line.repaired and line.line_id is not None]
        ours.sort(key=lambda line: not line.loses_access)
        moved = [line for line in ours if line.kinds == (Kind.MOVED,)]
        left_out = {line.line_id for line in moved[1:]} if together else set[str | None]()
        return tuple(line.line_id for line in ours if line.line_id is not None and line.line_id not in left_out)


@dataclass(frozen=True)
class Expected:
    """What the ledger wants of one line here; `behind` while that is still to be written or proven."""

    half: Half
    behind: bool


def compare(daemon: Daemon, expected: Sequence[Expected], look: Look) -> Drift:
    """Compare what the ledger wants with what was seen."""
    survey = daemon.survey(look.data)
    strays = frozenset(stray.username for stray in survey.strays)
    comparison = _Comparison(daemon, look, survey, strays, daemon.readings(look.data))
    settled = [each.half for each in expected if not each.behind]
    lines = [line for half in settled if (line := comparison.line(half)) is not None]
    lines += comparison.unknown({each.half.username for each in expected})
    return Drift(
        lines=tuple(lines),
        behind=tuple(each.half.username for each in expected if each.behind),
        served=sum(half.wanted is Wanted.PRESENT for half in settled),
        others=len(survey.foreign),
        daemon_told=look.listed is not None,
    )


@dataclass(frozen=True)
class _Comparison:
    daemon: Daemon
    look: Look
    survey: Survey
    strays: frozenset[str]
    readings: Mapping[str, Reading]

    def line(self, half: Half) -> LineDrift | None:
        """How a line differs; None if it does not."""
        kinds = self._of_served(half) if half.wanted is Wanted.PRESENT else self._of_shut(half)
        if not kinds:
            return None
        return LineDrift(
            username=half.username,
            line_id=half.line_id,
            kinds=tuple(kinds),
            ledger=self._ledger_side(half),
            file=self._file_side(half.username, half),
            daemon=self._daemon_side(half.username),
        )

    def unknown(self, known: set[str]) -> list[LineDrift]:
        """Records that look like ours and belong to no line, nor to a proof of the reload."""
        ours = self.survey.slots.keys() | self.strays
        return [
            LineDrift(
                username=name,
                line_id=None,
                kinds=(Kind.UNKNOWN,),
                ledger=None,
                file=self._file_side(name, None),
                daemon=self._daemon_side(name),
            )
            for name in sorted(ours - known - {CANARY})
        ]

    # -- rules

    def _of_served(self, half: Half) -> list[Kind]:
        if half.username in self.survey.foreign:
            return [Kind.TAKEN]
        kinds = self._in_file(half)
        if kinds in ([], [Kind.MOVED]):
            kinds += self._in_daemon(half)
        return kinds

    def _in_file(self, half: Half) -> list[Kind]:
        place = self.survey.slots.get(half.username)
        if place is None and half.username not in self.strays:
            return [Kind.MISSING]
        reading = self.readings.get(half.username)
        if reading is None or not reading.live:
            return [Kind.OFF]
        differs = {
            Kind.PASSWORD: reading.password != half.password,
            Kind.END: reading.end != self._end(half),
            Kind.MARK: reading.mark != half.mark,
        }
        kinds = [kind for kind, differ in differs.items() if differ]
        if half.username in self.strays:
            kinds.append(Kind.MOVED)
        if not kinds and place is not None and self._would_write(place, half):
            kinds.append(Kind.ALTERED)
        return kinds

    def _would_write(self, place: int, half: Half) -> bool:
        slot = self.look.data[place : place + self.daemon.width]
        return any(step.image != slot for step in self.daemon.steps(slot, half))

    def _in_daemon(self, half: Half) -> list[Kind]:
        if self.look.listed is None:
            return []
        access = self.look.listed.get(half.username)
        if access is None:
            return [Kind.NOT_LOADED]
        if access is not Access.OPEN:
            return [Kind.SHUT if access is Access.SHUT else Kind.LOADED_OTHERWISE]
        loaded = self.look.loaded.get(half.username)
        if loaded is None or self._is_loaded_as(loaded, half):
            return []
        return [Kind.LOADED_OTHERWISE]

    def _is_loaded_as(self, loaded: Loaded, half: Half) -> bool:
        end = None if half.ends_at is None else self.daemon.shown_end(half.ends_at)
        return (loaded.mark, loaded.end) == (half.mark, end) and loaded.our_password is not False

    def _of_shut(self, half: Half) -> list[Kind]:
        if half.username in self.survey.foreign:
            return []
        reading = self.readings.get(half.username)
        if reading is not None and reading.live:
            return [Kind.LIVE]
        if self.look.listed is not None and self.look.listed.get(half.username) is Access.OPEN:
            return [Kind.STILL_LOADED]
        return []

    # -- sides

    def _end(self, half: Half) -> str | None:
        return None if half.ends_at is None else self.daemon.file_end(half.ends_at)

    def _ledger_side(self, half: Half) -> Side:
        states: dict[Wanted, Literal["served", "off", "absent"]] = {
            Wanted.PRESENT: "served",
            Wanted.BLOCKED: "off",
            Wanted.ABSENT: "absent",
        }
        return Side(state=states[half.wanted], end=self._end(half), revision=half.revision)

    def _file_side(self, username: str, half: Half | None) -> Side:
        if username in self.survey.foreign:
            return Side(state="foreign")
        reading = self.readings.get(username)
        if reading is None:
            return Side(state="off" if username in self.survey.slots or username in self.strays else "absent")
        return Side(
            state="served" if reading.live else "off",
            end=reading.end,
            revision=_revision(reading.mark),
            another_password=half is not None and reading.password != half.password,
        )

    def _daemon_side(self, username: str) -> Side | None:
        if self.look.listed is None:
            return None
        access = self.look.listed.get(username)
        if access is None:
            return Side(state="absent")
        loaded = self.look.loaded.get(username)
        return Side(
            state="served" if access is Access.OPEN else "off",
            end=None if loaded is None else loaded.end,
            revision=None if loaded is None or loaded.mark is None else _revision(loaded.mark),
            another_password=loaded is not None and loaded.our_password is False,
        )


def _revision(mark: str) -> int | None:
    return int(mark.partition("-")[0]) if re.fullmatch(MARK, mark) else None
