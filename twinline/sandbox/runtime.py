"""What both stand-in daemons share at run time: scaled time, their log, gates, and a clean end."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class Timescale:
    """Real daemon seconds to seconds here: 1.0 is true time, 0.05 twenty times faster."""

    factor: float = 1.0

    async def pause(self, seconds: float) -> None:
        """Let `seconds` of the daemon's time pass."""
        await asyncio.sleep(seconds * self.factor)

    def scaled(self, seconds: float) -> float:
        """Return `seconds` of the daemon's time in seconds here."""
        return seconds * self.factor


TRUE_TIME = Timescale()


class EventLog:
    """The daemon's log: lines with a time in front, flushed one by one, and at hand for awaiting tests."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO = sys.stderr if path is None else path.open("a", encoding="latin-1")
        self._owned = path is not None
        self.lines: list[str] = []
        self._written = asyncio.Event()

    def __call__(self, text: str) -> None:
        self.lines.append(text)
        self._file.write(f"{time.strftime('%Y/%m/%d %H:%M:%S')} {text}\n")
        self._file.flush()
        self._written.set()

    async def until(self, text: str, *, times: int = 1) -> None:
        """Wait until lines that contain `text` were written `times` times since the start."""
        while sum(text in line for line in self.lines) < times:
            self._written.clear()
            await self._written.wait()

    def close(self) -> None:
        """Close the file, if there is one of our own."""
        if self._owned:
            self._file.close()


class Gate:
    """A door with any number of reasons to be shut; who comes waits until the last reason is gone."""

    def __init__(self) -> None:
        self._reasons: set[str] = set()
        self._open = asyncio.Event()
        self._open.set()

    def shut(self, reason: str) -> None:
        """Add a reason; a second time the same one changes nothing."""
        self._reasons.add(reason)
        self._open.clear()

    def open(self, reason: str) -> None:
        """Take a reason away."""
        self._reasons.discard(reason)
        if not self._reasons:
            self._open.set()

    async def passed(self) -> None:
        """Return once nothing shuts the gate."""
        await self._open.wait()


class Conversations:
    """The connections that a server is serving, so that closing the server can end them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextlib.contextmanager
    def one(self, writer: asyncio.StreamWriter) -> Generator[None]:
        """Hold one connection: it is closed at the end, and a peer that breaks off is no error."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a conversation runs in a task of its own")
        self._tasks.add(task)
        try:
            # Cancelling comes from end() alone, and nobody waits for a conversation's result.
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                yield
        finally:
            self._tasks.discard(task)
            writer.close()

    async def end(self) -> None:
        """Break off every conversation."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Jobs:
    """Background tasks that are held, and whose failure is raised to whoever ends them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Awaitable[None]) -> None:
        """Run `work` beside everything else."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)

    async def stop(self) -> None:
        """Cancel what still runs; raise the first failure of what has run."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def serve_until_told(start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
    """Start, say `ready` on stdout, wait for SIGTERM or SIGINT, stop."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    try:
        await start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await told.wait()
    finally:
        await stop()
