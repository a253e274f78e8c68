"""Cancellations in the ledger: around the end, before the order came, and who has to be told."""

from datetime import datetime, timedelta

import pytest

from tests.ledger.support import DAY, HOUR, Desk, Pairing
from twinline.errors import CannotCancel, LineClosed, OrderCancelled, UnknownOrder
from twinline.ledger import mails, models
from twinline.ledger.queries import OrderView, order_view
from twinline.messages import (
    BlockOrder,
    CloseOrder,
    HalfState,
    MailKind,
    MailState,
    OrderKind,
    Recorded,
    TrialOrder,
)

INSTANT = timedelta(microseconds=1)


async def trial(desk: Desk, order: str = "T-1") -> Recorded:
    return await desk.take(TrialOrder(order=order, email=f"{order}@example.com", region="eu"))


async def shown(desk: Desk, order: str, kind: OrderKind | None = None) -> OrderView:
    async with desk.ledger.read() as tx:
        return await order_view(tx, order, caller="cli", kind=kind)


async def tell(desk: Desk, recorded: Recorded, kind: MailKind = MailKind.CREDENTIALS) -> str | None:
    """Store a mail about an order; its id, or None when it must not be written any more."""
    async with desk.ledger.write() as tx:
        stored = await mails.store_mail(
            tx,
            recorded.line_id,
            kind=kind,
            ref=recorded.mail_ref,
            message_id=f"<{recorded.mail_ref}@example.com>",
            body=b"To: ann",
            now=desk.now,
        )
    return None if stored is None else stored.mail_id


def at(recorded: Recorded, how: str) -> datetime:
    return recorded.ends_at + {"just before": -INSTANT, "at": timedelta(), "just after": INSTANT}[how]


@pytest.mark.parametrize("when", ["just before", "at", "just after"])
@pytest.mark.parametrize("first", ["the end", "the cancellation"])
async def test_a_cancellation_and_the_end_of_the_line_at_the_same_time(desk: Desk, when: str, first: str) -> None:
    recorded = await trial(desk)
    desk.now = at(recorded, when)
    in_time = when == "just before"

    if first == "the end":
        assert (await desk.end(recorded)).outcome == ("later" if in_time else "ended")
    if in_time:
        assert (await desk.cancel("T-1", OrderKind.TRIAL)).recorded is not None
    else:
        with pytest.raises(CannotCancel, match="was over at"):
            await desk.cancel("T-1", OrderKind.TRIAL)

    desk.now = max(desk.now, recorded.ends_at)
    assert (await desk.end(recorded)).outcome == ("cancelled" if in_time else "ended")
    line = await desk.view(recorded.username)
    # One end, whoever brought it.
    assert (line.state, line.revision) == ("absent", 2)


async def test_what_a_term_that_is_late_has_left_open_ends_with_the_cancellation(desk: Desk) -> None:
    recorded = await trial(desk)
    renewed = await desk.renew(recorded.username)
    desk.now = recorded.ends_at + HOUR

    await desk.cancel((await order_of(desk, renewed)).ref, OrderKind.RENEWAL)

    assert (await desk.view(recorded.username)).state == "absent"
    assert (await desk.end(recorded)).outcome == "overtaken"


async def order_of(desk: Desk, recorded: Recorded) -> models.Order:
    return next(order for order in await desk.rows(models.Order) if order.id == recorded.order_id)


async def test_a_cancellation_tells_who_and_why_and_its_order_is_shown_with_it(desk: Desk) -> None:
    recorded = await trial(desk)

    taken = await desk.cancel("T-1", OrderKind.TRIAL)

    assert taken.recorded is not None
    assert taken.recorded.cancels is not None
    assert taken.recorded.ends_at == desk.now
    order, cancellation = await shown(desk, "T-1"), await shown(desk, "T-1", OrderKind.CANCEL)
    assert (order.kind, cancellation.kind) == (OrderKind.TRIAL, OrderKind.CANCEL)
    assert order.cancelled == cancellation.cancelled == taken.recorded.cancels.info
    (event,) = [event for event in await desk.rows(models.Event) if event.what == "order.cancelled"]
    assert (event.who, event.why, event.line_id) == ("olga", "refunded", recorded.line_id)
    with pytest.raises(OrderCancelled):
        await trial(desk)


async def test_an_order_that_runs_and_was_not_taken_is_withdrawn_and_never_taken(desk: Desk) -> None:
    with pytest.raises(UnknownOrder):
        await desk.cancel("T-1", OrderKind.TRIAL)
    for _ in range(2):
        assert (await desk.cancel("T-1", OrderKind.TRIAL, running=True)).recorded is None
    # Nobody has to find it running to know.
    assert (await desk.cancel("T-1", OrderKind.TRIAL)).recorded is None

    with pytest.raises(OrderCancelled):
        await trial(desk)

    assert await desk.rows(models.Line) == []


@pytest.mark.parametrize(
    "kind", [OrderKind.BLOCK, OrderKind.UNBLOCK, OrderKind.PASSWORD, OrderKind.CLOSE, OrderKind.CANCEL]
)
async def test_what_can_not_be_taken_back_says_what_to_do_instead(desk: Desk, kind: OrderKind) -> None:
    with pytest.raises(CannotCancel) as refusal:
        await desk.cancel("X-1", kind)
    assert refusal.value.hint


async def test_a_closed_line_has_nothing_that_could_be_taken_back(desk: Desk) -> None:
    recorded = await trial(desk)
    await desk.take(CloseOrder(order="C-1", line=recorded.username))
    with pytest.raises(LineClosed):
        await desk.cancel("T-1", OrderKind.TRIAL)


async def test_a_block_that_comes_first_or_second_stays(desk: Desk) -> None:
    for number, block_first in enumerate((True, False)):
        recorded = await trial(desk, f"T-{number}")
        renewed = await desk.renew(recorded.username)
        ref = (await order_of(desk, renewed)).ref
        block = BlockOrder(case=f"AB-{number}", line=recorded.username, reason="shared")
        if block_first:
            await desk.take(block)
        await desk.cancel(ref, OrderKind.RENEWAL)
        if not block_first:
            await desk.take(block)
        line = await desk.view(recorded.username)
        assert (line.state, line.ends_at) == ("blocked", recorded.ends_at)


async def test_only_who_was_told_of_the_order_is_told_of_its_cancellation(desk: Desk) -> None:
    told, refused, untold = [await trial(desk, f"T-{number}") for number in range(3)]
    await tell(desk, told)
    mail_id = await tell(desk, refused)
    assert mail_id is not None
    async with desk.ledger.write() as tx:
        await mails.record_handover(tx, mail_id, state=MailState.REFUSED, now=desk.now, error="rcpt:550")

    found: list[bool] = []
    for number in range(3):
        taken = await desk.cancel(f"T-{number}", OrderKind.TRIAL)
        assert taken.recorded is not None
        assert taken.recorded.cancels is not None
        found.append(taken.recorded.cancels.told)

    assert found == [True, False, False]
    # What was not written before is not written any more, but for the one that tells of the cancellation.
    assert await tell(desk, untold) is None
    assert await tell(desk, told, MailKind.CANCELLED) is not None


async def test_a_move_that_is_cancelled_waits_for_no_host_that_was_given_up(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1"), Pairing(name="eu2"))
    recorded = await trial(desk)
    for host in ("mc-eu1", "os-eu1"):
        await desk.prove(host)
    moved = await desk.move(recorded.username)
    await desk.abandon("os-eu2", recorded.line_id)

    taken = await desk.cancel((await order_of(desk, moved)).ref, OrderKind.MOVE)

    assert taken.recorded is not None
    assert {half.host for half in taken.recorded.halves} == {"mc-eu1", "os-eu1", "mc-eu2"}
    line = await desk.view(recorded.username)
    assert line.pair == "eu1"
    assert {half.host: half.state for half in line.halves}["os-eu2"] is HalfState.ABANDONED
    with pytest.raises(CannotCancel, match="move is over"):
        await desk.cancel((await order_of(desk, await moved_for_good(desk, recorded))).ref, OrderKind.MOVE)


async def moved_for_good(desk: Desk, recorded: Recorded) -> Recorded:
    for host in ("mc-eu1", "os-eu1", "mc-eu2", "os-eu2"):
        await desk.prove(host)
    moved = await desk.move(recorded.username)
    for host in ("mc-eu2", "os-eu2"):
        await desk.prove(host)
    await desk.keep_old_pair(moved)
    desk.now += DAY
    assert (await desk.break_move(moved)).outcome == "broken"
    return moved
