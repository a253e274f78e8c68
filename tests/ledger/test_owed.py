"""What customers still have to be told although no order does it any more."""

from collections.abc import Collection
from datetime import timedelta

import pytest

from tests.ledger.support import DAY, HOUR, Desk
from twinline.errors import TrialAlreadyUsed
from twinline.ledger import mails, models, orders, owed
from twinline.messages import (
    GRACE,
    TRIAL_LENGTH,
    MailKind,
    MailTask,
    OrderKind,
    OrderOutcome,
    PasswordOrder,
    Receipt,
    Recorded,
)

MULTICS, OSCAM = "mc-eu1", "os-eu1"


async def tell(desk: Desk, order: Recorded, kind: MailKind, *, follow: Collection[str], ref: str | None = None) -> None:
    """Store a message with credentials that promises to tell of these hosts later."""
    ref = ref or order.mail_ref
    async with desk.ledger.write() as tx:
        await mails.store_mail(
            tx,
            order.line_id,
            kind=kind,
            ref=ref,
            message_id=f"<{kind}-{ref}@example.com>",
            body=b"Your line",
            now=desk.now,
            follow=frozenset(follow),
        )


async def settle(desk: Desk, order: Recorded, kind: OrderKind) -> None:
    """End an order, as its workflow does once every half is proven or given up."""
    receipt = Receipt(
        order="o",
        kind=kind,
        line=order.line_id,
        username=order.username,
        plan=order.plan,
        ends_at=order.ends_at,
        blocks=(),
        halves=(),
        mail=None,
        workflow_id="w",
    )
    async with desk.ledger.write() as tx:
        await orders.settle_order(tx, OrderOutcome(order_id=order.order_id, receipt=receipt), now=desk.now)


async def due(desk: Desk, *hosts: str) -> list[MailTask]:
    """The messages that Reconcile finds on these hosts by now."""
    found: list[MailTask] = []
    for host in hosts or (MULTICS, OSCAM):
        async with desk.ledger.read() as tx:
            line_ids = await owed.lines_owed(tx, host, limit=10)
        for line_id in line_ids:
            async with desk.ledger.write() as tx:
                message = await owed.message_owed(tx, line_id, grace=GRACE, now=desk.now)
            found += [] if message is None else [message]
    return found


async def half_told(desk: Desk) -> Recorded:
    """A trial that serves on MultiCS, whose OSCam half was promised and given up."""
    trial = await desk.trial()
    await desk.prove(MULTICS)
    await tell(desk, trial, MailKind.CREDENTIALS, follow=[OSCAM])
    await desk.abandon(OSCAM, trial.line_id)
    await settle(desk, trial, OrderKind.TRIAL)
    return trial


async def untold(desk: Desk) -> Recorded:
    """A trial both of whose halves were given up before anything was proven."""
    trial = await desk.trial()
    for host in (MULTICS, OSCAM):
        await desk.abandon(host, trial.line_id)
    await settle(desk, trial, OrderKind.TRIAL)
    return trial


async def test_a_half_that_was_given_up_is_owed_from_its_proof_until_a_mail_names_it(desk: Desk) -> None:
    trial = await half_told(desk)
    assert await due(desk) == []
    await desk.prove(OSCAM)

    (message,) = await due(desk)

    assert (message.kind, message.ref, message.hosts) == (MailKind.SECOND_HALF, trial.grant_id, (OSCAM,))
    assert message.reference == "o-1"
    assert await due(desk) == [message], "who found it may have been cut off"
    await tell(desk, trial, MailKind.SECOND_HALF, follow=())
    assert await due(desk) == []


async def test_while_an_order_runs_that_tells_it_nothing_is_owed(desk: Desk) -> None:
    trial = await desk.trial()
    await desk.prove(MULTICS)
    await tell(desk, trial, MailKind.CREDENTIALS, follow=[OSCAM])
    await desk.prove(OSCAM)
    assert await due(desk) == []
    await settle(desk, trial, OrderKind.TRIAL)
    assert len(await due(desk)) == 1
    password = await desk.take(PasswordOrder(order="p", line=trial.username))
    for host in (MULTICS, OSCAM):
        await desk.prove(host)
    assert await due(desk) == []

    await tell(desk, password, MailKind.PASSWORD, follow=())
    await settle(desk, password, OrderKind.PASSWORD)

    assert await due(desk) == [], "the mail of the new password named both"


async def test_nothing_untrue_is_owed(desk: Desk) -> None:
    """A half that is behind again, a block, an end; and each is over once it is."""
    trial = await half_told(desk)
    await desk.prove(OSCAM)
    renewed = await desk.renew(trial.username)
    assert await due(desk) == []
    await desk.prove(OSCAM)
    assert len(await due(desk)) == 1
    await desk.block(trial.username)
    await desk.prove(OSCAM)
    assert await due(desk) == []
    await desk.unblock(trial.username)
    await desk.prove(OSCAM)
    assert len(await due(desk)) == 1
    desk.now = renewed.ends_at
    assert (await desk.end(renewed)).outcome == "ended"
    assert await due(desk) == []


async def test_credentials_are_owed_when_any_half_is_proven_and_a_trial_begins_then(desk: Desk) -> None:
    trial = await untold(desk)
    assert await due(desk) == []
    desk.now += HOUR
    await desk.prove(OSCAM)

    (message,) = await due(desk)

    assert (message.kind, message.ref, message.hosts) == (MailKind.CREDENTIALS, trial.grant_id, (OSCAM,))
    assert (await desk.view(trial.username)).ends_at == desk.now + TRIAL_LENGTH
    await tell(desk, trial, MailKind.CREDENTIALS, follow=[MULTICS])
    desk.now += HOUR
    for host in (MULTICS, OSCAM):
        await desk.prove(host)
    (second,) = await due(desk)
    assert (second.kind, second.hosts) == (MailKind.SECOND_HALF, (MULTICS,))


async def test_a_trial_whose_proof_came_soon_does_not_begin_anew(desk: Desk) -> None:
    trial = await untold(desk)
    desk.now += GRACE - timedelta(seconds=1)
    await desk.prove(OSCAM)
    assert len(await due(desk)) == 1
    assert (await desk.view(trial.username)).ends_at == trial.ends_at


async def test_what_an_order_promised_that_was_taken_back_is_told_by_the_one_that_is_left(desk: Desk) -> None:
    opened = await half_told(desk)
    renewed = await desk.renew(opened.username)
    await settle(desk, renewed, OrderKind.RENEWAL)
    desk.now += DAY
    await desk.cancel("o-1", OrderKind.TRIAL)
    await desk.prove(OSCAM)

    (message,) = await due(desk)

    assert (message.ref, message.reference) == (renewed.grant_id, "o-2")


async def test_a_trial_that_nobody_could_use_is_told_and_may_be_asked_for_again(desk: Desk) -> None:
    """Although its order may still run, because no host came back."""
    trial = await desk.trial("ann@example.com")
    desk.now = trial.ends_at
    assert (await desk.end(trial)).outcome == "ended"
    assert (await desk.view(trial.username)).grants[0].ending == "unserved"
    assert "grant.unserved" in [event.what for event in await desk.rows(models.Event)]

    messages = await due(desk)

    assert [(each.kind, each.ref, each.reference) for each in messages] == [
        (MailKind.UNSERVED, trial.grant_id, "o-1")
    ] * 2, "both hosts find it, and its id lets one of them tell it"
    await tell(desk, trial, MailKind.UNSERVED, follow=())
    assert await due(desk) == []
    again = await desk.trial("ann@example.com")
    assert again.line_id != trial.line_id


async def test_a_line_that_was_told_of_ends_as_others_do(desk: Desk) -> None:
    trial = await half_told(desk)
    desk.now = trial.ends_at
    await desk.end(trial)
    assert (await desk.view(trial.username)).grants[0].ending == "ended"
    assert await due(desk) == []
    with pytest.raises(TrialAlreadyUsed):
        await desk.trial()


async def test_a_purchase_that_nobody_could_use_is_told_and_credentials_follow_a_renewal(desk: Desk) -> None:
    bought = await desk.purchase(days=1)
    await settle(desk, bought, OrderKind.PURCHASE)
    desk.now = bought.ends_at
    await desk.end(bought)
    assert {each.kind for each in await due(desk)} == {MailKind.UNSERVED}
    await tell(desk, bought, MailKind.UNSERVED, follow=())
    renewed = await desk.renew(bought.username)
    await settle(desk, renewed, OrderKind.RENEWAL)
    await desk.prove(OSCAM)

    (message,) = await due(desk)

    assert (message.kind, message.ref) == (MailKind.CREDENTIALS, renewed.grant_id)
