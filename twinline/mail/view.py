"""The words of a mail: facts turned into the sentences and values that the templates place."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

from twinline.mail.address import AddressError, parse_address
from twinline.mail.facts import SHOWS_CREDENTIALS, Entry, MailFacts
from twinline.messages import MailKind

# Not strftime: its names follow the locale of the process, and a stored mail must come out the same everywhere.
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

_PROTOCOL_NAMES = {"multics": "MultiCS", "oscam": "OSCam"}
# The number belongs to the protocol, so that "entry 2" is the same one in the first and in the second mail.
_ENTRY_NUMBERS = {"multics": 1, "oscam": 2}
_OWNER_NAMES = {"abuse": "abuse desk", "payment": "payment", "reseller": "your reseller", "operator": "operator"}


@dataclass(frozen=True, slots=True)
class Contact:
    """Where to write: the text to show, and the link behind it (None where no safe link can be made)."""

    text: str
    href: str | None


@dataclass(frozen=True, slots=True)
class EntryView:
    """One entry as shown; `password` and `line` are empty in mails that show no credentials."""

    number: int
    name: str
    host: str
    port: int
    ready: bool
    username: str
    password: str = field(repr=False)
    line: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class BlockView:
    """One standing block in words, and who to write to about it."""

    owner: str
    reason: str
    case: str
    until: str
    contact: Contact


@dataclass(frozen=True, slots=True)
class MailView:
    """What the templates may use, under these names."""

    subject: str
    service: str
    rights_holder: str
    abuse: Contact
    support: Contact
    site: Contact
    username: str
    plan: str
    line_word: str
    until: str
    entries: tuple[EntryView, ...]
    ready: tuple[EntryView, ...]
    following: tuple[EntryView, ...]
    blocks: tuple[BlockView, ...]
    reference: str
    old_until: str
    taken_back: str


def view_of(facts: MailFacts) -> MailView:
    """The view of these facts; the password enters it only for kinds that show credentials."""
    entries = tuple(sorted((_entry_view(entry, facts) for entry in facts.entries), key=lambda entry: entry.number))
    abuse, support = contact(facts.service.abuse_contact), contact(facts.service.support_email)
    return MailView(
        subject=subject(facts),
        service=facts.service.name,
        rights_holder=facts.service.rights_holder,
        abuse=abuse,
        support=support,
        site=contact(facts.service.public_url),
        username=facts.username,
        plan=facts.plan,
        line_word=_line_word(facts),
        until=until(facts.ends_at),
        entries=entries,
        ready=tuple(entry for entry in entries if entry.ready),
        following=tuple(entry for entry in entries if not entry.ready),
        blocks=tuple(
            BlockView(
                owner=_OWNER_NAMES.get(block.owner, block.owner),
                reason=block.reason,
                case=block.case,
                until="" if block.until is None else until(block.until),
                contact=abuse if block.owner == "abuse" else support,
            )
            for block in facts.blocks
        ),
        reference=facts.reference,
        old_until="" if facts.old_until is None else until(facts.old_until),
        taken_back=facts.taken_back or "",
    )


def subject(facts: MailFacts) -> str:
    """The subject: the service's name and the one thing that matters, without username or address."""
    line = _line_word(facts)
    match facts.kind:
        case MailKind.CREDENTIALS:
            told = f"your {line} is {_readiness(facts)}"
        case MailKind.SECOND_HALF:
            told = "your second entry is ready"
        case MailKind.DELAYED:
            told = "your order is delayed, we are on it"
        case MailKind.EXTENDED:
            told = "time added, your line stays blocked" if facts.blocks else "time added to your line"
        case MailKind.BLOCKED:
            told = "your line is blocked"
        case MailKind.UNBLOCKED:
            told = "a block was lifted, another one stays" if facts.blocks else "your line is unblocked"
        case MailKind.PASSWORD:
            told = "your new password"
        case MailKind.REMINDER:
            told = f"your {line} ends soon"
        case MailKind.MOVED:
            told = "your line moves to other servers"
        case MailKind.CANCELLED:
            told = "the move of your line was cancelled" if facts.taken_back == "move" else "your order was cancelled"
        case MailKind.CLOSED:
            told = "your line was closed"
        case MailKind.UNSERVED:
            told = f"your {line} could not be set up"
    return f"{facts.service.name}: {told}"


def _readiness(facts: MailFacts) -> str:
    if facts.blocks:
        return "blocked"
    return "ready" if facts.both_ready else "ready, one entry follows"


def until(ends_at: datetime) -> str:
    """A moment with its zone, such as `Wednesday 25 November 2026, 14:03 UTC`.

    Seconds are cut, not rounded: the mail must not promise a minute that isn't there.
    """
    at = ends_at.astimezone(UTC)
    return f"{_DAYS[at.weekday()]} {at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M} UTC"


def contact(text: str) -> Contact:
    """A contact with a link where it is a web or mail address; anything else is shown as plain text."""
    if text.startswith(("https://", "http://")):
        return Contact(text, text)
    try:
        address = parse_address(text)
    except AddressError:
        return Contact(text, None)
    return Contact(text, f"mailto:{quote(address.text, safe='@')}")


def c_line(entry: Entry, username: str, password: str) -> str:
    """The entry in the one-line form receivers read: host, port, user, password, with single blanks.

    Source: a MultiCS client connected to OSCam with it (reference/daemons.md, "For the customer's receiver").
    """
    return f"C: {entry.host} {entry.port} {username} {password}"


def _line_word(facts: MailFacts) -> str:
    return "trial line" if facts.plan == "trial" else "line"


def _entry_view(entry: Entry, facts: MailFacts) -> EntryView:
    password = ""
    if facts.kind in SHOWS_CREDENTIALS and facts.password is not None:
        password = facts.password.get_secret_value()
    return EntryView(
        number=_ENTRY_NUMBERS[entry.protocol],
        name=_PROTOCOL_NAMES[entry.protocol],
        host=entry.host,
        port=entry.port,
        ready=entry.ready,
        username=facts.username,
        password=password,
        line=c_line(entry, facts.username, password) if password else "",
    )
