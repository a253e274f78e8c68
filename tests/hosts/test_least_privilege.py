"""A host as docs/hosts.md sets it up: a user that may start the helper on two files, and nothing else."""

import asyncio
import os
import shlex
import stat
import subprocess
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, cast

import asyncssh
import pytest
import pytest_asyncio

from tests.hosts.conftest import PROTOCOLS
from tests.hosts.judge import kind_of
from tests.hosts.lab import FAR, FOREIGN, STATUS_PASSWORD, Lab, run_lab
from tests.support.root import require_root
from tests.support.sshd import Sshd, run_sshd
from tests.support.users import reserved_user
from twinline.hosts import ssh
from twinline.hosts.check import Verdict
from twinline.hosts.errors import FileTrouble, HelperRefused
from twinline.hosts.factory import access_for, allowance_of, helper_for, setup_for
from twinline.hosts.forced import LAUNCHER, authorized_line, forced_command, helper_hash
from twinline.hosts.inspection import inspect_host
from twinline.hosts.ports import Wanted
from twinline.hosts.ssh import BOOTSTRAP, REFUSED, helper_source, start_helper
from twinline.inventory import Host
from twinline.messages import Protocol
from twinline.sandbox.receiver import LoginRefused

SCRIPT: Final = Path(__file__).resolve().parents[2] / "deploy" / "prepare-host.sh"
NAME, OLD, NEW = "rosewood22", "pw23456789abcdef", "new3456789abcdef"


@dataclass(frozen=True)
class Machine:
    """This machine as a host: who is to log in, where they live, and the sshd that lets them in."""

    user: str
    folder: Path
    sshd: Sshd

    @property
    def authorized_keys(self) -> Path:
        return self.folder / "home" / ".ssh" / "authorized_keys"

    @property
    def public_key(self) -> str:
        return self.sshd.key.with_suffix(".pub").read_text().strip()

    async def prepare(self, host: Host, *words: object, hashes: Sequence[str] = ()) -> str:
        """Run the script of `deploy/` as the operator does; what it said at the end."""
        code, out, err = await self.run_script(host, *words, line=self.line_for(host, hashes))
        assert (code, err) == (0, "")
        return out

    async def run_script(self, host: Host, *words: object, line: str, **more: str) -> tuple[int | None, str, str]:
        """Exit code and what was said."""
        variables: Mapping[str, object] = {
            "TWINLINE_USER": self.user,
            "TWINLINE_HOME": self.folder / "home",
            "TWINLINE_STATE": host.state_dir,
            **more,
        }
        process = await asyncio.create_subprocess_exec(
            *("sh", str(SCRIPT), *map(str, words)),
            env={**os.environ, **{name: str(value) for name, value in variables.items()}},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate(line.encode() + b"\n")
        return process.returncode, out.decode(), err.decode()

    def line_for(self, host: Host, hashes: Sequence[str] = ()) -> str:
        return authorized_line(self.public_key, allowance_of(host), hashes or (helper_hash(),))

    def may(self, *command: object) -> bool:
        """Whether a command succeeds for the user, on the host itself."""
        words = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups", *map(str, command)]
        return subprocess.run(words, check=False, capture_output=True).returncode == 0

    async def client(self) -> asyncssh.SSHClientConnection:
        """Somebody who has got hold of the key."""
        return await ssh.connect(
            ssh.SshAccess("127.0.0.1", self.sshd.port, self.user, self.sshd.key, self.sshd.known_hosts)
        )


@pytest_asyncio.fixture(scope="module")
async def machine() -> AsyncIterator[Machine]:
    """One for all tests: each prepares it anew, for a host of its own."""
    require_root()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made, reserved_user() as user:
        folder = Path(made)
        folder.chmod(0o755)
        async with run_sshd(folder / "sshd", user=user) as sshd:
            yield Machine(user, folder, sshd)


@asynccontextmanager
async def prepared_lab(machine: Machine, protocol: Protocol, *, own_folder: bool) -> AsyncGenerator[Lab]:
    """A daemon of root's whose host was prepared as deploy/prepare-host.sh does it."""
    place = Path(tempfile.mkdtemp(dir=machine.folder))
    place.chmod(0o755)
    moves_to = place / "accounts" / "oscam.user" if own_folder else None
    async with run_lab(protocol, place / "host", machine.sshd, moves_to=moves_to) as lab:
        for settings in (*lab.folder.glob("*.cfg"), *lab.folder.glob("*.conf")):
            settings.chmod(0o600)
        said = await machine.prepare(lab.host, *words_for(lab))
        assert f"accounts_file {lab.host.accounts_file}," in said
        yield lab


def words_for(lab: Lab) -> list[object]:
    """What the script is told about a host."""
    moved = [lab.accounts.parent] if lab.accounts.parent != lab.folder else []
    return [lab.host.protocol, lab.folder / lab.accounts.name, *moved]


@pytest_asyncio.fixture(params=PROTOCOLS)
async def lab(request: pytest.FixtureRequest, machine: Machine) -> AsyncIterator[Lab]:
    protocol = cast("Protocol", request.param)
    async with prepared_lab(machine, protocol, own_folder=protocol == "oscam") as lab:
        yield lab


@pytest_asyncio.fixture
async def multics(machine: Machine) -> AsyncIterator[Lab]:
    async with prepared_lab(machine, "multics", own_folder=False) as lab:
        yield lab


def foreign_of(lab: Lab) -> bytes:
    """The bytes of everybody else in the accounts file."""
    data = lab.accounts.read_bytes()
    return data[: len(FOREIGN[lab.host.protocol])]


async def refused_login(lab: Lab, password: str) -> bool:
    try:
        async with await lab.login(NAME, password):
            return False
    except LoginRefused:
        return True


async def test_a_whole_life_goes_through_with_nothing_but_two_files(lab: Lab, machine: Machine) -> None:
    inode = lab.accounts.stat().st_ino
    neighbour = await lab.login("oldtom", "tompass1")

    await lab.bring(lab.ledger.want(NAME, OLD))
    # To prepare the host again does no harm.
    await machine.prepare(lab.host, *words_for(lab))
    session = await lab.login(NAME, OLD)
    await lab.bring(lab.ledger.change(NAME, ends_at=FAR + timedelta(days=30)))
    await session.ping()

    await lab.bring(lab.ledger.change(NAME, wanted=Wanted.BLOCKED))
    await session.closed.wait()
    assert await refused_login(lab, OLD)

    await lab.bring(lab.ledger.change(NAME, wanted=Wanted.PRESENT))
    session = await lab.login(NAME, OLD)
    await lab.bring(lab.ledger.change(NAME, password=NEW))
    await session.closed.wait()
    assert await refused_login(lab, OLD)
    session = await lab.login(NAME, NEW)

    await lab.bring(lab.ledger.change(NAME, wanted=Wanted.ABSENT))
    await session.closed.wait()
    assert await refused_login(lab, NEW)

    await neighbour.ping()
    assert lab.accounts.stat().st_ino == inode
    assert foreign_of(lab) == FOREIGN[lab.host.protocol]
    assert not lab.ledger.failures
    assert (lab.accounts.owner(), lab.accounts.group()) == (machine.user, "root")


async def test_the_user_can_read_and_write_nothing_else_there(lab: Lab, machine: Machine) -> None:
    settings = lab.folder / ("multics.cfg" if lab.host.protocol == "multics" else "oscam.conf")
    assert machine.may("test", "-w", lab.accounts)
    assert not machine.may("cat", settings)
    assert not machine.may("tee", "-a", settings)
    assert not machine.may("touch", lab.folder / "fresh")
    assert not machine.may("mv", settings, lab.folder / "aside")
    assert not machine.may("tee", "-a", machine.authorized_keys)
    assert not machine.may("touch", machine.folder / "home" / ".profile")
    assert stat.S_IMODE((lab.folder / "state").stat().st_mode) == 0o700


async def test_the_key_opens_no_shell_no_program_no_file_transfer_and_no_tunnel(multics: Lab, machine: Machine) -> None:
    canary = machine.folder / "home" / "ran"
    programs = [b"open('/tmp/ran', 'w')", helper_source() + b"\n", b"", helper_source()[:-1]]
    async with await machine.client() as client:
        for command, sent in [
            ("id", b""),
            (None, b"id\n"),
            ("/bin/sh -c id", b"id\n"),
            (f"touch {canary}", b""),
            ("python3 -c 1 # twinline-helper", b"99999999\nmore"),
            ("python3 -c 1 # twinline-helper", b"-1\n"),
            *((BOOTSTRAP, b"%d\n" % len(program) + program) for program in programs),
        ]:
            done = await client.run(command, input=sent, encoding=None)
            assert (done.exit_status, done.stdout) == (1, b""), (command, sent[:20])
            assert cast("bytes", done.stderr).startswith(REFUSED.encode())
        with pytest.raises(asyncssh.Error):
            await client.start_sftp_client()
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.create_connection(asyncssh.SSHTCPSession[bytes], "127.0.0.1", multics.client_port)
        with pytest.raises(asyncssh.ChannelListenError):
            await client.forward_remote_port("127.0.0.1", 0, "127.0.0.1", multics.client_port)
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.create_process(BOOTSTRAP, term_type="xterm")
    assert not canary.exists()


async def test_the_allowed_program_serves_no_other_file_and_starts_no_shell(multics: Lab) -> None:
    access, setup = access_for(multics.host), setup_for(multics.host)
    with pytest.raises(HelperRefused, match="another accounts_file"):
        await start_helper(access, replace(setup, accounts_file="/etc/passwd"))
    helper = await helper_for(multics.host)
    assert helper.hello["bound"]
    shell = {"method": "argv", "path": "", "pid_file": "", "argv": ["/bin/sh", "-c", "id"]}
    with pytest.raises(HelperRefused, match="another reload"):
        await helper.ask("probe", {"token": [1, 1], "probes": [], "deadline": 0.0, "trigger": shell})
    await helper.close()


async def test_another_version_is_refused_until_the_line_allows_both(multics: Lab, machine: Machine) -> None:
    old = "0" * 64
    await machine.prepare(multics.host, *words_for(multics), hashes=[old])
    with pytest.raises(HelperRefused, match="another version") as caught:
        await multics.bring(multics.ledger.want(NAME, OLD))
    assert caught.value.attention
    assert "twinline host authorize" in caught.value.hint
    assert multics.ledger.failures == [(NAME, "HelperRefused")]

    await machine.prepare(multics.host, *words_for(multics), hashes=[old, helper_hash()])
    assert (await multics.bring(multics.ledger.wanted[NAME])).revision == 1


async def test_the_check_says_what_this_user_can_not_see_and_finds_nothing_wrong(lab: Lab) -> None:
    await lab.bring(lab.ledger.want(NAME, OLD))
    findings = await inspect_host(lab.host, ledgered=None, capacity=None, prove_with=lab.ledger)
    found = {one.item: one for one in findings}
    assert [(one.item, one.message) for one in findings if one.verdict is not Verdict.OK] == []
    assert found["key's limits"].message == "it starts this helper for this host's files, and nothing else"
    assert found["reload"].message.startswith("proven just now")
    assert "processes of others can't be looked into" in found["other writers"].message
    assert "the daemon's process can't be seen" in found["time zone"].message
    if lab.host.protocol == "multics":
        assert found["HTTP EDITOR"].message.startswith("can't be seen: only the daemon's process tells")
    else:
        # The web API tells what oscam.conf does not.
        assert found["httpreadonly"].message.startswith("0: ")
    for secret in (OLD, STATUS_PASSWORD):
        assert secret not in str(findings)


async def test_a_folder_that_can_not_be_written_to_is_told_before_it_matters(machine: Machine) -> None:
    async with prepared_lab(machine, "oscam", own_folder=False) as lab:
        findings = await inspect_host(lab.host, ledgered=None, capacity=None)
        (folder,) = [one for one in findings if one.item == "folder"]
        assert (folder.verdict, "deploy/prepare-host.sh" in folder.hint) == (Verdict.WARN, True)


async def test_the_script_changes_nothing_when_it_is_told_something_wrong(multics: Lab, machine: Machine) -> None:
    file, line = multics.accounts, machine.line_for(multics.host)
    link = file.with_name("link.cfg")
    link.symlink_to(file)
    keys = machine.authorized_keys.read_bytes()
    for words, said in (
        (("multics",), "write: prepare-host.sh"),
        (("multics", file, "/folder"), "write: prepare-host.sh"),
        (("multics", file.with_name("nowhere")), "there is no accounts file"),
    ):
        code, out, err = await machine.run_script(multics.host, *words, line=line)
        assert (code, out) == (1, "")
        assert said in err
    code, _, err = await machine.run_script(multics.host, "multics", file, line="ssh-ed25519 AAAA")
    assert (code, "twinline host authorize" in err) == (1, True)
    code, _, err = await machine.run_script(multics.host, "multics", file, line=line, TWINLINE_USER="root")
    assert (code, "a user of its own" in err) == (1, True)
    code, _, err = await machine.run_script(multics.host, "multics", link, line=line)
    assert (code, "name the file itself" in err) == (1, True)
    assert machine.authorized_keys.read_bytes() == keys


async def test_a_daemon_with_a_user_of_its_own_keeps_its_access(multics: Lab, machine: Machine) -> None:
    file, line = multics.accounts, machine.line_for(multics.host)
    os.chown(file, 65534, 65534)
    code, _, err = await machine.run_script(multics.host, "multics", file, line=line)
    assert (code, "set DAEMON_GROUP" in err) == (1, True)
    assert file.stat().st_uid == 65534
    # With the group once, and again without naming it.
    for more in ({"DAEMON_GROUP": "nogroup"}, {}):
        assert (await machine.run_script(multics.host, "multics", file, line=line, **more))[0] == 0
        assert (file.owner(), file.group(), stat.S_IMODE(file.stat().st_mode)) == (machine.user, "nogroup", 0o640)


# --- OSCam's own web pages as a second writer


async def web_save(lab: Lab) -> bytes:
    """Somebody saves an account in OSCam's pages, which write the whole file anew; what stands in it then."""
    await lab.page("/user_edit.html?user=oldeve&action=Save&description=by+hand")
    data = lab.accounts.read_bytes()
    assert b"by hand" in data
    return data


async def test_a_rewritten_file_is_laid_out_again_in_the_folder_of_its_own(machine: Machine) -> None:
    async with prepared_lab(machine, "oscam", own_folder=True) as lab:
        await lab.bring(lab.ledger.want(NAME, OLD))
        before = lab.accounts.stat()
        await web_save(lab)

        await lab.bring(lab.ledger.want("birch22", OLD))

        after = lab.accounts.stat()
        assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
        assert after.st_ino != before.st_ino
        assert (lab.folder / "oscam.user").readlink() == lab.accounts
        assert [each.user for each in kind_of("oscam").served(lab.accounts.read_bytes())] == [
            *("oldtom", "oldeve", NAME, "birch22")
        ]
        assert list(lab.accounts.parent.iterdir()) == [lab.accounts]


async def test_without_a_folder_to_write_to_a_rewritten_file_is_left_as_it_is(machine: Machine) -> None:
    async with prepared_lab(machine, "oscam", own_folder=False) as lab:
        await lab.bring(lab.ledger.want(NAME, OLD))
        rewritten = await web_save(lab)

        with pytest.raises(FileTrouble, match=r"access denied \(replacing the accounts file"):
            await lab.bring(lab.ledger.want("birch22", OLD))

        assert lab.accounts.read_bytes() == rewritten
        assert not list(lab.folder.glob(".*"))
        async with await lab.login(NAME, OLD):
            pass


# --- the line


def test_whatever_the_words_are_the_command_has_them_whole(tmp_path: Path) -> None:
    words = ['/var/etc/it\'s "mine"', "back\\slash\\", "$(id) `id`", "ünï", "a b"]
    shown = forced_command(words, ["a" * 64, "b" * 64])
    python = "import sys; sys.stdout.buffer.write(chr(0).join(sys.argv).encode())"
    head, _, arguments = shown.partition(" -IBc ")
    assert head == "exec python3"
    code, *rest = shlex.split(arguments)
    assert code == LAUNCHER
    assert rest == ["a" * 64 + "," + "b" * 64, *words]
    done = subprocess.run(
        ["/bin/sh", "-c", shown.replace(shlex.quote(LAUNCHER), shlex.quote(python))], check=True, capture_output=True
    )
    assert done.stdout.decode().split("\0")[1:] == rest


def test_a_word_that_would_begin_another_line_is_refused() -> None:
    with pytest.raises(ValueError, match="not printable"):
        authorized_line("ssh-ed25519 AAAA", ["/a\nssh-ed25519 BBBB"], ["a" * 64])
