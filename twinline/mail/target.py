"""The mail server to hand mails to, read from one URL."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

_FORMS = "smtp://user:password@host:port, smtps://user:password@host:port or smtp+plain://127.0.0.1:port"
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class SmtpUrlError(ValueError):
    """The SMTP URL can't be used; a person must correct it. The sentence never repeats any part of the URL."""


class Security(StrEnum):
    """How the connection is protected."""

    STARTTLS = "starttls"
    """Plain at first, TLS before anything is said; a server without STARTTLS gets no mail."""
    IMPLICIT_TLS = "implicit_tls"
    """TLS from the first byte."""
    PLAIN = "plain"
    """No TLS; only towards this very machine."""


_SECURITY = {"smtp": Security.STARTTLS, "smtps": Security.IMPLICIT_TLS, "smtp+plain": Security.PLAIN}
# RFC 6409 (submission), RFC 8314 (implicit TLS), RFC 5321.
_DEFAULT_PORTS = {Security.STARTTLS: 587, Security.IMPLICIT_TLS: 465, Security.PLAIN: 25}


@dataclass(frozen=True, slots=True)
class SmtpTarget:
    """One mail server; user name (often an address) and password stay out of `repr` and `str`."""

    host: str
    port: int
    security: Security
    username: str | None = field(default=None, repr=False)
    password: SecretStr | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> SmtpTarget:
        """Read `smtp://` (STARTTLS), `smtps://` (TLS at once) or `smtp+plain://` (loopback only).

        User and password are percent-decoded. Raises `SmtpUrlError`.
        """
        if _CONTROL.search(url):
            raise SmtpUrlError("the SMTP URL has a blank or control character; percent-encode it")
        target: SmtpTarget | None = None
        try:
            target = cls._split(url)
        except SmtpUrlError:
            raise
        except ValueError:
            # urllib quotes the piece it can't read, which may be the password: raise outside of this block.
            pass
        if target is None:
            raise SmtpUrlError(
                f"the SMTP URL can't be read; write {_FORMS}, with / ? # @ : % in user and password percent-encoded"
            )
        return target

    @classmethod
    def _split(cls, url: str) -> SmtpTarget:
        parts = urlsplit(url)
        security = _SECURITY.get(parts.scheme)
        if security is None:
            raise SmtpUrlError(f"the SMTP URL has an unknown scheme; write {_FORMS}")
        if parts.path not in {"", "/"} or "?" in url or "#" in url:
            raise SmtpUrlError("the SMTP URL has something after the port; percent-encode / ? # in user and password")
        if not parts.hostname:
            raise SmtpUrlError(f"the SMTP URL has no host; write {_FORMS}")
        if security is Security.PLAIN and not _is_loopback(parts.hostname):
            raise SmtpUrlError(
                "smtp+plain:// is for a mail server on this machine only (127.0.0.1, ::1, localhost); "
                "use smtp:// (STARTTLS) or smtps:// for any other"
            )
        if (parts.username is None) != (parts.password is None) or parts.username == "":
            raise SmtpUrlError("the SMTP URL needs both a user and a password, or neither")
        port = parts.port if parts.port is not None else _DEFAULT_PORTS[security]
        if port == 0:
            raise SmtpUrlError("the SMTP URL has port 0; give the port the mail server listens on")
        return cls(
            host=parts.hostname,
            port=port,
            security=security,
            username=None if parts.username is None else _decoded(parts.username),
            password=None if parts.password is None else SecretStr(_decoded(parts.password)),
        )


def _decoded(text: str) -> str:
    if _BAD_PERCENT.search(text):
        raise SmtpUrlError("user or password of the SMTP URL has a bare percent sign; write it as %25")
    decoded = unquote(text, errors="strict")
    if _CONTROL.search(decoded.replace(" ", "")):
        raise SmtpUrlError("user or password of the SMTP URL has a control character, which SMTP can't carry")
    return decoded


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
