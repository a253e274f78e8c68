"""What a mail server answered is recorded, whatever the ledger and the worker do meanwhile: it mails nobody twice."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import mail as mailing
from activities.mail import MailActivities
from tests.ledger.support import Desk, Pairing, an_inventory
from tests.ledger.test_mails import load, store
from twinline.errors import Unavailable
from twinline.ledger import mails
from twinline.mail import SmtpTarget
from twinline.messages import MailState
from twinline.sandbox.mailcatcher import MailCatcher


@pytest_asyncio.fixture
async def catcher(tmp_path: Path) -> AsyncIterator[MailCatcher]:
    async with MailCatcher(tmp_path / "mails") as running:
        yield running


@pytest_asyncio.fixture
async def mail_id(sqlite_desk: Desk) -> str:
    return (await store(sqlite_desk, (await sqlite_desk.trial()).line_id)).mail_id


def activities(desk: Desk, catcher: MailCatcher) -> MailActivities:
    target = SmtpTarget.parse(catcher.url)
    return MailActivities(
        ledger=desk.ledger, inventory=an_inventory(Pairing(name="eu1")), keys=desk.keys, target=target
    )


def attempt(number: int) -> ActivityEnvironment:
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=number)
    return environment


async def test_a_worker_that_ends_records_first_that_a_mail_was_accepted(
    sqlite_desk: Desk, catcher: MailCatcher, mail_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, told, go_on = mails.record_handover, asyncio.Event(), asyncio.Event()

    async def slowly(*args: Any, **named: Any) -> MailState:
        told.set()
        await go_on.wait()
        return await record(*args, **named)

    monkeypatch.setattr(mails, "record_handover", slowly)
    environment, hand_over = attempt(1), activities(sqlite_desk, catcher).hand_over_mail
    trying = asyncio.ensure_future(environment.run(hand_over, mail_id))
    await told.wait()
    environment.cancel()
    # A turn of the loop for the cancellation, which comes before the record is through.
    await asyncio.sleep(0)
    go_on.set()

    assert await trying is MailState.ACCEPTED
    assert await attempt(2).run(hand_over, mail_id) is MailState.ACCEPTED
    assert len(catcher.mails) == 1


async def test_a_ledger_that_is_away_for_a_moment_forgets_no_answer(
    sqlite_desk: Desk, catcher: MailCatcher, mail_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailing, "NOTE_PAUSE", 0.0)
    going_away(monkeypatch, 3)

    state = await attempt(1).run(activities(sqlite_desk, catcher).hand_over_mail, mail_id)

    assert state is MailState.ACCEPTED
    assert (await load(sqlite_desk, mail_id)).state is MailState.ACCEPTED
    assert len(catcher.mails) == 1


async def test_a_ledger_that_stays_away_gets_a_mail_once_more_when_it_is_back_and_none_meanwhile(
    sqlite_desk: Desk, catcher: MailCatcher, mail_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailing, "NOTE_PATIENCE", -1.0)
    hand_over = activities(sqlite_desk, catcher).hand_over_mail
    with monkeypatch.context() as away:
        going_away(away, 4)
        for number in range(1, 5):
            with pytest.raises(ApplicationError):
                await attempt(number).run(hand_over, mail_id)
    (first,) = catcher.mails

    assert await attempt(5).run(hand_over, mail_id) is MailState.ACCEPTED
    assert [mail.raw for mail in catcher.mails] == [first.raw, first.raw]


def going_away(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the ledger be away the next few times that something is recorded."""
    record, left = mails.record_handover, iter(range(times))

    async def away(*args: Any, **named: Any) -> MailState:
        if next(left, None) is not None:
            raise Unavailable("the ledger was away", hint="Try again.")
        return await record(*args, **named)

    monkeypatch.setattr(mails, "record_handover", away)
