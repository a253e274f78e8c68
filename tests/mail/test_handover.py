"""Handing a mail over: every answer and every loss ends in the right class, against a real server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from twinline.mail import (
    Accepted,
    HandOverError,
    MailFacts,
    MailOutcomeUnknown,
    MailRefused,
    MailTemporary,
    Security,
    SmtpTarget,
    Stage,
    hand_over,
)
from twinline.messages import MailKind
from twinline.sandbox.mailcatcher import CatcherTls, MailCatcher

ServerContext = Callable[[str], ssl.SSLContext]

SENDER = "lines@example.net"
RECIPIENT = "anna.berg@private-domain.org"
MESSAGE = b"Subject: hello\r\n\r\n.hidden dot\r\n..two\r\nsecret-of-the-mail\r\n"
PATIENCE = 30.0
PRIVATE = ("anna", "berg", "private-domain", "lines@", "secret-of-the-mail", "smtp-password", "smtp-user")


async def give(
    target: SmtpTarget | MailCatcher,
    *,
    recipient: str = RECIPIENT,
    message: bytes = MESSAGE,
    tls_context: ssl.SSLContext | None = None,
) -> Accepted:
    return await hand_over(
        SmtpTarget.parse(target.url) if isinstance(target, MailCatcher) else target,
        sender=SENDER,
        recipient=recipient,
        message=message,
        timeout=PATIENCE,
        tls_context=tls_context,
    )


async def failure(target: SmtpTarget | MailCatcher, **options: object) -> HandOverError:
    """The error of a hand-over, checked for what no error may carry."""
    with pytest.raises(HandOverError) as caught:
        await give(target, **options)  # pyright: ignore[reportArgumentType] - the tests below pass what give takes
    error = caught.value
    assert len(str(error)) <= 300
    assert "\n" not in str(error)
    for private in PRIVATE:
        assert private not in f"{error!s} {error!r} {error.args}".lower()
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


async def test_an_accepted_mail_arrives_byte_for_byte_for_its_one_recipient(catcher: MailCatcher) -> None:
    accepted = await give(catcher)
    assert accepted.code == 250
    [mail] = catcher.mails
    assert (mail.sender, mail.recipients, mail.raw) == (SENDER, (RECIPIENT,), MESSAGE)


async def test_a_composed_mail_arrives_byte_for_byte(
    catcher: MailCatcher, make_facts: Callable[..., MailFacts]
) -> None:
    from datetime import UTC, datetime

    from twinline.mail import compose

    raw = compose(make_facts(MailKind.CREDENTIALS), message_id="<x@example.net>", date=datetime.now(UTC))
    await give(catcher, message=raw)
    assert catcher.mails[0].raw == raw


@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data", "content"])
async def test_a_4xx_anywhere_is_temporary_and_the_next_try_arrives(catcher: MailCatcher, stage: str) -> None:
    catcher.answer(stage, 451)
    error = await failure(catcher)
    assert type(error) is MailTemporary
    assert error.code == 451
    assert error.stage == {"banner": Stage.CONNECT}.get(stage, stage)
    assert error.retryable
    assert catcher.mails == ()
    await give(catcher)
    assert len(catcher.mails) == 1


@pytest.mark.parametrize("stage", ["rcpt", "data", "content"])
async def test_a_5xx_about_this_mail_is_final(catcher: MailCatcher, stage: str) -> None:
    catcher.answer(stage, 550)
    error = await failure(catcher)
    assert type(error) is MailRefused
    assert (error.code, error.stage, error.retryable) == (550, stage, False)
    assert catcher.mails == ()


@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail"])
async def test_a_5xx_about_us_waits_for_an_operator(catcher: MailCatcher, stage: str) -> None:
    catcher.answer(stage, 554)
    error = await failure(catcher)
    assert type(error) is MailTemporary
    assert error.code == 554


async def test_a_recipient_refused_for_want_of_a_login_waits_for_an_operator(catcher: MailCatcher) -> None:
    catcher.answer("rcpt", 530)
    assert type(await failure(catcher)) is MailTemporary


async def test_what_a_server_says_is_kept_without_the_address(catcher: MailCatcher) -> None:
    catcher.answer("rcpt", 450, f"4.7.1 <{RECIPIENT}> greylisted; ANNA.BERG at private-domain.org, come back later")
    error = await failure(catcher)
    assert "4.7.1" in str(error)
    assert "greylisted" in str(error)


async def test_what_a_server_says_after_it_has_seen_the_mail_is_cut_down_to_codes(catcher: MailCatcher) -> None:
    catcher.answer("content", 554, "5.7.1 rejected for: secret-of-the-mail")
    assert str(await failure(catcher)) == "mail server, content 554: 5.7.1"


async def test_a_long_answer_is_bounded(catcher: MailCatcher) -> None:
    catcher.answer("rcpt", 450, "no " * 400)
    await failure(catcher)


async def test_an_acceptance_keeps_the_queue_id_and_no_address(catcher: MailCatcher) -> None:
    catcher.answer("content", 250, f"2.0.0 queued as 4XyZ for <{RECIPIENT}>")
    accepted = await give(catcher)
    assert "4XyZ" in accepted.text
    assert "anna" not in accepted.text


@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data"])
async def test_a_connection_lost_before_the_content_is_temporary(catcher: MailCatcher, stage: str) -> None:
    catcher.drop(stage)
    error = await failure(catcher)
    assert type(error) is MailTemporary
    assert error.stage == {"banner": Stage.CONNECT}.get(stage, stage)
    assert error.code is None


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Timeout]:
    """The time-outs that were started, so that a test can let one run out when it wants."""
    started: list[asyncio.Timeout] = []
    real = asyncio.timeout

    def recorded(delay: float | None) -> asyncio.Timeout:
        started.append(real(delay))
        return started[-1]

    monkeypatch.setattr(asyncio, "timeout", recorded)
    return started


async def failure_at_deadline(
    catcher: MailCatcher, reached: asyncio.Event, deadlines: list[asyncio.Timeout]
) -> HandOverError:
    """The error of a hand-over whose time runs out while the server is silent."""
    handing = asyncio.create_task(failure(catcher))
    await reached.wait()
    [deadline] = deadlines
    deadline.reschedule(asyncio.get_running_loop().time())
    return await handing


@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data"])
async def test_no_answer_before_the_content_is_temporary(
    catcher: MailCatcher, deadlines: list[asyncio.Timeout], stage: str
) -> None:
    error = await failure_at_deadline(catcher, catcher.hang(stage), deadlines)
    assert type(error) is MailTemporary
    assert error.stage == {"banner": Stage.CONNECT}.get(stage, stage)
    assert "no answer in time" in str(error)


@pytest.mark.parametrize("keep", [True, False])
async def test_a_connection_lost_after_the_final_dot_leaves_the_outcome_unknown(
    catcher: MailCatcher, *, keep: bool
) -> None:
    catcher.drop_after_data(keep=keep)
    error = await failure(catcher)
    assert type(error) is MailOutcomeUnknown
    assert (error.stage, error.retryable) == (Stage.CONTENT, True)
    assert len(catcher.mails) == (1 if keep else 0)


@pytest.mark.parametrize("keep", [True, False])
async def test_no_answer_after_the_final_dot_leaves_the_outcome_unknown(
    catcher: MailCatcher, deadlines: list[asyncio.Timeout], *, keep: bool
) -> None:
    error = await failure_at_deadline(catcher, catcher.hang("content", keep=keep), deadlines)
    assert type(error) is MailOutcomeUnknown
    assert error.stage is Stage.CONTENT
    assert len(catcher.mails) == (1 if keep else 0)


@pytest.mark.parametrize("code", [0, 354, 999])
async def test_an_answer_that_says_nothing_after_the_final_dot_leaves_the_outcome_unknown(
    catcher: MailCatcher, code: int
) -> None:
    catcher.answer("content", code)
    assert type(await failure(catcher)) is MailOutcomeUnknown


async def test_a_server_that_is_not_there_is_temporary(catcher: MailCatcher) -> None:
    target = SmtpTarget.parse(catcher.url)
    await catcher.stop()
    error = await failure(target)
    assert type(error) is MailTemporary
    assert error.stage is Stage.CONNECT


async def test_a_host_that_has_no_address_is_temporary() -> None:
    error = await failure(SmtpTarget(host="mail..invalid", port=25, security=Security.PLAIN))
    assert type(error) is MailTemporary


async def test_an_internationalised_recipient_arrives_where_smtputf8_is_offered(catcher: MailCatcher) -> None:
    await give(catcher, recipient="jörg@example.org", message="To: jörg@example.org\r\n\r\nhi\r\n".encode())
    assert catcher.mails[0].recipients == ("jörg@example.org",)


async def test_an_internationalised_recipient_is_refused_where_smtputf8_is_not_offered(tmp_path: Path) -> None:
    async with MailCatcher(tmp_path, smtputf8=False) as catcher:
        error = await failure(catcher, recipient="jörg@example.org")
        assert type(error) is MailRefused
        assert error.code is None
        assert catcher.mails == ()


@pytest.mark.parametrize("recipient", ["anna@b.org>\r\nRCPT TO:<eve@c.org", "anna", "<anna@b.org> SIZE=1", ""])
async def test_a_recipient_that_is_no_address_never_reaches_the_wire(catcher: MailCatcher, recipient: str) -> None:
    assert type(await failure(catcher, recipient=recipient)) is MailRefused


async def test_cancelling_a_hand_over_ends_it(catcher: MailCatcher) -> None:
    hanging = catcher.hang("content")
    handing = asyncio.create_task(give(catcher))
    await hanging.wait()
    handing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handing


# --- TLS and login ----------------------------------------------------------------------------------


@pytest_asyncio.fixture(params=[CatcherTls.STARTTLS, CatcherTls.IMPLICIT])
async def secured(
    request: pytest.FixtureRequest, tmp_path: Path, server_context: ServerContext
) -> AsyncIterator[MailCatcher]:
    """A catcher with TLS and a login, in both ways of speaking TLS."""
    tls: CatcherTls = request.param
    login = ("smtp-user@example.net", "smtp-password")
    async with MailCatcher(tmp_path, tls=tls, tls_context=server_context("localhost"), login=login) as running:
        yield running


def logged_in(catcher: MailCatcher, password: str) -> SmtpTarget:
    scheme, _, rest = catcher.url.partition("://")
    return SmtpTarget.parse(f"{scheme}://smtp-user%40example.net:{password}@{rest}")


async def test_a_mail_goes_over_verified_tls_with_a_login(secured: MailCatcher, trusting: ssl.SSLContext) -> None:
    await give(logged_in(secured, "smtp-password"), tls_context=trusting)
    assert secured.mails[0].raw == MESSAGE


async def test_a_wrong_password_waits_for_an_operator(secured: MailCatcher, trusting: ssl.SSLContext) -> None:
    error = await failure(logged_in(secured, "smtp-password-wrong"), tls_context=trusting)
    assert type(error) is MailTemporary
    assert (error.stage, error.code) == (Stage.AUTH, 535)


async def test_a_missing_login_waits_for_an_operator(secured: MailCatcher, trusting: ssl.SSLContext) -> None:
    error = await failure(secured, tls_context=trusting)
    assert type(error) is MailTemporary
    assert (error.stage, error.code) == (Stage.MAIL, 530)


async def test_an_authority_we_do_not_know_gets_no_mail(secured: MailCatcher) -> None:
    error = await failure(logged_in(secured, "smtp-password"))
    assert type(error) is MailTemporary
    assert error.stage is Stage.TLS
    assert secured.mails == ()


@pytest.mark.parametrize("tls", [CatcherTls.STARTTLS, CatcherTls.IMPLICIT])
async def test_a_certificate_for_another_name_gets_no_mail(
    tmp_path: Path, server_context: ServerContext, trusting: ssl.SSLContext, tls: CatcherTls
) -> None:
    async with MailCatcher(tmp_path, tls=tls, tls_context=server_context("other.example.net")) as catcher:
        error = await failure(catcher, tls_context=trusting)
        assert type(error) is MailTemporary
        assert error.stage is Stage.TLS
        assert catcher.mails == ()


async def test_a_server_without_starttls_gets_no_mail(catcher: MailCatcher) -> None:
    error = await failure(SmtpTarget(host="localhost", port=catcher.port, security=Security.STARTTLS))
    assert type(error) is MailTemporary
    assert error.stage is Stage.TLS
    assert "does not offer STARTTLS" in str(error)
    assert catcher.mails == ()


async def test_a_server_without_tls_gets_no_mail_over_smtps(catcher: MailCatcher) -> None:
    error = await failure(SmtpTarget(host="localhost", port=catcher.port, security=Security.IMPLICIT_TLS))
    assert type(error) is MailTemporary
    assert error.stage is Stage.TLS


async def test_a_login_that_the_server_does_not_offer_waits_for_an_operator(catcher: MailCatcher) -> None:
    target = SmtpTarget(
        host="127.0.0.1",
        port=catcher.port,
        security=Security.PLAIN,
        username="smtp-user",
        password=SecretStr("smtp-password"),
    )
    error = await failure(target)
    assert type(error) is MailTemporary
    assert error.stage is Stage.AUTH


@pytest.mark.parametrize("weakened", ["name", "certificate"])
async def test_verification_cannot_be_switched_off(catcher: MailCatcher, weakened: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    if weakened == "certificate":
        context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ValueError, match="must verify"):
        await give(catcher, tls_context=context)
