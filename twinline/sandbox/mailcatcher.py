"""A real SMTP server on loopback that keeps every mail, and can fail in every way a mail server does."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from twinline.sandbox.mailcatcher_web import MailPages, ShownMail

HOST = "127.0.0.1"
_NUMBER = re.compile(r"(\d+)\.eml")


class CatcherStage(StrEnum):
    """Where in a conversation a fault acts."""

    BANNER = "banner"
    EHLO = "ehlo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    """In answer to the DATA command, before any content."""
    CONTENT = "content"
    """After the final dot."""


class CatcherTls(StrEnum):
    """How the catcher speaks TLS."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


@dataclass(frozen=True, slots=True)
class _Fault:
    action: Literal["answer", "drop", "hang"]
    once: bool
    code: int = 0
    text: str = ""
    keep: bool = False
    reached: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class CaughtMail:
    """One mail as it arrived: the envelope, the exact bytes, and the file that holds them."""

    number: int
    path: Path
    sender: str
    recipients: tuple[str, ...]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        """The parsed mail."""
        return BytesParser(policy=policy.default).parsebytes(self.raw)

    @property
    def subject(self) -> str:
        """The decoded subject, empty if there is none."""
        return str(self.message["Subject"] or "")

    @property
    def text(self) -> str | None:
        """The decoded plain-text part."""
        return self._body("plain")

    @property
    def html(self) -> str | None:
        """The decoded HTML part."""
        return self._body("html")

    def _body(self, kind: Literal["plain", "html"]) -> str | None:
        part = self.message.get_body((kind,))
        return None if part is None else str(part.get_content())


class MailCatcher:
    """Keeps mails as `NNNNN.eml` in a directory of its own and as `mails`, in order of arrival.

    Started with `start`, ended with `stop`, or used as an async context manager. The directory and the files
    are for the owner only: they hold credentials. Files of earlier runs are left alone and not listed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tls: CatcherTls = CatcherTls.NONE,
        tls_context: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
        smtputf8: bool = True,
    ) -> None:
        if (tls is CatcherTls.NONE) != (tls_context is None):
            raise ValueError("a catcher with TLS needs a server context, and one without takes none")
        self._directory = directory
        self._tls = tls
        self._tls_context = tls_context
        self._login = login
        self._smtputf8 = smtputf8
        self._mails: list[CaughtMail] = []
        self._faults: dict[CatcherStage, _Fault] = {}
        self._waiters: list[tuple[Callable[[CaughtMail], bool], asyncio.Future[CaughtMail]]] = []
        self._sessions: set[_CatcherSession] = set()
        self._server: asyncio.Server | None = None
        self._web = MailPages(self._shown, host=HOST)
        self._next_number = 1
        self.swallow = False
        """While true, every mail is answered with 250 and thrown away."""

    async def start(self, *, port: int = 0, web_port: int = 0) -> MailCatcher:
        """Listen on loopback; port 0 takes a free one. Raises `OSError` if a port is taken."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = (_NUMBER.fullmatch(path.name) for path in self._directory.iterdir())
        self._next_number = 1 + max((int(match[1]) for match in taken if match), default=0)
        # aiosmtpd writes addresses and replies to this logger at INFO and whole mails at DEBUG.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._new_session,
            HOST,
            port,
            ssl=self._tls_context if self._tls is CatcherTls.IMPLICIT else None,
        )
        try:
            await self._web.start(port=web_port)
        except OSError:
            await self.stop()
            raise
        return self

    async def stop(self) -> None:
        """Stop listening and end every session; waiters are cancelled."""
        await self._web.stop()
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for _, waiter in self._waiters:
            waiter.cancel()
        await asyncio.gather(*(session.end() for session in list(self._sessions)))
        await server.wait_closed()

    async def __aenter__(self) -> MailCatcher:
        return self if self._server is not None else await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The SMTP port."""
        if self._server is None:
            raise RuntimeError("the mail catcher isn't started")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The SMTP URL to send to, without user and password."""
        if self._tls is CatcherTls.NONE:
            return f"smtp+plain://{HOST}:{self.port}"
        scheme = "smtp" if self._tls is CatcherTls.STARTTLS else "smtps"
        return f"{scheme}://localhost:{self.port}"

    @property
    def web_url(self) -> str:
        """The page that lists the caught mails."""
        return self._web.url

    @property
    def mails(self) -> tuple[CaughtMail, ...]:
        """Every mail kept since the start, in order of arrival."""
        return tuple(self._mails)

    async def wait_for(self, predicate: Callable[[CaughtMail], bool]) -> CaughtMail:
        """The first mail, kept already or still to come, for which the predicate holds; bound it yourself."""
        for mail in self._mails:
            if predicate(mail):
                return mail
        waiter: asyncio.Future[CaughtMail] = asyncio.get_running_loop().create_future()
        entry = (predicate, waiter)
        self._waiters.append(entry)
        try:
            return await waiter
        finally:
            self._waiters.remove(entry)

    def answer(self, stage: CatcherStage | str, code: int, text: str = "", *, once: bool = True) -> None:
        """Answer this stage with a code (and text) instead of going on; `once`, or until `heal`."""
        self._faults[CatcherStage(stage)] = _Fault("answer", once, code, text)

    def drop(self, stage: CatcherStage | str, *, once: bool = True) -> None:
        """Let the connection die at this stage, without an answer."""
        self._faults[CatcherStage(stage)] = _Fault("drop", once)

    def drop_after_data(self, *, keep: bool, once: bool = True) -> None:
        """Let the connection die after the final dot, the mail kept or lost: its sender can't tell which."""
        self._faults[CatcherStage.CONTENT] = _Fault("drop", once, keep=keep)

    def hang(self, stage: CatcherStage | str, *, keep: bool = False, once: bool = True) -> asyncio.Event:
        """Never answer at this stage, `keep` keeps the mail all the same; the event is set once a session hangs."""
        reached = asyncio.Event()
        self._faults[CatcherStage(stage)] = _Fault("hang", once, keep=keep, reached=reached)
        return reached

    def heal(self) -> None:
        """Forget every fault, and stop swallowing."""
        self._faults.clear()
        self.swallow = False

    def _take_fault(self, stage: CatcherStage) -> _Fault | None:
        fault = self._faults.get(stage)
        if fault is not None and fault.once:
            del self._faults[stage]
        return fault

    def _receive(self, envelope: Envelope) -> None:
        if self.swallow:
            return
        raw = envelope.original_content or b""
        number, self._next_number = self._next_number, self._next_number + 1
        path = self._directory / f"{number:05}.eml"
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(raw)
        mail = CaughtMail(number, path, envelope.mail_from or "", tuple(envelope.rcpt_tos), raw)
        self._mails.append(mail)
        for predicate, waiter in self._waiters:
            if not waiter.done() and predicate(mail):
                waiter.set_result(mail)

    def _shown(self) -> list[ShownMail]:
        return [
            ShownMail(
                number=mail.number,
                sender=mail.sender,
                recipients=", ".join(mail.recipients),
                subject=mail.subject,
                date=str(mail.message["Date"] or ""),
                text=mail.text,
                html=mail.html,
                raw=mail.raw,
            )
            for mail in self._mails
        ]

    def _new_session(self) -> _CatcherSession:
        return _CatcherSession(
            _Post(self._take_fault, self._receive, self._sessions, login_required=self._login is not None),
            hostname="mailcatcher.sandbox",
            ident="twinline mail catcher",
            enable_SMTPUTF8=self._smtputf8,
            tls_context=self._tls_context if self._tls is CatcherTls.STARTTLS else None,
            auth_require_tls=self._tls is CatcherTls.STARTTLS,
            auth_exclude_mechanism=("LOGIN", "PLAIN") if self._login is None else (),
            authenticator=self._authenticate,
            loop=asyncio.get_running_loop(),
        )

    def _authenticate(
        self,
        _server: SMTP,
        _session: Session,
        _envelope: Envelope,
        _mechanism: str,
        offered: Any,
    ) -> AuthResult:
        right = self._login or ("", "")
        match = (
            self._login is not None
            and isinstance(offered, LoginPassword)
            and hmac.compare_digest(offered.login, right[0].encode())
            and hmac.compare_digest(offered.password, right[1].encode())
        )
        return AuthResult(success=match, handled=False)


# No slots: aiosmtpd looks at every member of its handler, which Python 3.11.2 can't do for a slotted class.
@dataclass(frozen=True)
class _Post:
    """What a session needs of its catcher; also the handler aiosmtpd asks."""

    take_fault: Callable[[CatcherStage], _Fault | None]
    receive: Callable[[Envelope], None]
    sessions: set[_CatcherSession]
    login_required: bool

    async def handle_DATA(self, server: _CatcherSession, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        fault = self.take_fault(CatcherStage.CONTENT)
        if fault is None:
            self.receive(envelope)
            return "250 2.0.0 accepted"
        if fault.keep:
            self.receive(envelope)
        return await server.carry_out(fault)


class _CatcherSession(SMTP):
    """One SMTP connection; every stage asks for its fault first."""

    def __init__(self, post: _Post, **options: Any) -> None:
        super().__init__(post, **options)
        self._post = post
        self._greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._post.sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._post.sessions.discard(self)

    def abort(self) -> None:
        for transport in (self.transport, self._original_transport):
            if isinstance(transport, asyncio.WriteTransport):
                # A TLS transport that has lost its connection fails on this before Python 3.11.4.
                with contextlib.suppress(AttributeError):
                    transport.abort()

    async def end(self) -> None:
        """Close the connection and wait for the session's task.

        The task is cancelled by hand: after a TLS handshake that the client broke off, aiosmtpd is never told
        that the connection is gone.
        """
        self.abort()
        task = self._handler_coroutine
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def carry_out(self, fault: _Fault) -> str:
        """The reply the fault asks for; a drop or a hang ends with the connection and returns none."""
        if fault.reached is not None:
            fault.reached.set()
        if fault.action == "drop":
            self.abort()
        if fault.action != "answer":
            # aiosmtpd cancels this task as soon as the connection is gone.
            await asyncio.get_running_loop().create_future()
        return f"{fault.code} {fault.text or 'as ordered'}"

    async def push(self, status: str | bytes) -> None:
        fault = None if self._greeted else self._post.take_fault(CatcherStage.BANNER)
        self._greeted = True
        if fault is None:
            await super().push(status if isinstance(status, str) else status.decode())
            return
        await super().push(await self.carry_out(fault))
        if self.transport is not None:
            self.transport.close()

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802 - aiosmtpd's name
        if not await self._failed(CatcherStage.EHLO):
            await super().smtp_EHLO(hostname)

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        if await self._failed(CatcherStage.MAIL, arg):
            return
        if self._post.login_required and not (self.session and self.session.authenticated):
            await self.push("530 5.7.0 Authentication required")
            return
        await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        if not await self._failed(CatcherStage.RCPT, arg):
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - aiosmtpd's name
        if not await self._failed(CatcherStage.DATA):
            await super().smtp_DATA(arg)

    async def _failed(self, stage: CatcherStage, arg: str | None = None) -> bool:
        fault = self._post.take_fault(stage)
        if fault is None:
            return False
        if arg is not None and not fault.text:
            # Real servers quote the address they refuse, so this one does.
            fault = replace(fault, text=f"{arg.partition(':')[2]}: as ordered")
        await self.push(await self.carry_out(fault))
        return True
