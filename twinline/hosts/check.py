"""Judges what was found on a host: facts in, findings out, each with what to do about it.

Pure; `twinline.hosts.inspection` gathers the facts without writing or reloading anything.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from twinline.hosts.clocks import MOST_APART, ClockFacts
from twinline.hosts.errors import (
    FileTrouble,
    HelperFailed,
    HelperRefused,
    HostError,
    HostKeyMismatch,
    HostLoginRefused,
    HostUnreachable,
    StatusTrouble,
)
from twinline.messages import Message

CLOCK_WARN: Final = 5.0
"""Seconds; NTP does much better. Above `MOST_APART` orders stop and ask."""

SPACE_WARN: Final = 64 * 1024 * 1024
SPACE_FAIL: Final = 1024 * 1024
"""Bytes beside one more copy of the accounts file, which a new layout needs."""


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
    shown = f"the file belongs to uid {facts.owner}, ssh.user is uid {facts.user}"
    if facts.user not in (facts.owner, 0):
        # Linux gives leases to the owner alone.
        shown += ", who can't keep other writers waiting during an edit"
    return about.ok("owner", shown)


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
    surely = abs(facts.off)
    way = "ahead of" if facts.off > 0 else "behind"
    shown = f"{surely:.0f} s {way} ours"
    hint = "let both machines keep time by NTP: line ends are carried out by these clocks"
    if surely > MOST_APART:
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
