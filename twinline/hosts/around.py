"""What stands around an accounts file: who else is at it, what lies beside it, how the daemon runs and reloads.

Pure: facts that the helper's `inspect` answered in, findings out. What it could not see is said to be unseen.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from twinline.hosts.check import About, Finding
from twinline.hosts.daemon import CANARY
from twinline.hosts.errors import HostError
from twinline.messages import Protocol
from twinline.spans import span

DAYS_AHEAD: Final = 400
"""How far the rules of a time zone are compared: more than a year of changes of the clock."""

_MOST_SHOWN: Final = 4


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Holder(_Fact):
    """A process that has a file open; `gone` when it is an older file that only had the name."""

    pid: int
    name: str
    what: Literal["accounts", "lock"]
    writes: bool
    gone: bool


class Listener(_Fact):
    """One socket on which a port is served."""

    port: int
    address: str


class Zone(_Fact):
    """Seconds east of UTC at the instants that were asked for, by the daemon's zone or else the helper's own."""

    of: Literal["daemon", "helper"]
    tz: str | None
    offsets: tuple[int, ...]
    unseen: str = ""


class Settings(_Fact):
    """The daemon's settings as its file has them now; what is not written is None."""

    path: str = ""
    values: dict[str, str | None] = Field(default_factory=dict[str, str | None])
    unseen: str = ""


class Leftover(_Fact):
    """A file whose name has that of the accounts file in it; `age` in seconds."""

    path: str
    kind: Literal["file", "link", "other"]
    mode: int
    age: float


class Beside(_Fact):
    """What was found beside the file, and the folders that can't be listed."""

    found: tuple[Leftover, ...]
    hidden: tuple[str, ...]


class Folder(_Fact):
    """The folder of the accounts file."""

    writable: bool
    mode: int


class PidFile(_Fact):
    """The process that `reload.pid_file` names; `serves` is None where the daemon's processes can't be seen."""

    runs: bool = False
    may_signal: bool = False
    pid: int = 0
    name: str = ""
    serves: bool | None = None
    unseen: str = ""


class Reload(_Fact):
    """Seconds since the last reload was asked for and since one was proven, and how long that took."""

    asked: float | None
    proven: float | None
    visible: float


class Written(_Fact):
    """Seconds since our last batch was settled, and since somebody else changed the file after it."""

    ago: float | None
    changed: float | None


class Around(_Fact):
    """Everything that the helper has seen; `hidden` counts the processes that it could not look into."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    holders: tuple[Holder, ...]
    hidden: int
    listeners: tuple[Listener, ...]
    zone: Zone
    config: Settings
    beside: Beside
    folder: Folder
    pid_file: PidFile | None
    reload: Reload
    written: Written


# --- the time zone ----------------------------------------------------------------------------------


def instants(zone: ZoneInfo, now: datetime) -> tuple[float, ...]:
    """The moments at which a zone is compared: now, every day for more than a year, and around each change."""
    days = [now + timedelta(days=number) for number in range(DAYS_AHEAD)]
    found: set[datetime] = set()
    for day, following in pairwise(days):
        if day.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            change = _change(zone, day, following)
            found |= {change - timedelta(seconds=1), change}
    return (now.timestamp(), *sorted(moment.timestamp() for moment in {*days[1:], *found}))


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second at which the clock changes between two moments."""
    old = before.astimezone(zone).utcoffset()
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == old:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)


def zone_finding(about: About, facts: Zone, *, zone: ZoneInfo, asked: Sequence[float]) -> Finding:
    """Compare the clock that end dates are read by with the inventory's timezone, now and for the year to come."""
    whose = "the daemon's clock" if facts.of == "daemon" else "the host's clock"
    told = "" if facts.tz is None else f" (TZ={facts.tz})"
    unseen = f"; {facts.unseen}" if facts.of == "helper" else ""
    wrong = [
        (moment, there - _offset(zone, moment))
        for moment, there in zip(asked, facts.offsets, strict=True)
        if there != _offset(zone, moment)
    ]
    if not wrong:
        return about.ok("time zone", f"{whose}{told} goes by {zone.key}, for the year to come too{unseen}")
    moment, ahead = wrong[0]
    way = "ahead of" if ahead > 0 else "behind"
    since = "" if moment == asked[0] else f" from {datetime.fromtimestamp(moment, UTC):%Y-%m-%d} on"
    message = f"{whose}{told} is {span(abs(ahead))} {way} {zone.key}{since}{unseen}"
    hint = "write the zone that the daemon runs in as timezone, or start it with TZ set: end dates are local times"
    if facts.of == "helper":
        return about.warn("time zone", message, hint=hint)
    return about.fail("time zone", message, hint=hint)


def _offset(zone: ZoneInfo, moment: float) -> int:
    offset = datetime.fromtimestamp(moment, zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


# --- other writers ----------------------------------------------------------------------------------


def writers_findings(about: About, facts: Around, *, protocol: Protocol) -> list[Finding]:
    """Who else has the accounts file or our lock open now, and whether somebody has written since we did."""
    findings: list[Finding] = []
    if writing := [each for each in facts.holders if each.what == "accounts" and each.writes and not each.gone]:
        findings.append(
            about.warn(
                "other writers",
                f"the accounts file is open for writing: {_processes(writing)}",
                hint="end the program if it is an editor that was forgotten; twinline reads the file again after it",
            )
        )
    if protocol == "multics" and (old := [each for each in facts.holders if each.what == "accounts" and each.gone]):
        findings.append(
            about.warn(
                "other writers",
                f"a former accounts file is kept open, so MultiCS may still watch that one: {_processes(old)}",
                hint="end that program; `twinline host check HOST --prove-reload` then tells whether MultiCS listens",
            )
        )
    if locking := [each for each in facts.holders if each.what == "lock"]:
        findings.append(
            about.warn(
                "other writers",
                f"the lock in state_dir is held: {_processes(locking)}",
                hint="a worker of twinline lets go of it within seconds; end anything else",
            )
        )
    if findings:
        return findings
    seen = f"; {facts.hidden} processes of others can't be looked into" if facts.hidden else ""
    return [about.ok("other writers", f"nobody has the file open for writing{_since(facts.written)}{seen}")]


def _since(written: Written) -> str:
    if written.ago is None:
        return ""
    last = f"; our last write was {span(written.ago)} ago"
    return last if written.changed is None else f"{last}, and somebody else's {span(written.changed)} ago"


def _processes(holders: Sequence[Holder]) -> str:
    named = dict.fromkeys(f"{each.name} ({each.pid})" for each in holders)
    return ", ".join(list(named)[:_MOST_SHOWN])


_OURS: Final = re.compile(r"\.(?P<name>.+)\.twinline|(?P<link>.+)\.(?:twinline|new)")
_EDITED: Final = re.compile(r"\..+\.sw[a-z]|\.#.+|#.+#|\.~lock\..+#")


def beside_findings(about: About, facts: Beside) -> list[Finding]:
    """What editors, backups and a killed helper have left beside the file; copies hold everybody's passwords."""
    findings: list[Finding] = []
    ours = [each for each in facts.found if _OURS.fullmatch(posixpath.basename(each.path))]
    edited = [each for each in facts.found if _EDITED.fullmatch(posixpath.basename(each.path)) and each not in ours]
    copies = [each for each in facts.found if each.kind == "file" and each not in ours]
    readable = [each for each in copies if each.mode & 0o004]
    if ours:
        findings.append(
            about.warn(
                "beside the file",
                f"left by a new layout that was cut short, with everybody's passwords in it: {_paths(ours)}",
                hint="remove it, unless a worker is writing to this host just now",
            )
        )
    if edited:
        findings.append(
            about.warn(
                "beside the file",
                f"somebody has the file in an editor, or an editor died: {_paths(edited)}",
                hint="close it without saving, or remove what it left: an old text that is saved undoes orders",
            )
        )
    if readable:
        findings.append(
            about.warn(
                "beside the file",
                f"copies with passwords in them that everybody on the host may read: {_paths(readable)}",
                hint="chmod o-rwx them, or remove them; OSCam makes its .bak anew whenever it saves",
            )
        )
    if findings:
        return findings
    there = (
        f"only copies that not everybody may read: {_paths(copies)}" if copies else "no copies and no editor's files"
    )
    hidden = f"; can't be listed: {', '.join(facts.hidden)}" if facts.hidden else ""
    return [about.ok("beside the file", f"{there}{hidden}")]


def _paths(found: Sequence[Leftover]) -> str:
    paths = [f"{each.path} (mode {each.mode:04o})" for each in found]
    more = ", …" if len(paths) > _MOST_SHOWN else ""
    return ", ".join(paths[:_MOST_SHOWN]) + more


def folder_finding(about: About, facts: Folder, *, rewritten: bool) -> Finding:
    """Whether a new layout can take the old file's name; `rewritten` where the daemon may write the file too."""
    if facts.mode & 0o002 and not facts.mode & 0o1000:
        return about.fail(
            "folder", "everybody on the host may put another file in place of this one", hint="chmod o-w the folder"
        )
    if facts.writable:
        return about.ok("folder", "a new layout may take the file's name")
    text = "ssh.user may not write to it, so a file that somebody has rewritten can't be laid out again"
    if not rewritten:
        return about.ok("folder", f"{text}; OSCam itself does not (httpreadonly = 1)")
    return about.warn("folder", text, hint="give the file a folder of its own, as deploy/prepare-host.sh does")


# --- the daemon's own settings ----------------------------------------------------------------------


def is_on(value: str | None) -> bool:
    """A switch of OSCam: a number, and 0 when it is not written."""
    match = re.match(r"\d+", value or "")
    return match is not None and int(match[0]) != 0


def read_only(facts: Settings, *, said: str | None) -> bool | None:
    """Whether OSCam's own pages write nothing: as its API says, else as oscam.conf does; None if neither tells."""
    if said is not None:
        return is_on(said)
    return None if facts.unseen else is_on(facts.values["httpreadonly"])


def oscam_findings(
    about: About,
    facts: Settings,
    *,
    method: Literal["webif", "sighup", "command"],
    read_only: bool | None,
    proven: bool,
) -> list[Finding]:
    """Judge `httpreadonly` and `reload_useraccounts` by how the inventory has OSCam reload.

    `proven` says that a reload was seen to work.
    """
    findings = [_read_only_finding(about, read_only, method=method)]
    if method == "sighup":
        findings.append(_sighup_finding(about, facts, proven=proven))
    return findings


def _read_only_finding(about: About, read_only: bool | None, *, method: str) -> Finding:  # noqa: FBT001
    item = "httpreadonly"
    if read_only is None:
        return about.ok(item, "can't be seen: neither the web API nor oscam.conf tells")
    if not read_only:
        return about.ok(item, "0: OSCam's own pages may write the file too, and it is then laid out again")
    if method == "webif":
        return about.fail(
            item,
            "1: OSCam ignores the reload over its web interface",
            hint='set it to 0 in [webif], or reload with method = "sighup" and reload_useraccounts = 1',
        )
    return about.ok(item, "1: OSCam's own pages don't write the file")


def _sighup_finding(about: About, facts: Settings, *, proven: bool) -> Finding:
    item = "reload_useraccounts"
    if facts.unseen:
        text = f"can't be seen ({facts.unseen}), and without it OSCam ignores SIGHUP"
        hint = "`twinline host check HOST --prove-reload` tells whether the reload works"
        return about.ok(item, f"{text}; but a reload was proven") if proven else about.warn(item, text, hint=hint)
    if is_on(facts.values["reload_useraccounts"]):
        return about.ok(item, f"1 in {facts.path}")
    text = f"off in {facts.path}, but the inventory says sighup: modern OSCam then ignores it without a word"
    hint = 'write reload_useraccounts = 1 in [global] and restart OSCam, or reload with method = "webif"'
    if proven:
        return about.warn(item, f"{text}; a reload was proven all the same", hint=hint)
    return about.fail(item, text, hint=hint)


def pid_file_finding(about: About, facts: PidFile) -> Finding:
    """Judge the process that a SIGHUP would go to."""
    item = "reload.pid_file"
    if facts.unseen:
        return about.fail(item, f"can't be read: {facts.unseen}", hint="write the file given to oscam with -B")
    if not facts.runs:
        return about.fail(item, "no such process runs", hint="start OSCam with -B and this file")
    process = f"process {facts.pid} ({facts.name})"
    if facts.serves is False:
        return about.fail(
            item,
            f"{process} is not the OSCam of the status page",
            hint="was a second OSCam started? It overwrites the file; end both and start one",
        )
    if not facts.may_signal:
        return about.fail(
            item,
            f"ssh.user may not signal {process}",
            hint='only root and OSCam\'s own user may: reload with method = "webif" or "command"',
        )
    sure = "" if facts.serves else "; whether it is the OSCam of the status page can't be seen"
    return about.ok(item, f"{process} may be signalled{sure}")


def multics_finding(about: About, facts: Settings) -> Finding:
    """Judge MultiCS' own editor, which writes whole files in place."""
    item = "HTTP EDITOR"
    if facts.unseen:
        return about.ok(item, f"can't be seen: {facts.unseen}")
    if (facts.values["http_editor"] or "").upper() == "OFF":
        return about.ok(item, "OFF: MultiCS' own page writes no file")
    return about.warn(
        item,
        f"not OFF in {facts.path}: MultiCS' own page may write whole files, and undo what we wrote meanwhile",
        hint="write HTTP EDITOR: OFF in the main file",
    )


def listeners_findings(about: About, facts: Sequence[Listener]) -> list[Finding]:
    """Whether two programs serve the same port: Linux then spreads customers over both."""
    counts = Counter((each.address, each.port) for each in facts)
    twice = sorted({port for (_, port), count in counts.items() if count > 1})
    if not twice:
        return []
    return [
        about.fail(
            "ports",
            f"{max(counts.values())} programs serve port {', '.join(map(str, twice))} and share its customers",
            hint="end all of them and start one daemon; `oscam -d 4096` is no reload but starts a second one",
        )
    ]


# --- the reload -------------------------------------------------------------------------------------

RELOAD: Final = "reload"


def reload_finding(about: About, facts: Reload, *, last_proof: datetime | None, now: datetime) -> Finding:
    """What is known of the reload without asking for one; `last_proof` is the ledger's latest on this host."""
    if facts.proven is not None:
        text = f"last proven {span(facts.proven)} ago, visible after {facts.visible:.2f} s"
        return about.ok(RELOAD, text)
    if last_proof is not None:
        ago = span((now - last_proof).total_seconds())
        return about.ok(RELOAD, f"an order was proven {ago} ago, and since the host has started none yet")
    return about.warn(
        RELOAD,
        "never proven: no order was carried out here yet",
        hint=f"`twinline host check {about.subject} --prove-reload` writes a record that nobody can use, and proves it",
    )


def proven_finding(about: About, *, seconds: float, visible: float) -> Finding:
    """A record that nobody can use was written, loaded, taken away and gone again, in `seconds` all in all."""
    done = f"a record was written, loaded, taken away and gone in {seconds:.1f} s"
    return about.ok(RELOAD, f"proven just now: {done}; the daemon needed {visible:.2f} s for a reload")


def not_proven_finding(about: About, error: HostError, *, left: bool) -> Finding:
    """The proof did not succeed; `left` says that its record may still be in the file."""
    still = f"; {CANARY} may still be in the file, where nobody can use it" if left else ""
    return about.fail(RELOAD, f"{error}{still}", hint=error.hint)
