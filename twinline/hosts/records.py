"""Records that a daemon takes otherwise than the person who wrote them meant: what is said about them.

The rules are each daemon's own (`multics_records`, `oscam_records`); names are shown, passwords never.
"""

from dataclasses import dataclass, field
from typing import Final

BOM: Final = b"\xef\xbb\xbf"
LOGIN_BYTES: Final = 20
"""What the CCcam login sends of a username (daemons.md, *Record*, both daemons)."""

LONGEST_PASSWORD: Final = 63
"""What works on both daemons; 64 overwrites memory in MultiCS (daemons.md, *Record*)."""


@dataclass(frozen=True)
class Rule:
    """One way of being taken otherwise than meant: `text` goes on from "records that" or "lines that"."""

    name: str
    text: str
    hint: str
    grave: bool = False
    """Whether it keeps twinline from its work."""


@dataclass(frozen=True)
class Doubt:
    """A rule, and the names of the accounts or the numbers of the lines that it is about."""

    rule: Rule
    names: tuple[str, ...]


@dataclass
class Doubts:
    """Gathers what rules find, in the order of the rules' first finding."""

    found: dict[Rule, list[str]] = field(default_factory=dict[Rule, list[str]])

    def add(self, rule: Rule, name: str) -> None:
        """One more account or line."""
        self.found.setdefault(rule, []).append(name)

    def all(self) -> tuple[Doubt, ...]:
        """Everything that was found; a name once per rule."""
        return tuple(Doubt(rule, tuple(dict.fromkeys(names))) for rule, names in self.found.items())


def shown(name: bytes) -> str:
    """A username of a file for a person."""
    return shown_name(name.decode("latin-1"))


def shown_name(name: str) -> str:
    """A username for a person, cut to what a login sends: behind one that is too long its password may stand."""
    if not name:
        return "(no name)"
    text = name[:LOGIN_BYTES]
    # Accounts of others may be called anything, and a terminal would obey some of it.
    safe = text if text.isprintable() else ascii(text)
    return safe if len(name) <= LOGIN_BYTES else f"{safe}…"


def line_at(data: bytes, offset: int) -> str:
    """Which line begins there, as an editor counts."""
    before = data.count(b"\n", 0, offset)
    return f"line {before + 1}"


@dataclass(frozen=True)
class FileForm:
    """What an editor or another system may have done to the file as a whole; both daemons take it."""

    ends_whole: bool
    """Whether the last line ends; if not, the next append begins with a newline."""
    crlf_lines: int

    @classmethod
    def of(cls, data: bytes) -> "FileForm":
        """Look at all of it."""
        return cls(ends_whole=not data or data.endswith(b"\n"), crlf_lines=data.count(b"\r\n"))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is worth saying, though harmless."""
        return (
            *(() if self.ends_whole else ("the last line does not end, which is harmless",)),
            *((f"{self.crlf_lines} lines end in CRLF, which is harmless",) if self.crlf_lines else ()),
        )
