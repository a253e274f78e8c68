"""Cancelling: what an order gave is taken back once, whoever asks, and who has read of it is told once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import WorkflowExecutionStatus

from starter.client import Twinline
from tests.support.temporal import dev_server
from tests.workflows.house import HOSTS, OTHER_HOSTS, House, run_house, text_of
from tests.workflows.test_attention import fails_with, progress
from tests.workflows.test_orders import order_id, trial
from tests.workflows.test_priority import placed
from twinline.errors import CannotCancel, OrderCancelled, UnknownOrder
from twinline.hosts.errors import RecordConflict
from twinline.keys import KeyRing
from twinline.ledger.queries import LineFilter, list_lines
from twinline.messages import (
    TRIAL_LENGTH,
    BlockOrder,
    CancelOrder,
    EndMoved,
    HalfState,
    MailKind,
    MoveOrder,
    NameOf,
    Order,
    OrderKind,
    OrderStatus,
    PurchaseOrder,
    Receipt,
    RenewalOrder,
    TermDecision,
    TermStatus,
    TrialOrder,
    order_kind,
    order_ref,
    order_workflow_id,
    term_workflow_id,
)

MULTICS, OSCAM = HOSTS
NOW = timedelta(0)
LATER = timedelta(seconds=30)
DAY = timedelta(days=1)
REMOVED, APPLIED = HalfState.REMOVED, HalfState.APPLIED


@pytest_asyncio.fixture
async def real_house(impatient_house: House) -> AsyncIterator[House]:
    """A house in real time, whose hosts are well before and after."""
    yield impatient_house
    for host in impatient_house.hosts.values():
        host.heal()


async def cancel(house: House, order: Order, *, actor: str = "olga", patience: timedelta = LATER) -> OrderStatus:
    """Cancel an order of the shop."""
    own_id = order_ref(order).partition("/")[0]
    return await house.twinline.cancel(
        own_id, kind=order_kind(order), caller=order.caller, reason="refunded", actor=actor, patience=patience
    )


async def cancelled(house: House, order: Order) -> Receipt:
    """Cancel an order, and give the receipt once its hosts have followed."""
    status = await cancel(house, order)
    assert status.done, status
    assert status.receipt is not None
    return status.receipt


def states(receipt: Receipt) -> list[HalfState]:
    return [half.state for half in receipt.halves]


async def ended_as(house: House, order: Order) -> Receipt:
    """The receipt with which an order's own workflow has ended, in good order."""
    handle = house.client.get_workflow_handle(order_workflow_id(order), result_type=OrderStatus)
    status = await handle.result()
    assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED
    assert status.receipt is not None
    return status.receipt


async def test_a_trial_that_is_cancelled_ends_on_both_halves_and_the_customer_is_told_once(house: House) -> None:
    order = trial()
    placed_as = await house.order(order)

    receipt = await cancelled(house, order)
    again = await cancel(house, order, actor="ivan")

    assert again.receipt == receipt
    assert (receipt.kind, receipt.order, receipt.line) == (OrderKind.CANCEL, order.order, placed_as.line)
    assert receipt.cancelled is not None
    assert (receipt.cancelled.actor, receipt.cancelled.reason) == ("olga", "refunded")
    assert states(receipt) == [REMOVED, REMOVED]
    assert house.serves(placed_as.username) == (False, False)
    assert (await house.line(placed_as.username)).revision == 2
    _, told = house.sent_to(order.email)
    assert "Your order was cancelled" in text_of(told)
    assert f"Reference: {order.order}" in text_of(told)
    assert receipt.mail is not None
    assert (receipt.mail.kind, receipt.mail.message_id) == (MailKind.CANCELLED, told["Message-ID"])
    # Nothing is left that would sleep until the end that the trial had.
    grant = (await house.line(placed_as.username)).grants[0]
    assert grant.ending == "cancelled"
    term = house.client.get_workflow_handle(term_workflow_id(receipt.line, grant.grant_id), result_type=TermDecision)
    assert (await term.result()).outcome == "cancelled"


async def stuck(house: House) -> TrialOrder:
    """A trial whose customer reads of the MultiCS half, and whose OSCam half waits for a person."""
    order = trial()
    house.hosts[OSCAM].trouble = RecordConflict("a record of that name is not ours")
    await house.start(order)
    await house.mails.wait_for(lambda mail: order.email in str(mail.message["To"]))
    await progress(house, order, fails_with("RecordConflict"))
    return order


@pytest.mark.parametrize("asked", ["in Temporal", "with twinline", "both at once"])
async def test_an_order_whose_half_is_stuck_gives_way_and_its_cancellation_drives_the_half(
    real_house: House, asked: str
) -> None:
    house = real_house
    order = await stuck(house)

    if asked != "with twinline":
        await house.client.get_workflow_handle(order_workflow_id(order)).cancel()
    if asked != "in Temporal":
        await cancel(house, order, patience=NOW)

    receipt = await ended_as(house, order)
    assert receipt.cancelled is not None
    assert receipt.halves[1].last_error == "RecordConflict"
    assert receipt.ends_at == receipt.cancelled.at
    cancellation = CancelOrder(caller="shop", order=order.order, of=OrderKind.TRIAL, reason="any")
    await progress(house, cancellation, fails_with("RecordConflict"))
    house.hosts[OSCAM].heal()
    await house.twinline.retry_now(order_workflow_id(cancellation), patience=LATER)
    done = await cancelled(house, order)
    assert states(done) == [REMOVED, REMOVED]
    assert done.cancelled == receipt.cancelled
    if asked != "both at once":
        assert receipt.cancelled.actor == {"in Temporal": "temporal", "with twinline": "olga"}[asked]
    assert house.serves(receipt.username) == (False, False)
    assert len(house.sent_to(order.email)) == 2


async def test_nobody_is_told_of_an_order_that_nobody_was_told_of(house: House) -> None:
    order = trial()
    for name in HOSTS:
        house.hosts[name].down_for_attempts = 10_000
    assert house.skipper is not None
    with house.skipper.with_time_skipping_disabled():
        await house.start(order)
    await progress(house, order, fails_with("HostUnreachable"))

    await house.client.get_workflow_handle(order_workflow_id(order)).cancel()

    receipt = await ended_as(house, order)
    for name in HOSTS:
        house.hosts[name].heal()
    done = await cancelled(house, order)
    assert done.mail is None
    assert states(done) == [REMOVED, REMOVED]
    assert house.serves(receipt.username) == (False, False)
    assert house.sent_to(order.email) == []


async def test_an_order_that_is_cancelled_before_it_was_taken_is_never_taken(tmp_path: Path, key_ring: KeyRing) -> None:
    order = trial()
    async with dev_server() as server:
        client = await server.connect(key_ring)
        waiting = await placed(client, order)
        await client.get_workflow_handle(order_workflow_id(order)).cancel()
        async with run_house(tmp_path, key_ring, client) as house:
            with pytest.raises(OrderCancelled):
                await waiting
            # For ever, and not only as long as Temporal remembers it.
            with pytest.raises(OrderCancelled):
                await Twinline(client).place(order, patience=LATER)
            withdrawn = await cancel(house, order)
            assert len(house.mails.mails) == 0
            receipt = await house.order(order.model_copy(update={"order": order_id()}))
    # It is cancelled, and nothing was given that a receipt could tell of.
    assert (withdrawn.done, withdrawn.receipt) == (True, None)
    assert states(receipt) == [APPLIED, APPLIED]


async def test_an_order_and_its_cancellation_that_wait_for_a_worker_leave_nothing(
    tmp_path: Path, key_ring: KeyRing
) -> None:
    order = trial()
    asked = CancelOrder(caller="shop", order=order.order, of=OrderKind.TRIAL, reason="a slip")
    async with dev_server() as server:
        client = await server.connect(key_ring)
        waiting = [await placed(client, order), await placed(client, asked)]
        async with run_house(tmp_path, key_ring, client) as house:
            placed_as, cancelled_as = await asyncio.gather(*waiting, return_exceptions=True)
            async with house.ledger.read() as tx:
                lines = (await list_lines(tx, LineFilter())).lines
            mails = house.mails.mails
    assert isinstance(cancelled_as, OrderStatus)
    assert cancelled_as.done
    # Whoever of the two came first: it was not taken, or it was taken and ended.
    if isinstance(placed_as, OrderStatus):
        assert placed_as.receipt is not None
        assert placed_as.receipt.cancelled is not None
    else:
        assert isinstance(placed_as, OrderCancelled)
    assert [line.state for line in lines] in ([], ["absent"])
    assert len(mails) == 0


async def test_what_can_not_be_taken_back_is_refused_and_goes_on(real_house: House) -> None:
    house = real_house
    username = (await house.order(trial())).username
    block = BlockOrder(caller="shop", case=order_id(), line=username, reason="Shared")
    house.hosts[OSCAM].down_for_attempts = 10_000
    await house.start(block)
    await progress(house, block, fails_with("HostUnreachable"))
    handle = house.client.get_workflow_handle(order_workflow_id(block))

    await handle.cancel()
    with pytest.raises(CannotCancel) as refusal:
        await cancel(house, block)

    assert "twinline unblock" in refusal.value.hint
    house.hosts[OSCAM].heal()
    receipt = await house.order(block)
    assert receipt.cancelled is None
    assert states(receipt) == [REMOVED, REMOVED]


async def test_what_is_over_or_was_never_ordered_is_refused(house: House) -> None:
    order = trial()
    receipt = await house.order(order)
    grant_id = (await house.line(receipt.username)).grants[0].grant_id
    term = house.client.get_workflow_handle(term_workflow_id(receipt.line, grant_id))
    assert house.skipper is not None
    await house.skipper.fast_forward(term)
    await term.result()

    with pytest.raises(CannotCancel, match="was over at"):
        await cancel(house, order)
    with pytest.raises(UnknownOrder):
        await cancel(house, trial())

    # A refusal leaves nothing behind.
    assert (await house.order(order)).cancelled is None


async def test_a_period_that_is_cancelled_brings_the_end_forward_and_the_later_ones_stay_whole(house: House) -> None:
    first = PurchaseOrder(caller="shop", order=order_id(), email="whole@example.org", region="eu", days=30)
    username = (await house.order(first)).username
    second = RenewalOrder(caller="shop", order=order_id(), line=username, days=10)
    before = await house.order(second)

    receipt = await cancelled(house, first)

    assert states(receipt) == [APPLIED, APPLIED]
    line = await house.line(username)
    assert receipt.cancelled is not None
    assert line.ends_at == receipt.ends_at == receipt.cancelled.at + 10 * DAY
    assert before.ends_at - line.ends_at > 29 * DAY
    # A renewal counts from what is left.
    third = await house.order(RenewalOrder(caller="shop", order=order_id(), line=username, days=5))
    assert third.ends_at == line.ends_at + 5 * DAY
    await cancelled(house, RenewalOrder(caller="shop", order=third.order, line=username, days=5))
    line = await house.line(username)
    assert line.ends_at == receipt.ends_at
    # The grant's own Term ends the line at the new time.
    kept = next(grant for grant in line.grants if grant.ending is None)
    term = house.client.get_workflow_handle(term_workflow_id(receipt.line, kept.grant_id), result_type=TermDecision)
    assert house.skipper is not None
    await house.skipper.fast_forward(term)
    decision = await term.result()
    assert (decision.outcome, decision.ends_at) == ("ended", line.ends_at)
    assert house.serves(username) == (False, False)
    told = [mail for mail in house.sent_to("whole@example.org") if "cancelled" in str(mail["Subject"])]
    assert len(told) == 2


async def test_an_end_that_was_brought_forward_stays_so_when_a_message_of_before_comes_late(house: House) -> None:
    first = PurchaseOrder(caller="shop", order=order_id(), email="early@example.org", region="eu", days=30)
    username = (await house.order(first)).username
    before = await house.order(RenewalOrder(caller="shop", order=order_id(), line=username, days=10))
    receipt = await cancelled(house, first)
    (kept,) = (grant for grant in (await house.line(username)).grants if grant.ending is None)
    term = house.client.get_workflow_handle(term_workflow_id(receipt.line, kept.grant_id))

    # Of another cancellation, whose worker went away between the ledger and this.
    await term.signal(NameOf.SIGNAL_END_MOVED, EndMoved(ends_at=before.ends_at))

    status = await term.query("progress", result_type=TermStatus)
    assert status.ends_at == kept.ends_at == receipt.ends_at


async def test_a_block_stays_when_the_time_of_its_line_is_taken_back(house: House) -> None:
    order = trial()
    username = (await house.order(order)).username
    renewal = RenewalOrder(caller="shop", order=order_id(), line=username, days=30)
    await house.order(renewal)
    await house.order(BlockOrder(caller="abuse", case="AB-9", line=username, reason="Shared"))

    receipt = await cancelled(house, renewal)

    assert states(receipt) == [REMOVED, REMOVED]
    assert [block.case for block in receipt.blocks] == ["AB-9"]
    line = await house.line(username)
    assert (line.state, line.plan) == ("blocked", "trial")
    (kept,) = (grant for grant in line.grants if grant.ending is None)
    assert kept.ends_at - kept.starts_at == TRIAL_LENGTH
    assert "stays blocked" in text_of(house.sent_to(order.email)[-1])


async def test_time_that_is_taken_back_during_a_move_is_taken_back_on_all_four_halves(house: House) -> None:
    order = trial()
    username = (await house.order(order)).username
    house.hosts[OTHER_HOSTS[1]].down_for_attempts = 10_000
    move = MoveOrder(caller="shop", order=order_id(), line=username, pair="us1", overlap_hours=0)
    assert house.skipper is not None
    with house.skipper.with_time_skipping_disabled():
        await house.start(move)
    await progress(house, move, fails_with("HostUnreachable"))

    house.hosts[OTHER_HOSTS[1]].heal()
    receipt = await cancelled(house, order)

    assert states(receipt) == [REMOVED] * 4
    assert house.serves(username) == house.serves(username, OTHER_HOSTS) == (False, False)
    assert states(await ended_as(house, move)) == [REMOVED] * 4


async def test_a_move_that_is_cancelled_leaves_the_line_where_it_was(house: House) -> None:
    order = trial()
    username = (await house.order(order)).username
    move = MoveOrder(caller="shop", order=order_id(), line=username, pair="us1")
    assert house.skipper is not None
    with house.skipper.with_time_skipping_disabled():
        await house.start(move)
        await house.mails.wait_for(lambda mail: "moves to other servers" in str(mail.message["Subject"]))
    await progress(house, move, lambda found: found.mail is not None)

    await house.client.get_workflow_handle(order_workflow_id(move)).cancel()

    assert (await ended_as(house, move)).cancelled is not None
    receipt = await cancelled(house, move)
    assert {half.host: half.state for half in receipt.halves} == {
        **dict.fromkeys(HOSTS, APPLIED),
        **dict.fromkeys(OTHER_HOSTS, REMOVED),
    }
    assert house.serves(username) == (True, True)
    assert house.serves(username, OTHER_HOSTS) == (False, False)
    assert (await house.line(username)).pair == "eu1"
    assert "stays where it was" in " ".join(text_of(house.sent_to(order.email)[-1]).split())
    with pytest.raises(CannotCancel):
        await cancel(house, await moved(house, username))


async def moved(house: House, username: str) -> MoveOrder:
    """A move that is over."""
    move = MoveOrder(caller="shop", order=order_id(), line=username, pair="us1", overlap_hours=0)
    await house.order(move)
    return move
