"""The embedded world as a whole: that it works, and that nothing of it is left behind."""

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.request
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.support.proc import alive, descendants, ended, listening
from tests.support.world import FAST
from twinline.keys import KeyRing
from twinline.sandbox.processes import WorldFailed, dying_with_us
from twinline.sandbox.receiver import LoginRefused
from twinline.sandbox.sites import PairPlan
from twinline.sandbox.stand_in import ControlRefused
from twinline.sandbox.world import World
from twinline.settings import Settings

HOSTS = ("mc-eu1", "os-eu1")

DOOMED = """
import asyncio, sys
from pathlib import Path

import asyncssh

from twinline.sandbox.world import World


async def main():
    async with World(Path(sys.argv[1]), timescale=0.05) as world:
        await world.start_worker()
        ssh = world.inventory.hosts[0].ssh
        async with asyncssh.connect(
            ssh.address, ssh.port, username=ssh.user, client_keys=[str(ssh.key)], known_hosts=str(ssh.known_hosts)
        ) as client:
            async with client.create_process("echo up; exec sleep 600") as process:
                print((await process.stdout.readline()).strip(), flush=True)
                await asyncio.Event().wait()


asyncio.run(main())
"""


@pytest.mark.parametrize("host", HOSTS)
async def test_the_foreign_accounts_of_a_host_can_connect(world: World, host: str) -> None:
    first, second = world.site(host).foreign
    async with (
        await world.receiver(host, first.user, first.password) as one,
        await world.receiver(host, second.user, second.password) as other,
    ):
        await one.ping()
        await other.ping()
        assert (await world.daemon(host).stats()).sessions == sorted((first.user, second.user))
        assert first.user.encode() in world.read_accounts(host)
    with pytest.raises(LoginRefused):
        await world.receiver(host, first.user, "wrong")


@pytest.mark.parametrize("host", HOSTS)
async def test_a_session_can_be_dropped_as_by_a_bad_network(world: World, host: str) -> None:
    login = world.site(host).foreign[0]
    async with await world.receiver(host, login.user, login.password) as receiver:
        assert await world.daemon(host).drop_session(login.user) == 1
        await receiver.closed.wait()


@pytest.mark.parametrize("host", HOSTS)
async def test_a_daemon_can_be_told_to_ignore_its_reloads(world: World, host: str) -> None:
    daemon = world.daemon(host)
    await daemon.switch("ignore_reloads", on=True)
    assert not (await daemon.stats()).armed
    await daemon.switch("ignore_reloads", on=False)
    assert (await daemon.stats()).armed
    with pytest.raises(ControlRefused):
        await daemon.control({"do": "a handstand"})


async def test_the_settings_and_the_inventory_are_what_an_operator_would_have_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in world.env.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    KeyRing.load(settings.keys)
    assert settings.smtp_url.get_secret_value() == world.mail_catcher.url
    multics, oscam = world.inventory.hosts
    assert (multics.name, multics.quiet_seconds) == ("mc-eu1", pytest.approx(3.0 * FAST))
    assert (oscam.name, oscam.groups) == ("os-eu1", (1,))
    assert world.inventory.pair("eu1").region == "eu"
    assert all(Path(host.accounts_file).exists() and Path(host.state_dir).is_dir() for host in world.inventory.hosts)


async def test_secrets_are_for_the_owner_only(world: World) -> None:
    assert world.folder.stat().st_mode & 0o777 == 0o700
    paths = [Path(world.env["TWINLINE_INVENTORY"]), Path(world.env["TWINLINE_KEYS"])]
    paths += [world.site(host).accounts_file for host in HOSTS]
    paths += [host.ssh.key for host in world.inventory.hosts]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


async def test_a_daemon_that_crashed_comes_back_with_what_its_file_says(world: World) -> None:
    daemon, login = world.daemon("mc-eu1"), world.site("mc-eu1").foreign[0]
    async with await world.receiver("mc-eu1", login.user, login.password) as receiver:
        await daemon.kill()
        await receiver.closed.wait()
    with pytest.raises(ConnectionRefusedError):
        await world.receiver("mc-eu1", login.user, login.password)
    await daemon.start()
    async with await world.receiver("mc-eu1", login.user, login.password) as receiver:
        await receiver.ping()


async def test_a_second_world_in_the_same_folder_is_refused(world: World) -> None:
    with pytest.raises(WorldFailed, match="another embedded world runs in"):
        await World(world.folder).start()
    assert all(world.daemon(host).pid is not None for host in HOSTS)


async def test_a_folder_that_a_daemon_could_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorldFailed, match="characters in its path"):
        await World(tmp_path / "#1").start()
    assert list(tmp_path.iterdir()) == []


def payloads_are_opened_for_the_ui(world: World) -> None:
    """Temporal's web interface knows whom to ask, and is let in there."""
    with urllib.request.urlopen(f"{world.temporal.ui_url}/api/v1/settings") as settings:  # noqa: S310 - our own URL
        endpoint = json.load(settings)["Codec"]["Endpoint"]
    assert endpoint == world.codec_url
    request = urllib.request.Request(  # noqa: S310
        f"{endpoint}/decode", b"{}", {"Origin": world.temporal.ui_url}, method="POST"
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        assert answer.headers["Access-Control-Allow-Origin"] == world.temporal.ui_url


async def test_a_stopped_world_leaves_nothing_and_its_folder_can_be_taken_up_again(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    # Longer than a socket's path may be.
    folder = tmp_path / "a folder deep down" / ("x" * 90) / "world"
    pairs = (PairPlan("eu1", region="eu"), PairPlan("us1", region="us", capacity=7))
    async with World(folder, pairs=pairs, timescale=FAST, codec=True) as first:
        await first.start_worker()
        await asyncio.to_thread(payloads_are_opened_for_the_ui, first)
        assert first.inventory.regions() == ("eu", "us")
        children = descendants(os.getpid()) - before
        ports = listening(children) | {("127.0.0.1", host.ssh.port) for host in first.inventory.hosts}
        assert {address for address, _ in ports} == {"127.0.0.1"}
        with first.site("mc-us1").accounts_file.open("ab") as accounts:
            accounts.write(b"F: carol secret3\n")
        ring = Path(first.env["TWINLINE_KEYS"]).read_bytes()

    assert [pid for pid in children if alive(pid)] == []
    assert len(children) == 7
    for _, port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, port

    async with World(folder, pairs=pairs, timescale=FAST) as second:
        async with await second.receiver("mc-us1", "carol", "secret3") as receiver:
            await receiver.ping()
        assert Path(second.env["TWINLINE_KEYS"]).read_bytes() == ring


async def test_a_part_that_does_not_start_is_named_and_the_others_are_ended(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    world = World(tmp_path / "world", timescale=FAST)
    taken = ("127.0.0.1", world.site("mc-eu1").status_port)
    with socket.create_server(taken), pytest.raises(WorldFailed) as failure:
        await world.start()
    assert "the multics stand-in mc-eu1 did not start: it ended with status 1" in failure.value.message
    assert "address already in use" in failure.value.message
    assert failure.value.hint == f"Its whole log is {world.daemon('mc-eu1').log}."
    assert descendants(os.getpid()) <= before


async def test_a_world_whose_parent_is_killed_leaves_no_process(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *dying_with_us((sys.executable, "-c", DOOMED, str(tmp_path / "world"))), stdout=PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(60):
        assert await parent.stdout.readline() == b"up\n"
    children = descendants(parent.pid)
    assert len(children) == 5

    os.kill(parent.pid, signal.SIGKILL)

    await parent.wait()
    await ended(children)
