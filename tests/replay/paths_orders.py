"""Paths of the orders that drive the halves of one pair."""

import contextlib
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from temporalio.client import WorkflowExecutionStatus

from tests.replay.paths import path
from tests.replay.studio import BRISK, FORGETFUL, HASTY, Studio, until
from tests.workflows.house import HOSTS
from tests.workflows.test_attention import fails_with, progress
from tests.workflows.test_orders import order_id, trial
from twinline.errors import LineClosed, OrderConflict, TrialAlreadyUsed, UnknownBlock, UnknownLine
from twinline.hosts.errors import HostUnreachable, RecordConflict
from twinline.messages import (
    AnyOrder,
    BlockOrder,
    CloseOrder,
    MailState,
    NameOf,
    Order,
    PasswordOrder,
    PurchaseOrder,
    Receipt,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
    order_workflow_id,
)

MULTICS, OSCAM = HOSTS
FOREIGN = RecordConflict("a record of that name is not ours")
AWAY = HostUnreachable("no SSH connection")
SOON = timedelta(seconds=30)


async def done(studio: Studio, order: AnyOrder) -> str:
    """Place an order and wait for its end."""
    await studio.house.order(order, seconds=90)
    return order_workflow_id(order)


async def refused(studio: Studio, order: AnyOrder, error: type[Exception]) -> str:
    """Place an order that comes to nothing."""
    try:
        await studio.house.order(order)
    except error:
        return order_workflow_id(order)
    raise AssertionError(f"{order} was not refused")


async def line(studio: Studio) -> Receipt:
    """A line that both halves serve."""
    return await studio.house.order(trial())


async def blocked_line(studio: Studio, case: str) -> Receipt:
    opened = await line(studio)
    await studio.house.order(BlockOrder(case=case, line=opened.username, reason="Shared"))
    return opened


async def began(studio: Studio, order: Order, reached: Callable[[Receipt], bool]) -> str:
    """Place an order and wait until it has come so far."""
    await studio.house.start(order)
    await progress(studio.house, order, reached)
    return order_workflow_id(order)


async def ended(studio: Studio, workflow_id: str) -> str:
    """Wait for the end of an order; to place a block again would be another run."""
    await studio.client.get_workflow_handle(workflow_id).result()
    return workflow_id


def told(receipt: Receipt) -> bool:
    """Whether the customer has a mail."""
    return receipt.mail is not None and receipt.mail.state is MailState.ACCEPTED


def stuck_and_told(receipt: Receipt) -> bool:
    """Whether a person has to look at a half, and everything else is through."""
    return fails_with("RecordConflict")(receipt) and told(receipt)


async def one_late(studio: Studio, order: Order) -> str:
    """The OSCam host fails once, and then answers only after the grace."""
    oscam = studio.host(OSCAM)
    oscam.down_for_attempts = 1
    oscam.free.clear()
    workflow_id = await began(studio, order, told)
    oscam.free.set()
    return await ended(studio, workflow_id)


async def both_delayed(studio: Studio, order: Order) -> str:
    """Both hosts fail once, and then answer only after the customer was told to wait."""
    for host in HOSTS:
        studio.host(host).down_for_attempts = 1
        studio.host(host).free.clear()
    workflow_id = await began(studio, order, told)
    studio.heal()
    return await ended(studio, workflow_id)


async def late_trial(studio: Studio) -> TrialOrder:
    """A trial whose 48 hours began with its first proof, after the grace and before the notice of a delay."""
    for host in HOSTS:
        studio.host(host).free.clear()
    order = trial()
    await studio.house.start(order)
    await until(lambda: studio.happened(order_workflow_id(order), "timer_fired"))
    studio.heal()
    await studio.house.order(order)
    return order


async def stuck(studio: Studio, order: Order) -> str:
    """A person has to look at the OSCam half; everything else of the order is through."""
    studio.host(OSCAM).trouble = FOREIGN
    return await began(studio, order, stuck_and_told)


async def retried(studio: Studio, order: Order) -> str:
    """The half is repaired, and somebody says so."""
    workflow_id = await stuck(studio, order)
    studio.heal()
    await studio.house.twinline.retry_now(workflow_id, actor="olga", patience=SOON)
    return await ended(studio, workflow_id)


async def given_up(studio: Studio, order: Order) -> str:
    """The OSCam half is given up."""
    workflow_id = await stuck(studio, order)
    await studio.house.twinline.abandon_half(workflow_id, host=OSCAM, reason="fire", actor="olga")
    return await ended(studio, workflow_id)


async def through_two_runs(
    studio: Studio, order: Order, *, host: str = OSCAM, reached: Callable[[Receipt], bool] = stuck_and_told
) -> str:
    """Somebody asks until the history has grown long; then the half is repaired."""
    studio.host(host).trouble = FOREIGN
    assert studio.house.skipper is not None
    # Or the workflow would skip from look to look by itself.
    with studio.house.skipper.with_time_skipping_disabled():
        workflow_id = await began(studio, order, reached)
    await asked_until_new(studio, workflow_id)
    studio.heal()
    await studio.house.twinline.retry_now(workflow_id, patience=SOON)
    await studio.pass_time(studio.client.get_workflow_handle(workflow_id))
    return await ended(studio, workflow_id)


async def asked_until_new(studio: Studio, workflow_id: str) -> None:
    """Ask a workflow for another try until it goes on in a new run."""
    handle = studio.client.get_workflow_handle(workflow_id)
    first = (await handle.describe()).run_id

    async def new() -> bool:
        await studio.house.twinline.retry_now(workflow_id, patience=SOON)
        return (await handle.describe()).run_id != first

    await until(new)


# --- trial


@path(NameOf.TRIAL)
async def both_halves(studio: Studio) -> str:
    return await done(studio, trial())


@path(NameOf.TRIAL, HASTY)
async def one_half_late(studio: Studio) -> str:
    return await one_late(studio, trial())


@path(NameOf.TRIAL, BRISK)
async def both_halves_late(studio: Studio) -> str:
    return order_workflow_id(await late_trial(studio))


@path(NameOf.TRIAL, HASTY)
async def delayed(studio: Studio) -> str:
    return await both_delayed(studio, trial())


@path(NameOf.TRIAL, HASTY)
async def stuck_and_retried(studio: Studio) -> str:
    return await retried(studio, trial())


@path(NameOf.TRIAL, HASTY)
async def one_half_given_up(studio: Studio) -> str:
    return await given_up(studio, trial())


@path(NameOf.TRIAL)
async def all_halves_given_up(studio: Studio) -> str:
    for host in HOSTS:
        studio.host(host).trouble = FOREIGN
    order = trial()
    workflow_id = await began(studio, order, lambda receipt: all(half.last_error for half in receipt.halves))
    for host in HOSTS:
        await studio.house.twinline.abandon_half(workflow_id, host=host, reason="fire", actor="olga")
    return await ended(studio, workflow_id)


@path(NameOf.TRIAL)
async def half_given_up_while_it_is_tried(studio: Studio) -> str:
    """And its attempt fails afterwards, while the order goes on with the other half."""
    for host in HOSTS:
        studio.host(host).free.clear()
    workflow_id = await began(studio, trial(), lambda receipt: all(half.attempts for half in receipt.halves))
    await studio.house.twinline.abandon_half(workflow_id, host=MULTICS, reason="fire", actor="olga")
    multics = studio.host(MULTICS)
    multics.trouble = AWAY
    multics.free.set()
    await until(lambda: studio.happened(workflow_id, "activity_task_failed"))
    studio.host(OSCAM).free.set()
    return await ended(studio, workflow_id)


@path(NameOf.TRIAL)
async def refused_as_used(studio: Studio) -> str:
    order = trial()
    await done(studio, order)
    return await refused(studio, trial(email=order.email), TrialAlreadyUsed)


@path(NameOf.TRIAL)
async def mail_refused(studio: Studio) -> str:
    studio.house.mails.answer("rcpt", 550)
    return await done(studio, trial())


@path(NameOf.TRIAL)
async def again_when_forgotten(studio: Studio) -> str:
    order = trial()
    await studio.forget(await done(studio, order))
    return await done(studio, order)


@path(NameOf.TRIAL)
async def ledger_away(studio: Studio) -> str:
    """So long that the workflow's task has to be kept alive."""
    order = trial()
    with contextlib.closing(sqlite3.connect(studio.folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await studio.house.start(order)
        await until(lambda: studio.happened(order_workflow_id(order), "workflow_task_completed"))
        other.execute("ROLLBACK")
    return await done(studio, order)


@path(NameOf.TRIAL, FORGETFUL)
async def long_wait(studio: Studio) -> str:
    return await through_two_runs(studio, trial())


# --- purchase


def _bought(**changes: object) -> PurchaseOrder:
    number = order_id()
    new = {"email": f"{number}@example.org", "region": "eu"}
    return PurchaseOrder.model_validate({"caller": "shop", "order": number, "days": 30, **(changes or new)})


@path(NameOf.PURCHASE)
async def new_customer(studio: Studio) -> str:
    return await done(studio, _bought())


@path(NameOf.PURCHASE)
async def of_a_trial(studio: Studio) -> str:
    return await done(studio, _bought(line=(await line(studio)).username))


@path(NameOf.PURCHASE, HASTY)
async def new_customer_one_half_late(studio: Studio) -> str:
    return await one_late(studio, _bought())


@path(NameOf.PURCHASE, HASTY)
async def new_customer_delayed(studio: Studio) -> str:
    return await both_delayed(studio, _bought())


@path(NameOf.PURCHASE, HASTY)
async def of_a_trial_one_half_late(studio: Studio) -> str:
    return await one_late(studio, _bought(line=(await line(studio)).username))


@path(NameOf.PURCHASE, HASTY)
async def purchase_stuck_and_retried(studio: Studio) -> str:
    return await retried(studio, _bought())


@path(NameOf.PURCHASE)
async def purchase_refused(studio: Studio) -> str:
    return await refused(studio, _bought(line="nobody2222"), UnknownLine)


# --- renewal


async def _renewal(studio: Studio, opened: Receipt | None = None) -> RenewalOrder:
    return RenewalOrder(order=order_id(), line=(opened or await line(studio)).username, days=30)


@path(NameOf.RENEWAL)
async def renewed(studio: Studio) -> str:
    return await done(studio, await _renewal(studio))


@path(NameOf.RENEWAL, HASTY)
async def renewed_one_half_late(studio: Studio) -> str:
    return await one_late(studio, await _renewal(studio))


@path(NameOf.RENEWAL)
async def renewed_while_blocked(studio: Studio) -> str:
    return await done(studio, await _renewal(studio, await blocked_line(studio, "AB-renewal")))


@path(NameOf.RENEWAL, HASTY)
async def renewed_stuck_and_overtaken_by_a_block(studio: Studio) -> str:
    opened = await line(studio)
    studio.host(OSCAM).refuses[opened.username] = FOREIGN
    workflow_id = await began(studio, await _renewal(studio, opened), stuck_and_told)
    await studio.house.order(BlockOrder(case="AB-overtakes", line=opened.username, reason="Shared"))
    await studio.house.twinline.retry_now(workflow_id, patience=SOON)
    return await ended(studio, workflow_id)


@path(NameOf.RENEWAL, HASTY)
async def renewed_one_half_given_up(studio: Studio) -> str:
    return await given_up(studio, await _renewal(studio))


@path(NameOf.RENEWAL)
async def renewal_refused(studio: Studio) -> str:
    opened = await line(studio)
    await studio.house.order(CloseOrder(order=order_id(), line=opened.username))
    return await refused(studio, await _renewal(studio, opened), LineClosed)


@path(NameOf.RENEWAL, FORGETFUL)
async def renewal_long_wait(studio: Studio) -> str:
    return await through_two_runs(studio, await _renewal(studio))


# --- block and its end


def _block(opened: Receipt, case: str, until: datetime | None = None) -> BlockOrder:
    return BlockOrder(case=case, line=opened.username, reason="Shared", until=until)


@path(NameOf.BLOCK)
async def blocked(studio: Studio) -> str:
    return await done(studio, _block(await line(studio), "AB-1"))


@path(NameOf.BLOCK)
async def blocked_until(studio: Studio) -> str:
    return await done(studio, _block(await line(studio), "AB-2", datetime.now(UTC) + timedelta(hours=5)))


@path(NameOf.BLOCK)
async def blocked_until_again(studio: Studio) -> str:
    order = _block(await line(studio), "AB-3", datetime.now(UTC) + timedelta(hours=5))
    await done(studio, order)
    return await done(studio, order)


@path(NameOf.BLOCK, HASTY)
async def blocked_one_half_late(studio: Studio) -> str:
    return await one_late(studio, _block(await line(studio), "AB-4"))


@path(NameOf.BLOCK, HASTY)
async def block_one_half_given_up(studio: Studio) -> str:
    return await given_up(studio, _block(await line(studio), "AB-5"))


@path(NameOf.BLOCK)
async def block_refused(studio: Studio) -> str:
    order = _block(await line(studio), "AB-6")
    await done(studio, order)
    await studio.house.order(UnblockOrder(case=order.case, line=order.line))
    return await refused(studio, order, OrderConflict)


@path(NameOf.BLOCK, FORGETFUL)
async def block_long_wait(studio: Studio) -> str:
    return await through_two_runs(studio, _block(await line(studio), "AB-7"))


async def _end_of_block(studio: Studio, case: str) -> tuple[BlockOrder, str]:
    order = _block(await line(studio), case, datetime.now(UTC) + timedelta(hours=5))
    await done(studio, order)
    return order, f"until/{order_workflow_id(order)}"


async def _at_its_end(studio: Studio, workflow_id: str) -> str:
    handle = studio.client.get_workflow_handle(workflow_id)
    await studio.pass_time(handle)
    assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED
    return workflow_id


@path(NameOf.BLOCK_END)
async def lifts_the_block(studio: Studio) -> str:
    _, workflow_id = await _end_of_block(studio, "AB-8")
    return await _at_its_end(studio, workflow_id)


@path(NameOf.BLOCK_END)
async def lifted_before(studio: Studio) -> str:
    order, workflow_id = await _end_of_block(studio, "AB-9")
    await studio.house.order(UnblockOrder(case=order.case, line=order.line))
    return await _at_its_end(studio, workflow_id)


@path(NameOf.BLOCK_END)
async def lifted_at_the_same_time(studio: Studio) -> str:
    order, workflow_id = await _end_of_block(studio, "AB-10")
    studio.host(OSCAM).trouble = AWAY
    lifting = UnblockOrder(case=order.case, line=order.line)
    assert studio.house.skipper is not None
    with studio.house.skipper.with_time_skipping_disabled():
        await studio.house.start(lifting)
    await progress(studio.house, lifting, fails_with("HostUnreachable"))
    await _at_its_end(studio, workflow_id)
    studio.heal()
    await studio.house.twinline.retry_now(order_workflow_id(lifting), patience=SOON)
    return workflow_id


@path(NameOf.BLOCK_END)
async def line_closed_before(studio: Studio) -> str:
    order, workflow_id = await _end_of_block(studio, "AB-11")
    await studio.house.order(CloseOrder(order=order_id(), line=order.line))
    return await _at_its_end(studio, workflow_id)


# --- unblock


@path(NameOf.UNBLOCK)
async def unblocked(studio: Studio) -> str:
    opened = await blocked_line(studio, "AB-12")
    return await done(studio, UnblockOrder(case="AB-12", line=opened.username))


@path(NameOf.UNBLOCK)
async def unblock_repaired_and_noticed_unasked(studio: Studio) -> str:
    opened = await blocked_line(studio, "AB-13")
    order = UnblockOrder(case="AB-13", line=opened.username)
    oscam = studio.host(OSCAM)
    oscam.refuses[opened.username] = FOREIGN
    assert studio.house.skipper is not None
    with studio.house.skipper.with_time_skipping_disabled():
        await studio.house.start(order)
    await progress(studio.house, order, fails_with("RecordConflict"))
    studio.heal()
    oscam.later += timedelta(minutes=11)
    await studio.pass_time(studio.client.get_workflow_handle(order_workflow_id(order)))
    oscam.later = timedelta(0)
    return await done(studio, order)


@path(NameOf.UNBLOCK)
async def unblock_refused(studio: Studio) -> str:
    return await refused(studio, UnblockOrder(case="AB-14", line=(await line(studio)).username), UnknownBlock)


# --- password


async def _password(studio: Studio) -> PasswordOrder:
    return PasswordOrder(order=order_id(), line=(await line(studio)).username)


@path(NameOf.CHANGE_PASSWORD)
async def changed(studio: Studio) -> str:
    return await done(studio, await _password(studio))


@path(NameOf.CHANGE_PASSWORD, HASTY)
async def changed_one_half_late(studio: Studio) -> str:
    return await one_late(studio, await _password(studio))


@path(NameOf.CHANGE_PASSWORD)
async def changed_while_blocked(studio: Studio) -> str:
    opened = await blocked_line(studio, "AB-15")
    return await done(studio, PasswordOrder(order=order_id(), line=opened.username))


@path(NameOf.CHANGE_PASSWORD, HASTY)
async def change_stuck_and_retried(studio: Studio) -> str:
    return await retried(studio, await _password(studio))


@path(NameOf.CHANGE_PASSWORD, FORGETFUL)
async def change_long_wait(studio: Studio) -> str:
    return await through_two_runs(studio, await _password(studio))


@path(NameOf.CHANGE_PASSWORD)
async def change_refused(studio: Studio) -> str:
    return await refused(studio, PasswordOrder(order=order_id(), line="nobody2222"), UnknownLine)


# --- close


async def _close(studio: Studio) -> CloseOrder:
    return CloseOrder(order=order_id(), line=(await line(studio)).username)


@path(NameOf.CLOSE)
async def closed(studio: Studio) -> str:
    return await done(studio, await _close(studio))


@path(NameOf.CLOSE, HASTY)
async def closed_one_half_late(studio: Studio) -> str:
    return await one_late(studio, await _close(studio))


@path(NameOf.CLOSE, HASTY)
async def close_one_half_given_up(studio: Studio) -> str:
    return await given_up(studio, await _close(studio))


@path(NameOf.CLOSE)
async def close_refused(studio: Studio) -> str:
    return await refused(studio, CloseOrder(order=order_id(), line="nobody2222"), UnknownLine)
