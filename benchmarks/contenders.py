"""Who is measured in `benchmarks.hosts`: two floors, ourselves, and what people use."""

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self

import asyncssh

from benchmarks.accounts import Accounts, behind
from benchmarks.edits import EditOnly, arrive
from benchmarks.rivals.dialogue import Door
from tests.support.sshd import Sshd
from twinline.hosts.daemon import Check
from twinline.hosts.factory import access_for, helper_for
from twinline.hosts.multics import MultiCS
from twinline.hosts.ports import Half
from twinline.hosts.ssh import connect
from twinline.hosts.writer import HostWriter
from twinline.inventory import Host
from twinline.sandbox.processes import dying_with_us, inherited_environment

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
RIVALS: Final = ROOT / ".venv-bench" / "bin"
"""Programs of the environment that `make bench-hosts` builds for those who are compared with us."""

HOST_PYTHON: Final = Path(sys.base_prefix) / "bin" / "python3"
"""The Python of the host, for everybody who needs one there."""

Design = Literal["ours", "ours, OSCam", "paramiko", "pyinfra", "Ansible", "Ansible, unsafe"]
OURS: Final[Sequence[Design]] = ("ours", "ours, OSCam")

MESSAGE: Final = b"x" * 300
"""About what one change is on the wire."""


class RivalFailed(Exception):
    """A program that is compared with us could not do what it was asked."""


class Contender(Protocol):
    """Somebody who changes records over one connection that is open already."""

    async def change(self, accounts: Accounts, halves: Sequence[Half]) -> float:
        """Bring these lines about, and say how many seconds that took."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


# -- floors


class KeptChannel:
    """The floor: a message that `cat` sends back through a channel that stays open."""

    def __init__(self, connection: asyncssh.SSHClientConnection, process: "asyncssh.SSHClientProcess[bytes]") -> None:
        self._connection = connection
        self._process = process

    @classmethod
    async def open(cls, host: Host) -> Self:
        """Connect and start `cat`."""
        connection = await connect(access_for(host))
        return cls(connection, await connection.create_process("exec cat", encoding=None))

    async def round_trip(self) -> float:
        """Seconds for one message there and back."""
        begun = time.perf_counter()
        self._process.stdin.write(MESSAGE)
        await self._process.stdout.readexactly(len(MESSAGE))
        return time.perf_counter() - begun

    async def exec_round_trip(self) -> float:
        """Seconds for a program that does nothing, in a session of its own on the same connection."""
        begun = time.perf_counter()
        await self._connection.run("true", check=True)
        return time.perf_counter() - begun

    async def close(self) -> None:
        """End the connection."""
        self._connection.close()
        await self._connection.wait_closed()


# -- ourselves


class UnwatchedMultiCS(MultiCS):
    """A host on which no daemon runs, so that nobody proves anything: what is measured is the edit."""

    def checks(self, half: Half) -> tuple[Check, ...]:
        """Nothing to look at."""
        del half
        return ()


class Ours:
    """The writer of a MultiCS host, as a worker runs it, with a ledger in memory."""

    def __init__(self, accounts: Accounts, host: Host) -> None:
        daemon = UnwatchedMultiCS(width=host.record_width, zone=host.timezone, server_id=host.server_id, deadline=0.0)
        self._writer = HostWriter(
            host.name, daemon=daemon, ledger=accounts.big.lines, start_helper=partial(helper_for, host)
        )

    async def change(self, accounts: Accounts, halves: Sequence[Half]) -> float:
        """All at once, as many workflows would."""
        del accounts
        begun = time.perf_counter()
        await asyncio.gather(*(self._writer.bring(half.line_id, half.revision) for half in halves))
        return time.perf_counter() - begun

    async def close(self) -> None:
        """End the connection."""
        await self._writer.close()


class OursAlone:
    """Plan and edit without a writer around them: an OSCam host has to be told to reload, and nobody is there."""

    def __init__(self, edits: EditOnly) -> None:
        self._edits = edits

    @classmethod
    async def open(cls, accounts: Accounts, host: Host) -> Self:
        """Connect and read the file."""
        _, helper, image = await arrive(host)
        return cls(EditOnly(accounts.big, helper, image))

    async def change(self, accounts: Accounts, halves: Sequence[Half]) -> float:
        """One batch."""
        del accounts
        begun = time.perf_counter()
        await self._edits.edit(halves)
        return time.perf_counter() - begun

    async def close(self) -> None:
        """End the connection."""
        await self._edits.helper.close()


# -- what people use


class Told:
    """A rival in a program of its own that keeps its connection and is told what to change, line by line."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def open(cls, python: Path, module: str, sshd: Sshd) -> Self:
        """Start the program and wait until it is connected."""
        process = await asyncio.create_subprocess_exec(
            *dying_with_us((str(python), "-m", f"benchmarks.rivals.{module}")),
            stdin=PIPE,
            stdout=PIPE,
            cwd=ROOT,
            env=inherited_environment(),
            limit=1 << 24,
        )
        told = cls(process)
        await told._ask(asdict(Door(sshd.port, sshd.user, str(sshd.key), str(sshd.known_hosts))))
        return told

    async def change(self, accounts: Accounts, halves: Sequence[Half]) -> float:
        """One batch; the program takes the time."""
        changes = [(change.username, change.record) for change in accounts.changes(halves)]
        return float((await self._ask({"path": str(accounts.path), "changes": changes}))["seconds"])

    async def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RivalFailed("a rival ended; its error stands above")
        return json.loads(line)

    async def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


class Ansible:
    """`lineinfile` in a play of its own for each batch, over OpenSSH's shared connection.

    Neither the start of `ansible-playbook` nor the first task, which opens the connection, is counted.
    """

    def __init__(self, sshd: Sshd, folder: Path, *, unsafe: bool) -> None:
        self._sshd = sshd
        self._folder = folder
        self._unsafe = unsafe

    @property
    def _environment(self) -> dict[str, str]:
        return inherited_environment() | {
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_FORKS": "5",
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=600s -o PreferredAuthentications=publickey "
            f"-o UserKnownHostsFile={self._sshd.known_hosts}",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._folder / "cp"),
            "ANSIBLE_HOME": str(self._folder / "ansible"),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "rivals" / "callbacks"),
            "ANSIBLE_STDOUT_CALLBACK": "task_times",
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_LOCALHOST_WARNING": "False",
        }

    async def change(self, accounts: Accounts, halves: Sequence[Half]) -> float:
        """One play; its second task is what counts."""
        changes = [(change.username, change.record) for change in accounts.changes(halves)]
        values = self._folder / "values.json"
        values.write_text(json.dumps({"path": str(accounts.path), "changes": changes, "unsafe": self._unsafe}))
        login = {
            "ansible_port": self._sshd.port,
            "ansible_user": self._sshd.user,
            "ansible_ssh_private_key_file": self._sshd.key,
            # As on a host whose facts are known: otherwise every play would look for Python first.
            "ansible_python_interpreter": HOST_PYTHON,
        }
        process = await asyncio.create_subprocess_exec(
            *dying_with_us((str(RIVALS / "ansible-playbook"), "-i", "127.0.0.1,")),
            *(word for name, value in login.items() for word in ("-e", f"{name}={value}")),
            *("-e", f"@{values}", str(HERE / "rivals" / "lineinfile.yml")),
            stdout=PIPE,
            env=self._environment,
            cwd=self._folder,
        )
        output, _ = await process.communicate()
        tasks = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
        if process.returncode != 0 or len(tasks) != 2:
            raise RivalFailed("ansible-playbook failed; its error stands above")
        return float(tasks[1]["seconds"])

    async def close(self) -> None:
        """End the shared connection."""
        for socket in (self._folder / "cp").iterdir():
            process = await asyncio.create_subprocess_exec(
                *("ssh", "-o", f"ControlPath={socket}", "-O", "exit", "x"), stderr=DEVNULL
            )
            await process.wait()


def rivals_missing() -> str | None:
    """What has to be there for the whole comparison, if it is not."""
    if not os.access(RIVALS / "ansible-playbook", os.X_OK):
        return "the environment of Ansible and pyinfra is missing: run `make bench-hosts`, which builds it"
    return None


async def opened(design: Design, accounts: Accounts, sshd: Sshd, port: int, folder: Path) -> Contender:
    """Open a contender's connection through the relay at this port."""
    folder.mkdir(parents=True)
    door = behind(sshd, port, folder)
    host = accounts.host_behind(door.port, door.known_hosts)
    match design:
        case "ours":
            return Ours(accounts, host)
        case "ours, OSCam":
            return await OursAlone.open(accounts, host)
        case "paramiko":
            return await Told.open(Path(sys.executable), "paramiko_rewrite", door)
        case "pyinfra":
            return await Told.open(RIVALS / "python", "pyinfra_line", door)
        case "Ansible" | "Ansible, unsafe":
            return Ansible(door, folder, unsafe=design != "Ansible")
