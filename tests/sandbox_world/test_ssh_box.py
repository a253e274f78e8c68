"""The SSH boxes of the embedded world, seen by a client."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncssh
import pytest

from tests.support.proc import alive, ended
from twinline.sandbox import ssh_box
from twinline.sandbox.ssh_box import HOST, SshBox

FIVE_MEGABYTES = 5_000_000


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[SshBox]:
    box = SshBox(tmp_path / "box", client_key=tmp_path / "client_key")
    await box.start()
    yield box
    await box.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box that gives commands little time to end by themselves."""
    monkeypatch.setattr(ssh_box, "END_SECONDS", 0.05)


def connect(
    box: SshBox, *, key: Path | None = None, user: str = "twinline", known_hosts: str | None = None
) -> AbstractAsyncContextManager[asyncssh.SSHClientConnection]:
    return asyncssh.connect(
        HOST,
        box.port,
        username=user,
        client_keys=[str(key or box.client_key)],
        known_hosts=asyncssh.import_known_hosts(known_hosts or box.known_hosts_line),
        agent_path=None,
        config=None,
    )


async def started(client: asyncssh.SSHClientConnection, command: str) -> "asyncssh.SSHClientProcess[bytes]":
    return await client.create_process(command, encoding=None)


async def said_pid(process: "asyncssh.SSHClientProcess[bytes]") -> int:
    return int(await process.stdout.readline())


async def test_five_megabytes_of_any_bytes_go_in_and_come_back(box: SshBox) -> None:
    sent = os.urandom(FIVE_MEGABYTES)
    async with connect(box) as client:
        result = await client.run("cat", input=sent, encoding=None)
    assert result.stdout == sent
    assert result.exit_status == 0


async def test_a_command_that_reads_late_gets_every_byte(box: SshBox) -> None:
    async with connect(box) as client:
        await client.run("mkfifo go", check=True)
        process = await started(client, "read line < go; wc -c")
        process.stdin.write(bytes(FIVE_MEGABYTES))
        process.stdin.write_eof()
        # Another command can run although this one's input is full.
        await client.run("echo > go", check=True)
        assert int(await process.stdout.read()) == FIVE_MEGABYTES


async def test_output_before_the_end_arrives_although_the_client_reads_late(box: SshBox) -> None:
    async with connect(box) as client:
        process = await started(client, f"head -c {FIVE_MEGABYTES} /dev/zero; echo done >&2")
        written = bytearray()
        while len(written) < FIVE_MEGABYTES:
            written += await process.stdout.read(1_000)
            await asyncio.sleep(0)
        assert await process.stdout.read() == b""
        assert await process.stderr.read() == b"done\n"


async def test_status_and_error_output_arrive(box: SshBox) -> None:
    async with connect(box) as client:
        result = await client.run("echo oops >&2; exit 7")
    assert (result.exit_status, result.stdout, result.stderr) == (7, "", "oops\n")


async def test_a_command_runs_in_the_home_of_its_user(box: SshBox, tmp_path: Path) -> None:
    async with connect(box) as client:
        result = await client.run('echo "$USER $HOME"; pwd; env')
    assert str(result.stdout).splitlines()[:2] == [f"twinline {tmp_path}/box/home", f"{tmp_path}/box/home"]
    assert "PYTEST" not in str(result.stdout)


async def test_a_command_that_was_killed_says_by_which_signal(box: SshBox) -> None:
    async with connect(box) as client:
        result = await client.run("kill -KILL $$")
    assert result.exit_signal is not None
    assert result.exit_signal[0] == "KILL"


async def test_a_signal_from_the_client_reaches_the_command(box: SshBox) -> None:
    async with connect(box) as client:
        process = await started(client, "echo $$; exec sleep 600")
        await said_pid(process)
        process.terminate()
        result = await process.wait()
    assert result.exit_signal is not None
    assert result.exit_signal[0] == "TERM"


async def test_many_commands_run_beside_each_other_on_one_connection(box: SshBox) -> None:
    async with connect(box) as client:
        results = await asyncio.gather(*(client.run("cat", input=str(number)) for number in range(8)))
    assert [result.stdout for result in results] == [str(number) for number in range(8)]


async def test_another_key_is_refused(box: SshBox, tmp_path: Path) -> None:
    other = SshBox(tmp_path / "other", client_key=tmp_path / "other_key")
    await other.start()
    await other.stop()
    with pytest.raises(asyncssh.PermissionDenied):
        async with connect(box, key=other.client_key):
            pass


async def test_another_user_is_refused(box: SshBox) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        async with connect(box, user="root"):
            pass


async def test_a_changed_host_key_is_noticed_by_the_client(box: SshBox, tmp_path: Path) -> None:
    other = SshBox(tmp_path / "other", client_key=tmp_path / "other_key")
    await other.start()
    await other.stop()
    line = other.known_hosts_line.replace(str(other.port), str(box.port))
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        async with connect(box, known_hosts=line):
            pass


async def test_nothing_but_commands_is_served(box: SshBox) -> None:
    async with connect(box) as client:
        assert (await client.run()).exit_status == 1
        assert (await client.run(subsystem="files")).exit_status == 1
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.run(subsystem="sftp")
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.create_connection(asyncssh.SSHTCPSession[bytes], HOST, box.port)
        with pytest.raises(asyncssh.ChannelListenError):
            await client.forward_remote_port("", 0, HOST, box.port)
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.run("true", term_type="xterm")


async def test_a_dropped_connection_is_the_end_of_input(box: SshBox, tmp_path: Path) -> None:
    async with connect(box) as client:
        process = await started(client, "echo $$; cat > /dev/null; echo orderly > end")
        pid = await said_pid(process)
        box.drop_connections()
        with pytest.raises(asyncssh.ConnectionLost):
            await process.stdout.read()
        await ended([pid])
    assert (tmp_path / "box" / "home" / "end").read_text() == "orderly\n"


async def test_answers_that_nobody_reads_do_not_keep_a_command_from_ending(box: SshBox, tmp_path: Path) -> None:
    async with connect(box) as client:
        process = await started(client, f"echo $$; cat; head -c {FIVE_MEGABYTES} /dev/zero; echo orderly > end")
        pid = await said_pid(process)
        box.drop_connections()
        await ended([pid])
    assert (tmp_path / "box" / "home" / "end").read_text() == "orderly\n"


@pytest.mark.usefixtures("impatient")
async def test_a_dropped_connection_ends_a_command_that_does_not_listen(box: SshBox) -> None:
    async with connect(box) as client:
        process = await started(client, "trap '' HUP TERM; echo $$; while :; do sleep 600; done")
        pid = await said_pid(process)
        box.drop_connections()
        await ended([pid])


@pytest.mark.usefixtures("impatient")
async def test_what_a_command_has_started_ends_with_it(box: SshBox) -> None:
    async with connect(box) as client:
        process = await started(client, "sleep 600 & echo $!; wait")
        pid = await said_pid(process)
        assert alive(pid)
        box.drop_connections()
        await ended([pid])


@pytest.mark.usefixtures("impatient")
async def test_closing_one_channel_ends_its_command_only(box: SshBox) -> None:
    async with connect(box) as client:
        closed, kept = await started(client, "echo $$; sleep 600"), await started(client, "echo $$; cat")
        pid, kept_pid = await said_pid(closed), await said_pid(kept)
        closed.close()
        await ended([pid])
        assert alive(kept_pid)
        kept.stdin.write_eof()
        assert (await kept.wait()).exit_status == 0


async def test_a_box_that_refuses_keeps_its_connections_and_its_port(box: SshBox) -> None:
    port = box.port
    async with connect(box) as client:
        await box.refuse(on=True)
        with pytest.raises(ConnectionRefusedError):
            async with connect(box):
                pass
        assert (await client.run("echo here")).stdout == "here\n"
        await box.refuse(on=False)
    async with connect(box) as client:
        assert (await client.run("echo back")).stdout == "back\n"
    assert box.port == port


@pytest.mark.usefixtures("impatient")
async def test_a_stopped_box_has_ended_its_commands_and_starts_again_with_its_keys(box: SshBox) -> None:
    line = box.known_hosts_line
    async with connect(box) as client:
        process = await started(client, "echo $$; exec sleep 600")
        pid = await said_pid(process)
        await box.stop()
        assert not alive(pid)
    await box.start()
    assert box.known_hosts_line == line
    async with connect(box) as client:
        assert (await client.run("true")).exit_status == 0


async def test_keys_are_for_their_owner_only(box: SshBox, tmp_path: Path) -> None:
    for key in (box.client_key, tmp_path / "box" / "host_key"):
        assert key.stat().st_mode & 0o777 == 0o600
