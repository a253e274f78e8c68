"""What a rebuild's workflow, its activities and its doors tell each other."""

from collections.abc import Iterable
from typing import Final, Literal

from pydantic import AwareDatetime

from twinline.messages import CallerName, LastingReason, Message

STILL_TO_COME: Final = "StillToCome"
"""Stands for lines whose turn comes in a later step."""
ACCOUNT_SHUT: Final = "AccountShut"
"""Stands for lines that somebody disabled in the daemon's own pages."""

Noted = Literal["begun", "loss_accepted", "stopped", "done"]


def rebuild_workflow_id(host: str) -> str:
    """The workflow id of a host's rebuild: the same one asked for twice is one."""
    return f"rebuild/{host}"


class RebuildTask(Message):
    """See that one host holds every line that it should, however long that takes.

    `accept_loss` when its file may have lost accounts, those of others too, that its daemon still serves.
    """

    host: str
    actor: CallerName = "cli"
    reason: LastingReason | None = None
    accept_loss: bool = False


class StopRebuild(Message):
    """Let a rebuild end as far as it is."""

    actor: CallerName = "cli"
    reason: LastingReason | None = None


class RebuildNote(Message):
    """For the ledger: somebody asked for a rebuild, accepted a loss or stopped it; or it is done."""

    host: str
    what: Noted
    actor: CallerName
    reason: LastingReason | None
    at: AwareDatetime
    held: int | None = None
    should_hold: int | None = None


class LinesLeft(Message):
    """Lines that are not as the ledger wants them, and why; `hint` says what a person can do, who `asks` has to."""

    code: str
    lines: int
    asks: bool = False
    hint: str = ""


class RebuildStep(Message):
    """Look at the host, and bring the next lines in step: those behind the place `after` in a pass over all lines.

    `recheck` leaves halves that wait for a person alone until they are due to be looked at.
    """

    host: str
    after: str = ""
    recheck: bool = False
    accept_loss: bool = False


class RebuildStepped(Message):
    """How the host stands after a step."""

    should_hold: int
    """How many lines the host has to serve."""
    held: int
    """How many of them file and daemon were seen to hold."""
    changed: int
    """How many lines this step wrote again, took off or drove on."""
    failed: tuple[LinesLeft, ...] = ()
    """Lines that this step tried in vain."""
    refused: tuple[LinesLeft, ...] = ()
    """Lines that no write of ours puts right."""
    still_to_come: int = 0
    """Lines whose turn comes in a later step of this pass."""
    next_after: str | None = None
    """From where the pass goes on; None at its end."""
    proven: bool = False
    """Whether a look at everything found every line as it must be."""


class RebuildStatus(Message):
    """Answer of a rebuild's `progress` query, and its result."""

    host: str
    actor: str
    reason: str | None
    since: AwareDatetime
    done: bool = False
    """Whether file and daemon were seen to hold every line as the ledger wants it."""
    stopped_by: str | None = None
    """Who ended it before it was done."""
    should_hold: int | None = None
    """How many lines the host has to serve; None until it could be looked at."""
    held: int | None = None
    """How many of them file and daemon were seen to hold."""
    changed: int = 0
    """How many lines were written again, taken off or driven on so far."""
    left: tuple[LinesLeft, ...] = ()
    attempts: int = 0
    """Tries in a row that ended as the last one did."""
    last_error: str | None = None
    """The code of what kept us from the host in the last try."""
    asks: str | None = None
    """Why a person has to act before it goes on; it looks again every ten minutes all the same."""
    hint: str = ""
    next_attempt: AwareDatetime | None = None
    """None while a try is under way, and at the end."""
    workflow_id: str

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.done or self.stopped_by is not None


class RebuildSoFar(Message):
    """A rebuild that goes on for so long that its history has to begin anew: what its next run must know."""

    status: RebuildStatus
    accept_loss: bool
    ending: str = ""
    """How the last try ended: only what ends alike in a row makes pauses grow."""


def added_up(*parts: Iterable[LinesLeft]) -> tuple[LinesLeft, ...]:
    """The same with one entry for each code, by code."""
    found: dict[str, LinesLeft] = {}
    for left in (each for part in parts for each in part):
        known = found.get(left.code)
        found[left.code] = left if known is None else left.model_copy(update={"lines": known.lines + left.lines})
    return tuple(found[code] for code in sorted(found))
