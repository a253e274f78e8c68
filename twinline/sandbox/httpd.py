"""A small HTTP/1.1 server on loopback, and the two ways of authentication that the daemons use."""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from urllib.parse import unquote_to_bytes

from twinline.sandbox.runtime import Conversations, Gate

_LARGEST_BODY = 100_000


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `target` and header names are as the client wrote them."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def raw_query(self) -> tuple[tuple[str, str], ...]:
        """The parameters as written, in order."""
        pairs = (part.partition("=") for part in self.target.partition("?")[2].split("&"))
        return tuple((name, value) for name, equals, value in pairs if equals)

    def header(self, name: str) -> str:
        """The first header of that name, in any case; empty if absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; without `length` the body ends with the connection."""

    body: bytes
    status: str = "200 OK"
    headers: Sequence[tuple[str, str]] = ()
    length: bool = True


Handler = Callable[[Request], Awaitable[Response | None]]


class HttpServer:
    """Serves one handler; the handler's None closes the connection without a byte."""

    def __init__(self, port: int, handler: Handler, *, gate: Gate, keep_alive: bool) -> None:
        self._port = port
        self._handler = handler
        self._gate = gate
        self._keep_alive = keep_alive
        self._server: asyncio.Server | None = None
        self._conversations = Conversations()

    async def open(self) -> None:
        """Start listening; OSError if the port is taken."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
            await self._conversations.end()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._conversations.one(writer):
            while await self._exchange(reader, writer):
                pass

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read_request(reader)
        await self._gate.passed()
        response = await self._handler(request)
        if response is None:
            return False
        stays = self._keep_alive and request.header("Connection").lower() == "keep-alive"
        head = [f"HTTP/1.1 {response.status}", *(f"{name}: {value}" for name, value in response.headers)]
        if response.length:
            head.append(f"Content-Length: {len(response.body)}")
        head.append("Connection: Keep-Alive" if stays else "Connection: close")
        writer.write("\r\n".join([*head, "", ""]).encode("latin-1") + response.body)
        await writer.drain()
        return stays


async def _read_request(reader: asyncio.StreamReader) -> Request:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        bare = Request(method, target, tuple((name, value.strip()) for name, colon, value in pairs if colon))
        length = min(int(bare.header("Content-Length") or "0"), _LARGEST_BODY)
        return replace(bare, body=await reader.readexactly(length))
    except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ConnectionAbortedError("no whole request came") from error


def decoded(text: str) -> str:
    """Undo the percent-encoding of a parameter; bytes become Latin-1 characters."""
    return unquote_to_bytes(text.replace("+", " ")).decode("latin-1")


def basic_allows(request: Request, user: str, password: str) -> bool:
    """Check Basic credentials as MultiCS does: header name and scheme only in their usual spelling."""
    given = next((value for name, value in request.headers if name == "Authorization"), "")
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode("latin-1")).decode("ascii")
    return hmac.compare_digest(given.encode("latin-1"), expected.encode("ascii"))


class Verdict(Enum):
    """What a digest check found; STALE is right credentials over a nonce that is unknown or too old."""

    ALLOWED = "allowed"
    STALE = "stale"
    DENIED = "denied"


class Digest:
    """RFC 2617 digest (MD5, qop=auth) with nonces that live `nonce_life` seconds from their last use."""

    def __init__(self, *, realm: str, user: str, password: str, nonce_life: float = 15.0) -> None:
        self._realm = realm
        self._user = user
        self._secret = _md5(f"{user}:{realm}:{password}")
        self._life = nonce_life
        self._nonces: dict[str, float] = {}
        self._opaque = secrets.token_hex(16)

    def check(self, request: Request, now: float) -> Verdict:
        """Judge the request's Authorization header at the loop's clock `now`."""
        given = _digest_fields(request.header("Authorization"))
        uri, nonce = given.get("uri", ""), given.get("nonce", "")
        if given.get("username") != self._user or given.get("realm") != self._realm or uri != request.target:
            return Verdict.DENIED
        if given.get("qop") != "auth" or not given.get("cnonce") or not given.get("nc"):
            return Verdict.DENIED
        hashed = _md5(f"{request.method}:{uri}")
        parts = (self._secret, nonce, given["nc"], given["cnonce"], "auth", hashed)
        if not hmac.compare_digest(_md5(":".join(parts)).encode(), given.get("response", "").encode()):
            return Verdict.DENIED
        if self._nonces.get(nonce, float("-inf")) < now:
            return Verdict.STALE
        self._nonces[nonce] = now + self._life
        return Verdict.ALLOWED

    def challenge(self, now: float, *, stale: bool) -> str:
        """Return the value of a WWW-Authenticate header with a fresh nonce."""
        return (
            f'Digest algorithm="MD5", realm="{self._realm}", qop="auth", opaque="{self._opaque}", '
            f'nonce="{self.next_nonce(now)}"' + (", stale=true" if stale else "")
        )

    def next_nonce(self, now: float) -> str:
        """Return a fresh nonce and forget those that are over."""
        self._nonces = {nonce: end for nonce, end in self._nonces.items() if end >= now}
        nonce = secrets.token_hex(16)
        self._nonces[nonce] = now + self._life
        return nonce


def _md5(text: str) -> str:
    # The protocol fixes the algorithm; nothing here rests on its strength.
    return hashlib.md5(text.encode("latin-1"), usedforsecurity=False).hexdigest()


def _digest_fields(header: str) -> dict[str, str]:
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "digest":
        return {}
    found = re.findall(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,]+))', rest)
    return {name.lower(): quoted or bare for name, quoted, bare in found}
