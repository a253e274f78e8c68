"""Judges what was found on a host: facts in, findings out, each with what to do about it.

Pure; `twinline.hosts.inspection` gathers the facts without writing or reloading anything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from twinline.hosts.daemon import Daemon, Survey
from twinline.hosts.errors import (
    FileTrouble,
    HelperFailed,
    HelperRefused,
    HostError,
    HostKeyMismatch,
    HostLoginRefused,
    HostUnreachable,
    RecordConflict,
    StatusTrouble,
)
from twinline.hosts.ports import Wanted
from twinline.messages import Message, Protocol

CLOCK_WARN: Final = 5.0
CLOCK_FAIL: Final = 120.0
"""Seconds; above it orders stop and ask, because ends would be carried out at the wrong time."""

SPACE_WARN: Final = 64 * 1024 * 1024
SPACE_FAIL: Final = 1024 * 1024
"""Bytes beside one more copy of the accounts file, which a new layout needs."""

_MOST_NAMES: Final = 5


class Verdict(StrEnum):
    """How one item stands."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Message):
    """One item that was looked at; `retryable` says that something did not answer and may do so later."""

    subject: str
    item: str
    verdict: Verdict
    message: str
    hint: str = ""
    retryable: bool = False


@dataclass(frozen=True)
class About:
    """Makes findings about one subject."""

    subject: str

    def ok(self, item: str, message: str) -> Finding:
        """It is as it must be."""
        return Finding(subject=self.subject, item=item, verdict=Verdict.OK, message=message)

    def warn(self, item: str, message: str, *, hint: str) -> Finding:
        """It works, but somebody should look."""
        return Finding(subject=self.subject, item=item, verdict=Verdict.WARN, message=message, hint=hint)

    def fail(self, item: str, message: str, *, hint: str, retryable: bool = False) -> Finding:
        """It keeps twinline from its work."""
        return Finding(
            subject=self.subject,
            item=item,
            verdict=Verdict.FAIL,
            message=message,
            hint=hint,
            retryable=retryable,
        )


# --- facts ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """The accounts file and its folder, as the helper on the host sees them; sizes in bytes."""

    user: int
    owner: int
    mode: int
    size: int
    writable: bool
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class ClockFacts:
    """The host's clock, read between two readings of ours; POSIX seconds."""

    asked: float
    theirs: float
    answered: float


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the ledger wants of one line on this host; `behind` while the last change is still to be proven."""

    username: str
    wanted: Wanted
    mark: str
    behind: bool


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """The accounts file by the daemon's own rules."""

    survey: Survey
    live: frozenset[str]
    """Names of ours that load and may log in."""
    parked: frozenset[str]
    """Names of ours that stand in the file switched off."""
    records: dict[str, bytes]
    """The slot of each name of ours that has one."""

    @classmethod
    def read(cls, daemon: Daemon, data: bytes) -> "Accounts":
        """Survey the whole file."""
        survey = daemon.survey(data)
        records = {name: data[at : at + daemon.width] for name, at in survey.slots.items()}
        live = {name for name, record in records.items() if daemon.password_in(record) is not None}
        live |= {stray.username for stray in survey.strays if stray.live}
        ours = records.keys() | {stray.username for stray in survey.strays}
        return cls(survey=survey, live=frozenset(live), parked=frozenset(ours - live), records=records)


# --- the way to the host ----------------------------------------------------------------------------

REACHED: Final = "connection"
HOST_KEY: Final = "host key"
LOGIN: Final = "login key"
ALLOWED: Final = "key's limits"
PYTHON: Final = "python"
STATE_DIR: Final = "state_dir"

# In the order in which they are passed on the way to a running helper.
_GATES: Final = (
    (REACHED, "SSH answers", HostUnreachable),
    (HOST_KEY, "the host shows the key of ssh.known_hosts", HostKeyMismatch),
    (LOGIN, "the host accepts our key", HostLoginRefused),
    (ALLOWED, "the host lets our key start this helper", HelperRefused),
    (PYTHON, "the helper program runs", HelperFailed),
    (STATE_DIR, "can be written", FileTrouble),
)


def arrived(about: About, *, python: str, unfinished: bool, bound: bool) -> list[Finding]:
    """All gates were passed; `unfinished` when a crash left something that the next write completes.

    `bound` says that a forced command started the helper.
    """
    findings = [about.ok(item, passed) for item, passed, _ in _GATES if item not in (ALLOWED, PYTHON, STATE_DIR)]
    if bound:
        findings.append(about.ok(ALLOWED, "it starts this helper for this host's files, and nothing else"))
    else:
        limit = f"`twinline host authorize {about.subject}` prints a line that limits it"
        findings.append(about.ok(ALLOWED, f"it may start any program as ssh.user; {limit}"))
    findings.append(about.ok(PYTHON, f"the helper program runs on Python {python}"))
    if unfinished:
        findings.append(
            about.warn(
                STATE_DIR,
                "a batch or a closing of sessions was not finished",
                hint="nothing to do: the next write to this host completes it",
            )
        )
    else:
        findings.append(about.ok(STATE_DIR, "can be written"))
    return findings


def stopped(about: About, error: HostError) -> list[Finding]:
    """A gate was shut: those before it were passed, and nothing is known of what lies behind."""
    unknown = [item for item, _, _ in _GATES].index(PYTHON)
    shut = next((number for number, gate in enumerate(_GATES) if isinstance(error, gate[2])), unknown)
    # Our own key file is looked at before anything else, so its absence says nothing about the network.
    passed = [] if isinstance(error, HostLoginRefused) else [about.ok(item, text) for item, text, _ in _GATES[:shut]]
    return [
        *passed,
        about.fail(_GATES[shut][0], str(error), hint=error.hint, retryable=isinstance(error, HostUnreachable)),
    ]


# --- the file ---------------------------------------------------------------------------------------

ACCOUNTS_FILE: Final = "accounts file"


def file_findings(about: About, facts: FileFacts, *, may_replace: bool) -> list[Finding]:
    """Judge a file that could be opened: writable, owner, mode, space."""
    return [
        about.ok(ACCOUNTS_FILE, f"a regular file with one link, {facts.size:,} bytes"),
        _writable(about, facts),
        _owner(about, facts, may_replace=may_replace),
        _mode(about, facts),
        _space(about, facts),
    ]


def no_file(about: About, error: HostError) -> list[Finding]:
    """The accounts file could not be opened."""
    return [about.fail(ACCOUNTS_FILE, str(error), hint=error.hint)]


def _writable(about: About, facts: FileFacts) -> Finding:
    if facts.writable:
        return about.ok("writable", "ssh.user may write the accounts file")
    return about.fail(
        "writable",
        "ssh.user may not write the accounts file",
        hint="make ssh.user its owner, or give the file's group write access and put ssh.user into it",
    )


def _owner(about: About, facts: FileFacts, *, may_replace: bool) -> Finding:
    if facts.user not in (facts.owner, 0) and may_replace:
        # Only root can give a new file to somebody else.
        return about.warn(
            "owner",
            f"the file belongs to uid {facts.owner}, ssh.user is uid {facts.user}: a new layout would change that",
            hint="make ssh.user the file's owner, and see that the daemon can still read it",
        )
    return about.ok("owner", f"the file belongs to uid {facts.owner}, ssh.user is uid {facts.user}")


def _mode(about: About, facts: FileFacts) -> Finding:
    shown = f"mode {facts.mode:04o}"
    if facts.mode & 0o002:
        return about.fail("mode", f"{shown}: everybody on the host may change accounts", hint="chmod o-rwx the file")
    if facts.mode & 0o004:
        return about.warn("mode", f"{shown}: everybody on the host may read passwords", hint="chmod o-rwx the file")
    return about.ok("mode", shown)


def _space(about: About, facts: FileFacts) -> Finding:
    shown = f"{facts.free_bytes / 2**20:,.0f} MiB free"
    if facts.free_bytes < SPACE_FAIL + facts.size:
        return about.fail("free space", f"{shown}: too little to write", hint="make space on the host")
    if facts.free_bytes < SPACE_WARN + facts.size:
        return about.warn("free space", f"{shown}: soon too little", hint="make space on the host")
    return about.ok("free space", shown)


# --- the clock --------------------------------------------------------------------------------------


def clock_finding(about: About, facts: ClockFacts) -> Finding:
    """Judge how far the host's clock is from ours, giving it the benefit of the round trip."""
    offset = facts.theirs - (facts.asked + facts.answered) / 2
    surely = max(abs(offset) - abs(facts.answered - facts.asked) / 2, 0.0)
    way = "ahead of" if offset > 0 else "behind"
    shown = f"{surely:.0f} s {way} ours"
    hint = "let both machines keep time by NTP: line ends are carried out by these clocks"
    if surely > CLOCK_FAIL:
        return about.fail("clock", shown, hint=hint)
    if surely > CLOCK_WARN:
        return about.warn("clock", shown, hint=hint)
    return about.ok("clock", "as ours" if surely < 1 else shown)


# --- the daemon -------------------------------------------------------------------------------------

STATUS_PAGE: Final = "status page"


def status_finding(about: About, *, code: int, url: str) -> Finding:
    """Judge the HTTP status of the page that lists all accounts; 0 when the daemon closed without an answer."""
    if code == 200:
        return about.ok(STATUS_PAGE, "the daemon answers and accepts our user and password")
    said = "closes the connection without an answer" if code == 0 else f"answers with HTTP status {code}"
    return about.fail(
        STATUS_PAGE, f"what listens at {url} {said}", hint="check that status.url leads to the daemon's web interface"
    )


def no_status(about: About, error: StatusTrouble, *, url: str) -> Finding:
    """The daemon's page could not be read."""
    return about.fail(STATUS_PAGE, f"{url}: {error}", hint=error.hint)


# --- the accounts -----------------------------------------------------------------------------------


def account_findings(
    about: About,
    accounts: Accounts,
    *,
    protocol: Protocol,
    loaded: frozenset[str] | None,
    expected: Sequence[Expected] | None,
) -> list[Finding]:
    """Compare the file with what the daemon has loaded and with the ledger; None where that is not known."""
    survey = accounts.survey
    ours = len(accounts.live) + len(accounts.parked)
    findings = [
        about.ok(
            "accounts",
            f"{ours} of ours, {len(accounts.parked)} of them off; {len(survey.foreign)} of others, never touched",
        )
    ]
    if survey.strays:
        findings.append(
            about.warn(
                "strays",
                _counted("records of ours out of place", (stray.username for stray in survey.strays)),
                hint="nothing to do: the next write to this host brings them back into place",
            )
        )
    if loaded is not None:
        known = frozenset(line.username for line in expected or ())
        findings += _loaded(about, accounts, protocol=protocol, loaded=loaded, known=known)
    if expected is not None:
        findings += _ledger(about, accounts, expected)
    return findings


def in_step(findings: Iterable[Finding]) -> bool:
    """Whether the daemon was seen to hold the file; if not, it may be in the middle of a reload."""
    return all(finding.verdict is Verdict.OK for finding in findings if finding.item == LOADED)


LOADED: Final = "loaded accounts"
LINES: Final = "lines"


def _loaded(
    about: About, accounts: Accounts, *, protocol: Protocol, loaded: frozenset[str], known: frozenset[str]
) -> list[Finding]:
    reload_hint = "check that the daemon reads this accounts_file, that its reload works, and its log"
    foreign = accounts.survey.foreign
    # OSCam lists accounts that are disabled; to MultiCS a parked record is a comment.
    off = accounts.parked if protocol == "oscam" else frozenset[str]()
    elsewhere = loaded - accounts.live - off - foreign
    stale = elsewhere & (accounts.parked | known)
    others = elsewhere - stale
    findings: list[Finding] = []
    if missing := accounts.live - loaded:
        findings.append(about.fail(LOADED, _counted("in the file and not loaded", missing), hint=reload_hint))
    if missing := foreign - loaded:
        text = _counted("accounts of others in the file and not loaded", missing)
        findings.append(about.warn(LOADED, text, hint="see the daemon's log for why it does not take them"))
    if stale:
        findings.append(about.fail(LOADED, _counted("loaded, though off or gone in the file", stale), hint=reload_hint))
    if others and protocol == "oscam":
        findings.append(about.warn(LOADED, _counted("loaded, though not in the file", others), hint=reload_hint))
    if findings:
        return findings
    # MultiCS may have accounts in its main file and in other includes, which are none of our business.
    beside = f", and {len(others)} that stand elsewhere" if others else ""
    return [about.ok(LOADED, f"{len(loaded) - len(others)}, the same as in the file{beside}")]


def _ledger(about: About, accounts: Accounts, expected: Sequence[Expected]) -> list[Finding]:
    settled = [line for line in expected if not line.behind]
    served = {line.username for line in settled if line.wanted is Wanted.PRESENT}
    shut = {line.username for line in settled if line.wanted is not Wanted.PRESENT}
    wanted = {line.username for line in expected if line.wanted is not Wanted.ABSENT}
    marks = {line.username: line.mark.encode() for line in settled if line.wanted is not Wanted.ABSENT}
    altered = {
        name for name, record in accounts.records.items() if name in marks and marks[name] not in record
    } - accounts.survey.foreign
    by_hand = "somebody changed the file by hand; any order for such a line writes it again"
    findings: list[Finding] = []
    if clash := wanted & accounts.survey.foreign:
        text = _counted("records that are not ours, with the username of a line", clash)
        findings.append(about.fail(LINES, text, hint=RecordConflict.hint))
    if missing := served - accounts.live - accounts.survey.foreign:
        text = _counted("to be served, and not in the file", missing)
        findings.append(about.fail(LINES, text, hint=by_hand))
    if wrong := shut & accounts.live:
        text = _counted("live in the file, though blocked or ended", wrong)
        findings.append(about.fail(LINES, text, hint=by_hand))
    if altered := altered - wrong - missing:
        text = _counted("in the file with another mark than the ledger's", altered)
        findings.append(about.fail(LINES, text, hint=by_hand))
    if unknown := accounts.live - {line.username for line in expected}:
        text = _counted("look like ours, and are not in the ledger", unknown)
        findings.append(
            about.warn(LINES, text, hint="does another twinline write here, or was the ledger restored from a backup?")
        )
    if behind := {line.username for line in expected if line.behind}:
        text = _counted("still to be written", behind)
        findings.append(about.warn(LINES, text, hint="twinline keeps trying; `twinline order list --open` shows why"))
    return findings or [about.ok(LINES, f"{len(served)} served and {len(shut)} not served, as the ledger wants")]


def _counted(what: str, names: Iterable[str]) -> str:
    """How many there are, and some of their names; accounts of others may be called anything."""
    every = sorted(name if name.isprintable() else ascii(name) for name in names)
    more = ", …" if len(every) > _MOST_NAMES else ""
    return f"{what}: {len(every)} ({', '.join(every[:_MOST_NAMES])}{more})"
