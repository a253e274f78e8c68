"""Stored messages: the facts in them, the first writer wins, and acceptance is final."""

from datetime import timedelta

import pytest

from tests.ledger.support import HOUR, START, Desk
from twinline.errors import UnknownOrder
from twinline.keys import KeyRingError
from twinline.ledger import mails, models
from twinline.ledger.mails import LoadedMail
from twinline.ledger.sealing import reseal
from twinline.messages import BlockOwner, HalfState, MailKind, MailState, MailStored

BODY = b"To: ann@example.com\r\nSubject: Your line\r\n\r\npassword"


async def store(desk: Desk, line_id: str, *, body: bytes = BODY, message_id: str = "<1@example.com>") -> MailStored:
    async with desk.ledger.write() as tx:
        stored = await mails.store_mail(
            tx, line_id, kind=MailKind.CREDENTIALS, ref="g", message_id=message_id, body=body, now=desk.now
        )
    assert stored is not None
    return stored


async def load(desk: Desk, mail_id: str) -> LoadedMail:
    async with desk.ledger.read() as tx:
        return await mails.load_mail(tx, mail_id)


async def hand_over(desk: Desk, mail_id: str, state: MailState, error: str | None = None) -> MailState:
    async with desk.ledger.write() as tx:
        return await mails.record_handover(tx, mail_id, state=state, now=desk.now, error=error)


async def forget_texts(desk: Desk) -> int:
    async with desk.ledger.write() as tx:
        return await mails.forget_texts(tx, now=desk.now)


async def test_the_facts_are_those_of_the_moment(desk: Desk) -> None:
    ann = await desk.trial("Ann@example.com")
    await desk.prove("os-eu1")
    await desk.block(ann.username, "case-7", BlockOwner.PAYMENT)
    await desk.block(ann.username, "case-8")
    await desk.unblock(ann.username, "case-8")
    bought = await desk.renew(ann.username)
    async with desk.ledger.read() as tx:
        facts = await mails.mail_facts(tx, ann.line_id, ref="case-7")
        lifted = await mails.mail_facts(tx, ann.line_id, ref="case-8")
    assert facts.recipient.get_secret_value() == "Ann@example.com"
    assert facts.password.get_secret_value() == await desk.password(ann.username)
    assert (facts.username, facts.plan, facts.ends_at) == (ann.username, "paid", bought.ends_at)
    assert facts.state == "blocked"
    assert [half.proven_state for half in facts.halves] == [None, HalfState.APPLIED]
    assert [(block.owner, block.case) for block in facts.blocks] == [(BlockOwner.PAYMENT, "case-7")]
    assert facts.about is not None
    assert facts.about.case == "case-7"
    assert lifted.about is None
    for secret in (facts.recipient, facts.password):
        assert secret.get_secret_value() not in repr(facts)


async def test_the_first_writer_wins_and_its_bytes_stay(desk: Desk) -> None:
    ann = await desk.trial()
    async with desk.ledger.read() as tx:
        assert await mails.stored_mail(tx, ann.line_id, kind=MailKind.CREDENTIALS, ref="g") is None
    first = await store(desk, ann.line_id)
    assert await store(desk, ann.line_id, body=b"another", message_id="<2@example.com>") == first
    loaded = await load(desk, first.mail_id)
    assert (loaded.body, loaded.message_id, loaded.state) == (BODY, "<1@example.com>", MailState.STORED)
    assert loaded.recipient.get_secret_value() == "ann@example.com"
    assert "Your line" not in repr(loaded)
    async with desk.ledger.read() as tx:
        assert await mails.stored_mail(tx, ann.line_id, kind=MailKind.CREDENTIALS, ref="g") == first
        assert await mails.stored_mail(tx, ann.line_id, kind=MailKind.DELAYED, ref="g") is None


async def test_messages_and_addresses_are_sealed_to_their_place(desk: Desk) -> None:
    ann, bob = await desk.trial("ann@example.com"), await desk.trial("bob@example.com")
    stored = await store(desk, ann.line_id)
    assert BODY not in desk.raw()
    async with desk.ledger.write() as tx:
        one = await tx.session.get(models.Line, ann.line_id)
        other = await tx.session.get(models.Line, bob.line_id)
        assert one is not None
        assert other is not None
        one.email_sealed, one.password_sealed = other.email_sealed, one.email_sealed
    with pytest.raises(KeyRingError):
        await load(desk, stored.mail_id)
    with pytest.raises(KeyRingError):
        await desk.password(ann.username)


async def test_accepted_is_final(desk: Desk) -> None:
    stored = await store(desk, (await desk.trial()).line_id)
    assert await hand_over(desk, stored.mail_id, MailState.STORED, "Greylisted") is MailState.STORED
    desk.now += HOUR
    assert await hand_over(desk, stored.mail_id, MailState.ACCEPTED) is MailState.ACCEPTED
    desk.now += HOUR
    for state in (MailState.UNKNOWN, MailState.REFUSED, MailState.STORED):
        assert await hand_over(desk, stored.mail_id, state, "Lost") is MailState.ACCEPTED
    (row,) = await desk.rows(models.Mail)
    assert (row.attempts, row.last_error, row.accepted_at) == (2, None, START + HOUR)


async def test_an_unknown_outcome_stays_unknown_until_more_is_known(desk: Desk) -> None:
    stored = await store(desk, (await desk.trial()).line_id)
    assert await hand_over(desk, stored.mail_id, MailState.UNKNOWN, "Lost") is MailState.UNKNOWN
    assert await hand_over(desk, stored.mail_id, MailState.STORED, "Refused421") is MailState.UNKNOWN
    assert (await load(desk, stored.mail_id)).attempts == 2
    assert await hand_over(desk, stored.mail_id, MailState.ACCEPTED) is MailState.ACCEPTED


async def test_a_server_s_words_are_not_kept(desk: Desk) -> None:
    stored = await store(desk, (await desk.trial()).line_id)
    with pytest.raises(ValueError, match="not an error code"):
        await hand_over(desk, stored.mail_id, MailState.REFUSED, "550 ann@example.com unknown")
    assert (await load(desk, stored.mail_id)).attempts == 0


async def test_texts_are_forgotten_after_thirty_days_and_nothing_is_said_twice(desk: Desk) -> None:
    accepted, refused, waiting = [await store(desk, (await desk.trial(f"{who}@example.com")).line_id) for who in "abc"]
    await hand_over(desk, accepted.mail_id, MailState.ACCEPTED)
    await hand_over(desk, refused.mail_id, MailState.REFUSED)
    desk.now += timedelta(days=30) - timedelta(seconds=1)
    assert await forget_texts(desk) == 0
    desk.now += timedelta(seconds=1)
    young = await store(desk, (line := await desk.trial("d@example.com")).line_id)
    await hand_over(desk, young.mail_id, MailState.ACCEPTED)
    assert await forget_texts(desk) == 2
    assert await forget_texts(desk) == 0
    bodies = [(await load(desk, each.mail_id)).body for each in (accepted, refused, waiting, young)]
    assert bodies == [b"", b"", BODY, BODY]
    # Who asks for the same message again is told what became of the first.
    assert (await load(desk, accepted.mail_id)).state is MailState.ACCEPTED
    assert (await store(desk, line.line_id, body=b"another")).mail_id == young.mail_id
    assert (await reseal(desk.ledger)).changed == 0


async def test_a_message_that_is_not_there_is_refused(desk: Desk) -> None:
    with pytest.raises(UnknownOrder):
        await load(desk, "none")
    with pytest.raises(UnknownOrder):
        await hand_over(desk, "none", MailState.ACCEPTED)
