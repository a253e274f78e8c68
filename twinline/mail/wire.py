"""One mail on the wire: built by hand from intended values, then read back and compared with them.

The header block is written here and not by `email.message`: several Python 3.11 releases fold display names
with commas or quotes into other addresses than were meant, and every header must be one that we intended.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.header import Header, decode_header, make_header
from email.headerregistry import AddressHeader, DateHeader, HeaderRegistry
from email.message import EmailMessage, MIMEPart
from email.parser import HeaderParser, Parser
from email.policy import EmailPolicy
from email.utils import format_datetime, getaddresses
from functools import cache
from typing import cast

from twinline.mail.address import Address

MAX_LINE_BYTES = 998
"""Without the line end; RFC 5322 section 2.1.1."""

_FOLD_AT = 76
_HEADER_LINE = re.compile(r"([A-Za-z-]+): ?.*")
_PART_HEADERS = ["content-transfer-encoding", "content-type"]


class UnsafeMail(ValueError):
    """The mail would not say what we mean, or would carry what we did not write; never sent.

    Retrying can't help: a person must correct the named field. The text never repeats the field's value.
    """


@dataclass(frozen=True, slots=True)
class IntendedMail:
    """What one mail is meant to be; `date` in whole seconds and aware, both bodies with `\\n` line ends."""

    sender_name: str
    sender: Address
    recipient: Address
    subject: str
    date: datetime
    message_id: str
    text: str
    html: str

    def to_bytes(self) -> bytes:
        """The bytes of the mail, CRLF line ends; the same input gives the same bytes.

        Raises `UnsafeMail` if reading them back gives anything else than was intended.
        """
        raw = self._built().encode()
        self._compare(raw)
        return raw

    def _boundary(self) -> str:
        # "=_" can't occur in quoted-printable text, so no body can contain its own boundary.
        return "=_" + hashlib.sha256(self.message_id.encode()).hexdigest()[:32]

    def _headers(self) -> list[tuple[str, str]]:
        return [
            ("From", f"{_display_name(self.sender_name)}\r\n <{self.sender.text}>"),
            ("To", self.recipient.text),
            ("Subject", _unstructured("Subject", self.subject)),
            ("Date", format_datetime(self.date)),
            ("Message-ID", self.message_id),
            ("MIME-Version", "1.0"),
            ("Auto-Submitted", "auto-generated"),
            ("Content-Type", f'multipart/alternative;\r\n boundary="{self._boundary()}"'),
        ]

    def _built(self) -> str:
        delimiter = f"--{self._boundary()}"
        head = "".join(f"{name}: {value}\r\n" for name, value in self._headers())
        parts = (_part(self.text, "plain"), _part(self.html, "html"))
        body = "".join(f"{delimiter}\r\n{part}\r\n" for part in parts)
        return f"{head}\r\n{body}{delimiter}--\r\n"

    def _compare(self, raw: bytes) -> None:
        for line in raw.split(b"\r\n"):
            _require(len(line) <= MAX_LINE_BYTES, "a line is longer than mail allows")
            _require(not re.search(rb"[\r\n\0]", line), "a line has a control character")
        head = raw.partition(b"\r\n\r\n")[0].decode()
        _require(_header_names(head) == [name for name, _ in self._headers()], "the headers are not the ones meant")
        # As text: the bytes parser replaces the raw UTF-8 of an internationalised recipient.
        read = Parser(policy=_reading()).parsestr(raw.decode())
        self._compare_sender(head)
        self._compare_headers(read)
        self._compare_parts(read)

    def _compare_sender(self, head: str) -> None:
        # By the older parser: the newer one keeps the blank between two encoded words of a display name, against
        # RFC 2047 section 6.2, up to Python 3.12.
        found = getaddresses([str(HeaderParser(policy=policy.compat32).parsestr(head)["From"])])
        meant = [(self.sender_name, self.sender.text)]
        _require(
            [(str(make_header(decode_header(name))), address) for name, address in found] == meant,
            "From reads back differently",
        )

    def _compare_headers(self, read: EmailMessage) -> None:
        sender, recipient = cast("AddressHeader", read["From"]), cast("AddressHeader", read["To"])
        _require([one.addr_spec for one in sender.addresses] == [self.sender.text], "From reads back differently")
        _require(
            [(one.display_name, one.addr_spec) for one in recipient.addresses] == [("", self.recipient.text)],
            "To reads back differently",
        )
        _require(str(read["Subject"]) == self.subject, "Subject reads back differently")
        _require(cast("DateHeader", read["Date"]).datetime == self.date, "Date reads back differently")
        _require(str(read["Message-ID"]) == self.message_id, "Message-ID reads back differently")
        _require(str(read["MIME-Version"]) == "1.0", "MIME-Version reads back differently")
        _require(str(read["Auto-Submitted"]) == "auto-generated", "Auto-Submitted reads back differently")
        _require(read.get_content_type() == "multipart/alternative", "Content-Type reads back differently")
        _require(read.get_boundary() == self._boundary(), "the boundary reads back differently")

    def _compare_parts(self, read: EmailMessage) -> None:
        _require(not read.defects, "the mail has defects")
        parts = list(read.iter_parts())
        _require(
            [part.get_content_type() for part in parts] == ["text/plain", "text/html"],
            "the parts are not the ones meant",
        )
        for part, meant in zip(parts, (self.text, self.html), strict=True):
            _require(sorted(name.lower() for name in part) == _PART_HEADERS, "a part has other headers")
            _require(not part.defects, "a part has defects")
            _require(part.get_content().replace("\r\n", "\n") == meant, "a part reads back differently")


def _reading() -> EmailPolicy[EmailMessage]:
    """The reader's rules, which understand each header once: parser and parts ask for the same ones again and again."""
    return policy.default.clone(header_factory=cache(HeaderRegistry()))


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - an assertion that optimisation can't remove
    if not holds:
        raise UnsafeMail(f"{otherwise}; the mail was not built")


def _part(content: str, subtype: str) -> str:
    part = MIMEPart(policy=policy.SMTP)
    # Quoted-printable always: long lines, leading dots and trailing blanks survive every relay unchanged.
    part.set_content(content, subtype=subtype, charset="utf-8", cte="quoted-printable")
    return part.as_bytes().decode("ascii")


def _header_names(head: str) -> list[str]:
    names: list[str] = []
    for line in head.split("\r\n"):
        if line.startswith(" ") and names:
            continue
        found = _HEADER_LINE.fullmatch(line)
        if found is None:
            raise UnsafeMail("a header line has no name; the mail was not built")
        names.append(found[1])
    return names


def _unstructured(name: str, text: str) -> str:
    # A text that looks like an encoded word would be decoded by the reader, so it is encoded itself.
    if text.isascii() and "=?" not in text and len(name) + 2 + len(text) <= _FOLD_AT:
        return text
    return Header(text, "utf-8", maxlinelen=_FOLD_AT, header_name=name).encode(linesep="\r\n")


def _display_name(name: str) -> str:
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if name.isascii() and "=?" not in name and len("From: ") + len(quoted) <= _FOLD_AT:
        return quoted
    return Header(name, "utf-8", maxlinelen=_FOLD_AT, header_name="From").encode(linesep="\r\n")
