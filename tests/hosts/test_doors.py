"""The way to a host, through a real sshd and through the sandbox's box: who is let in, and what is said if not."""

import asyncio
import traceback
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio

from tests.hosts.between import wire_to
from tests.hosts.helper_process import setup_for
from tests.hosts.judge import KINDS
from tests.support.sshd import Sshd
from twinline.hosts import ssh
from twinline.hosts.errors import HelperFailed, HostError, HostKeyMismatch, HostLoginRefused, HostUnreachable
from twinline.hosts.ssh import BOOTSTRAP, HelperSetup, SshAccess, start_helper
from twinline.sandbox.processes import free_port
from twinline.sandbox.ssh_box import SshBox


@pytest_asyncio.fixture(params=["sshd", "box"])
async def access(request: pytest.FixtureRequest, tmp_path: Path, sshd: Sshd) -> AsyncIterator[SshAccess]:
    if request.param == "sshd":
        yield SshAccess("127.0.0.1", sshd.port, sshd.user, sshd.key, sshd.known_hosts)
        return
    box = SshBox(tmp_path / "box", client_key=tmp_path / "client_key")
    await box.start()
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(box.known_hosts_line)
    yield SshAccess("127.0.0.1", box.port, box.user, box.client_key, known_hosts)
    await box.stop()


@pytest.fixture
def setup(tmp_path: Path) -> HelperSetup:
    (tmp_path / "accounts").write_bytes(b"# empty\n")
    return setup_for(tmp_path / "accounts", tmp_path / "state", KINDS[0])


async def refused(access: SshAccess, setup: HelperSetup) -> HostError:
    """The error that starting a helper ends with; nothing may have happened on the host, and nothing be told."""
    with pytest.raises(HostError) as caught:
        await start_helper(access, setup)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(setup)
    assert setup.status_password not in told
    assert caught.value.hint
    assert not Path(setup.state_dir).exists()
    return caught.value


async def test_the_helper_answers_through_either_door(
    access: SshAccess, setup: HelperSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BOOTSTRAP", BOOTSTRAP)
    helper = await start_helper(access, setup)
    assert helper.hello["version"] == 1
    assert not helper.closed
    await helper.close()
    assert helper.closed


async def test_a_host_with_another_key_gets_nothing_from_us(access: SshAccess, setup: HelperSetup, sshd: Sshd) -> None:
    other = Path(setup.accounts_file).with_name("other_known_hosts")
    public = sshd.other_key.with_suffix(".pub").read_text().strip()
    other.write_text(f"[127.0.0.1]:{access.port} {public}\n")
    error = await refused(replace(access, known_hosts=other), setup)
    assert isinstance(error, HostKeyMismatch)
    assert error.attention


async def test_an_unknown_host_gets_nothing_from_us(access: SshAccess, setup: HelperSetup) -> None:
    empty = Path(setup.accounts_file).with_name("empty_known_hosts")
    empty.touch()
    assert isinstance(await refused(replace(access, known_hosts=empty), setup), HostKeyMismatch)


async def test_a_key_that_is_not_accepted_is_named(access: SshAccess, setup: HelperSetup, sshd: Sshd) -> None:
    assert isinstance(await refused(replace(access, key=sshd.other_key), setup), HostLoginRefused)


@pytest.mark.parametrize("content", [None, "no key at all\n"])
async def test_a_key_file_that_cannot_be_read_is_named(
    access: SshAccess, setup: HelperSetup, content: str | None
) -> None:
    key = Path(setup.accounts_file).with_name("key")
    if content is not None:
        key.write_text(content)
    assert isinstance(await refused(replace(access, key=key), setup), HostLoginRefused)


async def test_a_port_that_nobody_listens_on_is_unreachable(access: SshAccess, setup: HelperSetup) -> None:
    assert isinstance(await refused(replace(access, port=free_port()), setup), HostUnreachable)


@pytest.mark.parametrize(
    "command",
    [
        BOOTSTRAP.replace("python3", "python3-that-is-not-there"),
        "echo Welcome to this machine, please behave yourself at all times; " + BOOTSTRAP,
        "exit 0",
    ],
    ids=["no Python", "a talkative shell", "no shell"],
)
async def test_a_host_on_which_the_helper_cannot_run_says_so(
    access: SshAccess, setup: HelperSetup, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BOOTSTRAP", command)
    with pytest.raises(HelperFailed) as caught:
        await start_helper(access, setup)
    assert "python3" in caught.value.hint


async def test_a_server_that_never_opens_the_session_is_given_up(
    sshd: Sshd, setup: HelperSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wire_to(sshd.port) as wire:
        known_hosts = tmp_path / "wire_known_hosts"
        known_hosts.write_text(sshd.known_hosts.read_text().replace(f":{sshd.port} ", f":{wire.port} "))
        connect = ssh.connect

        async def silent_once_connected(access: SshAccess) -> asyncssh.SSHClientConnection:
            connection = await connect(access)
            wire.silent = True
            monkeypatch.setattr(ssh, "CONNECT_TIMEOUT", 0.01)
            return connection

        monkeypatch.setattr(ssh, "connect", silent_once_connected)
        # Less than the keep-alive of the connection needs to find out.
        async with asyncio.timeout(30):
            access = SshAccess("127.0.0.1", wire.port, sshd.user, sshd.key, known_hosts)
            assert isinstance(await refused(access, setup), HelperFailed)
