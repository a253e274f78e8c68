"""Client sessions of the stand-ins: a plain-text login of our own over TCP, one line each way.

    client: LOGIN <user> <password>     daemon: OK  |  NO <reason>, and the connection closes
    client: PING                        daemon: PONG

There is nothing else in the protocol; a session is a connection that stays open. Text is Latin-1.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from twinline.sandbox.runtime import Conversations, Gate

USER_BYTES = 20  # What the CCcam login carries of a user name; the rest of it never reaches a daemon.
_LONGEST_LINE = 4096


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a login was turned down."""

    reason: str


@dataclass(eq=False, slots=True)
class Session:
    """One client connection; `since` is the loop's clock at the login."""

    user: str
    password: str = field(repr=False)
    address: str
    client_port: int
    listener_port: int
    since: float
    writer: asyncio.StreamWriter = field(repr=False)
    kicked: bool = False

    def close(self) -> None:
        """Close the connection from the daemon's side."""
        self.kicked = True
        self.writer.close()

    def drop(self) -> None:
        """Let the connection break, as a failing network would."""
        self.writer.transport.abort()


class SessionListener:
    """Accepts clients on one loopback port and holds their sessions until either side closes."""

    def __init__(
        self,
        port: int,
        *,
        admit: Callable[[Session], Refused | None],
        left: Callable[[Session], None],
        gate: Gate,
        reuse_port: bool = False,
    ) -> None:
        self.port = port
        self._admit = admit
        self._left = left
        self._gate = gate
        self._reuse_port = reuse_port
        self._server: asyncio.Server | None = None
        self._conversations = Conversations()

    async def open(self) -> None:
        """Start listening; OSError if the port is taken."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, reuse_port=self._reuse_port or None, limit=_LONGEST_LINE
        )

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
            await self._conversations.end()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._conversations.one(writer):
            await self._converse(reader, writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await _line(reader)).decode("latin-1").rstrip("\r\n").split(" ")
        await self._gate.passed()
        if len(words) != 3 or words[0] != "LOGIN":
            return
        address, client_port = writer.get_extra_info("peername")[:2]
        session = Session(
            user=words[1][:USER_BYTES],
            password=words[2],
            address=address,
            client_port=client_port,
            listener_port=self.port,
            since=asyncio.get_running_loop().time(),
            writer=writer,
        )
        refused = self._admit(session)
        if refused is not None:
            writer.write(f"NO {refused.reason}\n".encode("latin-1"))
            await writer.drain()
            return
        try:
            writer.write(b"OK\n")
            await writer.drain()
            while line := await _line(reader):
                await self._gate.passed()
                if line == b"PING\n":
                    writer.write(b"PONG\n")
                    await writer.drain()
        finally:
            self._left(session)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError as error:
        raise ConnectionAbortedError("the client sent what is no line") from error
