"""Handing one mail to the mail server, and knowing exactly what became of it.

    HandOverError             .stage  .code  .retryable
    ├── MailTemporary         not accepted; a person or time can repair it: hand over again
    ├── MailRefused           not accepted and never will be: tell somebody, don't try again
    └── MailOutcomeUnknown    perhaps accepted: hand over again only with identical bytes

A refusal (5xx) is final where it is about this mail: at RCPT, and in answer to DATA or to the content. At the
banner, EHLO, STARTTLS, AUTH and MAIL FROM it is about us, our credentials or our sender address, and the same
for every mail: an operator repairs it, so it is temporary. So is 530, 534, 535 or 538 anywhere: RFC 4954 asks
for a login with them.

A reply may quote what the server has seen so far. Before it has seen credentials or the content, its words are
kept with everything like an address removed; after that only the codes are.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from aiosmtplib import SMTP
from aiosmtplib.errors import (
    SMTPException,
    SMTPResponseException,
    SMTPTimeoutError,
)

from twinline.mail.target import Security, SmtpTarget

MAX_ERROR_LENGTH = 300
"""Characters of an error's text."""

_T = TypeVar("_T")
_MAX_REPLY_LENGTH = 160
_LOGIN_WANTED = frozenset({530, 534, 535, 538})
_ENHANCED_CODE = re.compile(r"\b[245]\.\d{1,3}\.\d{1,3}\b")
_ADDRESS_LIKE = re.compile(r"[^\s<>\"'(),;:]*@[^\s<>\"'(),;]*")
_NOT_IN_A_PATH = re.compile(r"[\x00-\x20\x7f<>]")


class Stage(StrEnum):
    """How far the conversation was."""

    CONNECT = "connect"
    TLS = "tls"
    EHLO = "ehlo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"
    """From the moment the final dot was given to the connection."""


class HandOverError(Exception):
    """A mail was not, or not surely, accepted; `code` is the server's reply code, None where it gave none."""

    retryable: ClassVar[bool]

    def __init__(self, *, stage: Stage, code: int | None, reason: str) -> None:
        answer = "" if code is None else f" {code}"
        super().__init__(f"mail server, {stage}{answer}: {reason}"[:MAX_ERROR_LENGTH])
        self.stage = stage
        self.code = code


class MailTemporary(HandOverError):
    """The mail was not accepted; retrying helps once the server, the network or an operator has acted."""

    retryable = True


class MailRefused(HandOverError):
    """The mail was not accepted and the same mail never will be; retrying can't help."""

    retryable = False


class MailOutcomeUnknown(HandOverError):
    """Nobody can tell whether the mail was accepted; it may be handed over again with identical bytes only."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took responsibility for the mail; `text` is its answer (often a queue id), scrubbed."""

    code: int
    text: str


async def hand_over(
    target: SmtpTarget,
    *,
    sender: str,
    recipient: str,
    message: bytes,
    timeout: float,
    tls_context: ssl.SSLContext | None = None,
) -> Accepted:
    """Give one mail to the server and wait for its answer, at most `timeout` seconds for all of it.

    `tls_context` replaces the system's certificate authorities; it must verify. Raises `MailTemporary`,
    `MailRefused`, `MailOutcomeUnknown`, and `ValueError` for a context that doesn't verify. A cancellation
    during the content leaves the outcome unknown.
    """
    talk = _Conversation(
        target, sender=sender, recipient=recipient, message=message, tls_context=_verifying(tls_context)
    )
    return await _told(talk, talk.run(), timeout=timeout)


async def greet(target: SmtpTarget, *, sender: str, timeout: float, tls_context: ssl.SSLContext | None = None) -> None:
    """See that the server would talk to us: connect, secure, log in where the URL says so, and leave without a mail.

    Raises `MailTemporary`, and `ValueError` for a context that doesn't verify.
    """
    talk = _Conversation(target, sender=sender, recipient="", message=b"", tls_context=_verifying(tls_context))
    await _told(talk, talk.open(), timeout=timeout)


async def _told(talk: _Conversation, session: Coroutine[Any, Any, _T], *, timeout: float) -> _T:
    """Carry out a session in its time, its failure told in our words."""
    failure: HandOverError
    try:
        async with asyncio.timeout(timeout):
            return await session
    except HandOverError as error:
        failure = error
    except (TimeoutError, SMTPException, OSError, ValueError) as error:
        failure = talk.failure(error)
    finally:
        talk.close()
    # Raised out here, because the library's exceptions carry addresses and would be chained as context.
    raise failure


class _Conversation:
    """One SMTP session, command by command, so that `stage` always tells how far it came."""

    def __init__(
        self,
        target: SmtpTarget,
        *,
        sender: str,
        recipient: str,
        message: bytes,
        tls_context: ssl.SSLContext | None,
    ) -> None:
        self._target = target
        self._sender = sender
        self._recipient = recipient
        self._message = message
        self._stage = Stage.CONNECT
        self._smtp = SMTP(
            hostname=target.host,
            port=target.port,
            use_tls=target.security is Security.IMPLICIT_TLS,
            start_tls=False,
            tls_context=tls_context,
            # The deadline of the caller bounds the whole; a second clock would only blur what timed out.
            timeout=None,
            # Not the machine's own name, which is slow to find out and nobody's business.
            local_hostname=_ehlo_name(sender),
        )

    async def run(self) -> Accepted:
        if not _is_path(self._sender):
            raise MailTemporary(stage=Stage.MAIL, code=None, reason="the sender is no mail address; correct it")
        if not _is_path(self._recipient):
            raise MailRefused(stage=Stage.RCPT, code=None, reason="the recipient is no mail address")
        await self.open()
        await self._envelope()
        return await self._content()

    async def open(self) -> None:
        """Everything before the first word about a mail."""
        await self._smtp.connect()
        await self._secure()
        self._stage = Stage.EHLO
        await self._smtp.ehlo()
        await self._log_in()

    def close(self) -> None:
        self._smtp.close()

    def failure(self, error: Exception) -> HandOverError:
        """The same failure in our words, without anything private."""
        if self._stage is Stage.CONTENT:
            return self._content_failure(error)
        if isinstance(error, SMTPResponseException):
            return self._refusal(error)
        if _caused_by_tls(error):
            return MailTemporary(stage=Stage.TLS, code=None, reason=f"TLS failed: {_tls_reason(error)}")
        if self._stage is Stage.RCPT and isinstance(error, ValueError):
            return MailRefused(stage=self._stage, code=None, reason="SMTP can't carry the recipient's address")
        if isinstance(error, TimeoutError | SMTPTimeoutError):
            return MailTemporary(stage=self._stage, code=None, reason="no answer in time")
        if self._stage is Stage.CONNECT:
            return MailTemporary(stage=self._stage, code=None, reason="could not connect, or no greeting came")
        return MailTemporary(stage=self._stage, code=None, reason="the connection was lost, or the session refused")

    async def _secure(self) -> None:
        if self._target.security is not Security.STARTTLS:
            return
        self._stage = Stage.EHLO
        await self._smtp.ehlo()
        self._stage = Stage.TLS
        if not self._smtp.supports_extension("starttls"):
            raise MailTemporary(
                stage=self._stage,
                code=None,
                reason="the server does not offer STARTTLS; enable it there, or use smtps://",
            )
        await self._smtp.starttls()

    async def _log_in(self) -> None:
        if self._target.username is None or self._target.password is None:
            return
        self._stage = Stage.AUTH
        if not self._smtp.supported_auth_methods:
            raise MailTemporary(
                stage=self._stage, code=None, reason="the server offers no login we know; check the SMTP URL"
            )
        await self._smtp.login(self._target.username, self._target.password.get_secret_value())

    async def _envelope(self) -> None:
        options: list[str] = []
        if not (self._sender.isascii() and self._recipient.isascii() and self._message.isascii()):
            if not self._smtp.supports_extension("smtputf8"):
                raise MailRefused(
                    stage=Stage.MAIL, code=None, reason="the mail needs SMTPUTF8 and the server does not offer it"
                )
            options = ["SMTPUTF8", "BODY=8BITMIME"]
        encoding = "utf-8" if options else "ascii"
        self._stage = Stage.MAIL
        await self._smtp.mail(self._sender, options=options, encoding=encoding)
        self._stage = Stage.RCPT
        await self._smtp.rcpt(self._recipient, encoding=encoding)

    async def _content(self) -> Accepted:
        self._stage = Stage.DATA
        go_ahead = await self._smtp.execute_command(b"DATA")
        if go_ahead.code != 354:
            raise SMTPResponseException(go_ahead.code, go_ahead.message)
        # Not SMTP.data(): it sends DATA and the content in one call, and a failure doesn't tell which was lost.
        protocol = self._smtp.protocol
        if protocol is None or not protocol.is_connected:
            raise ConnectionResetError
        content = _dot_stuffed(self._message)
        self._stage = Stage.CONTENT
        protocol.write(content)
        answer = await protocol.read_response()
        if not 200 <= answer.code < 300:
            raise SMTPResponseException(answer.code, answer.message)
        # QUIT without waiting for its answer: nothing after the acceptance may turn it into a failure.
        if protocol.is_connected:
            protocol.write(b"QUIT\r\n")
        return Accepted(answer.code, self._scrubbed(answer.message))

    def _content_failure(self, error: Exception) -> HandOverError:
        if isinstance(error, SMTPResponseException) and 400 <= error.code < 600:
            return self._refusal(error)
        return MailOutcomeUnknown(
            stage=self._stage, code=None, reason="no readable answer came after the mail was sent"
        )

    def _refusal(self, error: SMTPResponseException) -> HandOverError:
        about_this_mail = self._stage in {Stage.RCPT, Stage.DATA, Stage.CONTENT}
        code = error.code if 200 <= error.code < 600 else None
        final = about_this_mail and 500 <= error.code < 600 and error.code not in _LOGIN_WANTED
        kind = MailRefused if final else MailTemporary
        return kind(stage=self._stage, code=code, reason=self._reply(error))

    def _reply(self, error: SMTPResponseException) -> str:
        if self._stage in {Stage.AUTH, Stage.CONTENT}:
            enhanced = _ENHANCED_CODE.search(error.message)
            return enhanced[0] if enhanced else "refused"
        return self._scrubbed(error.message) or "refused"

    def _scrubbed(self, reply: str) -> str:
        """One bounded line of a reply, without addresses or their parts."""
        line = "".join(character if character.isprintable() else " " for character in reply)
        line = _ADDRESS_LIKE.sub("[address]", line)
        private = {self._target.username, *self._recipient.split("@")}
        for part in sorted((part for part in private if part), key=len, reverse=True):
            line = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", "[address]", line, flags=re.IGNORECASE)
        return " ".join(line.split())[:_MAX_REPLY_LENGTH]


def _verifying(context: ssl.SSLContext | None) -> ssl.SSLContext | None:
    if context is None or (context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED):
        return context
    raise ValueError("the TLS context must verify certificate and host name")


def _is_path(address: str) -> bool:
    return "@" in address and not _NOT_IN_A_PATH.search(address)


def _ehlo_name(sender: str) -> str:
    domain = sender.rpartition("@")[2]
    return domain if re.fullmatch(r"[A-Za-z0-9.-]+", domain) else "localhost"


def _dot_stuffed(message: bytes) -> bytes:
    """The content with its final dot; RFC 5321 section 4.5.2."""
    ended = message if message.endswith(b"\r\n") else message + b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", ended) + b".\r\n"


def _caused_by_tls(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, ssl.SSLError) or _caused_by_tls(error.__cause__))


def _tls_reason(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message[:_MAX_REPLY_LENGTH]
    if isinstance(error, ssl.SSLError):
        return error.reason or "handshake"
    return "handshake" if error is None else _tls_reason(error.__cause__)
