"""What writing to a host needs from the rest of the house: the ledger's side of a batch, as a Protocol."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Wanted(StrEnum):
    """What a host must hold of a line."""

    PRESENT = "present"
    BLOCKED = "blocked"
    ABSENT = "absent"


@dataclass(frozen=True)
class Half:
    """One line as one host should hold it; `mark` stands in the record and is read back as proof."""

    line_id: str
    username: str
    password: str = field(repr=False)
    wanted: Wanted
    ends_at: datetime | None
    revision: int
    mark: str


@dataclass(frozen=True, order=True)
class Token:
    """Fencing token: a host refuses every batch with a lower one than it has seen."""

    epoch: int
    number: int


@dataclass(frozen=True)
class Batch:
    """Every half of one host that is behind, those that must lose access first."""

    token: Token
    halves: tuple[Half, ...]
    withheld: Mapping[str, int] = field(default_factory=dict[str, int])
    """Lines that would lose access without a recorded reason, with the revision that is held back."""


@dataclass(frozen=True)
class Named:
    """Which line has a name, and whether its hosts must hold it."""

    line_id: str
    wanted: Wanted


@dataclass(frozen=True)
class Proven:
    """A half that the running daemon was seen to hold."""

    line_id: str
    revision: int
    wanted: Wanted
    attention: str | None = None
    """Why the half waits for a person, as the code of the error that stopped it."""


class HostLedger(Protocol):
    """The ledger as the writer of a host sees it; every call is one short transaction."""

    async def open_batch(self, host: str, limit: int, also: AbstractSet[str] = frozenset()) -> Batch:
        """Raise the host's fencing token and take what is behind there and waits for no person.

        `also` names lines to take along although they are proven, because the host has lost them.
        """
        ...

    async def close_batch(self, host: str, token: Token, proven: Sequence[Proven]) -> None:
        """Record what was proven, where it is higher than what was known; the host counts as well again."""
        ...

    async def report_failure(self, host: str, tried: Mapping[str, int], code: str) -> None:
        """Record why these halves (line id and revision) could not be brought up to date this time.

        One whose error asks for a person waits for that, unless a newer revision is wanted by now.
        """
        ...

    async def ask_again(self, line_id: str, host: str, *, due_only: bool) -> bool:
        """Let a half that waits for a person into batches again; False if `due_only` and it is not due yet."""
        ...

    async def fence(self, host: str) -> Token:
        """The last fencing token that was given out for the host."""
        ...

    async def now(self) -> float:
        """What the ledger's clock shows, in POSIX seconds."""
        ...

    async def note_clock(self, host: str, *, right: bool) -> None:
        """Remember that the host's clock is too far from the ledger's, or that it is right again."""
        ...

    async def note_well(self, host: str) -> None:
        """Remember that host and daemon answer; while halves wait for it, only a batch tells whether it is well."""
        ...

    async def proven(self, host: str, line_ids: Sequence[str]) -> Mapping[str, Proven]:
        """What is proven by now of these lines' halves, by line id; a half that does not exist is left out."""
        ...

    async def lines_named(self, host: str, usernames: Sequence[str]) -> Mapping[str, Named]:
        """Those of these names that are lines on this host."""
        ...

    async def absent_usernames(self, host: str, usernames: Sequence[str]) -> set[str]:
        """Which of these are lines of ours whose absence from the host is wanted and proven."""
        ...
