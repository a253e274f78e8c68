"""OSCam's three ways to be told of a change, with a daemon in a process of its own, as signals need it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.lab import FAST, STATUS_PASSWORD, MemoryLedger
from tests.support.sshd import Sshd
from twinline.hosts.errors import NotProven, ReloadFailed
from twinline.hosts.factory import daemon_for, helper_for
from twinline.hosts.ports import Half, Proven
from twinline.hosts.writer import HostWriter
from twinline.inventory import Host
from twinline.sandbox.processes import free_port
from twinline.sandbox.receiver import Receiver
from twinline.sandbox.sites import Login, Site
from twinline.sandbox.stand_in import StandIn

NAME, PASSWORD = "rosewood22", "pw23456789abcdef"
HONOURS_SIGHUP = ("reload_useraccounts = 0", "reload_useraccounts = 1")
IS_READ_ONLY = ("[webif]\n", "[webif]\nhttpreadonly = 1\n")


@dataclass
class Oscam:
    """A running OSCam and the writer of its host."""

    site: Site
    daemon: StandIn
    ledger: MemoryLedger
    writer: HostWriter

    async def bring(self, half: Half) -> Proven:
        """Have the writer prove a half."""
        return await self.writer.bring(half.line_id, half.revision)


@asynccontextmanager
async def running_oscam(
    folder: Path, sshd: Sshd, *, reload: dict[str, Any], config: Sequence[tuple[str, str]] = (), deadline: float = 0.05
) -> AsyncGenerator[Oscam]:
    """An OSCam whose oscam.conf differs from the usual one in `config`; the writer gives up a proof soon."""
    client_port, status_port = free_port(), free_port()
    foreign = (Login("oldtom", "tompass1"), Login("oldeve", "evepass1"))
    site = Site("os-eu1", "oscam", folder, client_port, status_port, STATUS_PASSWORD, foreign)
    site.daemon_folder.mkdir(parents=True)
    text = site.main_text()
    for old, new in config:
        assert old in text
        text = text.replace(old, new)
    site.main_file.write_text(text)
    site.accounts_file.write_text(site.accounts_text())
    host = Host.model_validate(
        {
            "name": site.name,
            "protocol": "oscam",
            "ssh": {
                "address": "127.0.0.1",
                "port": sshd.port,
                "user": sshd.user,
                "key": sshd.key,
                "known_hosts": sshd.known_hosts,
            },
            "accounts_file": str(site.accounts_file),
            "state_dir": str(site.state_dir),
            "timezone": "Europe/Berlin",
            "public": {"address": "127.0.0.1", "port": client_port},
            "status": {"url": f"http://127.0.0.1:{status_port}", "user": "admin", "password": STATUS_PASSWORD},
            "groups": (1,),
            "reload": reload,
        }
    )
    engine = daemon_for(host)
    engine.deadline = deadline
    ledger = MemoryLedger()
    writer = HostWriter(host.name, daemon=engine, ledger=ledger, start_helper=partial(helper_for, host))
    daemon = StandIn(site, timescale=FAST)
    await daemon.start()
    try:
        yield Oscam(site, daemon, ledger, writer)
    finally:
        await writer.close()
        await daemon.stop()


def pid_file(folder: Path) -> str:
    return str(folder / "daemon" / "oscam.pid")


async def test_a_sighup_during_a_reload_is_dropped_and_sent_again(folder: Path, sshd: Sshd) -> None:
    place = folder / "host"
    reload = {"method": "sighup", "pid_file": pid_file(place)}
    async with running_oscam(place, sshd, reload=reload, config=[HONOURS_SIGHUP], deadline=0.3) as oscam:
        await oscam.bring(oscam.ledger.want("ash22222222", PASSWORD))
        # Somebody else's reload has read the file already, and takes its time.
        await oscam.daemon.switch("freeze_parse", on=True)
        assert oscam.daemon.pid is not None
        os.kill(oscam.daemon.pid, signal.SIGHUP)
        while not (await oscam.daemon.stats()).reloading:
            pass
        bringing = asyncio.create_task(oscam.bring(oscam.ledger.want(NAME, PASSWORD)))
        while not (await oscam.daemon.stats()).lost:
            pass
        await oscam.daemon.switch("freeze_parse", on=False)
        assert (await bringing).revision == 1
        async with await Receiver.login(oscam.site.client_port, NAME, PASSWORD):
            pass
        assert oscam.ledger.failures == []


@pytest.mark.parametrize(
    ("method", "config", "look_at"),
    [
        pytest.param("sighup", [], "reload_useraccounts", id="SIGHUP without reload_useraccounts"),
        pytest.param("webif", [IS_READ_ONLY], "httpreadonly", id="reinit under httpreadonly"),
        pytest.param("command", [], "reload.argv", id="a command that reloads nothing"),
    ],
)
async def test_a_reload_that_the_daemon_ignores_is_never_a_success_and_says_where_to_look(
    folder: Path, sshd: Sshd, method: str, config: list[tuple[str, str]], look_at: str
) -> None:
    place = folder / "host"
    reload: dict[str, Any] = {"method": method}
    if method == "sighup":
        reload["pid_file"] = pid_file(place)
    if method == "command":
        reload["argv"] = [sys.executable, "-c", "pass"]
    async with running_oscam(place, sshd, reload=reload, config=config) as oscam:
        with pytest.raises(NotProven) as refused:
            await oscam.bring(oscam.ledger.want(NAME, PASSWORD))
        assert look_at in refused.value.hint
        assert (await oscam.daemon.stats()).reloads == 0
        assert not oscam.ledger.known


async def test_a_command_of_the_operators_own_reloads_and_one_that_fails_is_named(folder: Path, sshd: Sshd) -> None:
    place = folder / "host"
    text = f"import os, signal; os.kill(int(open({pid_file(place)!r}).read()), signal.SIGHUP)"
    reload = {"method": "command", "argv": [sys.executable, "-c", text]}
    async with running_oscam(place, sshd, reload=reload, config=[HONOURS_SIGHUP], deadline=3.0) as oscam:
        assert (await oscam.bring(oscam.ledger.want(NAME, PASSWORD))).revision == 1
        Path(pid_file(place)).unlink()
        with pytest.raises(ReloadFailed):
            await oscam.bring(oscam.ledger.want("ash22222222", PASSWORD))
        assert set(oscam.ledger.known) == {NAME}
