"""Opens sealed payloads for people who look into Temporal: its remote codec protocol, over HTTP.

`POST /decode` and `POST /encode` take and give `{"payloads": […]}`. Nothing here knows a password, because no payload
holds one; mail addresses stand in orders, so that who may ask is checked first: where the request came to, which web
page sends it, and the token if there is one.
"""

import asyncio
import hmac
import ipaddress
import logging
import sys
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from google.protobuf import json_format
from temporalio.api.common.v1 import Payloads

from twinline.codec import EncryptionCodec
from twinline.errors import Misconfigured
from twinline.keys import KeyRing, KeyRingError

log = logging.getLogger(__name__)

_LARGEST_BODY: Final = 32 << 20
"""Bytes; one page of a history in Temporal's web interface is far smaller."""
_SECONDS_OF_SILENCE: Final = 30.0
_SECONDS_TO_END: Final = 0.05
_ALLOWED_HEADERS: Final = "authorization, content-type, x-namespace"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes back; an empty body for a refusal that the status says in full."""

    status: HTTPStatus
    body: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class RemoteCodec:
    """Decides who may ask, and opens or seals what they send; knows nothing of sockets."""

    def __init__(self, keys: KeyRing, *, origins: Collection[str], token: str | None, loopback: bool) -> None:
        """`origins` are the web pages that may ask (`http://host:port`); `loopback` says that only this machine can.

        Raises Misconfigured when it can be reached from elsewhere and there is no token.
        """
        if token is None and not loopback:
            raise Misconfigured(
                "a codec server that others can reach would open payloads for everybody",
                hint="Listen on 127.0.0.1, or give --token-file with a token that whoever asks must show.",
            )
        self._codec = EncryptionCodec(keys)
        self._origins = frozenset(origins)
        self._token = token
        self._loopback = loopback

    async def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request; `headers` by lower-case name."""
        origin = headers.get("origin")
        # By a name of its own that leads here, any web page could otherwise pass for one of this machine.
        if self._loopback and not _is_loopback(_host_of(headers.get("host", ""))):
            return Answer(status=HTTPStatus.MISDIRECTED_REQUEST)
        if origin is not None and origin not in self._origins:
            return Answer(status=HTTPStatus.FORBIDDEN)
        found = await self._to_origin(method, path, headers, body)
        shared = {} if origin is None else {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        return Answer(status=found.status, body=found.body, headers={**found.headers, **shared})

    async def _to_origin(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if path not in ("/encode", "/decode"):
            return Answer(status=HTTPStatus.NOT_FOUND)
        if method == "OPTIONS":
            # A browser's question before the question; it never carries the token.
            allowed = {"Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Headers": _ALLOWED_HEADERS}
            return Answer(status=HTTPStatus.NO_CONTENT, headers=allowed)
        if method != "POST":
            return Answer(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "OPTIONS, POST"})
        if self._token is not None and not _shows(self._token, headers.get("authorization", "")):
            return Answer(status=HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"})
        try:
            asked = json_format.Parse(body, Payloads())
        except (json_format.ParseError, UnicodeDecodeError):
            # Its own words quote what was sent.
            return Answer(status=HTTPStatus.BAD_REQUEST, body="not a JSON object with payloads\n")
        work = self._codec.encode if path == "/encode" else self._codec.decode
        try:
            done = Payloads(payloads=await work(asked.payloads))
        except KeyRingError as error:
            return Answer(status=HTTPStatus.UNPROCESSABLE_ENTITY, body=f"{error.message}\n  {error.hint}\n")
        return Answer(
            status=HTTPStatus.OK,
            body=json_format.MessageToJson(done),
            headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
        )


class CodecServer:
    """Serves a RemoteCodec until its block ends."""

    def __init__(self, keys: KeyRing, *, host: str, port: int, origins: Collection[str], token: str | None) -> None:
        """Raises Misconfigured when `host` and `port` can't be listened on, or as RemoteCodec does; port 0 is any."""
        codec = RemoteCodec(keys, origins=origins, token=token, loopback=_is_loopback(host))

        class Handler(_Handler):
            remote_codec = codec

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            raise Misconfigured(
                f"nothing can listen on {host}:{port}: {error.strerror}", hint="Give another --listen HOST:PORT."
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_SECONDS_TO_END,), name="codec server", daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base's own
        """Name what broke off a conversation, mostly its other end; never what was said in it."""
        log.warning("a conversation broke off: %s", type(sys.exception()).__name__)


class _Handler(BaseHTTPRequestHandler):
    remote_codec: RemoteCodec
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS_OF_SILENCE
    server_version = "twinline"
    sys_version = ""

    def do_POST(self) -> None:
        self._answer()

    def do_OPTIONS(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Keep still: who looked at what is nobody's business here."""

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > _LARGEST_BODY:
            # What follows can't be told from a next request.
            self.close_connection = True
            self._send(Answer(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        # A web server in front may serve us below a path of its own.
        path = "/" + urlsplit(self.path).path.rpartition("/")[2]
        self._send(asyncio.run(self.remote_codec.answer(self.command, path, headers, body)))

    def _send(self, answer: Answer) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _shows(token: str, authorization: str) -> bool:
    scheme, _, shown = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), token.encode())


def _host_of(authority: str) -> str:
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
