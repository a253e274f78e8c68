"""`host check` and `doctor` in a world with everything real but the daemons."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from starter.cli import doctor, orders_shown
from tests.cli.conftest import SCRIPT, Cli, Said, start_script
from twinline.hosts.daemon import CANARY
from twinline.hosts.ssh import helper_source
from twinline.sandbox.processes import free_port
from twinline.sandbox.stand_in import StandIn
from twinline.sandbox.world import World

OWN = hashlib.sha256(helper_source()).hexdigest()
REACHED = ["connection", "host key", "login key", "key's limits", "python", "state_dir", "clock"]
FILE = ["time zone", "accounts file", "writable", "owner", "mode", "free space"]
AROUND = ["other writers", "beside the file", "reload"]
ACCOUNTS = ["status page", "accounts", "records", "size", "loaded accounts", "lines"]
ITEMS = {
    "multics": [*REACHED, *FILE, "HTTP EDITOR", *AROUND, *ACCOUNTS],
    "oscam": [*REACHED, *FILE, "folder", "httpreadonly", *AROUND, *ACCOUNTS],
}


def troubles(said: Said) -> list[tuple[str, str, str]]:
    """Subject, item and message of every finding that is not ok."""
    return [(one["subject"], one["item"], one["message"]) for one in said.json if one["verdict"] != "ok"]


async def put_back(daemon: StandIn, path: Path, content: bytes) -> None:
    """Restore a file that MultiCS watches, and see it loaded: it is deaf to a close for a while after the last one."""
    while not (await daemon.stats()).armed:
        pass
    seen = (await daemon.stats()).reloads
    path.write_bytes(content)
    while (await daemon.stats()).reloads == seen:
        pass


@pytest_asyncio.fixture(scope="module", autouse=True)
async def proven(cli: Cli) -> Said:
    """What was said when all reloads were proven, before anything else looks at these hosts."""
    return await cli("host", "check", "--prove-reload", "--json")


def test_reloads_are_proven_on_demand(proven: Said, world: World) -> None:
    assert proven.code == 0
    said = {one["subject"]: one for one in proven.json if one["item"] == "reload"}
    assert set(said) == {host.name for host in world.inventory.hosts}
    for one in said.values():
        assert one["verdict"] == "ok"
        assert re.fullmatch(
            r"proven just now: a record was written, loaded, taken away and gone in [\d.]+ s; "
            r"the daemon needed [\d.]+ s for a reload",
            one["message"],
        )
    for host in world.inventory.hosts:
        assert CANARY.encode() not in world.read_accounts(host.name)


async def test_without_a_ledger_nothing_can_be_proven(cli: Cli, tmp_path: Path) -> None:
    nowhere = cli.with_env(TWINLINE_DATABASE_URL=f"sqlite:///{tmp_path}/none.db")
    said = await nowhere("host", "check", "mc-us1", "--prove-reload", "--json")
    assert (said.code, said.json["type"]) == (2, "Misconfigured")


async def test_a_daemon_that_is_deaf_fails_the_proof_and_nothing_is_left(
    cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinline.hosts.factory.OSCAM_DEADLINE", 0.05)
    await world.daemon("os-us1").switch("ignore_reloads", on=True)
    try:
        said = await cli("host", "check", "os-us1", "--prove-reload", "--json")
    finally:
        await world.daemon("os-us1").switch("ignore_reloads", on=False)
    assert said.code == 4
    assert [item for _, item, _ in troubles(said)] == ["reload"]
    assert CANARY.encode() not in world.read_accounts("os-us1")


async def test_all_hosts_are_checked_and_nothing_is_written_or_reloaded(cli: Cli, world: World, line: str) -> None:
    async def state() -> list[Any]:
        found: list[Any] = []
        for host in world.inventory.hosts:
            path = world.site(host.name).accounts_file
            stats = await world.daemon(host.name).stats()
            found.append((path.read_bytes(), path.stat().st_mtime_ns, stats.model_dump(exclude={"requests"})))
        return found

    before = await state()
    said = await cli("host", "check", "--json")
    assert troubles(said) == []
    assert said.code == 0
    assert list(said.json[0]) == ["subject", "item", "verdict", "message", "hint", "retryable"]
    for host in world.inventory.hosts:
        assert [one["item"] for one in said.json if one["subject"] == host.name] == ITEMS[host.protocol]
    assert await state() == before


async def test_one_host_is_checked_and_told_in_words(cli: Cli) -> None:
    said = await cli.with_env(COLUMNS="300")("host", "check", "mc-eu1")
    assert (said.code, said.err) == (0, "")
    *rows, summary = said.out.splitlines()
    assert len(rows) == len(ITEMS["multics"])
    assert summary == f"{len(rows)} checks passed"
    assert all(row.startswith("ok    mc-eu1  ") for row in rows)


async def test_what_is_as_it_must_be_can_be_left_out(cli: Cli, world: World) -> None:
    path = world.site("os-us1").accounts_file
    path.chmod(0o640)
    left = path.with_name(".oscam.user.swp")
    left.touch(mode=0o600)
    try:
        said = await cli.with_env(COLUMNS="300")("host", "check", "os-us1", "--brief")
    finally:
        path.chmod(0o600)
        left.unlink()
    assert said.code == 0
    warning, hint, summary = said.out.splitlines()
    assert warning.startswith("warn  os-us1  beside the file  somebody has the file in an editor")
    assert "→ close it" in hint
    assert summary.startswith(f"{len(ITEMS['oscam']) - 1} checks passed, 1 to look at")


# --- what stands around the file


def with_host_line(text: str, host: str, line: str) -> str:
    """An inventory in which one host has another line instead of the one with the same key."""
    key = line.split(" = ", maxsplit=1)[0]
    before, at, rest = text.partition(f'name = "{host}"\n')
    kept = [row for row in rest.split("\n\n", 1)[0].splitlines() if not row.startswith(f"{key} = ")]
    return f"{before}{at}{line}\n" + "\n".join(kept) + "\n\n" + rest.split("\n\n", 1)[1]


async def checked_with(cli: Cli, inventory_file: Path, host: str, line: str) -> Said:
    inventory_file.write_text(with_host_line(inventory_file.read_text(), host, line))
    return await cli.with_env(TWINLINE_INVENTORY=str(inventory_file))("host", "check", host, "--json")


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        ("America/New_York", "the daemon's clock (TZ=CET-1CEST,M3.5.0,M10.5.0/3) is 6 h ahead of America/New_York"),
        ("Europe/Athens", "the daemon's clock (TZ=CET-1CEST,M3.5.0,M10.5.0/3) is 60 min behind Europe/Athens"),
    ],
)
async def test_a_daemon_in_another_zone_than_the_inventory_says_is_told(
    cli: Cli, inventory_file: Path, zone: str, message: str
) -> None:
    said = await checked_with(cli, inventory_file, "mc-us1", f'timezone = "{zone}"')
    assert said.code == 4
    assert [(item, text[: len(message)]) for _, item, text in troubles(said)] == [("time zone", message)]


async def test_somebody_who_writes_to_the_file_is_told_by_name(cli: Cli, world: World) -> None:
    path = world.site("os-us1").accounts_file
    with path.open("ab"):
        said = await cli("host", "check", "os-us1", "--json")
    assert said.code == 0
    ((_, item, message),) = troubles(said)
    assert (item, message.split(": ")[0]) == ("other writers", "the accounts file is open for writing")
    assert f"({os.getpid()})" in message


async def test_a_reload_by_sighup_that_oscam_ignores_is_told_with_what_to_write(
    cli: Cli, world: World, inventory_file: Path
) -> None:
    site = world.site("os-us1")
    pid_file = site.daemon_folder / "oscam.pid"
    said = await checked_with(
        cli, inventory_file, "os-us1", f'reload = {{ method = "sighup", pid_file = "{pid_file}" }}'
    )
    # It was seen to work, though not in this way.
    ((_, item, message),) = troubles(said)
    assert item == "reload_useraccounts"
    assert message.startswith(f"off in {site.main_file}, but the inventory says sighup")
    hint = next(one["hint"] for one in said.json if one["item"] == item)
    assert "reload_useraccounts = 1 in [global]" in hint
    assert ("reload.pid_file", "ok") in [(one["item"], one["verdict"]) for one in said.json]


async def test_a_second_daemon_on_the_same_ports_is_told(cli: Cli, world: World, inventory_file: Path) -> None:
    site = world.site("os-us1")
    pid_file = site.daemon_folder / "oscam.pid"
    first = pid_file.read_bytes()
    # What `oscam -d 4096` does beside a running one.
    second = await start_script("from twinline.sandbox.oscam import main; main()", *site.arguments, env={})
    assert second.stdout is not None
    assert await second.stdout.readline() == b"ready\n"
    try:
        said = await checked_with(
            cli, inventory_file, "os-us1", f'reload = {{ method = "sighup", pid_file = "{pid_file}" }}'
        )
    finally:
        second.terminate()
        await second.wait()
        pid_file.write_bytes(first)
    assert said.code == 4
    found = {item: message for _, item, message in troubles(said)}
    assert found["ports"] == f"2 programs serve port {site.client_port} and share its customers"
    assert "is not the OSCam of the status page" in found["reload.pid_file"]


async def test_records_that_are_not_taken_as_they_look_are_named_without_their_passwords(
    cli: Cli, world: World
) -> None:
    path = world.site("os-us1").accounts_file
    whole = path.read_bytes()
    path.write_bytes(whole + b"[account]\nuser = zoe\npwd = geheim77\ngroup = 1\nexpdate = 31-12-2031\n")
    try:
        said = await cli("host", "check", "os-us1", "--json")
    finally:
        path.write_bytes(whole)
    assert ("os-us1", "records", "records that have an end that is read as long past: 1 (zoe)") in troubles(said)
    assert "geheim77" not in said.out


async def test_a_host_that_the_inventory_lacks_is_named(cli: Cli) -> None:
    said = await cli("host", "check", "mc-eu2", "--json")
    assert (said.code, said.json["type"]) == (3, "UnknownHost")
    assert 'Did you mean "mc-eu1"?' in said.json["hint"]


async def test_a_host_that_cannot_be_reached_is_unavailable(cli: Cli, world: World) -> None:
    box = world.box("os-us1")
    await box.refuse(on=True)
    try:
        said = await cli("host", "check", "os-us1", "mc-us1", "--json")
    finally:
        await box.refuse(on=False)
    assert said.code == 6
    assert [(subject, item) for subject, item, _ in troubles(said)] == [("os-us1", "connection")]


async def test_a_key_file_that_is_missing_here_is_named_without_blaming_the_host(
    cli: Cli, inventory_file: Path
) -> None:
    inventory_file.write_text(inventory_file.read_text().replace("/keys/os-us1", "/keys/nobody"))
    said = await cli.with_env(TWINLINE_INVENTORY=str(inventory_file))("host", "check", "os-us1", "--json")
    assert said.code == 4
    assert [one["item"] for one in said.json] == ["login key"]
    assert "file nobody" in said.json[0]["message"]


async def test_a_file_that_is_a_link_or_open_to_everybody_is_told(cli: Cli, world: World) -> None:
    path = world.site("os-us1").accounts_file
    aside = path.with_suffix(".aside")
    path.chmod(0o644)
    readable = await cli("host", "check", "os-us1", "--json")
    path.chmod(0o600)
    assert readable.code == 0
    assert troubles(readable) == [("os-us1", "mode", "mode 0644: everybody on the host may read passwords")]
    path.rename(aside)
    path.symlink_to(aside)
    try:
        linked = await cli("host", "check", "os-us1", "--json")
    finally:
        path.unlink()
        aside.rename(path)
    assert linked.code == 4
    assert [item for _, item, _ in troubles(linked)] == ["accounts file"]


async def test_a_status_page_that_refuses_us_or_is_another_program_is_told(
    cli: Cli, world: World, inventory_file: Path
) -> None:
    site = world.site("mc-us1")
    text = inventory_file.read_text()
    inventory_file.write_text(text.replace(site.status_password, "wrong"))
    refused = await cli.with_env(TWINLINE_INVENTORY=str(inventory_file))("host", "check", "mc-us1", "--json")
    assert refused.code == 4
    assert "the daemon refused our user or password" in troubles(refused)[0][2]
    assert site.status_password not in refused.out
    inventory_file.write_text(text.replace(f":{site.status_port}", f":{free_port()}"))
    silent = await cli.with_env(TWINLINE_INVENTORY=str(inventory_file))("host", "check", "mc-us1", "--json")
    assert silent.code == 4
    # Nor can the process be found that would say which zone it lives in.
    assert [item for _, item, _ in troubles(silent)] == ["time zone", "status page"]


async def test_a_line_taken_out_by_hand_and_a_strange_one_are_named(cli: Cli, world: World, line: str) -> None:
    path = world.site("mc-eu1").accounts_file
    whole = path.read_bytes()
    start = whole.index(f"F: {line} ".encode())
    spoilt = (
        whole[:start] + b"#" + whole[start + 1 :] + b"F: stranger9 pass 0 { enddate=2037-01-01 00; rev=1-0123abcd }\n"
        b"F: zoe geheim77 { enddate=2031/05/06 }\n"
    )
    path.write_bytes(spoilt)
    try:
        said = await cli("host", "check", "mc-eu1", "--json")
    finally:
        await put_back(world.daemon("mc-eu1"), path, whole)
    assert said.code == 4
    assert ("mc-eu1", "strays", "records of ours out of place: 1 (stranger9)") in troubles(said)
    assert ("mc-eu1", "lines", f"to be served, and not in the file: 1 ({line})") in troubles(said)
    assert ("mc-eu1", "lines", "look like ours, and are not in the ledger: 1 (stranger9)") in troubles(said)
    never = "records that name an end that is not read, and never end: 1 (zoe)"
    assert ("mc-eu1", "records", never) in troubles(said)
    assert "geheim77" not in said.out


async def test_hosts_are_checked_without_a_ledger_too(cli: Cli, tmp_path: Path) -> None:
    nowhere = cli.with_env(TWINLINE_DATABASE_URL=f"sqlite:///{tmp_path}/none.db")
    said = await nowhere("host", "check", "mc-us1", "--json")
    assert said.code == 0
    assert [(subject, item) for subject, item, _ in troubles(said)] == [("ledger", "lines")]
    assert [one["item"] for one in said.json if one["subject"] == "mc-us1"] == ITEMS["multics"][:-1]
    assert list(tmp_path.iterdir()) == []


SPOILT = {
    "a missing key": ("accounts_file", "", 'host[1] "mc-eu1": accounts_file is missing'),
    "no rights_holder": ("rights_holder", "", "service.rights_holder is missing"),
    "two hosts of one protocol in a pair": ('oscam = "os-eu1"', 'oscam = "mc-us1"', "multics"),
}


@pytest.mark.parametrize("case", SPOILT)
async def test_a_wrong_inventory_is_told_by_key_and_remedy(cli: Cli, inventory_file: Path, case: str) -> None:
    spoilt, instead, sentence = SPOILT[case]
    lines = inventory_file.read_text().splitlines()
    number = next(number for number, text in enumerate(lines) if text.startswith(spoilt))
    lines[number] = instead
    inventory_file.write_text("\n".join(lines))
    spoilt_cli = cli.with_env(TWINLINE_INVENTORY=str(inventory_file))
    said = await spoilt_cli("host", "check", "--json")
    assert (said.code, said.json["type"]) == (2, "Misconfigured")
    assert sentence in said.json["message"]
    assert said.json["hint"]
    if case == "no rights_holder":
        examined = await spoilt_cli("doctor", "--json")
        assert examined.code == 4
        assert [(subject, item) for subject, item, _ in troubles(examined)] == [("inventory", "file")]


async def test_a_worker_refuses_to_start_without_a_rights_holder(world: World, inventory_file: Path) -> None:
    text = inventory_file.read_text()
    inventory_file.write_text("\n".join(row for row in text.splitlines() if not row.startswith("rights_holder")))
    env = {**world.env, "TWINLINE_INVENTORY": str(inventory_file)}
    process = await start_script(SCRIPT, "worker", env=env)
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert "service.rights_holder is missing" in err.decode()
    assert "Traceback" not in err.decode()


async def test_the_doctor_finds_nothing_wrong_in_a_working_world(cli: Cli, world: World, line: str) -> None:
    mails = len(world.mails)
    said = await cli("doctor", "--json")
    assert troubles(said) == []
    assert said.code == 0
    subjects = [one["subject"] for one in said.json]
    assert subjects == [
        "settings",
        "inventory",
        "settings",
        "ledger",
        "temporal",
        *["worker"] * 5,
        "mail",
        *["host"] * 4,
    ]
    assert len(world.mails) == mails


async def test_the_doctor_tells_what_does_not_answer(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CONNECT_PATIENCE", 0.3)
    ledger = tmp_path / "empty.db"
    ledger.touch(mode=0o600)
    away = cli.with_env(
        TEMPORAL_ADDRESS=f"127.0.0.1:{free_port()}",
        TWINLINE_SMTP_URL=f"smtp+plain://127.0.0.1:{free_port()}",
        TWINLINE_DATABASE_URL=f"sqlite:///{ledger}",
    )
    said = await away("doctor", "--json")
    assert said.code == 4
    failed = [one for one in said.json if one["verdict"] == "fail"]
    assert [(one["subject"], one["item"], one["retryable"]) for one in failed] == [
        ("ledger", "tables", False),
        ("temporal", "server", True),
        ("mail", "server", True),
    ]
    assert all(one["hint"] for one in failed)
    listed = await away("line", "list", "--json")
    assert (listed.code, listed.json["type"]) == (2, "Misconfigured")


async def test_the_doctor_tells_which_settings_are_missing(bare: Cli) -> None:
    said = await bare("doctor", "--json")
    assert said.code == 4, said.out
    assert [one["item"] for one in said.json] == ["environment"]
    assert "TWINLINE_INVENTORY is not set" in said.json[0]["message"]


async def test_without_temporal_orders_are_unavailable_and_can_be_shown_from_the_ledger(
    cli: Cli, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders_shown, "LOOK_PATIENCE", 0.3)
    away = cli.with_env(TEMPORAL_ADDRESS=f"127.0.0.1:{free_port()}")
    said = await away("renew", line, "--days", "1", "--order", "R-away", "--no-wait", "--json")
    assert (said.code, said.json["type"], said.json["retryable"]) == (6, "Unavailable", True)
    assert (await away("order", "show", "the-line")).code == 0
    untold = await away("order", "show", "R-away")
    assert (untold.code, untold.err.startswith("the ledger has no such order")) == (6, True), "Temporal may have it"


async def test_one_line_is_printed_whole_and_what_to_do_with_it_beside_it(cli: Cli, world: World) -> None:
    said = await cli.with_env(COLUMNS="40")("host", "authorize", "os-eu1")
    assert said.code == 0
    (line,) = said.out.splitlines()
    site = world.site("os-eu1")
    public = world.box("os-eu1").client_key.with_suffix(".pub")
    assert line.startswith('restrict,command="exec python3 -IBc ')
    assert f" {OWN} {site.accounts_file} {site.state_dir} http://127.0.0.1:{site.status_port}" in line
    assert " ssh-ed25519 AAAA" in line
    assert line.endswith(" twinline os-eu1")
    assert not public.exists()
    assert "authorized_keys" in said.err
    assert "PRIVATE" not in said.out


async def test_a_second_version_is_allowed_on_demand(cli: Cli) -> None:
    old = "ab" * 32
    said = await cli("host", "authorize", "mc-eu1", "--also", old, "--also", OWN, "--json")
    assert (said.code, said.json["host"], said.json["helper"]) == (0, "mc-eu1", OWN)
    assert f" {OWN},{old} /" in said.json["line"]


async def test_what_is_no_hash_is_told(cli: Cli) -> None:
    said = await cli("host", "authorize", "mc-eu1", "--also", "v1.2", "--json")
    assert (said.code, said.json["type"]) == (2, "InvalidOrder")


async def test_a_host_or_key_that_is_missing_is_named(cli: Cli, inventory_file: Path) -> None:
    said = await cli("host", "authorize", "mc-eu9", "--json")
    assert (said.code, said.json["type"]) == (3, "UnknownHost")
    inventory_file.write_text(inventory_file.read_text().replace("/keys/os-us1", "/keys/nobody"))
    said = await cli.with_env(TWINLINE_INVENTORY=str(inventory_file))("host", "authorize", "os-us1", "--json")
    assert (said.code, said.json["type"]) == (2, "Misconfigured")
    assert "keys/nobody" in said.json["message"]
