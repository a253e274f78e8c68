"""What is found on a host is judged: facts in, findings out."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from starter.cli.doctor import host_summary, queue_finding
from starter.cli.findings import exit_of
from starter.cli.render import Exit
from twinline.hosts import check
from twinline.hosts.check import About, FileFacts, Finding, Verdict
from twinline.hosts.check_accounts import Accounts, Expected, account_findings, in_step, size_finding
from twinline.hosts.clocks import ClockFacts
from twinline.hosts.daemon import CANARY, Daemon, Trigger
from twinline.hosts.errors import (
    FileTrouble,
    HelperFailed,
    HelperRefused,
    HostKeyMismatch,
    HostLoginRefused,
    HostUnreachable,
)
from twinline.hosts.factory import doubts_about
from twinline.hosts.multics import MultiCS
from twinline.hosts.oscam import OSCam
from twinline.hosts.ports import Half, Wanted
from twinline.messages import Protocol

ABOUT = About("mc-eu1")
FILE = FileFacts(user=1000, owner=1000, mode=0o600, size=4096, writable=True, free_bytes=2**30)
END = datetime(2031, 5, 6, tzinfo=UTC)
MULTICS = MultiCS(width=128, zone=ZoneInfo("UTC"), server_id=1, deadline=1.5)
OSCAM = OSCam(width=512, zone=ZoneInfo("UTC"), groups=(1,), reload=Trigger("get", path="/"), deadline=3.0)
FOREIGN = {"multics": b"F: oldtom pass1\n", "oscam": b"[account]\nuser = oldtom\npwd = pass1\ngroup = 1\n"}


def bad(findings: list[Finding]) -> list[tuple[str, Verdict]]:
    """Item and verdict of all that is not ok."""
    return [(one.item, one.verdict) for one in findings if one.verdict is not Verdict.OK]


@pytest.mark.parametrize(
    ("error", "passed", "shut"),
    [
        (HostUnreachable("no SSH connection"), [], "connection"),
        (HostKeyMismatch("another key"), ["connection"], "host key"),
        (HostLoginRefused("refused"), [], "login key"),
        (HelperRefused("another version"), ["connection", "host key", "login key"], "key's limits"),
        (HelperFailed("ended"), ["connection", "host key", "login key", "key's limits"], "python"),
        (FileTrouble("state_dir"), ["connection", "host key", "login key", "key's limits", "python"], "state_dir"),
    ],
)
def test_what_stops_us_on_the_way_is_named_with_all_that_was_passed(
    error: HelperFailed, passed: list[str], shut: str
) -> None:
    findings = check.stopped(ABOUT, error)
    assert [one.item for one in findings] == [*passed, shut]
    assert findings[-1].verdict is Verdict.FAIL
    assert findings[-1].hint == error.hint
    assert findings[-1].retryable is isinstance(error, HostUnreachable)


def test_a_host_that_was_reached_is_told_as_such() -> None:
    assert bad(check.arrived(ABOUT, python="3.11", unfinished=False, bound=True)) == []
    assert bad(check.arrived(ABOUT, python="3.11", unfinished=True, bound=False)) == [("state_dir", Verdict.WARN)]
    for bound, words in ((True, "and nothing else"), (False, "`twinline host authorize mc-eu1`")):
        (found,) = [
            one
            for one in check.arrived(ABOUT, python="3.11", unfinished=False, bound=bound)
            if one.item == "key's limits"
        ]
        assert words in found.message


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (FILE, []),
        (replace(FILE, writable=False), [("writable", Verdict.FAIL)]),
        (replace(FILE, owner=0), [("owner", Verdict.WARN)]),
        (replace(FILE, owner=1000, user=0), []),
        (replace(FILE, mode=0o640), []),
        (replace(FILE, mode=0o644), [("mode", Verdict.WARN)]),
        (replace(FILE, mode=0o666), [("mode", Verdict.FAIL)]),
        (replace(FILE, free_bytes=2**24), [("free space", Verdict.WARN)]),
        (replace(FILE, free_bytes=4096), [("free space", Verdict.FAIL)]),
    ],
)
def test_the_accounts_file_is_judged(facts: FileFacts, found: list[tuple[str, Verdict]]) -> None:
    assert bad(check.file_findings(ABOUT, facts, may_replace=True)) == found


def test_another_owner_matters_only_where_the_file_may_be_replaced() -> None:
    assert bad(check.file_findings(ABOUT, replace(FILE, owner=0), may_replace=False)) == []


@pytest.mark.parametrize(
    ("offset", "trip", "verdict"),
    [
        (0.0, 0.1, Verdict.OK),
        (4.9, 0.0, Verdict.OK),
        (5.1, 0.0, Verdict.WARN),
        (-5.1, 0.0, Verdict.WARN),
        (6.0, 4.0, Verdict.OK),
        (119.0, 0.0, Verdict.WARN),
        (-121.0, 0.0, Verdict.FAIL),
        (121.0, 4.0, Verdict.WARN),
    ],
)
def test_a_clock_is_judged_with_the_benefit_of_the_round_trip(offset: float, trip: float, verdict: Verdict) -> None:
    facts = ClockFacts(asked=1000.0, answered=1000.0 + trip, theirs=1000.0 + trip / 2 + offset)
    assert check.clock_finding(ABOUT, facts).verdict is verdict


@pytest.mark.parametrize(("code", "verdict"), [(200, Verdict.OK), (0, Verdict.FAIL), (404, Verdict.FAIL)])
def test_only_a_page_that_is_there_counts_as_an_answer(code: int, verdict: Verdict) -> None:
    assert check.status_finding(ABOUT, code=code, url="http://127.0.0.1:1").verdict is verdict


def half(name: str, *, wanted: Wanted = Wanted.PRESENT) -> Half:
    return Half(name, name, "pass1234", wanted, END, 1, "1-0123abcd")


def record(daemon: Daemon, name: str, *, wanted: Wanted = Wanted.PRESENT) -> bytes:
    """A slot as the engine would leave it."""
    slot = daemon.free_slot()
    for step in daemon.steps(slot, half(name)):
        slot = step.image
    for step in daemon.steps(slot, half(name, wanted=wanted)) if wanted is not Wanted.PRESENT else ():
        slot = step.image
    return slot


def expected(name: str, wanted: Wanted = Wanted.PRESENT, *, mark: str = "1-0123abcd", behind: bool = False) -> Expected:
    return Expected(username=name, wanted=wanted, mark=mark, behind=behind)


def judged(
    protocol: Protocol,
    *,
    live: tuple[str, ...] = ("anna22", "bert33"),
    parked: tuple[str, ...] = (),
    loaded: set[str] | None = None,
    lines: list[Expected] | None = None,
    extra: bytes = b"",
) -> list[Finding]:
    """Findings about a file with these lines of ours and one foreign account behind them."""
    daemon: Daemon = MULTICS if protocol == "multics" else OSCAM
    data = b"".join(record(daemon, name) for name in live)
    data += b"".join(record(daemon, name, wanted=Wanted.BLOCKED) for name in parked)
    data += FOREIGN[protocol] + extra
    accounts = Accounts.read(daemon, data, doubts=doubts_about(protocol, data))
    every = {*live, "oldtom", *(parked if protocol == "oscam" else ())}
    return account_findings(
        ABOUT, accounts, protocol=protocol, loaded=frozenset(every if loaded is None else loaded), expected=lines
    )


@pytest.mark.parametrize("protocol", ["multics", "oscam"])
class TestAccounts:
    """The same for both daemons."""

    def test_a_file_that_daemon_and_ledger_agree_with_is_well(self, protocol: Protocol) -> None:
        lines = [
            expected("anna22"),
            expected("bert33"),
            expected("carl44", Wanted.BLOCKED),
            expected("gone55", Wanted.ABSENT),
        ]
        findings = judged(protocol, parked=("carl44",), lines=lines)
        assert bad(findings) == []
        assert [one.item for one in findings] == ["accounts", "records", "size", "loaded accounts", "lines"]
        assert findings[0].message == "3 of ours, 1 of them off; 1 of others (oldtom), never touched"
        assert in_step(findings)

    def test_a_line_that_the_daemon_has_not_loaded_fails(self, protocol: Protocol) -> None:
        findings = judged(protocol, loaded={"anna22", "oldtom"})
        assert bad(findings) == [("loaded accounts", Verdict.FAIL)]
        assert findings[-1].message == "in the file and not loaded: 1 (bert33)"
        assert not in_step(findings)

    def test_a_foreign_account_that_is_not_loaded_is_only_a_warning(self, protocol: Protocol) -> None:
        assert bad(judged(protocol, loaded={"anna22", "bert33"})) == [("loaded accounts", Verdict.WARN)]

    def test_a_line_that_is_gone_from_the_file_and_still_loaded_fails(self, protocol: Protocol) -> None:
        lines = [expected("anna22"), expected("bert33", Wanted.ABSENT)]
        findings = judged(protocol, live=("anna22",), loaded={"anna22", "bert33", "oldtom"}, lines=lines)
        assert bad(findings) == [("loaded accounts", Verdict.FAIL)]

    def test_a_line_that_should_be_served_and_is_not_in_the_file_fails(self, protocol: Protocol) -> None:
        assert bad(judged(protocol, lines=[expected(name) for name in ("anna22", "bert33", "carl44")])) == [
            ("lines", Verdict.FAIL)
        ]

    def test_a_line_that_is_live_though_it_was_blocked_fails(self, protocol: Protocol) -> None:
        lines = [expected("anna22"), expected("bert33", Wanted.BLOCKED)]
        findings = judged(protocol, lines=lines)
        assert bad(findings) == [("lines", Verdict.FAIL)]
        assert findings[-1].message == "live in the file, though blocked or ended: 1 (bert33)"

    def test_a_line_with_another_mark_fails(self, protocol: Protocol) -> None:
        lines = [expected("anna22"), expected("bert33", mark="2-0123abcd")]
        assert bad(judged(protocol, lines=lines)) == [("lines", Verdict.FAIL)]

    def test_a_line_that_is_behind_is_a_warning_however_it_stands(self, protocol: Protocol) -> None:
        lines = [
            expected("anna22"),
            expected("bert33", mark="2-0123abcd", behind=True),
            expected("carl44", behind=True),
        ]
        findings = judged(protocol, lines=lines)
        assert bad(findings) == [("lines", Verdict.WARN)]
        assert findings[-1].message == "still to be written: 2 (bert33, carl44)"

    def test_a_record_of_ours_that_the_ledger_does_not_know_is_a_warning(self, protocol: Protocol) -> None:
        assert bad(judged(protocol, lines=[expected("anna22")])) == [("lines", Verdict.WARN)]

    def test_a_foreign_record_with_the_username_of_a_line_fails(self, protocol: Protocol) -> None:
        lines = [expected("anna22"), expected("bert33"), expected("oldtom", behind=True)]
        findings = judged(protocol, lines=lines)
        assert bad(findings) == [("lines", Verdict.FAIL), ("lines", Verdict.WARN)]
        assert findings[-2].message == "records that are not ours, with the username of a line: 1 (oldtom)"

    def test_without_daemon_and_ledger_only_the_file_is_told(self, protocol: Protocol) -> None:
        daemon: Daemon = MULTICS if protocol == "multics" else OSCAM
        accounts = Accounts.read(daemon, record(daemon, "anna22"))
        findings = account_findings(ABOUT, accounts, protocol=protocol, loaded=None, expected=None)
        assert [one.item for one in findings] == ["accounts", "records", "size"]

    def test_a_record_that_is_not_taken_as_it_looks_is_a_warning(self, protocol: Protocol) -> None:
        findings = judged(protocol, extra=FOREIGN[protocol])
        assert bad(findings)[0] == ("records", Verdict.WARN)
        assert findings[1].message.startswith("records that have a name that stands before")

    def test_a_leftover_of_a_proof_is_told_as_what_it_is(self, protocol: Protocol) -> None:
        wanted = Wanted.PRESENT if protocol == "multics" else Wanted.BLOCKED
        daemon: Daemon = MULTICS if protocol == "multics" else OSCAM
        accounts = Accounts.read(daemon, record(daemon, CANARY, wanted=wanted))
        findings = account_findings(ABOUT, accounts, protocol=protocol, loaded=frozenset({CANARY}), expected=[])
        assert bad(findings) == [("records", Verdict.WARN)]
        assert "--prove-reload" in findings[1].hint


def test_what_keeps_multics_from_listening_fails() -> None:
    findings = judged("multics", extra=b"UPDATE ONCHANGE: NO\n")
    assert bad(findings) == [("records", Verdict.FAIL)]
    assert findings[1].message == "lines that switch the reload off (UPDATE ONCHANGE: NO): 1 (line 4)"


@pytest.mark.parametrize(
    ("accounts", "lines", "capacity", "verdict"),
    [
        (10_000, 10_000, 10_000, Verdict.OK),
        (10_001, 4, 10_000, Verdict.WARN),
        (900, 501, 500, Verdict.WARN),
        (900, 500, 500, Verdict.OK),
        (900, None, 500, Verdict.OK),
        (900, 900, None, Verdict.OK),
    ],
)
def test_a_host_with_too_many_accounts_or_lines_is_a_warning(
    accounts: int, lines: int | None, capacity: int | None, verdict: Verdict
) -> None:
    found = size_finding(ABOUT, accounts=accounts, lines=lines, capacity=capacity)
    assert found.verdict is verdict
    assert bool(found.hint) == (verdict is Verdict.WARN)


def test_accounts_of_the_file_and_of_the_daemon_both_count() -> None:
    many = frozenset(f"n{number}" for number in range(10_001))
    findings = judged("multics", loaded={*many, "anna22", "bert33", "oldtom"})
    assert bad(findings) == [("size", Verdict.WARN)]


def test_accounts_of_other_files_are_normal_on_multics_and_strange_on_oscam() -> None:
    loaded = {"anna22", "bert33", "oldtom", "elsewhere"}
    assert bad(judged("multics", loaded=loaded)) == []
    assert bad(judged("oscam", loaded=loaded)) == [("loaded accounts", Verdict.WARN)]


def test_a_parked_record_that_multics_still_has_loaded_fails() -> None:
    loaded = {"anna22", "bert33", "carl44", "oldtom"}
    assert bad(judged("multics", parked=("carl44",), loaded=loaded)) == [("loaded accounts", Verdict.FAIL)]
    assert bad(judged("oscam", parked=("carl44",), loaded=loaded)) == []


def test_names_of_others_are_bounded_and_cannot_steer_a_terminal() -> None:
    names = "".join(f"F: many{number} pass\n" for number in range(9)).encode() + b"F: \x1b[31m pass\n"
    findings = judged("multics", extra=names)
    assert "geheim77" not in str(findings)
    records, warning = [one for one in findings if one.verdict is Verdict.WARN]
    assert records.message == "records that have bytes in their name that are refused at login: 1 ('\\x1b[31m')"
    assert "\x1b" not in warning.message
    assert warning.message == (
        "accounts of others in the file and not loaded: 10 ('\\x1b[31m', many0, many1, many2, many3, …)"
    )


def test_a_name_into_which_its_password_has_run_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = judged("multics", extra=b"F: " + b"n" * 64 + b" geheim77\n")
    assert ("loaded accounts", Verdict.WARN) in bad(findings)
    assert "geheim77" not in str(findings)


def test_findings_decide_the_exit_code() -> None:
    well, look = ABOUT.ok("a", "well"), ABOUT.warn("b", "look", hint="there")
    broken = ABOUT.fail("c", "broken", hint="mend")
    away = ABOUT.fail("d", "away", hint="wait", retryable=True)
    assert exit_of([well, look]) is Exit.DONE
    assert exit_of([well, away]) is Exit.UNAVAILABLE
    assert exit_of([well, away, broken]) is Exit.REFUSED
    assert host_summary("mc-eu1", [well]).verdict is Verdict.OK
    assert host_summary("mc-eu1", [well, look]).verdict is Verdict.WARN
    summary = host_summary("mc-eu1", [well, look, away])
    assert (summary.verdict, summary.retryable) == (Verdict.FAIL, True)
    assert summary.message == "b: look; d: away"


@pytest.mark.parametrize(
    ("ages", "verdict", "message"),
    [
        ((), Verdict.FAIL, "nobody polls"),
        ((200.0,), Verdict.FAIL, "nobody has polled for 3 min"),
        ((30.0, 200.0), Verdict.OK, "a worker polls, last 30 s ago"),
        ((30.0, 60.0), Verdict.OK, "2 workers poll, last 30 s ago"),
        ((-119.0,), Verdict.OK, "a worker polls, last 0 s ago"),
        ((-300.0, 30.0), Verdict.WARN, "polled 5 min from now: this machine's clock is behind Temporal's"),
    ],
)
def test_a_queue_is_served_while_somebody_polled_it_lately(
    ages: tuple[float, ...], verdict: Verdict, message: str
) -> None:
    found = queue_finding("host.mc-eu1", ages)
    assert (found.verdict, found.message) == (verdict, message)
