"""Facts, mails and mail servers that the mail tests share."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
from pydantic import SecretStr

from twinline.mail import BlockNotice, Entry, MailFacts, Service
from twinline.messages import MailKind
from twinline.sandbox.mailcatcher import MailCatcher

MakeFacts = Callable[..., MailFacts]

MULTICS = Entry("multics", "multics.example.net", 12000, ready=True)
OSCAM = Entry("oscam", "oscam.example.net", 15000, ready=True)
ABUSE = BlockNotice("abuse", "Two receivers used this line at the same time.", "AB-2291")

SERVICE = Service(
    name="Example TV",
    rights_holder="Example Rights Ltd",
    abuse_contact="abuse@example.net",
    support_email="help@example.net",
    mail_from="lines@example.net",
    public_url="https://tv.example.net",
)

ENTRIES_OF_KIND: dict[MailKind, tuple[Entry, ...]] = {
    MailKind.CREDENTIALS: (MULTICS, OSCAM),
    MailKind.SECOND_HALF: (OSCAM,),
    MailKind.PASSWORD: (MULTICS, OSCAM),
    MailKind.MOVED: (MULTICS, OSCAM),
}


def facts_of(kind: MailKind, **changes: Any) -> MailFacts:
    """Valid facts for a kind, with the named fields changed."""
    fields: dict[str, Any] = {
        "service": SERVICE,
        "recipient": "anna@example.org",
        "username": "k7mxq2vd",
        "password": SecretStr("Tz4RkW8pQm3Hv9Ya"),
        "plan": "trial",
        "ends_at": datetime(2026, 11, 25, 14, 3, 59, tzinfo=UTC),
        "entries": ENTRIES_OF_KIND.get(kind, ()),
        "blocks": (ABUSE,) if kind is MailKind.BLOCKED else (),
        "reference": "order-1042",
        "taken_back": "line" if kind is MailKind.CANCELLED else None,
    }
    return MailFacts(kind=kind, **(fields | changes))


@pytest.fixture(scope="session")
def make_facts() -> MakeFacts:
    """`facts_of`, for test modules, which can't import from here."""
    return facts_of


@pytest_asyncio.fixture
async def catcher(tmp_path: Path) -> AsyncIterator[MailCatcher]:
    """A plain mail catcher on loopback."""
    async with MailCatcher(tmp_path / "mails") as running:
        yield running


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody but a test trusts."""
    return trustme.CA()


@pytest.fixture
def server_context(authority: trustme.CA) -> Callable[[str], ssl.SSLContext]:
    """Makes the context of a server with a certificate for the name."""

    def make(name: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate = authority.issue_cert(name)
        # trustme also takes contexts of pyOpenSSL, which isn't installed, so its type is partly unknown.
        certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
        return context

    return make


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client context that verifies against the test's authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType] - as above
    return context
