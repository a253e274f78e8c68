"""Facts in, the bytes of one mail out."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, meta, select_autoescape

from twinline.mail.address import Address, AddressError, parse_address
from twinline.mail.facts import SHOWS_CREDENTIALS, MailFacts
from twinline.mail.view import MailView, view_of
from twinline.mail.wire import IntendedMail, UnsafeMail
from twinline.messages import MailKind

TEMPLATES = Path(__file__).resolve().parents[2] / "templates" / "mail"
"""`templates/` lies beside the package, in the repository and in an installed wheel alike."""

_TEXT_WIDTH = 72
_FIELDS = tuple(MailView.__dataclass_fields__)
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# They turn the reading direction around, so that a host or a link reads as another one.
_BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_COPYABLE = re.compile(r"[\x21-\x7e]+")
_MESSAGE_ID = re.compile(r"<[A-Za-z0-9._-]{1,64}@[A-Za-z0-9.-]{1,200}>")
_WEB_ADDRESS = re.compile(r"https?://[\x21-\x7e]+")


class BrokenTemplates(RuntimeError):
    """The mail templates are missing, don't parse, or use a name no mail has; the process must not start."""


class Composer:
    """Writes mails from the templates of one directory, all of them parsed when it is built.

    Raises `BrokenTemplates`.
    """

    def __init__(self, templates: Path = TEMPLATES) -> None:
        self._loader = FileSystemLoader(templates)
        self._templates = Environment(
            loader=self._loader,
            autoescape=select_autoescape(enabled_extensions=("html.j2",)),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            # A release that is installed under a running worker must not change what that one knows how to fill in.
            auto_reload=False,
        )
        self._templates.filters["wrap"] = _wrap
        self._parse_all()

    def compose(self, facts: MailFacts, *, message_id: str, date: datetime) -> bytes:
        """The mail as it goes over the wire; the same input gives the same bytes.

        `date` is an aware time; the header has it in UTC and whole seconds. Raises `UnsafeMail`.
        """
        if not _MESSAGE_ID.fullmatch(message_id):
            raise UnsafeMail("the Message-ID is not of the form <id@domain>")
        if date.tzinfo is None:
            raise UnsafeMail("the date has no zone")
        _check_texts(facts)
        view = view_of(facts)
        return IntendedMail(
            sender_name=facts.service.name,
            sender=_address("mail_from", facts.service.mail_from),
            recipient=_address("recipient", facts.recipient),
            subject=view.subject,
            date=date.astimezone(UTC).replace(microsecond=0),
            message_id=message_id,
            text=self._render(f"{facts.kind}.txt.j2", view),
            html=self._render(f"{facts.kind}.html.j2", view),
        ).to_bytes()

    def _render(self, name: str, view: MailView) -> str:
        rendered = self._templates.get_template(name).render({key: getattr(view, key) for key in _FIELDS})
        return rendered.strip() + "\n"

    def _parse_all(self) -> None:
        present = {name for name in self._loader.list_templates() if name.endswith(".j2")}
        wanted = {f"{kind}.{form}.j2" for kind in MailKind for form in ("txt", "html")}
        if missing := sorted(wanted - present):
            raise BrokenTemplates(f"mail templates are missing: {', '.join(missing)}")
        for name in sorted(present):
            try:
                source = self._loader.get_source(self._templates, name)[0]
                used = meta.find_undeclared_variables(self._templates.parse(source, name))
                self._templates.get_template(name)
            except (TemplateError, UnicodeDecodeError) as error:
                raise BrokenTemplates(f"mail template {name} doesn't parse: {error}") from error
            if unknown := sorted(used.difference(_FIELDS)):
                raise BrokenTemplates(f"mail template {name} uses unknown names: {', '.join(unknown)}")


@cache
def default_composer() -> Composer:
    """The composer of the installed templates; asked for at start, it stops a process with a broken one."""
    return Composer()


def compose(facts: MailFacts, *, message_id: str, date: datetime) -> bytes:
    """`Composer.compose` with the installed templates."""
    return default_composer().compose(facts, message_id=message_id, date=date)


def _address(field: str, text: str) -> Address:
    try:
        return parse_address(text)
    except AddressError as error:
        raise UnsafeMail(f"{field}: {error}") from error


def _check_texts(facts: MailFacts) -> None:
    for field, text in _texts(facts):
        if not text or text != text.strip():
            raise UnsafeMail(f"{field} is empty or has blanks around it")
        if any(
            unicodedata.category(character) in _FORBIDDEN_CATEGORIES or character in _BIDI_OVERRIDES
            for character in text
        ):
            raise UnsafeMail(f"{field} has a line break or another control character")
    for field, text in _copied_texts(facts):
        if not _COPYABLE.fullmatch(text):
            raise UnsafeMail(f"{field} can't be copied into a receiver: visible ASCII without blanks only")
    if not all(0 < entry.port < 65536 for entry in facts.entries):
        raise UnsafeMail("entry.port is not a TCP port")
    if not _WEB_ADDRESS.fullmatch(facts.service.public_url):
        raise UnsafeMail("service.public_url is not a web address (https://…)")


def _texts(facts: MailFacts) -> Iterator[tuple[str, str]]:
    service = facts.service
    yield "service.name", service.name
    yield "service.rights_holder", service.rights_holder
    yield "service.abuse_contact", service.abuse_contact
    yield "service.support_email", service.support_email
    yield "reference", facts.reference
    for block in facts.blocks:
        yield "block.owner", block.owner
        yield "block.reason", block.reason
        yield "block.case", block.case


def _copied_texts(facts: MailFacts) -> Iterator[tuple[str, str]]:
    yield "username", facts.username
    for entry in facts.entries:
        yield "entry.host", entry.host
    if facts.kind in SHOWS_CREDENTIALS and facts.password is not None:
        yield "password", facts.password.get_secret_value()


def _wrap(text: str) -> str:
    """One paragraph in lines of 72 columns, the last line ended; values to be copied never go through it."""
    paragraph = " ".join(text.split())
    return textwrap.fill(paragraph, _TEXT_WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"
