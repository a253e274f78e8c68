"""The mail catcher: what it keeps, how it can be looked at, and how it fails on purpose."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from twinline.mail import MailFacts, MailTemporary, SmtpTarget, compose, hand_over
from twinline.messages import MailKind
from twinline.sandbox.mailcatcher import CatcherTls, CaughtMail, MailCatcher

MakeFacts = Callable[..., MailFacts]


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def send(catcher: MailCatcher, message: bytes) -> None:
    await hand_over(
        SmtpTarget.parse(catcher.url),
        sender="lines@example.net",
        recipient="anna@example.org",
        message=message,
        timeout=30,
    )


async def get(catcher: MailCatcher, path: str, *, method: str = "GET", host: str | None = None) -> tuple[str, str]:
    """(headers, body) of one answer of the web view."""
    authority = urlsplit(catcher.web_url).netloc
    address, _, port = authority.partition(":")
    reader, writer = await asyncio.open_connection(address, int(port))
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host or authority}\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return head, body


async def test_a_caught_mail_is_a_file_for_its_owner_only(catcher: MailCatcher) -> None:
    await send(catcher, b"Subject: one\r\n\r\nbody\r\n")
    [mail] = catcher.mails
    assert mail.path.name == "00001.eml"
    assert mail.path.read_bytes() == mail.raw == b"Subject: one\r\n\r\nbody\r\n"
    assert stat.S_IMODE(mail.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(mail.path.parent.stat().st_mode) == 0o700


async def test_a_second_run_keeps_the_files_of_the_first(tmp_path: Path) -> None:
    for expected in ("00001.eml", "00002.eml"):
        async with MailCatcher(tmp_path) as catcher:
            assert catcher.mails == ()
            await send(catcher, b"Subject: x\r\n\r\n\r\n")
            assert catcher.mails[0].path.name == expected
    assert names_in(tmp_path) == ["00001.eml", "00002.eml"]


async def test_waiting_finds_a_mail_that_came_before_and_one_that_comes_later(catcher: MailCatcher) -> None:
    def titled(subject: str) -> Callable[[CaughtMail], bool]:
        return lambda mail: mail.subject == subject

    later = asyncio.create_task(catcher.wait_for(titled("two")))
    await send(catcher, b"Subject: one\r\n\r\n\r\n")
    assert (await catcher.wait_for(titled("one"))).number == 1
    assert not later.done()
    await send(catcher, b"Subject: two\r\n\r\n\r\n")
    assert (await later).number == 2


async def test_stopping_ends_whoever_waits(tmp_path: Path) -> None:
    async with MailCatcher(tmp_path) as catcher:
        waiting = asyncio.create_task(catcher.wait_for(lambda _: True))
        await send(catcher, b"Subject: x\r\n\r\n\r\n")
        await waiting
        never = asyncio.create_task(catcher.wait_for(lambda _: False))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await never


async def test_a_swallowing_catcher_accepts_and_keeps_nothing_until_it_is_healed(catcher: MailCatcher) -> None:
    catcher.swallow = True
    await send(catcher, b"Subject: lost\r\n\r\n\r\n")
    assert catcher.mails == ()
    catcher.heal()
    await send(catcher, b"Subject: kept\r\n\r\n\r\n")
    assert [mail.subject for mail in catcher.mails] == ["kept"]


async def test_a_lasting_fault_stays_until_it_is_healed(catcher: MailCatcher) -> None:
    catcher.answer("rcpt", 451, once=False)
    for _ in range(2):
        with pytest.raises(MailTemporary):
            await send(catcher, b"Subject: x\r\n\r\n\r\n")
    catcher.heal()
    await send(catcher, b"Subject: x\r\n\r\n\r\n")


async def test_tls_and_its_certificate_come_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="server context"):
        MailCatcher(tmp_path, tls=CatcherTls.STARTTLS)


async def test_the_pages_show_list_mail_text_and_source(catcher: MailCatcher, make_facts: MakeFacts) -> None:
    raw = compose(make_facts(MailKind.CREDENTIALS), message_id="<x@example.net>", date=datetime.now(UTC))
    assert "No mail has arrived yet" in (await get(catcher, "/"))[1]
    await send(catcher, raw)
    assert '<a href="/mail/1">Example TV: your trial line is ready</a>' in (await get(catcher, "/"))[1]
    _, page = await get(catcher, "/mail/1")
    assert '<iframe sandbox="" referrerpolicy="no-referrer" src="/mail/1/html"></iframe>' in page
    assert "C: multics.example.net 12000" in page
    assert (await get(catcher, "/mail/1/raw"))[1].encode() == raw
    head, text = await get(catcher, "/mail/1/text")
    assert text.startswith("Example TV")
    assert "Content-Type: text/plain" in head


async def test_the_mails_own_html_may_run_nothing_and_load_nothing(catcher: MailCatcher) -> None:
    await send(catcher, b"Subject: <b>x</b>\r\nContent-Type: text/html\r\n\r\n<script>alert(1)</script>\r\n")
    head, body = await get(catcher, "/mail/1/html")
    assert "<script>" in body
    assert "Content-Security-Policy: sandbox; default-src 'none'; style-src 'unsafe-inline'" in head
    assert "X-Content-Type-Options: nosniff" in head
    for path in ("/", "/mail/1"):
        assert "&lt;b&gt;x&lt;/b&gt;" in (await get(catcher, path))[1]
        assert "<script>" not in (await get(catcher, path))[1]


@pytest.mark.parametrize(
    "path", ["/mail/2", "/mail/x", "/mail/1/nothing", "/mail/1/html", "/etc/passwd", "/mail/1/raw/x"]
)
async def test_a_page_that_is_not_there_is_not_found(catcher: MailCatcher, path: str) -> None:
    await send(catcher, b"Subject: text only\r\n\r\nbody\r\n")
    assert (await get(catcher, path))[0].startswith("HTTP/1.1 404 ")


async def test_the_pages_answer_nobody_who_calls_this_machine_by_another_name(catcher: MailCatcher) -> None:
    head, body = await get(catcher, "/", host="mail.example.net")
    assert head.startswith("HTTP/1.1 403 ")
    assert "Caught" not in body
    port = urlsplit(catcher.web_url).port
    assert (await get(catcher, "/", host=f"localhost:{port}"))[0].startswith("HTTP/1.1 200 ")


async def test_the_pages_can_only_be_read(catcher: MailCatcher) -> None:
    assert (await get(catcher, "/", method="POST"))[0].startswith("HTTP/1.1 405 ")
