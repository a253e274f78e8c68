"""What the helper has seen around an accounts file is judged: facts in, findings out, each with what to do."""

from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import pytest

from twinline.hosts import around
from twinline.hosts.around import (
    Around,
    Beside,
    Folder,
    Holder,
    Leftover,
    Listener,
    PidFile,
    Reload,
    Settings,
    Written,
    Zone,
)
from twinline.hosts.check import About, Finding, Verdict

ABOUT = About("os-eu1")
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
BERLIN, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")


def told(found: Finding) -> tuple[Verdict, str]:
    assert bool(found.hint) == (found.verdict is not Verdict.OK)
    return found.verdict, found.message


# --- the time zone


def offsets(name: str, moments: tuple[float, ...]) -> tuple[int, ...]:
    zone = ZoneInfo(name)
    found = [datetime.fromtimestamp(moment, zone).utcoffset() for moment in moments]
    return tuple(int(each.total_seconds()) for each in found if each is not None)


def zone_told(theirs: str, ours: ZoneInfo, *, of: Literal["daemon", "helper"] = "daemon", tz: str | None = None):
    asked = around.instants(ours, NOW)
    facts = Zone(of=of, tz=tz, offsets=offsets(theirs, asked), unseen="it hides" if of == "helper" else "")
    return told(around.zone_finding(ABOUT, facts, zone=ours, asked=asked))


def test_the_zone_is_compared_now_every_day_and_at_each_change_of_the_clock() -> None:
    asked = around.instants(BERLIN, NOW)
    assert asked[0] == NOW.timestamp()
    assert list(asked[1:]) == sorted(asked[1:])
    spring = datetime(2027, 3, 28, 1, tzinfo=UTC)
    autumn = datetime(2027, 10, 31, 1, tzinfo=UTC)
    for change in (spring, autumn):
        assert {change.timestamp(), change.timestamp() - 1} <= set(asked)
    assert len(asked) == around.DAYS_AHEAD + 4


def test_a_daemon_in_the_zone_of_the_inventory_is_well() -> None:
    assert zone_told("Europe/Berlin", BERLIN, tz="Europe/Berlin") == (
        Verdict.OK,
        "the daemon's clock (TZ=Europe/Berlin) goes by Europe/Berlin, for the year to come too",
    )
    # Another name of the same rules.
    assert zone_told("Europe/Vienna", BERLIN)[0] is Verdict.OK
    assert zone_told("Etc/UTC", UTC_ZONE)[0] is Verdict.OK


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ("UTC", BERLIN, "the daemon's clock is 60 min behind Europe/Berlin"),
        ("Asia/Tokyo", BERLIN, "the daemon's clock is 8 h ahead of Europe/Berlin"),
        ("Africa/Lagos", BERLIN, "the daemon's clock is 60 min behind Europe/Berlin from 2027-03-28 on"),
        ("Europe/London", UTC_ZONE, "the daemon's clock is 60 min ahead of UTC from 2027-03-28 on"),
    ],
)
def test_a_zone_that_differs_now_or_after_a_change_fails(theirs: str, ours: ZoneInfo, message: str) -> None:
    assert zone_told(theirs, ours) == (Verdict.FAIL, message)


def test_another_zone_that_changes_its_clock_at_another_hour_is_seen_by_the_second() -> None:
    # Chisinau changes an hour before Bucharest, within the same night.
    verdict, message = zone_told("Europe/Chisinau", ZoneInfo("Europe/Bucharest"))
    assert (verdict, message) == (
        Verdict.FAIL,
        "the daemon's clock is 60 min ahead of Europe/Bucharest from 2027-03-28 on",
    )


def test_where_the_daemon_can_not_be_seen_that_is_said_and_nothing_is_taken_for_granted() -> None:
    assert zone_told("Europe/Berlin", BERLIN, of="helper") == (
        Verdict.OK,
        "the host's clock goes by Europe/Berlin, for the year to come too; it hides",
    )
    assert zone_told("UTC", BERLIN, of="helper") == (
        Verdict.WARN,
        "the host's clock is 60 min behind Europe/Berlin; it hides",
    )


# --- other writers


def seen(*holders: Holder, hidden: int = 0, ago: float | None = None, changed: float | None = None) -> Around:
    return Around(
        holders=holders,
        hidden=hidden,
        listeners=(),
        zone=Zone(of="daemon", tz=None, offsets=()),
        config=Settings(),
        beside=Beside(found=(), hidden=()),
        folder=Folder(writable=True, mode=0o700),
        pid_file=None,
        reload=Reload(asked=None, proven=None, visible=0.0),
        written=Written(ago=ago, changed=changed),
    )


def writers(facts: Around) -> list[tuple[Verdict, str]]:
    return [told(each) for each in around.writers_findings(ABOUT, facts, protocol="multics")]


NANO = Holder(pid=77, name="nano", what="accounts", writes=True, gone=False)


def test_who_has_the_file_open_for_writing_is_named() -> None:
    assert writers(seen(NANO, NANO)) == [(Verdict.WARN, "the accounts file is open for writing: nano (77)")]
    reader = NANO.model_copy(update={"writes": False})
    assert writers(seen(reader)) == [(Verdict.OK, "nobody has the file open for writing")]


def test_a_former_file_that_is_kept_open_keeps_multics_deaf_and_oscam_not() -> None:
    former = NANO.model_copy(update={"gone": True, "writes": False})
    assert writers(seen(former)) == [
        (Verdict.WARN, "a former accounts file is kept open, so MultiCS may still watch that one: nano (77)")
    ]
    assert [told(each)[0] for each in around.writers_findings(ABOUT, seen(former), protocol="oscam")] == [Verdict.OK]


def test_who_holds_the_lock_is_named() -> None:
    holder = NANO.model_copy(update={"what": "lock"})
    assert writers(seen(holder)) == [(Verdict.WARN, "the lock in state_dir is held: nano (77)")]


def test_what_was_written_since_and_what_can_not_be_seen_is_said() -> None:
    assert writers(seen(hidden=120, ago=300, changed=60)) == [
        (
            Verdict.OK,
            "nobody has the file open for writing; our last write was 5 min ago, and somebody else's 60 s ago; "
            "120 processes of others can't be looked into",
        )
    ]


# --- beside the file


def beside(*found: tuple[str, int], hidden: tuple[str, ...] = ()) -> list[tuple[Verdict, str]]:
    files = tuple(Leftover(path=f"/etc/oscam/{name}", kind="file", mode=mode, age=5.0) for name, mode in found)
    return [told(each) for each in around.beside_findings(ABOUT, Beside(found=files, hidden=hidden))]


def test_nothing_beside_the_file_is_well_and_a_folder_that_can_not_be_listed_is_named() -> None:
    assert beside() == [(Verdict.OK, "no copies and no editor's files")]
    assert beside(hidden=("/etc/oscam",)) == [
        (Verdict.OK, "no copies and no editor's files; can't be listed: /etc/oscam")
    ]


@pytest.mark.parametrize("name", [".oscam.user.swp", ".oscam.user.swo", "#oscam.user#", ".#oscam.user"])
def test_what_an_editor_keeps_beside_the_file_is_told(name: str) -> None:
    assert beside((name, 0o600)) == [
        (
            Verdict.WARN,
            f"somebody has the file in an editor, or an editor died: /etc/oscam/{name} (mode 0600)",
        )
    ]


def test_copies_matter_only_when_everybody_may_read_the_passwords_in_them() -> None:
    assert beside(("oscam.user.bak", 0o644), ("oscam.user~", 0o640)) == [
        (
            Verdict.WARN,
            "copies with passwords in them that everybody on the host may read: /etc/oscam/oscam.user.bak (mode 0644)",
        )
    ]
    assert beside(("oscam.user.bak", 0o600)) == [
        (Verdict.OK, "only copies that not everybody may read: /etc/oscam/oscam.user.bak (mode 0600)")
    ]


@pytest.mark.parametrize("name", [".oscam.user.twinline", "oscam.user.twinline", "oscam.user.new"])
def test_what_we_ourselves_have_left_is_told(name: str) -> None:
    ((verdict, message),) = beside((name, 0o600))
    assert verdict is Verdict.WARN
    assert message.startswith("left by a new layout that was cut short")


@pytest.mark.parametrize(
    ("folder", "rewritten", "verdict"),
    [
        (Folder(writable=True, mode=0o700), True, Verdict.OK),
        (Folder(writable=False, mode=0o755), True, Verdict.WARN),
        (Folder(writable=False, mode=0o755), False, Verdict.OK),
        (Folder(writable=True, mode=0o777), True, Verdict.FAIL),
        (Folder(writable=True, mode=0o1777), True, Verdict.OK),
    ],
)
def test_a_folder_is_judged_by_who_may_put_files_into_it(folder: Folder, rewritten: bool, verdict: Verdict) -> None:  # noqa: FBT001 - a parameter
    assert told(around.folder_finding(ABOUT, folder, rewritten=rewritten))[0] is verdict


# --- the daemon's settings

OFF: dict[str, str | None] = {"reload_useraccounts": None, "httpreadonly": None}


def oscam(
    method: Literal["webif", "sighup", "command"],
    *,
    values: dict[str, str | None] | None = None,
    said: str | None = None,
    proven: bool = False,
) -> list[tuple[str, Verdict]]:
    facts = Settings(unseen="Permission denied") if values is None else Settings(path="/c/oscam.conf", values=values)
    read_only = around.read_only(facts, said=said)
    found = around.oscam_findings(ABOUT, facts, method=method, read_only=read_only, proven=proven)
    assert all(bool(each.hint) == (each.verdict is not Verdict.OK) for each in found)
    return [(each.item, each.verdict) for each in found]


def test_httpreadonly_stops_the_reload_over_the_web_and_nothing_else() -> None:
    assert oscam("webif", values=OFF, said="1") == [("httpreadonly", Verdict.FAIL)]
    assert oscam("webif", values={**OFF, "httpreadonly": "1"}) == [("httpreadonly", Verdict.FAIL)]
    # What the daemon says counts, not what its file says by now.
    assert oscam("webif", values={**OFF, "httpreadonly": "1"}, said="0") == [("httpreadonly", Verdict.OK)]
    assert oscam("command", values=OFF, said="1") == [("httpreadonly", Verdict.OK)]
    assert oscam("webif") == [("httpreadonly", Verdict.OK)]


@pytest.mark.parametrize("value", [None, "0", "no"])
def test_sighup_without_reload_useraccounts_fails_unless_it_was_seen_to_work(value: str | None) -> None:
    values = {**OFF, "reload_useraccounts": value}
    assert oscam("sighup", values=values)[1] == ("reload_useraccounts", Verdict.FAIL)
    assert oscam("sighup", values=values, proven=True)[1] == ("reload_useraccounts", Verdict.WARN)
    assert oscam("sighup", values={**OFF, "reload_useraccounts": "1"})[1] == ("reload_useraccounts", Verdict.OK)


def test_sighup_with_settings_that_can_not_be_seen_asks_for_the_proof() -> None:
    assert oscam("sighup")[1] == ("reload_useraccounts", Verdict.WARN)
    assert oscam("sighup", proven=True)[1] == ("reload_useraccounts", Verdict.OK)


@pytest.mark.parametrize(
    ("facts", "verdict", "words"),
    [
        (PidFile(runs=True, may_signal=True, pid=7, name="oscam", serves=True), Verdict.OK, "process 7 (oscam)"),
        (PidFile(runs=True, may_signal=True, pid=7, name="oscam"), Verdict.OK, "can't be seen"),
        (PidFile(runs=True, may_signal=True, pid=7, name="sshd", serves=False), Verdict.FAIL, "7 (sshd) is not"),
        (PidFile(runs=True, pid=7, name="oscam"), Verdict.FAIL, "may not signal"),
        (PidFile(), Verdict.FAIL, "no such process"),
        (PidFile(unseen="No such file or directory"), Verdict.FAIL, "No such file"),
    ],
)
def test_the_process_that_a_sighup_would_go_to_is_judged(facts: PidFile, verdict: Verdict, words: str) -> None:
    found = told(around.pid_file_finding(ABOUT, facts))
    assert found[0] is verdict
    assert words in found[1]


def test_multics_own_editor_is_a_second_writer_unless_it_is_off() -> None:
    def judged(value: str | None) -> Verdict:
        return told(around.multics_finding(ABOUT, Settings(path="/m.cfg", values={"http_editor": value})))[0]

    assert [judged(value) for value in ("OFF", "off", "ON", None)] == [*[Verdict.OK] * 2, *[Verdict.WARN] * 2]
    assert told(around.multics_finding(ABOUT, Settings(unseen="not here"))) == (Verdict.OK, "can't be seen: not here")


def test_two_programs_on_one_port_fail_and_one_program_on_two_addresses_does_not() -> None:
    once = [Listener(port=12000, address="00000000"), Listener(port=12000, address="0" * 32)]
    assert around.listeners_findings(ABOUT, once) == []
    (found,) = around.listeners_findings(ABOUT, [*once, once[0]])
    assert told(found) == (Verdict.FAIL, "2 programs serve port 12000 and share its customers")
    assert "oscam -d 4096" in found.hint


# --- the reload


def reload(proven: float | None, last_proof: datetime | None) -> tuple[Verdict, str]:
    facts = Reload(asked=proven, proven=proven, visible=0.123)
    return told(around.reload_finding(ABOUT, facts, last_proof=last_proof, now=NOW))


def test_the_evidence_for_the_reload_is_told_with_its_age() -> None:
    assert reload(180.0, None) == (Verdict.OK, "last proven 3 min ago, visible after 0.12 s")
    assert reload(None, NOW - timedelta(days=3)) == (
        Verdict.OK,
        "an order was proven 3 d ago, and since the host has started none yet",
    )
    verdict, message = reload(None, None)
    assert (verdict, message) == (Verdict.WARN, "never proven: no order was carried out here yet")
