"""What stands between the engine and a host, for a test to act on: the way to its sshd, and to its daemon's pages."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.support.proc import descendants, ended
from tests.support.sshd import Sshd
from twinline.inventory import Host

_ADDRESS: Final = "127.0.0.1"


class Wire:
    """A TCP connection's way to a port of this machine; it can be cut, and it can be down or silent."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.down = False
        self.silent = False
        """Whether everything is lost on the way, and nobody told so."""
        self._target = target
        self._ends: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Break every connection without a goodbye."""
        for end in list(self._ends):
            end.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        if self.down:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(_ADDRESS, self._target)
        pair = {writer, back}
        self._ends |= pair
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
        self._ends -= pair

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if not self.silent:
                    writer.write(data)
                    await writer.drain()
        writer.close()


class Stop:
    """One question that does not get through before it is let go on."""

    def __init__(self, words: str, *, answered: bool) -> None:
        self.words = words
        self.answered = answered
        """Whether the daemon has answered it when it is held."""
        self.reached = asyncio.Event()
        self.lost = False
        self._over = asyncio.Event()

    def go_on(self, *, lost: bool = False) -> None:
        """Let the question, or its answer, pass; or lose it."""
        self.lost = lost
        self._over.set()

    async def hold(self) -> None:
        self.reached.set()
        await self._over.wait()


class Turnstile:
    """The way to a daemon's pages, one question per connection."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._stops: list[Stop] = []

    def stop_at(self, words: str, *, answered: bool) -> Stop:
        """Hold the next question whose path contains these words, before or after the daemon answers it."""
        stop = Stop(words, answered=answered)
        self._stops.append(stop)
        return stop

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one question and its answer."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            question = await reader.readuntil(b"\r\n\r\n")
            path = question.split(b" ", 2)[1].decode()
            stop = next((each for each in self._stops if each.words in path), None)
            if stop is not None:
                self._stops.remove(stop)
                if not stop.answered:
                    await stop.hold()
            if stop is None or stop.answered or not stop.lost:
                answer = await self._ask(question)
                if stop is not None and stop.answered:
                    await stop.hold()
                if stop is None or not stop.lost:
                    writer.write(answer)
                    await writer.drain()
        writer.close()

    async def _ask(self, question: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(_ADDRESS, self._target)
        try:
            writer.write(question)
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def wire_to(target: int) -> AsyncGenerator[Wire]:
    wire = Wire(target)
    async with _listening(wire):
        yield wire
        wire.cut()


@asynccontextmanager
async def turnstile_to(target: int) -> AsyncGenerator[Turnstile]:
    turnstile = Turnstile(target)
    async with _listening(turnstile):
        yield turnstile


@asynccontextmanager
async def _listening(served: Wire | Turnstile) -> AsyncGenerator[None]:
    server = await asyncio.start_server(served.serve, _ADDRESS, 0)
    served.port = server.sockets[0].getsockname()[1]
    yield
    server.close()


def through(host: Host, *, wire: Wire, turnstile: Turnstile | None = None, known_hosts: Path) -> Host:
    """The host as it is reached over these ways; `known_hosts` is a file to write."""
    keys = host.ssh.known_hosts.read_text().splitlines()
    known_hosts.write_text("".join(f"[{_ADDRESS}]:{wire.port} {line.split(' ', 1)[1]}\n" for line in keys))
    ssh = host.ssh.model_copy(update={"port": wire.port, "known_hosts": known_hosts})
    status = host.status
    if turnstile is not None:
        status = status.model_copy(update={"url": f"http://{_ADDRESS}:{turnstile.port}"})
    return host.model_copy(update={"ssh": ssh, "status": status})


def helpers_below(sshd: Sshd) -> set[int]:
    """The helper programs that run on this server's host just now."""
    found: set[int] = set()
    for pid in descendants(sshd.pid):
        with contextlib.suppress(OSError):
            if b"twinline-helper" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


async def kill_helpers(sshd: Sshd) -> None:
    """End every helper on this server's host at once, as the kernel does when memory is short."""
    pids = helpers_below(sshd)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await ended(pids)
