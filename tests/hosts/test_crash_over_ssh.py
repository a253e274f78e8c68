"""The real thing dies in the middle of an edit: helper, SSH connection, worker, or the whole host with its daemon.

Through a real sshd, at system calls that a run of the same edit without any mishap was seen to make. A seeded sample
here, more in `make soak`; the seed stands in the name of each case, CRASH_SEED sets another.
"""

import asyncio
import json
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, Self

import pytest

from tests.hosts.between import Wire, helpers_below, through, wire_to
from tests.hosts.crash_worker import HALVES
from tests.hosts.crashes import Driver, Step
from tests.hosts.files import END
from tests.hosts.judge import KINDS, kind_of
from tests.hosts.lab import FAST, FOREIGN, STATUS_PASSWORD, Lab, run_lab
from tests.hosts.law import Law
from tests.hosts.playing import SEED
from tests.support.proc import descendants, ended
from tests.support.sshd import Sshd, die_with_parent
from twinline.hosts.errors import HelperFailed, HostError, LockHeld
from twinline.hosts.factory import access_for, daemon_for, setup_for, writer_for
from twinline.hosts.ports import Half, Wanted
from twinline.hosts.ssh import start_helper
from twinline.hosts.writer import HostWriter
from twinline.messages import Protocol
from twinline.sandbox.receiver import LoginRefused

NAME, OTHER, OLD, NEW = "rosewood22", "ash22222222", "pw23456789abcdef", "new3456789abcdef"


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, lab: Lab) -> Self:
        """Start one that may write to the host."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.hosts.crash_worker", stdin=PIPE, stdout=PIPE, preexec_fn=die_with_parent
        )
        host = lab.host.model_dump(mode="json", exclude_unset=True)
        host["status"]["password"] = STATUS_PASSWORD
        started = cls(process)
        started.say(json.dumps({"host": host, "number": lab.ledger.number}).encode())
        return started

    def say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")

    async def bring(self, half: Half) -> None:
        """Have it bring something about; raises HelperFailed, or ConnectionError when it has ended."""
        assert self._process.stdout is not None
        self.say(HALVES.dump_json(half))
        answer = await self._process.stdout.readline()
        if not answer:
            # Nobody to try it again.
            raise ConnectionError("the worker has ended")
        if answer != f"{half.revision}\n".encode():
            raise HelperFailed(answer.decode())

    async def kill(self) -> None:
        """End it at once."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


class DaemonProcess:
    """The host's daemon in a process of its own."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, lab: Lab) -> Self:
        """Start it on the files as they stand, and wait until it serves."""
        folder, protocol = lab.folder, lab.host.protocol
        files = ("-C", folder / "multics.cfg") if protocol == "multics" else ("-c", folder, "--pidfile", folder / "pid")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"twinline.sandbox.{protocol}", *files),
            *("--timescale", str(FAST), "--log", folder / "log"),
            stdout=PIPE,
            preexec_fn=die_with_parent,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return cls(process)

    async def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        await self._process.wait()


@dataclass
class Host:
    """A host with its daemon, and a worker at the other end of a wire."""

    lab: Lab
    sshd: Sshd
    wire: Wire
    driver: Driver
    writer: HostWriter
    worker: WorkerProcess | None = None
    """Who brings everything about instead of the writer, if there is one."""
    daemon: DaemonProcess | None = None
    """What serves instead of the lab's daemon, if there is one."""
    before: bytes = b""
    halves: list[Half] = field(default_factory=list[Half])
    """What is to be brought about."""

    @property
    def law(self) -> Law:
        """What may stand in the file."""
        return Law.of(kind_of(self.lab.host.protocol), self.before, self.halves, copies=2)

    def check(self) -> None:
        """Fail if a daemon that reads the file now does anything wrong to anybody (I3, I4)."""
        found = self.lab.accounts.read_bytes()
        self.law.check(found)
        assert FOREIGN[self.lab.host.protocol] in found

    def helper_pid(self) -> int:
        """The one helper that runs."""
        (pid,) = helpers_below(self.sshd)
        return pid

    async def bring_once(self, half: Half) -> None:
        """A try to bring something about."""
        if self.worker is not None:
            await self.worker.bring(half)
        else:
            await self.writer.bring(half.line_id, half.revision)

    async def bring(self, half: Half) -> None:
        """Bring something about, however often it takes."""
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.bring_once(half)
                except HostError:
                    continue
                return

    async def scrubbed(self) -> None:
        """Wait until nothing is left of what was removed, which nobody says."""
        gone = [half.username.encode() for half in self.halves if half.wanted is Wanted.ABSENT]
        async with asyncio.timeout(60):
            while any(name in self.lab.accounts.read_bytes() for name in gone):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@asynccontextmanager
async def a_host(protocol: Protocol, folder: Path, sshd: Sshd, driver: Driver) -> AsyncGenerator[Host]:
    async with run_lab(protocol, folder / "host", sshd) as lab, wire_to(sshd.port) as wire:
        writer = writer_for(through(lab.host, wire=wire, known_hosts=folder / "host" / "known_hosts"), lab.ledger)
        host = Host(lab, sshd, wire, driver, writer)
        try:
            yield host
        finally:
            await writer.close()
            for process in (host.worker, host.daemon):
                if process is not None:
                    await process.kill()
            await ended(helpers_below(sshd))


# --- edits


async def add(host: Host) -> Half:
    return host.lab.ledger.want(NAME, OLD, ends_at=END)


def change_of(**changes: object) -> Callable[[Host], Awaitable[Half]]:
    async def change(host: Host) -> Half:
        await host.bring(host.lab.ledger.want(NAME, OLD, ends_at=END))
        return host.lab.ledger.change(NAME, **changes)

    return change


async def unblock(host: Host) -> Half:
    await host.bring(host.lab.ledger.want(NAME, OLD, ends_at=END))
    await host.bring(host.lab.ledger.change(NAME, wanted=Wanted.BLOCKED))
    return host.lab.ledger.change(NAME, wanted=Wanted.PRESENT)


async def out_of_place(host: Host) -> Half:
    """A new layout for OSCam, and a record to be mended for MultiCS."""
    half = await change_of(ends_at=END + timedelta(days=400))(host)
    top = {"multics": b"F: handmade handpass1\n", "oscam": b"# a line more\n"}[host.lab.host.protocol]
    host.lab.accounts.write_bytes(top + host.lab.accounts.read_bytes())
    return half


EDITS: Final[dict[str, Callable[[Host], Awaitable[Half]]]] = {
    "add": add,
    "block": change_of(wanted=Wanted.BLOCKED),
    "unblock": unblock,
    "renew": change_of(ends_at=END + timedelta(days=400)),
    "password": change_of(password=NEW),
    "remove and scrub": change_of(wanted=Wanted.ABSENT),
    "out of place": out_of_place,
}


async def prepare(host: Host, edit: str) -> Half:
    """Have the host at the point where an edit begins, with a helper that waits for it."""
    await host.bring(host.lab.ledger.want(OTHER, OLD, ends_at=END))
    half = await EDITS[edit](host)
    host.before = host.lab.accounts.read_bytes()
    host.halves = [half]
    return half


_steps: dict[tuple[str, str], Sequence[Step]] = {}


async def steps_of(protocol: Protocol, edit: str, folder: Path, sshd: Sshd, driver: Driver) -> Sequence[Step]:
    """Every call on the host's files by which the real helper carries an edit out, as the kernel tells them."""
    if (protocol, edit) not in _steps:
        async with a_host(protocol, folder / "trace", sshd, driver) as host:
            half = await prepare(host, edit)
            await asyncio.to_thread(driver.attach, host.helper_pid(), host.lab.folder, None)
            watching = asyncio.create_task(asyncio.to_thread(driver.held))
            await host.bring(half)
            await host.scrubbed()
            await host.writer.close()
            report = await watching
        files = (host.lab.accounts.name, "state/journal.0", "state/journal.1", "state/kick.new", "answers")
        _steps[protocol, edit] = [call.step for call in report.calls if call.step.target in files]
    return _steps[protocol, edit]


# --- mishaps


async def the_helper_dies(host: Host) -> None:
    await asyncio.to_thread(host.driver.release, kill=True)


async def the_connection_is_cut(host: Host) -> None:
    """The helper goes on, and nobody hears its answer."""
    host.wire.cut()
    await let_the_helper_end(host)


async def the_worker_dies(host: Host) -> None:
    assert host.worker is not None
    await host.worker.kill()
    host.worker = None
    host.lab.ledger.number += 1_000
    await let_the_helper_end(host)


async def the_host_dies(host: Host) -> None:
    """Its SSH sessions, the helper and the daemon at once; the daemon then starts on the file as it stands."""
    assert host.daemon is not None
    await host.daemon.kill()
    pids = descendants(host.sshd.pid)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(host.driver.release, kill=True)
    await ended(pids)
    host.daemon = await DaemonProcess.start(host.lab)


async def let_the_helper_end(host: Host) -> None:
    pids = helpers_below(host.sshd)
    await asyncio.to_thread(host.driver.release)
    await ended(pids)


Mishap = Callable[[Host], Awaitable[None]]
MISHAPS: Final[Sequence[Mishap]] = (the_helper_dies, the_connection_is_cut, the_worker_dies, the_host_dies)


async def check_mishap(host: Host, edit: str, step: Step, mishap: Mishap) -> None:
    """Let something happen in the middle of an edit, and see what that leaves and comes to."""
    if mishap is the_worker_dies:
        host.worker = await WorkerProcess.start(host.lab)
    if mishap is the_host_dies:
        await host.lab.daemon.stop()
        host.daemon = await DaemonProcess.start(host.lab)
    half = await prepare(host, edit)
    inode = host.lab.accounts.stat().st_ino
    await asyncio.to_thread(host.driver.attach, host.helper_pid(), host.lab.folder, step)
    bringing = asyncio.create_task(host.bring_once(half))
    # The file is not looked at while the helper stands still: it may have a lease on it, and opening it would wait.
    await asyncio.to_thread(host.driver.held)

    await mishap(host)

    with suppress(HostError, ConnectionError):
        await bringing
    host.check()
    await check_who_gets_in(host)
    await check_converges(host, half)
    assert host.lab.accounts.stat().st_ino == inode or host.lab.host.protocol == "oscam"


async def check_who_gets_in(host: Host) -> None:
    """The running daemon lets in everybody else, and our line by no password but its own."""
    for user, password in (("oldtom", "tompass1"), ("oldeve", "evepass1"), (OTHER, OLD)):
        await (await host.lab.login(user, password)).leave()
    for password in ("", "x", OLD[:-1]):
        with pytest.raises(LoginRefused):
            await host.lab.login(NAME, password)


async def check_converges(host: Host, half: Half) -> None:
    """The next worker brings about what the ledger wants, and the daemon's customers see it."""
    await host.bring(half)
    # A batch that finds nothing of ours to do but what was left over.
    host.halves.append(host.lab.ledger.change(OTHER))
    await host.bring(host.halves[-1])
    await host.scrubbed()
    host.check()
    host.law.check_done(host.lab.accounts.read_bytes())
    served = half.wanted is Wanted.PRESENT
    if served:
        async with await host.lab.login(NAME, half.password) as session:
            await session.ping()
    for password in {OLD, NEW} - ({half.password} if served else set[str]()):
        with pytest.raises(LoginRefused):
            await host.lab.login(NAME, password)


def named(value: object) -> str:
    return getattr(value, "__name__", str(value))


every_kind = pytest.mark.parametrize("protocol", [kind.protocol for kind in KINDS])
every_mishap = pytest.mark.parametrize("mishap", MISHAPS, ids=named)


async def check_one(
    protocol: Protocol, edit: str, mishap: Mishap, seed: int, folder: Path, sshd: Sshd, driver: Driver
) -> None:
    luck = random.Random(f"{seed} {protocol} {edit} {named(mishap)}")  # noqa: S311 - a sample, not a secret
    step = luck.choice(await steps_of(protocol, edit, folder, sshd, driver))
    try:
        async with a_host(protocol, folder / str(seed), sshd, driver) as host:
            await check_mishap(host, edit, step, mishap)
    except BaseException as error:
        error.add_note(f"over {edit}, before {step}")
        raise


@pytest.mark.parametrize(
    ("protocol", "mishap"), [(KINDS[number % 2].protocol, mishap) for number, mishap in enumerate(MISHAPS)]
)
@pytest.mark.parametrize("seed", [SEED], ids=lambda seed: f"seed{seed}")
async def test_whatever_dies_in_an_edit_the_next_worker_makes_it_good(
    protocol: Protocol, mishap: Mishap, seed: int, folder: Path, sshd: Sshd, driver: Driver
) -> None:
    luck = random.Random(f"{seed} {protocol} {named(mishap)}")  # noqa: S311 - a sample, not a secret
    await check_one(protocol, luck.choice(list(EDITS)), mishap, seed, folder, sshd, driver)


@pytest.mark.soak
@every_kind
@every_mishap
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("seed", range(SEED, SEED + 3), ids=lambda seed: f"seed{seed}")
async def test_whatever_dies_in_any_edit_the_next_worker_makes_it_good(
    protocol: Protocol, edit: str, mishap: Mishap, seed: int, folder: Path, sshd: Sshd, driver: Driver
) -> None:
    await check_one(protocol, edit, mishap, seed, folder, sshd, driver)


def impatient(host: Host) -> HostWriter:
    """Another worker, whose helper hardly waits for the lock."""
    setup = replace(setup_for(host.lab.host), lock_timeout=0.05)
    return HostWriter(
        host.lab.host.name,
        daemon=daemon_for(host.lab.host),
        ledger=host.lab.ledger,
        start_helper=partial(start_helper, access_for(host.lab.host), setup),
    )


@every_kind
async def test_a_helper_that_stands_still_keeps_the_lock_until_it_is_ended_and_others_are_told(
    protocol: Protocol, folder: Path, sshd: Sshd, driver: Driver
) -> None:
    async with a_host(protocol, folder, sshd, driver) as host:
        half = await prepare(host, "renew")
        step = Step(request=1, name="fdatasync", target=host.lab.accounts.name)
        await asyncio.to_thread(driver.attach, host.helper_pid(), host.lab.folder, step)
        bringing = asyncio.create_task(host.bring_once(half))
        await asyncio.to_thread(driver.held)
        other = impatient(host)
        with pytest.raises(LockHeld) as told:
            await other.bring(half.line_id, half.revision)
        assert "holds the lock" in str(told.value)
        assert told.value.hint
        await the_helper_dies(host)
        with suppress(HostError):
            await bringing
        await other.bring(half.line_id, half.revision)
        host.law.check_done(host.lab.accounts.read_bytes())
        await other.close()


async def test_nobody_else_edits_while_sessions_are_being_closed_and_no_kick_is_forgotten(
    folder: Path, sshd: Sshd, driver: Driver
) -> None:
    async with a_host("multics", folder, sshd, driver) as host:
        half = await prepare(host, "password")
        old = await host.lab.login(OTHER, OLD)
        target = f"GET /cccamclient?srvid=1&name={NAME}&action=enable HTTP/1.1"
        step = Step(request=1, name="sendto", target=target)
        await asyncio.to_thread(driver.attach, host.helper_pid(), host.lab.folder, step)
        bringing = asyncio.create_task(host.bring_once(half))
        await asyncio.to_thread(driver.held)
        # It would note a kick of its own, which the first helper, when it is done, would take for one of its own.
        change = host.lab.ledger.change(OTHER, password=NEW)
        other = impatient(host)
        with pytest.raises(LockHeld):
            await other.bring(change.line_id, change.revision)
        await asyncio.to_thread(driver.release)
        await bringing
        while True:
            with suppress(LockHeld):
                await other.bring(change.line_id, change.revision)
                break
        await old.closed.wait()
        await other.close()
