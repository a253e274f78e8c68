"""A receiver for demo and tests: logs in on a stand-in, holds the session, knows when it was closed."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class LoginRefused(Exception):
    """The daemon answered NO or hung up; trying again helps once the account is as it should be."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"login refused: {reason}")
        self.reason = reason


class Receiver:
    """One held session. `closed` is set, and `closed_at` is the loop's clock, when the daemon closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.closed = asyncio.Event()
        self.closed_at: float | None = None
        self._pongs: asyncio.Queue[None] = asyncio.Queue()
        self._watch = asyncio.create_task(self._watch_connection())

    @classmethod
    async def login(cls, port: int, user: str, password: str, *, host: str = "127.0.0.1") -> Self:
        """Connect and log in; raises LoginRefused, or OSError when nobody listens."""
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"LOGIN {user} {password}\n".encode("latin-1"))
            await writer.drain()
            answer = (await reader.readline()).decode("latin-1").strip()
        except BaseException:
            writer.close()
            raise
        if answer != "OK":
            writer.close()
            raise LoginRefused(answer.removeprefix("NO ") or "connection closed")
        return cls(reader, writer)

    @property
    def connected(self) -> bool:
        """Whether the session is still open."""
        return not self.closed.is_set()

    async def ping(self) -> None:
        """Send one keep-alive and wait for the answer; ConnectionError if the session ends instead."""
        self._writer.write(b"PING\n")
        pong = asyncio.ensure_future(self._pongs.get())
        end = asyncio.ensure_future(self.closed.wait())
        try:
            await asyncio.wait((pong, end), return_when=asyncio.FIRST_COMPLETED)
            if not pong.done():
                raise ConnectionError("the session was closed")
        finally:
            pong.cancel()
            end.cancel()

    async def leave(self) -> None:
        """Close the session from this side."""
        self._watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watch
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def _watch_connection(self) -> None:
        try:
            while await self._reader.readline():
                self._pongs.put_nowait(None)
        except ConnectionError:
            # A reset is an end like any other.
            pass
        self.closed_at = asyncio.get_running_loop().time()
        self.closed.set()
