"""Talking to the mail server without giving it a mail."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from twinline.mail import MailTemporary, SmtpTarget, Stage, greet
from twinline.sandbox.mailcatcher import CatcherTls, MailCatcher

SENDER = "lines@example.net"


async def test_a_server_that_would_take_mails_is_greeted_and_gets_none(catcher: MailCatcher) -> None:
    await greet(SmtpTarget.parse(catcher.url), sender=SENDER, timeout=5)
    assert catcher.mails == ()


async def test_the_login_is_tried(
    tmp_path: Path, server_context: Callable[[str], ssl.SSLContext], trusting: ssl.SSLContext
) -> None:
    async with MailCatcher(
        tmp_path / "mails",
        tls=CatcherTls.IMPLICIT,
        tls_context=server_context("localhost"),
        login=("twinline", "right"),
    ) as running:
        right = f"smtps://twinline:right@localhost:{running.port}"
        await greet(SmtpTarget.parse(right), sender=SENDER, timeout=5, tls_context=trusting)
        wrong = SmtpTarget.parse(right.replace("right", "wrong"))
        with pytest.raises(MailTemporary) as refused:
            await greet(wrong, sender=SENDER, timeout=5, tls_context=trusting)
        assert refused.value.stage is Stage.AUTH
        assert "wrong" not in str(refused.value)
        assert running.mails == ()


async def test_a_server_that_is_away_is_told_as_such(catcher: MailCatcher) -> None:
    target = SmtpTarget.parse(catcher.url)
    await catcher.stop()
    with pytest.raises(MailTemporary) as away:
        await greet(target, sender=SENDER, timeout=5)
    assert away.value.stage is Stage.CONNECT


async def test_a_context_that_verifies_nothing_is_never_used(catcher: MailCatcher) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ValueError, match="must verify"):
        await greet(SmtpTarget.parse(catcher.url), sender=SENDER, timeout=5, tls_context=context)
