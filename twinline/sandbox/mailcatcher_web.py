"""A small read-only page over caught mails, for the person at this machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_REQUEST_SECONDS = 10
_MAX_REQUEST_BYTES = 16_384
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'"
# The mail itself gets an origin of its own, no scripts, and nothing from outside: it is somebody else's text.
_MAIL_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; } table { border-collapse: collapse; width: 100%; }
th { padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top; white-space: nowrap; font-weight: 400; }
th { opacity: .7; }
td { padding: .3rem 1rem .3rem 0; overflow-wrap: anywhere; }
iframe { width: 100%; height: 60rem; border: 1px solid #8888; border-radius: 8px; }
pre { padding: 1rem; border: 1px solid #8888; border-radius: 8px; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, slots=True)
class ShownMail:
    """One mail as the pages show it."""

    number: int
    sender: str
    recipients: str
    subject: str
    date: str
    text: str | None
    html: str | None
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Response:
    status: str
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    policy: str = _PAGE_POLICY


class MailPages:
    """An HTTP server on loopback: the list, a mail, its HTML in a sandboxed frame, its text, its source."""

    def __init__(self, mails: Callable[[], Sequence[ShownMail]], *, host: str) -> None:
        self._mails = mails
        self._host = host
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self, *, port: int) -> None:
        """Listen; port 0 takes a free one. Raises `OSError` if the port is taken."""
        self._server = await asyncio.start_server(self._serve, self._host, port, limit=_MAX_REQUEST_BYTES)

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self._connections):
            connection.transport.abort()
        await server.wait_closed()

    @property
    def url(self) -> str:
        """The address of the list."""
        return f"http://{self._authority}/"

    @property
    def _authority(self) -> str:
        if self._server is None:
            raise RuntimeError("the mail pages aren't started")
        return f"{self._host}:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            # A browser that goes away, stays silent or sends nonsense concerns nobody.
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_REQUEST_SECONDS):
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                    writer.write(_encoded(self._answer(head)))
                    await writer.drain()
        finally:
            self._connections.discard(writer)
            writer.close()

    def _answer(self, head: str) -> _Response:
        request, *headers = head.split("\r\n")
        method, _, rest = request.partition(" ")
        hosts = [value.strip() for name, _, value in (h.partition(":") for h in headers) if name.lower() == "host"]
        # Against a foreign page that points a name of its own at loopback: these mails hold passwords.
        if hosts not in ([self._authority], [self._authority.replace(self._host, "localhost", 1)]):
            return _Response("403 Forbidden", b"This page is for this machine only.")
        if method != "GET":
            return _Response("405 Method Not Allowed", b"This page can only be read.")
        return self._page(rest.partition(" ")[0])

    def _page(self, path: str) -> _Response:
        if path == "/":
            return _list_page(self._mails())
        match path.strip("/").split("/"):
            case ["mail", number]:
                form = ""
            case ["mail", number, form]:
                pass
            case _:
                return _not_found()
        mail = next((mail for mail in self._mails() if str(mail.number) == number), None)
        return _not_found() if mail is None else _mail_page(mail, form)


def _mail_page(mail: ShownMail, form: str) -> _Response:
    if form == "":
        return _Response("200 OK", _overview(mail).encode())
    if form == "html" and mail.html is not None:
        return _Response("200 OK", mail.html.encode(), policy=_MAIL_POLICY)
    if form == "text" and mail.text is not None:
        return _Response("200 OK", mail.text.encode(), "text/plain; charset=utf-8", _MAIL_POLICY)
    if form == "raw":
        return _Response("200 OK", mail.raw, "text/plain; charset=utf-8", _MAIL_POLICY)
    return _not_found()


def _list_page(mails: Sequence[ShownMail]) -> _Response:
    rows = "".join(
        f'<tr><td><a href="/mail/{mail.number}">{escape(mail.subject) or "(no subject)"}</a></td>'
        f"<td>{escape(mail.recipients)}</td><td>{escape(mail.date)}</td></tr>"
        for mail in reversed(mails)
    )
    table = f"<table><tr><th>Subject</th><th>To</th><th>Date</th></tr>{rows}</table>"
    body = table if rows else "<p>No mail has arrived yet. This page looks again every 5 seconds.</p>"
    return _Response("200 OK", _html("Caught mail", body, '<meta http-equiv="refresh" content="5">').encode())


def _overview(mail: ShownMail) -> str:
    base = f"/mail/{mail.number}"
    rows = "".join(
        f"<tr><th>{label}</th><td>{escape(value)}</td></tr>"
        for label, value in (("From", mail.sender), ("To", mail.recipients), ("Date", mail.date))
    )
    frame = (
        ""
        if mail.html is None
        else f'<h2>HTML part</h2><iframe sandbox="" referrerpolicy="no-referrer" src="{base}/html"></iframe>'
    )
    text = "" if mail.text is None else f"<h2>Text part</h2><pre>{escape(mail.text)}</pre>"
    links = f'<p><a href="/">All mails</a> · <a href="{base}/raw">Source</a></p>'
    return _html(mail.subject or "(no subject)", f"<table>{rows}</table>{links}{frame}{text}")


def _html(title: str, body: str, head: str = "") -> str:
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{head}<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )


def _not_found() -> _Response:
    return _Response("404 Not Found", _html("No such mail", '<p><a href="/">All mails</a></p>').encode())


def _encoded(response: _Response) -> bytes:
    head = (
        f"HTTP/1.1 {response.status}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        f"Content-Security-Policy: {response.policy}",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Cache-Control: no-store",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode("latin-1") + response.body
