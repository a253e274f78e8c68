"""The OSCam stand-in: reloads, sessions, pages and its own writing of the file, in fast time."""

import asyncio
import base64
import hashlib
import json
import signal
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.sandbox.conftest import Zone
from tests.sandbox.world import FAST, OscamHost, Process, control, raw_http, some_time, stats, xml
from twinline.sandbox.httpd import Digest, Request, Verdict
from twinline.sandbox.oscam_parser import api_date, parse_users
from twinline.sandbox.receiver import LoginRefused, Receiver

PASSWORD = "pw"


def account(user: str, password: str = PASSWORD, **keys: object) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"[account]\nuser = {user}\npwd = {password}\n{lines}"


async def refused(host: OscamHost, user: str, password: str) -> str:
    with pytest.raises(LoginRefused) as caught:
        await host.login(user, password)
    return caught.value.reason


async def api(host: OscamHost, query: str) -> ET.Element:
    return xml((await host.get(f"/oscamapi.html?{query}")).body)


async def loaded(host: OscamHost) -> list[str | None]:
    return [user.get("name") for user in (await api(host, "part=userstats")).iter("user")]


async def status(host: OscamHost, user: str) -> str | None:
    found = (await api(host, f"part=userstats&label={user}")).find(".//user")
    return None if found is None else found.get("status")


async def test_reinit_loads_the_file_and_logs_parsed_before_live(oscam: OscamHost) -> None:
    await oscam.start(account("alice"))
    await oscam.reinit(account("alice") + account("bob", disabled=1))
    assert await loaded(oscam) == ["alice", "bob"]
    lines = [line for line in oscam.daemon.log.lines if "userdb" in line]
    assert lines == [
        "userdb reloaded: 2 accounts loaded, 0 expired, 1 disabled",
        "userdb 1 accounts freed",
    ]


async def test_a_change_of_the_file_alone_does_nothing(oscam: OscamHost) -> None:
    await oscam.start(account("alice"))
    oscam.users.write_text(account("bob"))
    assert await loaded(oscam) == ["alice"]


async def test_basic_credentials_get_a_digest_challenge(oscam: OscamHost) -> None:
    await oscam.start(account("alice"))
    token = base64.b64encode(b"admin:secret").decode()
    answer = await raw_http(
        oscam.web_port,
        f"GET /userconfig.html?action=reinit HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {token}\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b'WWW-Authenticate: Digest algorithm="MD5", realm="Forbidden", qop="auth", opaque="' in answer
    assert (await stats(oscam.socket)).reloads == 0


async def test_a_wrong_password_is_denied(oscam: OscamHost) -> None:
    await oscam.start(account("alice"))
    assert (await oscam.get("/userconfig.html?action=reinit", password="guess")).status == 401
    assert (await stats(oscam.socket)).reloads == 0


def test_a_digest_holds_for_its_target_and_as_long_as_its_nonce_lives() -> None:
    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    digest = Digest(realm="Forbidden", user="admin", password="secret", nonce_life=15)
    nonce = digest.challenge(0, stale=False).partition('nonce="')[2].rstrip('"')

    def request(target: str, signed: str, nonce: str) -> Request:
        response = md5(f"{md5('admin:Forbidden:secret')}:{nonce}:00000001:c:auth:{md5('GET:' + signed)}")
        header = (
            f'Digest username="admin", realm="Forbidden", nonce="{nonce}", uri="{signed}", qop=auth, '
            f'nc=00000001, cnonce="c", response="{response}"'
        )
        return Request("GET", target, (("authorization", header),))

    assert digest.check(request("/a?b=c", "/a?b=c", nonce), 1) is Verdict.ALLOWED
    assert digest.check(request("/other", "/a?b=c", nonce), 1) is Verdict.DENIED
    assert digest.check(request("/a", "/a", "f" * 32), 1) is Verdict.STALE
    assert digest.check(request("/a", "/a", nonce), 17) is Verdict.STALE
    assert "stale=true" in digest.challenge(17, stale=True)


async def test_a_readonly_web_interface_ignores_reinit(oscam: OscamHost) -> None:
    oscam.configure(extra_webif="httpreadonly = 1")
    await oscam.start(account("alice"))
    await oscam.reinit(account("bob"))
    assert await loaded(oscam) == ["alice"]
    await oscam.get("/oscamapi.html?part=userconfig&user=alice&action=Save&disabled=1")
    assert oscam.users.read_text() == account("bob")


async def test_sighup_is_ignored_in_silence_by_default(oscam: OscamHost) -> None:
    await oscam.start(account("alice"))
    oscam.users.write_text(account("bob"))
    oscam.daemon.sighup()
    assert await loaded(oscam) == ["alice"]
    assert not oscam.daemon.log.lines


async def test_a_second_sighup_during_a_reload_is_dropped(oscam: OscamHost) -> None:
    oscam.configure(extra_global="reload_useraccounts = 1")
    await oscam.start(account("alice"))
    await control(oscam.socket, do="freeze_parse", on=True)
    oscam.users.write_text(account("bob"))
    oscam.daemon.sighup()
    await oscam.daemon.log.until("userdb reloaded")
    oscam.users.write_text(account("carol"))
    oscam.daemon.sighup()
    await control(oscam.socket, do="freeze_parse", on=False)
    await oscam.daemon.log.until("freed")
    assert await loaded(oscam) == ["bob"]
    counters = await stats(oscam.socket)
    assert (counters.reloads, counters.lost) == (1, 1)


async def test_clients_wait_during_a_sighup_reload_while_the_api_tells_the_old_list(oscam: OscamHost) -> None:
    oscam.configure(extra_global="reload_useraccounts = 1")
    await oscam.start(account("alice"))
    async with await oscam.login("alice", "pw") as receiver:
        await control(oscam.socket, do="freeze_parse", on=True)
        oscam.users.write_text(account("alice") + account("bob"))
        oscam.daemon.sighup()
        await oscam.daemon.log.until("userdb reloaded")
        login = asyncio.create_task(oscam.login("bob", "pw"))
        ping = asyncio.create_task(receiver.ping())
        assert await loaded(oscam) == ["alice"]
        assert not login.done()
        assert not ping.done()
        await control(oscam.socket, do="freeze_parse", on=False)
        await ping
        async with await login:
            assert await loaded(oscam) == ["alice", "bob"]


async def test_logins_are_served_while_reinit_runs_and_it_answers_when_it_is_live(oscam: OscamHost) -> None:
    await oscam.start(account("alice"))
    await control(oscam.socket, do="freeze_parse", on=True)
    oscam.users.write_text(account("alice") + account("bob"))
    reinit = asyncio.create_task(oscam.reinit())
    await oscam.daemon.log.until("userdb reloaded")
    async with await oscam.login("alice", "pw") as receiver:
        await receiver.ping()
        assert await loaded(oscam) == ["alice"]
        assert not reinit.done()
        await control(oscam.socket, do="freeze_parse", on=False)
        await reinit
        assert await loaded(oscam) == ["alice", "bob"]


async def test_a_reload_drops_who_is_gone_disabled_or_has_another_password(oscam: OscamHost) -> None:
    before = account("gone") + account("off") + account("word") + account("stays") + account("over")
    await oscam.start(before)
    receivers = {user: await oscam.login(user, "pw") for user in ("gone", "off", "word", "stays", "over")}
    await oscam.reinit(
        account("off", disabled=1)
        + account("word", "new")
        + account("stays", group=2, description="d")
        + account("over", expdate="2020-01-01")
    )
    for user in ("gone", "off", "word"):
        await receivers[user].closed.wait()
    for user in ("stays", "over"):
        await receivers[user].ping()
    assert await status(oscam, "over") == "online (expired)"
    assert not any("disconnected" in line for line in oscam.daemon.log.lines)
    assert await refused(oscam, "gone", "pw") == "account not found"
    assert await refused(oscam, "off", "pw") == "disabled account"
    assert await refused(oscam, "word", "pw") == "invalid access"
    for receiver in receivers.values():
        await receiver.leave()


async def test_an_expired_account_may_log_in(oscam: OscamHost) -> None:
    await oscam.start(account("over", expdate="2020-01-01"))
    async with await oscam.login("over", "pw"):
        assert await status(oscam, "over") == "online (expired)"


@pytest.mark.parametrize("damage", ["empty", "missing"])
async def test_an_empty_or_missing_file_drops_everybody(oscam: OscamHost, damage: str) -> None:
    await oscam.start(account("alice"))
    async with await oscam.login("alice", "pw") as receiver:
        if damage == "empty":
            oscam.users.write_text("")
        else:
            oscam.users.unlink()
        await oscam.reinit()
        await receiver.closed.wait()
    assert await loaded(oscam) == []
    assert any("userdb reloaded: 0 accounts" in line for line in oscam.daemon.log.lines) == (damage == "empty")


async def test_uniq_one_allows_max_connections_sessions(oscam: OscamHost) -> None:
    await oscam.start(account("one", uniq=1) + account("two", uniq=1, max_connections=2) + account("many"))

    async def sessions(user: str, number: int) -> list[Receiver]:
        return [await oscam.login(user, "pw") for _ in range(number)]

    held = [*await sessions("one", 1), *await sessions("two", 2), *await sessions("many", 4)]
    assert await refused(oscam, "one", "pw") == "duplicate login"
    assert await refused(oscam, "two", "pw") == "duplicate login"
    assert (await stats(oscam.socket)).sessions == ["many"] * 4 + ["one", "two", "two"]
    for receiver in held:
        await receiver.leave()


async def test_uniq_three_lets_the_last_login_win(oscam: OscamHost) -> None:
    await oscam.start(account("last", uniq=3))
    async with await oscam.login("last", "pw") as first, await oscam.login("last", "pw") as second:
        await first.closed.wait()
        await second.ping()


async def test_the_second_of_equal_names_serves_under_another_name(oscam: OscamHost) -> None:
    await oscam.start(account("alice", "first") + account("alice", "second"))
    assert await loaded(oscam) == ["alice", "alice_x"]
    async with await oscam.login("alice", "first"), await oscam.login("alice_x", "second"):
        pass


async def test_names_equal_in_twenty_bytes_are_told_apart_by_password(oscam: OscamHost) -> None:
    twenty = "u" * 20
    await oscam.start(account(twenty + "1", "one") + account(twenty + "2", "two"))
    async with await oscam.login(twenty + "2", "two"):
        assert await status(oscam, twenty + "2") == "online"
        assert await status(oscam, twenty + "1") == "offline"


async def test_userstats_tells_one_account_with_all_totals(oscam: OscamHost) -> None:
    await oscam.start(account("alice") + account("bob", disabled=1) + account("over", expdate="2020-01-01"))
    async with await oscam.login("alice", "pw"):
        answer = await api(oscam, "part=userstats&label=alice")
    (user,) = answer.iter("user")
    assert (user.get("name"), user.get("status"), user.get("ip")) == ("alice", "online", "127.0.0.1")
    totals = {each.tag: each.text for each in answer.findall("totals/*")}
    wanted = {"usertotal": "3", "userdisabled": "1", "userexpired": "1", "useractive": "1"}
    wanted |= {"userconnected": "1", "useronline": "0"}
    assert {key: totals[key] for key in wanted} == wanted


async def test_a_fresh_login_is_online_and_then_connected(oscam: OscamHost) -> None:
    await oscam.start(account("alice"), timescale=0.005)
    async with await oscam.login("alice", "pw"):
        while (now := await status(oscam, "alice")) == "online":
            pass
        assert now == "connected"


async def test_unknown_users_are_errors_in_an_ordinary_answer(oscam: OscamHost) -> None:
    await oscam.start(account("alice"))
    assert (await api(oscam, "part=userstats&label=nobody")).findtext("error") == "Invalid client nobody"
    assert (await api(oscam, "part=userconfig&user=nobody")).findtext("error") == "user not exist"
    assert (await api(oscam, "part=nonsense")).findtext("error") == "part not found"


async def test_userconfig_tells_the_loaded_record_with_its_password(oscam: OscamHost) -> None:
    keys = {"group": "1,3", "uniq": 1, "description": "7-0a1b2c3d", "expdate": "2099-05-06"}
    await oscam.start(account("alice", "s3cret", **keys))
    record = {each.tag: each.text for each in (await api(oscam, "part=userconfig&user=alice")).findall("account/*")}
    wanted = {"user": "alice", "pwd": "s3cret", "disabled": "0", "expdate": "2099-05-06"}
    wanted |= {"group": "1,3", "uniq": "1", "description": "7-0a1b2c3d"}
    assert {key: record[key] for key in wanted} == wanted


def test_the_end_day_shows_as_the_next_day_west_of_greenwich(timezone: type[Zone]) -> None:
    timezone.set("America/New_York")
    west = parse_users(account("alice", expdate="2031-05-06").encode()).accounts[0]
    timezone.set("Europe/Berlin")
    east = parse_users(account("alice", expdate="2031-05-06").encode()).accounts[0]
    assert (api_date(west.expires), api_date(east.expires)) == ("2031-05-07", "2031-05-06")


async def test_a_nameless_account_always_counts_as_online(oscam: OscamHost) -> None:
    await oscam.start("[account]\n" + account("alice"))
    assert [user.get("status") for user in (await api(oscam, "part=userstats")).iter("user")] == [
        "online",
        "offline",
    ]


async def test_the_status_hides_idle_clients_by_default_but_counts_them(oscam: OscamHost) -> None:
    await oscam.start(account("alice"), timescale=0.005)
    async with await oscam.login("alice", "pw"):
        while await status(oscam, "alice") == "online":
            pass
        assert not (await api(oscam, "part=status")).findall(".//client[@type='c']")
        told = json.loads((await oscam.get("/oscamapi.json?part=status")).body)["oscam"]
    assert (told["status"]["client"], told["status"]["uca"], told["totals"]["total_connected"]) == ([], 1, 1)


async def test_the_status_shows_idle_clients_if_the_operator_wants_it(oscam: OscamHost) -> None:
    oscam.configure(extra_webif="httphideidleclients = 0")
    await oscam.start(account("alice"), timescale=0.005)
    async with await oscam.login("alice", "pw"):
        while await status(oscam, "alice") == "online":
            pass
        (client,) = (await api(oscam, "part=status")).findall(".//client[@type='c']")
        assert client.get("name") == "alice"


async def test_a_web_save_rewrites_the_file_from_memory_in_place(oscam: OscamHost) -> None:
    foreign = "# a comment\n" + account("alice", "s3cret", strange=1, monlevel=2, disabled=0, uniq=1)
    await oscam.start(foreign)
    oscam.users.write_text(foreign + account("unloaded"))
    inode = oscam.users.stat().st_ino
    assert (await oscam.get("/oscamapi.html?part=userconfig&user=alice&action=Save&description=a+b")).status == 200
    assert oscam.users.stat().st_ino == inode
    assert (oscam.directory / "oscam.user.bak").read_text() == foreign + account("unloaded")
    written = oscam.users.read_text()
    for lost in ("a comment", "unloaded", "strange", "disabled", "max_connections"):
        assert lost not in written
    (saved,) = parse_users(oscam.users.read_bytes()).accounts
    assert (saved.user, saved.password, saved.description, saved.uniq) == ("alice", "s3cret", "a b", 1)
    assert saved.kept == (("monlevel", "2"),)


async def test_saving_an_unknown_user_creates_it_disabled(oscam: OscamHost) -> None:
    await oscam.start(account("alice"))
    await oscam.get("/user_edit.html?user=fresh&pwd=x&action=Save")
    fresh = parse_users(oscam.users.read_bytes()).accounts[1]
    assert (fresh.user, fresh.password, fresh.disabled, fresh.group) == ("fresh", "x", 1, (1,))
    assert await refused(oscam, "fresh", "x") == "disabled account"


async def test_a_web_save_of_another_password_drops_the_session(oscam: OscamHost) -> None:
    await oscam.start(account("alice") + account("bob"))
    async with await oscam.login("alice", "pw") as alice, await oscam.login("bob", "pw") as bob:
        await oscam.get("/user_edit.html?user=alice&pwd=other&action=Save")
        await alice.closed.wait()
        await bob.ping()


async def test_disable_enable_and_delete_from_the_list_write_the_file(oscam: OscamHost) -> None:
    await oscam.start(account("alice") + account("bob"))
    async with await oscam.login("alice", "pw") as alice:
        await oscam.get("/userconfig.html?user=alice&action=disable")
        await alice.closed.wait()
    assert parse_users(oscam.users.read_bytes()).accounts[0].disabled == 1
    await oscam.get("/userconfig.html?user=alice&action=enable")
    assert parse_users(oscam.users.read_bytes()).accounts[0].disabled == 0
    await oscam.get("/userconfig.html?user=alice&action=delete")
    assert await loaded(oscam) == ["bob"]
    assert [a.user for a in parse_users(oscam.users.read_bytes()).accounts] == ["bob"]


async def test_a_hanging_daemon_takes_connections_and_says_nothing(oscam: OscamHost) -> None:
    await oscam.start(account("alice"))
    await control(oscam.socket, do="hang", on=True)
    page = asyncio.create_task(loaded(oscam))
    login = asyncio.create_task(oscam.login("alice", "pw"))
    await some_time(oscam.socket)
    assert not page.done()
    assert not login.done()
    await control(oscam.socket, do="hang", on=False)
    assert await page == ["alice"]
    async with await login:
        pass


async def test_a_swallowed_reinit_is_answered_like_any_other(oscam: OscamHost) -> None:
    await oscam.start(account("alice"))
    await control(oscam.socket, do="ignore_reloads", on=True)
    await oscam.reinit(account("bob"))
    assert await loaded(oscam) == ["alice"]
    assert (await stats(oscam.socket)).lost == 1


async def test_a_broken_connection_is_logged_as_a_disconnect(oscam: OscamHost) -> None:
    await oscam.start(account("alice"))
    async with await oscam.login("alice", "pw") as receiver:
        await control(oscam.socket, do="drop_session", user="alice")
        await receiver.closed.wait()
    await oscam.daemon.log.until("alice disconnected from 127.0.0.1")


def arguments(host: OscamHost, log: Path) -> list[str]:
    fixed = ["-c", str(host.directory), "--pidfile", str(host.pidfile), "--timescale", str(FAST)]
    return [*fixed, "--log", str(log)]


async def test_the_signal_itself_reloads_when_it_is_allowed_to(tmp_path: Path) -> None:
    host = OscamHost(tmp_path, extra_global="reload_useraccounts = 1")
    host.users.write_text(account("alice"))
    daemon = await Process.start("oscam", *arguments(host, tmp_path / "log"))
    try:
        host.users.write_text(account("bob"))
        daemon.signal(signal.SIGHUP)
        while await loaded(host) != ["bob"]:
            pass
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert not host.pidfile.exists()
    finally:
        await daemon.end()


async def test_the_signal_does_not_end_a_daemon_that_ignores_it(tmp_path: Path) -> None:
    host = OscamHost(tmp_path)
    host.users.write_text(account("alice"))
    daemon = await Process.start("oscam", *arguments(host, tmp_path / "log"))
    try:
        daemon.signal(signal.SIGHUP)
        async with await host.login("alice", "pw") as receiver:
            await receiver.ping()
    finally:
        await daemon.end()


async def test_a_second_daemon_starts_shares_the_port_and_takes_the_pid_file(tmp_path: Path) -> None:
    host = OscamHost(tmp_path)
    host.users.write_text(account("old"))
    first = await Process.start("oscam", *arguments(host, tmp_path / "first.log"))
    try:
        assert host.pidfile.read_text() == f"{first.pid}\n"
        host.users.write_text(account("new"))
        second = await Process.start("oscam", *arguments(host, tmp_path / "second.log"))
        try:
            assert host.pidfile.read_text() == f"{second.pid}\n"
            assert "HTTP Server couldn't bind" in (tmp_path / "second.log").read_text()
            assert await loaded(host) == ["old"]
            # The kernel spreads connections over both, so each name is known to some of them only.
            served: set[str] = set()
            while served != {"old", "new"}:
                for user in ("old", "new"):
                    try:
                        async with await host.login(user, "pw"):
                            served.add(user)
                    except LoginRefused:
                        continue
        finally:
            await second.end()
    finally:
        await first.end()
