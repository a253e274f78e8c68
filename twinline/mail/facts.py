"""What a mail tells: the truth about one line at one moment, with no I/O and no wording."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from pydantic import SecretStr

from twinline.messages import MailKind, Plan, Protocol

SHOWS_CREDENTIALS = frozenset({MailKind.CREDENTIALS, MailKind.SECOND_HALF, MailKind.PASSWORD, MailKind.MOVED})
"""The kinds that carry username and password; every other kind carries neither password nor `C:` line."""


TakenBack = Literal["line", "time", "move"]
"""What a cancellation took back: all the time there was, a part of it, or a move to other servers."""


class MailFactsError(ValueError):
    """The facts contradict the kind of mail; retrying can't help, the caller chose the wrong kind."""


@dataclass(frozen=True, slots=True)
class Service:
    """Who runs the service, as the inventory's `[service]` says."""

    name: str
    rights_holder: str
    abuse_contact: str
    support_email: str
    mail_from: str
    public_url: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One half as the customer's receiver sees it; `ready` means proven on the running daemon."""

    protocol: Protocol
    host: str
    port: int
    ready: bool


@dataclass(frozen=True, slots=True)
class BlockNotice:
    """One block that stands now: its owner (`abuse`, `payment`, `reseller`, `operator`), reason and case.

    `until` is when it is lifted by itself, an aware time, if it is.
    """

    owner: str
    reason: str
    case: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class MailFacts:
    """Everything one mail may say.

    `ends_at` is an aware time in UTC. `blocks` are the blocks that stand at this moment. `second_half` takes
    exactly the one entry that became ready; `credentials` and `password` take both entries, of which at least one is
    ready unless the line is blocked, and `moved` takes both, ready or not. In `extended`,
    `unblocked` and `closed` the entries are optional: given, the mail says on which of them the change is already in
    force. `old_until` is for `moved`: until when the entries of before keep working, None when nobody can say that
    they do. `taken_back` is for `cancelled`.

    Raises `MailFactsError` when the facts contradict the kind.
    """

    kind: MailKind
    service: Service
    recipient: str = field(repr=False)
    username: str
    password: SecretStr | None
    plan: Plan
    ends_at: datetime
    entries: tuple[Entry, ...]
    blocks: tuple[BlockNotice, ...]
    reference: str
    old_until: datetime | None = None
    taken_back: TakenBack | None = None

    def __post_init__(self) -> None:
        for contradiction in self._contradictions():
            raise MailFactsError(f"a {self.kind} mail {contradiction}")

    def _contradictions(self) -> list[str]:
        protocols = sorted(entry.protocol for entry in self.entries)
        ready = [entry for entry in self.entries if entry.ready]
        checks = [
            (self.ends_at.utcoffset() != timedelta(0), "needs ends_at as an aware time in UTC"),
            (len(set(protocols)) != len(protocols), "has at most one entry of each protocol"),
            (
                self.kind in SHOWS_CREDENTIALS and not (self.password and self.password.get_secret_value()),
                "needs the password",
            ),
            (
                self.kind is MailKind.SECOND_HALF and bool(self.blocks),
                "can't offer a blocked line as ready",
            ),
            (
                self.kind in (MailKind.CREDENTIALS, MailKind.PASSWORD, MailKind.MOVED)
                and protocols != ["multics", "oscam"],
                "needs both entries",
            ),
            (
                self.kind in (MailKind.CREDENTIALS, MailKind.PASSWORD) and not ready and not self.blocks,
                "needs a ready entry; with none ready the customer gets a delayed mail",
            ),
            (
                self.kind is MailKind.SECOND_HALF and (len(self.entries) != 1 or len(ready) != 1),
                "needs exactly the one entry that became ready",
            ),
            (
                (self.kind is MailKind.CANCELLED) != (self.taken_back is not None),
                "says what was taken back only if something was cancelled",
            ),
            (self.kind is MailKind.BLOCKED and not self.blocks, "needs the block it tells of"),
        ]
        return [sentence for broken, sentence in checks if broken]

    @property
    def both_ready(self) -> bool:
        """Whether both halves are proven."""
        return len(self.entries) == 2 and all(entry.ready for entry in self.entries)
