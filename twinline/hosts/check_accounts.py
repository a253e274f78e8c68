"""Judges the accounts of a host: the file against the daemon's own rules, what it has loaded, and the ledger.

Pure: facts in, findings out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from twinline.hosts.check import About, Finding, Verdict
from twinline.hosts.daemon import CANARY, Daemon, Survey
from twinline.hosts.errors import RecordConflict
from twinline.hosts.ports import Wanted
from twinline.hosts.records import Doubt, FileForm, shown_name
from twinline.inventory import COMFORTABLE_CAPACITY
from twinline.messages import Protocol

_MOST_NAMES: Final = 5


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the ledger wants of one line on this host; `behind` while the last change is still to be proven."""

    username: str
    wanted: Wanted
    mark: str
    behind: bool


@dataclass(frozen=True, kw_only=True)
class Ledgered:
    """What the ledger knows of one host; `last_proof` is the latest of any line there."""

    lines: Sequence[Expected]
    last_proof: datetime | None


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """The accounts file by the daemon's own rules."""

    survey: Survey
    form: FileForm
    doubts: Sequence[Doubt]
    live: frozenset[str]
    """Names of ours that load and may log in."""
    parked: frozenset[str]
    """Names of ours that stand in the file switched off."""
    records: dict[str, bytes]
    """The slot of each name of ours that has one."""

    @classmethod
    def read(cls, daemon: Daemon, data: bytes, *, doubts: Sequence[Doubt] = ()) -> "Accounts":
        """Survey the whole file; `doubts` are what the daemon's rules say about its records."""
        survey = daemon.survey(data)
        records = {name: data[at : at + daemon.width] for name, at in survey.slots.items()}
        live = {name for name, record in records.items() if daemon.password_in(record) is not None}
        live |= {stray.username for stray in survey.strays if stray.live}
        ours = records.keys() | {stray.username for stray in survey.strays}
        return cls(
            survey=survey,
            form=FileForm.of(data),
            doubts=doubts,
            live=frozenset(live),
            parked=frozenset(ours - live),
            records=records,
        )


def account_findings(
    about: About,
    accounts: Accounts,
    *,
    protocol: Protocol,
    loaded: frozenset[str] | None,
    expected: Sequence[Expected] | None,
    capacity: int | None = None,
) -> list[Finding]:
    """Compare the file with what the daemon has loaded and with the ledger; None where that is not known.

    `capacity` is that of the host's pair.
    """
    survey = accounts.survey
    ours = len(accounts.live) + len(accounts.parked)
    others = sorted(shown_name(name) for name in survey.foreign)
    named = f" ({_some(others)})" if others else ""
    findings = [
        about.ok(
            "accounts",
            f"{ours} of ours, {len(accounts.parked)} of them off; {len(others)} of others{named}, never touched",
        )
    ]
    findings += records_findings(about, accounts)
    if survey.strays:
        findings.append(
            about.warn(
                "strays",
                _counted("records of ours out of place", (stray.username for stray in survey.strays)),
                hint="nothing to do: the next write to this host brings them back into place",
            )
        )
    lines = None if expected is None else sum(line.wanted is not Wanted.ABSENT for line in expected)
    most = max(ours + len(survey.foreign), len(loaded or ()))
    findings.append(size_finding(about, accounts=most, lines=lines, capacity=capacity))
    if loaded is not None:
        known = frozenset(line.username for line in expected or ())
        findings += _loaded(about, accounts, protocol=protocol, loaded=loaded, known=known)
    if expected is not None:
        findings += _ledger(about, accounts, expected)
    return findings


def records_findings(about: About, accounts: Accounts) -> list[Finding]:
    """What the daemon takes otherwise than it looks, foreign records included: they are the operator's to repair."""
    findings: list[Finding] = []
    for doubt in accounts.doubts:
        what = "lines" if all(name.startswith("line ") for name in doubt.names) else "records"
        text = f"{what} that {doubt.rule.text}: {len(doubt.names)} ({_some(doubt.names)})"
        judged = about.fail if doubt.rule.grave else about.warn
        findings.append(judged("records", text, hint=doubt.rule.hint))
    if CANARY in accounts.live | accounts.parked:
        findings.append(
            about.warn(
                "records",
                f"{CANARY} was left by a proof of the reload that was cut short; nobody can use it",
                hint=f"`twinline host check {about.subject} --prove-reload` takes it away",
            )
        )
    if findings:
        return findings
    return [about.ok("records", "; ".join(("each is taken as it looks", *accounts.form.remarks)))]


def size_finding(about: About, *, accounts: int, lines: int | None, capacity: int | None) -> Finding:
    """Judge the number of accounts: both daemons reload in quadratic time (daemons.md, *Reload*)."""
    hint = "add a pair to the region: both daemons need four times as long for twice as many accounts"
    if accounts > COMFORTABLE_CAPACITY:
        return about.warn("size", f"{accounts:,} accounts: each reload takes seconds", hint=hint)
    if capacity is not None and lines is not None and lines > capacity:
        return about.warn("size", f"{lines:,} lines, but the pair's capacity is {capacity:,}", hint=hint)
    room = "" if capacity is None else f"; the pair has room for {capacity:,} lines"
    return about.ok("size", f"{accounts:,} accounts{room}")


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
    if unknown := accounts.live - {line.username for line in expected} - {CANARY}:
        text = _counted("look like ours, and are not in the ledger", unknown)
        findings.append(
            about.warn(LINES, text, hint="does another twinline write here, or was the ledger restored from a backup?")
        )
    if behind := {line.username for line in expected if line.behind}:
        text = _counted("still to be written", behind)
        findings.append(about.warn(LINES, text, hint="twinline keeps trying; `twinline order list --open` shows why"))
    return findings or [about.ok(LINES, f"{len(served)} served and {len(shut)} not served, as the ledger wants")]


def _counted(what: str, names: Iterable[str]) -> str:
    """How many there are, and some of their names."""
    every = sorted(shown_name(name) for name in names)
    return f"{what}: {len(every)} ({_some(every)})"


def _some(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
