"""The MultiCS stand-in: reloads, sessions, expiry and pages, in fast time."""

import asyncio
import json
import os
import signal
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from tests.sandbox.world import FAST, MulticsHost, Process, control, some_time, stats, xml
from twinline.sandbox.multics_clients import RELOGIN_SECONDS, Admission, Roster, judge_login
from twinline.sandbox.multics_parser import EndDate, parse
from twinline.sandbox.processes import free_port
from twinline.sandbox.receiver import LoginRefused
from twinline.sandbox.runtime import Timescale
from twinline.sandbox.sessions import Refused, Session
from twinline.sandbox.watches import FileWatches

ALICE = "F: alice pw1 { enddate=2099-05-06 14; rev=1-aaaa }\n"
BOB = "F: bob pw2\n"


async def refused(host: MulticsHost, user: str, password: str) -> str:
    with pytest.raises(LoginRefused) as caught:
        await host.login(user, password)
    return caught.value.reason


def session(since: float, *, user: str = "alice", address: str = "127.0.0.1") -> Session:
    wire = create_autospec(asyncio.StreamWriter, instance=True)
    return Session(user, "pw1", address, 1, 12000, since, wire)


async def test_a_write_in_place_is_loaded_and_nobody_is_dropped(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    async with await multics.login("alice", "pw1") as receiver:
        await multics.reload(ALICE + BOB)
        assert await multics.users() == ["alice", "bob"]
        await receiver.ping()
        assert await multics.status("alice") == 1


async def test_opening_for_append_and_closing_without_a_byte_reloads(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    with multics.trigger.open("a"):
        pass
    await multics.started()


async def test_a_write_in_the_deaf_window_is_lost_for_good(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    await control(multics.socket, do="freeze_parse", on=True)
    multics.accounts.write_text(ALICE + BOB)
    await multics.started()
    await multics.daemon.log.until("parsing file", times=6)
    multics.accounts.write_text(ALICE + BOB + "F: carol pw3\n")
    await control(multics.socket, do="freeze_parse", on=False)
    await multics.daemon.idle()
    assert await multics.users() == ["alice", "bob"]
    counters = await stats(multics.socket)
    assert (counters.reloads, counters.lost, counters.armed) == (1, 1, True)
    with multics.trigger.open("a"):
        pass
    await multics.started(2)
    await multics.daemon.idle()
    assert await multics.users() == ["alice", "bob", "carol"]


async def test_writes_before_the_reload_begins_are_one_reload(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    multics.accounts.write_text(ALICE + BOB)
    multics.trigger.write_text("")
    await multics.started()
    await multics.daemon.idle()
    await some_time(multics.socket)
    counters = await stats(multics.socket)
    assert (counters.reloads, counters.lost) == (1, 0)


def test_copies_of_a_name_are_matched_in_order_at_a_reload() -> None:
    def roster_of(first: str, second: str) -> bytes:
        return f"[P]\nCCCAM PORT: 12000\nF: alice {first}\nF: alice {second}\n".encode()

    roster = Roster(parse("m", {"m": roster_of("a", "b")}.get))
    roster.merge(parse("m", {"m": roster_of("c", "d")}.get))
    assert [(client.id, client.record.password) for client in roster.clients] == [(1, "c"), (2, "d")]


async def test_a_removed_line_drops_its_session_and_nobody_else(multics: MulticsHost) -> None:
    await multics.start(ALICE + BOB)
    async with await multics.login("alice", "pw1") as alice, await multics.login("bob", "pw2") as bob:
        multics.accounts.write_text(ALICE)
        await bob.closed.wait()
        await multics.daemon.idle()
        assert alice.connected
        assert await multics.users() == ["alice"]
    assert await refused(multics, "bob", "pw2") == "Unknown Client"
    assert not any("'bob' disconnected" in line for line in multics.daemon.log.lines)


def test_a_removed_account_is_listed_as_removed_until_it_is_freed() -> None:
    roster = Roster(parse("m", {"m": b"[P]\nCCCAM PORT: 12000\nF: alice pw1\nF: bob pw2\n"}.get))
    roster.merge(parse("m", {"m": b"[P]\nCCCAM PORT: 12000\nF: alice pw1\n"}.get))
    assert [client.status for client in roster.clients] == [0, 8]
    login = session(0, user="bob")
    assert judge_login(roster, login, relogin_after=RELOGIN_SECONDS) == Refused("client disabled")
    assert [client.record.user for client in roster.free_removed()] == ["bob"]
    assert judge_login(roster, login, relogin_after=RELOGIN_SECONDS) == Refused("Unknown Client")


async def test_a_truncated_include_drops_everybody_until_the_next_write(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    async with await multics.login("alice", "pw1") as receiver:
        with multics.accounts.open("w"):
            pass
        await receiver.closed.wait()
        await multics.daemon.idle()
        assert await multics.users() == []
    await multics.reload(ALICE)
    async with await multics.login("alice", "pw1"):
        assert await multics.users() == ["alice"]


async def test_a_missing_include_is_not_watched_until_something_else_reloads(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    multics.accounts.unlink()
    await multics.daemon.log.until(" is gone: ")
    multics.accounts.write_text(BOB)
    with multics.trigger.open("a"):
        pass
    await multics.started()
    await multics.daemon.idle()
    assert await multics.users() == ["bob"]
    await multics.reload(BOB + ALICE)
    assert await multics.users() == ["bob", "alice"]


async def test_a_rename_does_not_reload_but_moves_the_watch_when_the_old_inode_dies(
    multics: MulticsHost,
) -> None:
    await multics.start(ALICE)
    fresh = multics.accounts.with_name("fresh")
    fresh.write_text(ALICE + BOB)
    fresh.rename(multics.accounts)
    await multics.daemon.log.until(" is gone: ")
    assert await multics.users() == ["alice"]
    with multics.accounts.open("a"):
        pass
    await multics.started()
    await multics.daemon.idle()
    assert await multics.users() == ["alice", "bob"]


async def test_the_watch_stays_on_an_old_inode_that_lives_on(tmp_path: Path) -> None:
    watched, trigger, fresh = tmp_path / "watched", tmp_path / "trigger", tmp_path / "fresh"
    for path in (watched, trigger, fresh):
        path.write_text("")
    writes: asyncio.Queue[None] = asyncio.Queue()
    watches = FileWatches(
        lambda: writes.put_nowait(None),
        Timescale(FAST),
        on_rewatch=lambda _path, _found: writes.put_nowait(None),
    )
    watches.arm([str(watched), str(trigger)])
    try:
        kept = tmp_path / "kept"
        kept.hardlink_to(watched)
        fresh.rename(watched)
        watched.write_text("not seen: this inode has no watch")
        trigger.write_text("seen")
        await writes.get()
        assert writes.empty()
        kept.write_text("seen: the watch is here")
        await writes.get()
    finally:
        watches.disarm()


async def test_a_file_with_update_onchange_no_is_read_but_not_watched(multics: MulticsHost) -> None:
    await multics.start("UPDATE ONCHANGE: NO\n" + ALICE)
    multics.accounts.write_text("UPDATE ONCHANGE: NO\n" + BOB)
    await some_time(multics.socket)
    assert await multics.users() == ["alice"]
    with multics.trigger.open("a"):
        pass
    await multics.started()
    await multics.daemon.idle()
    assert await multics.users() == ["bob"]
    assert (await stats(multics.socket)).reloads == 1


async def test_a_new_password_keeps_the_session_and_refuses_the_old_one(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    async with await multics.login("alice", "pw1") as receiver:
        await multics.reload("F: alice pw9\n")
        await receiver.ping()
    assert await refused(multics, "alice", "pw1") == "login failed"
    assert any("login failed from client 'alice'" in line for line in multics.daemon.log.lines)


async def test_a_past_date_kicks_at_the_tick_and_only_a_future_date_revives(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    async with await multics.login("alice", "pw1") as receiver:
        await multics.reload("F: alice pw1 { enddate=2020-01-01 }\n")
        await receiver.closed.wait()
    assert await multics.status("alice") == 4
    assert await refused(multics, "alice", "pw1") == "client disabled"
    await multics.reload("F: alice pw1\nF: clock pw { enddate=2020-01-01 }\n")
    await multics.daemon.log.until("'clock' Expired")
    assert await multics.status("alice") == 4
    await multics.reload(ALICE)
    await multics.daemon.log.until("'alice' Enabled")
    async with await multics.login("alice", "pw1"):
        assert await multics.status("alice") == 1


async def test_disabling_over_http_kicks_at_once_and_survives_a_reload(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    async with await multics.login("alice", "pw1") as receiver:
        await multics.page("/cccamclient?srvid=1&name=alice&action=disable")
        await receiver.closed.wait()
    await multics.reload(ALICE + BOB)
    assert await multics.status("alice") == 2
    assert await refused(multics, "alice", "pw1") == "client disabled"
    await multics.page("/cccamclient?srvid=1&name=alice&action=enable")
    async with await multics.login("alice", "pw1"):
        assert await multics.status("alice") == 1


async def test_a_second_login_is_refused_while_the_first_is_young(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    async with await multics.login("alice", "pw1") as first:
        assert await refused(multics, "alice", "pw1") == "just connected"
        assert first.connected


def test_the_older_session_goes_once_it_is_older_than_a_minute() -> None:
    roster = Roster(parse("m", {"m": b"[P]\nCCCAM PORT: 12000\nF: alice pw1\n"}.get))
    first = session(0)
    granted = judge_login(roster, first, relogin_after=RELOGIN_SECONDS)
    assert isinstance(granted, Admission)
    granted.client.session = first
    young = judge_login(roster, session(60), relogin_after=RELOGIN_SECONDS)
    assert young == Refused("just connected")
    assert not first.kicked
    assert judge_login(roster, session(61), relogin_after=RELOGIN_SECONDS) == Admission(granted.client, first)
    other = judge_login(roster, session(61, address="127.0.0.2"), relogin_after=RELOGIN_SECONDS)
    assert other == Refused("just connected")
    assert first.kicked


async def test_the_first_of_two_equal_names_decides_the_login(multics: MulticsHost) -> None:
    await multics.start("F: alice first\nF: alice second\n")
    assert await multics.users() == ["alice", "alice"]
    assert await refused(multics, "alice", "second") == "login failed"
    async with await multics.login("alice", "first"):
        pass


async def test_only_twenty_plain_bytes_of_a_user_name_reach_the_daemon(multics: MulticsHost) -> None:
    twenty = "u" * 20
    await multics.start(f"F: {twenty} pw\nF: {twenty}x pw2\nF: \u00e9lan pw\n".encode().decode("latin-1"))
    async with await multics.login(twenty + "ignored", "pw"):
        assert await refused(multics, twenty + "x", "pw2") == "login failed"
    assert await refused(multics, "\u00e9lan".encode().decode("latin-1"), "pw") == "bad username"


async def test_a_port_opened_by_a_reload_serves_and_goes_by_the_id_nought(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    second = free_port()
    await multics.reload(f"{ALICE}CCCAM PORT: {second}\n{BOB}")
    multics.port = second
    async with await multics.login("bob", "pw2"):
        listed = xml(await multics.page("/cccam?action=xml"))
        assert [server.findtext("id") for server in listed.iter("cccam")] == ["1", "0"]
    await multics.reload(ALICE)
    with pytest.raises(ConnectionRefusedError):
        await multics.login("bob", "pw2")


def test_includes_nest_and_need_their_quotes() -> None:
    files = {
        "main": b'[P]\nCCCAM PORT: 1\nINCLUDE: "a"\nINCLUDE: b\nCCCAM USER: last pw\n',
        "a": b'F: first pw\nINCLUDE: "c"\n',
        "b": b"F: unquoted pw\n",
        "c": b"F: nested pw\n",
    }
    config = parse("main", files.get)
    assert [record.user for record in config.records] == ["first", "nested", "last"]
    assert [source.path for source in config.files] == ["main", "a", "c"]
    assert config.complaints == ("config(4,9): '\"' expected",)


def test_accounts_that_stay_keep_their_place_in_front_of_new_ones() -> None:
    def config(include: str) -> bytes:
        return f"[P]\nCCCAM PORT: 12000\nF: main8 pw\n{include}F: main9 pw\n".encode()

    roster = Roster(parse("m", {"m": config("")}.get))
    roster.merge(parse("m", {"m": config("F: oak1 pw\nF: elm2 pw\n")}.get))
    assert [client.record.user for client in roster.clients] == ["main8", "main9", "oak1", "elm2"]


async def test_pages_need_basic_credentials_in_the_usual_spelling(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    for header in ("Host: y", "Authorization: Basic d3Jvbmc6c2VjcmV0", "authorization: Basic YWRtaW46c2VjcmV0"):
        answer = await multics.get("/cccam?action=json", header=header)
        assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b'WWW-Authenticate: Basic realm="' in answer
    assert (await multics.get("/cccam?action=json")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_an_empty_http_user_opens_the_pages_to_everybody(multics: MulticsHost) -> None:
    multics.main.write_text(multics.main.read_text().replace("HTTP USER: admin\n", ""))
    await multics.start(ALICE)
    assert b'"name": "alice"' in await multics.get("/cccam?action=json", header="Host: y")


@pytest.mark.parametrize(
    "target",
    [
        "/cccamclient?srvid=1&name=nobody&action=xml",
        "/cccamclient?srvid=1&name=nobody",
        "/cccamclient?srvid=7&name=alice&action=xml",
        "/cccamclient?srvid=1&name=al%69ce&action=xml",
        "/cccam?action=row&id=1&clname=nobody",
        "/no-such-page",
    ],
)
async def test_what_is_unknown_is_answered_with_no_byte_at_all(multics: MulticsHost, target: str) -> None:
    await multics.start(ALICE)
    assert await multics.get(target) == b""


async def test_the_json_of_two_servers_is_broken_and_that_of_one_is_not(multics: MulticsHost) -> None:
    await multics.start(f"{ALICE}CCCAM PORT: {free_port()}\n{BOB}")
    both = await multics.page("/cccam?action=json")
    assert '}]{"id": 2,' in both
    with pytest.raises(json.JSONDecodeError):
        json.loads(both)
    second = json.loads(await multics.page("/cccam?action=json&id=2"))
    assert second[0]["users"] == [{"name": "bob", "status": 0}]


async def test_names_stand_unescaped_in_the_lists(multics: MulticsHost) -> None:
    await multics.start('F: a"b<c pw\n')
    assert '{"name": "a"b<c",' in await multics.page("/cccam?action=json")
    assert '<name>a"b<c</name>' in await multics.page("/cccam?action=xml")


async def test_the_client_page_lists_every_key_with_the_last_one_first(multics: MulticsHost) -> None:
    await multics.start("F: alice pw1 0 { enddate=2099-05-06 14; name=Al; rev=7-0a1b2c3d }\n")
    page = await multics.page("/cccamclient?srvid=1&name=alice")
    table = page.partition("<th colspan=2>Additional Informations</th></tr>\n")[2].partition("</tbody>")[0]
    row = "<tr><td class=left>{}</td><td class=right>{}</td></tr>\n"
    rows = [("rev", "7-0a1b2c3d"), ("name", "Al"), ("enddate", "2099-05-06 14")]
    assert table == "".join(row.format(key, value) for key, value in rows)
    assert "pw1" not in page


async def test_the_client_xml_tells_more_of_a_connected_client(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    target = "/cccamclient?srvid=1&name=alice&action=xml"
    offline = xml(await multics.page(target))
    assert (offline.findtext(".//status"), offline.find(".//ip")) == ("0", None)
    async with await multics.login("alice", "pw1"):
        online = xml(await multics.page(target))
    shown = {element.tag: element.text for element in online.iter() if element.text and element.text.strip()}
    assert (shown["status"], shown["ip"], shown["name"]) == ("1", "127.0.0.1", "alice")
    assert {"id", "connected", "version", "busy", "lastactivity", "ecmnb", "ecmaccepted", "ecmok"} <= set(shown)


async def test_the_row_shows_the_end_day_and_the_login_counters(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    assert await refused(multics, "alice", "wrong") == "login failed"
    async with await multics.login("alice", "pw1"):
        row = xml(await multics.page("/cccam?action=row&id=1&clname=alice"))
    cell = row.findtext("c3") or ""
    assert "<br>Expire: 2099-05-06<table" in cell
    assert "Successful Login: 1<" in cell
    assert "Aborted Connections: 1<" in cell
    assert (row.findtext("c7"), row.findtext("c3_c")) == ("-- ms", "online")


async def test_swallowed_triggers_are_counted_and_come_to_nothing(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    await control(multics.socket, do="ignore_reloads", on=True)
    multics.accounts.write_text(BOB)
    while (await stats(multics.socket)).lost == 0:
        pass
    assert await multics.users() == ["alice"]
    await control(multics.socket, do="ignore_reloads", on=False)
    await multics.reload(BOB)
    assert await multics.users() == ["bob"]


async def test_a_hanging_daemon_takes_connections_and_says_nothing(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    await control(multics.socket, do="hang", on=True)
    page = asyncio.create_task(multics.users())
    login = asyncio.create_task(multics.login("alice", "pw1"))
    await some_time(multics.socket)
    assert not page.done()
    assert not login.done()
    await control(multics.socket, do="hang", on=False)
    assert await page == ["alice"]
    async with await login:
        pass


async def test_dropping_a_session_leaves_the_account_alone(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    async with await multics.login("alice", "pw1") as receiver:
        assert await control(multics.socket, do="drop_session", user="alice") == {"ok": True, "dropped": 1}
        await receiver.closed.wait()
    await multics.daemon.log.until("client 'alice' disconnected")
    assert await multics.status("alice") == 0


async def test_an_unknown_command_is_answered_and_not_obeyed(multics: MulticsHost) -> None:
    await multics.start(ALICE)
    assert (await control(multics.socket, do="explode"))["ok"] is False


async def test_sighup_kills_the_process_and_sigterm_ends_it(tmp_path: Path) -> None:
    host = MulticsHost(tmp_path)
    daemon = await Process.start("multics", "-C", str(host.main), "--timescale", str(FAST))
    try:
        daemon.signal(signal.SIGHUP)
        assert await daemon.ended() == -signal.SIGHUP
    finally:
        await daemon.end()
    daemon = await Process.start("multics", "-C", str(host.main), "--timescale", str(FAST))
    try:
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
    finally:
        await daemon.end()


@pytest.mark.parametrize("damage", ["empty", "no profile", "missing"])
async def test_a_main_file_without_a_profile_crashes_the_daemon_at_the_reload(tmp_path: Path, damage: str) -> None:
    host = MulticsHost(tmp_path)
    log = tmp_path / "log"
    daemon = await Process.start("multics", "-C", str(host.main), "--timescale", str(FAST), "--log", str(log))
    try:
        if damage == "missing":
            host.main.unlink()
            os.utime(host.trigger)
            host.trigger.write_text("")
        else:
            host.main.write_text("" if damage == "empty" else host.main.read_text().replace("[P1]", ""))
        assert await daemon.ended() == -signal.SIGSEGV
        assert "Config file Changed..." in log.read_text()
    finally:
        await daemon.end()


def test_the_end_is_reached_at_its_hour_and_not_before() -> None:
    end = EndDate(2031, 5, 6, 14)
    assert not end.reached(EndDate(2031, 5, 6, 13))
    assert end.reached(EndDate(2031, 5, 6, 14))
