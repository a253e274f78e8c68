"""A network between here and a server: TCP relays that hold every byte back for a fixed time in each direction.

In order, without loss and without a limit of rate; connecting is not held back. Run as a program of its own, so that
nobody who is measured has to share his event loop with it: `python -m benchmarks.relay SERVER-PORT PORT:MS …`.
"""

import asyncio
import selectors
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.figures import Sample
from twinline.sandbox.processes import Program, free_port, inherited_environment

ADDRESS: Final = "127.0.0.1"
PINGS: Final = 21
TOLERANCE: Final = 0.002
"""By how much the fast round trips through a relay may be longer than it says (seconds)."""


class DelayWrong(Exception):
    """A relay does not delay as it should: what is measured through it is worth nothing."""


class _Lane(asyncio.Protocol):
    """One direction of a connection: what arrives here leaves on the other side when its time has come."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, bytes | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._other: _Lane | None = None
        self.transport: asyncio.Transport | None = None

    def join(self, other: "_Lane") -> None:
        """Send what waits, and all that comes, to the other side."""
        self._other = other
        self._send_due()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def eof_received(self) -> bool:
        self._take(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._other is not None and self._other.transport is not None:
            self._other.transport.abort()

    def _take(self, data: bytes | None) -> None:
        self._waiting.append((self._loop.time() + self._delay, data))
        if self._timer is None:
            self._send_due()

    def _send_due(self) -> None:
        self._timer = None
        if self._other is None or self._other.transport is None:
            return
        while self._waiting and self._waiting[0][0] <= self._loop.time():
            _, data = self._waiting.popleft()
            if data is not None:
                self._other.transport.write(data)
            elif self._other.transport.can_write_eof():
                self._other.transport.write_eof()
        if self._waiting:
            self._timer = self._loop.call_at(self._waiting[0][0], self._send_due)


async def _serve(server: int, ports: Mapping[int, float]) -> None:
    loop = asyncio.get_running_loop()
    connecting: set[asyncio.Task[None]] = set()

    def accept(delay: float) -> _Lane:
        near, far = _Lane(delay), _Lane(delay)

        async def connect() -> None:
            try:
                await loop.create_connection(lambda: far, ADDRESS, server)
            except OSError:
                if near.transport is not None:
                    near.transport.abort()
                return
            near.join(far)
            far.join(near)

        task = loop.create_task(connect())
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return near

    for port, delay in ports.items():
        await loop.create_server(lambda delay=delay: accept(delay), ADDRESS, port)
    print("ready", flush=True)
    await asyncio.Event().wait()


def main(words: Sequence[str]) -> None:
    """Relay until somebody ends this process."""
    server, *rest = words
    ports = {int(port): float(ms) / 1000 for port, ms in (word.split(":") for word in rest)}
    with asyncio.Runner(loop_factory=_exact_loop) as runner:
        runner.run(_serve(int(server), ports))


def _exact_loop() -> asyncio.AbstractEventLoop:
    """A loop on select(), which takes microseconds; epoll rounds every delay up to whole milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@asynccontextmanager
async def relays(folder: Path, server: int, delays: Sequence[int]) -> AsyncGenerator[dict[int, int]]:
    """Run a relay to a loopback port for each one-way delay (ms); gives the port of each.

    Raises DelayWrong when a round trip through one of them does not take what it should.
    """
    folder.mkdir()
    ports = {delay: free_port() for delay in delays}
    words = [f"{port}:{delay}" for delay, port in ports.items()]
    program = Program(
        "the relay",
        (sys.executable, "-m", "benchmarks.relay", str(server), *words),
        environment=inherited_environment(),
        folder=folder,
    )
    await program.start()
    try:
        yield ports
    finally:
        await program.stop()


async def round_trips(port: int) -> Sample:
    """Seconds that single bytes take to a server that sends them back, through a relay."""
    reader, writer = await asyncio.open_connection(ADDRESS, port)
    taken: list[float] = []
    for _ in range(PINGS):
        begun = time.perf_counter()
        writer.write(b"x")
        await reader.readexactly(1)
        taken.append(time.perf_counter() - begun)
    writer.close()
    return Sample.of(taken)


async def checked(folder: Path, delays: Sequence[int], *, tolerance: float = TOLERANCE) -> dict[int, Sample]:
    """Measure relays of these delays (ms one way) to a server that sends back what it gets; raises DelayWrong."""
    server = await asyncio.start_server(_send_back, ADDRESS, 0)
    found: dict[int, Sample] = {}
    async with server, relays(folder, server.sockets[0].getsockname()[1], delays) as ports:
        for delay, port in ports.items():
            found[delay] = trips = await round_trips(port)
            wanted = 2 * delay / 1000
            # The fast ones show what the relay does; the others, what else the machine does, and the page says it.
            if min(trips.values) < wanted or trips.spread[0] > wanted + tolerance:
                raise DelayWrong(f"a round trip over {delay} ms one way took {trips.spread[0] * 1000:.2f} ms")
    return found


async def _send_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
