"""Programs of the embedded world: each in a session of its own, none of which outlives us.

They end with us however we end. What they start themselves ends with them when we end them, or by its own wits.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from twinline.errors import Category, TwinlineError

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
_READY_LINE: Final = b"\nready\n"
_TAIL_BYTES: Final = 2_000
# Below the range from which the kernel takes the ports of outgoing connections: a port stays ours while its
# listener is away for a moment.
_PORTS: Final = range(20_000, 32_000)
# Whoever was given a port may listen on it much later, and other processes look for ports too. A socket that is bound
# and does not listen keeps them away, and lets through whoever sets SO_REUSEADDR, as every server does.
_reserved: deque[socket.socket] = deque()
_MOST_RESERVED: Final = 512

# Run in a program of its own: code between fork and exec may dead-lock beside our threads. The kernel sends the
# signal when the *thread* that started the child ends, so children are started from a thread that lives as long
# as they do: that of the event loop. Whoever was orphaned before the call finds another parent and ends itself.
_LAUNCHER: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


class WorldFailed(TwinlineError):
    """A part of the embedded world did not start; its sentence names the part and shows the end of its log."""

    category = Category.UNAVAILABLE
    retryable = True


def dying_with_us(argv: Sequence[str]) -> tuple[str, ...]:
    """The same command, made to end by SIGKILL when the thread that starts it ends; Linux only."""
    return (sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *argv)


def inherited_environment() -> dict[str, str]:
    """Our environment without what would point a program of the world at anything outside it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TWINLINE_", "TEMPORAL_"))}


def free_port() -> int:
    """A loopback port for a server of ours; nobody else is given it while this process runs (the latest 512)."""
    for _ in _PORTS:
        probe = socket.socket()
        try:
            probe.bind(("127.0.0.1", port := secrets.choice(_PORTS)))
        except OSError:
            probe.close()
            continue
        # Only now: a port that somebody has reserved shall not be free for us.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _reserved.append(probe)
        if len(_reserved) > _MOST_RESERVED:
            _reserved.popleft().close()
        return port
    raise WorldFailed("no loopback port is free", hint="End some of the programs that listen on this machine.")


def signal_group(leader: int, number: signal.Signals) -> None:
    """Signal a process and all that it started in its session; nothing if they are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


class Program:
    """One program that is started, says that it is ready, and is ended; it may be started again.

    All it prints goes to its log. `what` names it in sentences, such as `the worker`.
    """

    def __init__(self, what: str, argv: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> None:
        self.what = what
        self.log = folder / "log"
        self._argv = tuple(argv)
        self._environment = environment
        self._folder = folder
        self._process: Process | None = None
        self._tending: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self, answers: Callable[[], Awaitable[object]] | None = None) -> None:
        """Run it and wait until `answers` returns, or by default until it prints a line `ready`.

        Raises WorldFailed when it ends before, or needs longer than START_SECONDS; it is ended then.
        """
        if self.pid is not None:
            raise RuntimeError(f"{self.what} runs already")
        with self.log.open("ab") as log:
            log_start = log.tell()
            self._process = process = await asyncio.create_subprocess_exec(
                *dying_with_us(self._argv),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
                umask=0o077,
            )
        said_ready = asyncio.Event()
        self._tending = asyncio.create_task(self._tend(process, said_ready))
        ready = asyncio.ensure_future(said_ready.wait() if answers is None else answers())
        ended = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait((ready, ended), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                await ready
                return
        except BaseException:
            await self.kill()
            raise
        finally:
            ready.cancel()
            ended.cancel()
        code = process.returncode
        await self.kill()
        reason = f"not ready in {START_SECONDS:g} s" if code is None else f"it ended with {_status(code)}"
        raise WorldFailed(
            f"{self.what} did not start: {reason}\n{_tail(self.log, log_start)}".rstrip(),
            hint=f"Its whole log is {self.log}.",
        )

    async def stop(self) -> None:
        """Ask it to end, and end it after STOP_SECONDS; nothing if it doesn't run."""
        if self._process is not None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """End it at once, with whatever it started and left behind; nothing if it doesn't run."""
        process, self._process = self._process, None
        if process is None or self._tending is None:
            return
        if process.returncode is None:
            signal_group(process.pid, signal.SIGKILL)
        await self._tending

    async def _tend(self, process: Process, said_ready: asyncio.Event) -> None:
        copying = asyncio.create_task(self._copy_output(process, said_ready))
        await process.wait()
        # What it left behind. Now, because later its number may be somebody else's.
        signal_group(process.pid, signal.SIGKILL)
        await copying

    async def _copy_output(self, process: Process, said_ready: asyncio.Event) -> None:
        if process.stdout is None:
            raise RuntimeError("started without a pipe")
        unread = b"\n"
        with self.log.open("ab", buffering=0) as log:
            while chunk := await process.stdout.read(65_536):
                log.write(chunk)
                if not said_ready.is_set():
                    unread += chunk
                    if _READY_LINE in unread:
                        said_ready.set()


def _status(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"


def _tail(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        return file.read().decode(errors="replace")
