"""Paths of cancellations, and of what gives way to one or is asked to and does not."""

from datetime import timedelta

from tests.replay.paths import path
from tests.replay.paths_orders import FOREIGN, OSCAM, SOON, ended, line, stuck_and_told, through_two_runs
from tests.replay.studio import BRISK, FORGETFUL, HASTY, Studio, until
from tests.workflows.house import OTHER_HOSTS
from tests.workflows.test_attention import fails_with, progress
from tests.workflows.test_orders import order_id, trial
from twinline.errors import OrderCancelled
from twinline.messages import (
    ORDERS_QUEUE,
    BlockOrder,
    CancelOrder,
    MoveOrder,
    NameOf,
    Order,
    PurchaseOrder,
    RenewalOrder,
    TrialOrder,
    block_end_workflow_id,
    order_kind,
    order_ref,
    order_workflow_id,
)


def taking_back(order: Order) -> CancelOrder:
    """The cancellation of an order."""
    own_id = order_ref(order).partition("/")[0]
    return CancelOrder(caller=order.caller, order=own_id, of=order_kind(order), reason="refunded", actor="olga")


async def _cancelled(studio: Studio, order: Order) -> str:
    """Cancel an order and wait for the end of the cancellation."""
    asked = taking_back(order)
    status = await studio.house.twinline.place(asked, patience=SOON)
    assert status.done
    return order_workflow_id(asked)


async def _stuck_trial(studio: Studio) -> TrialOrder:
    order = trial()
    studio.host(OSCAM).trouble = FOREIGN
    await studio.house.start(order)
    await progress(studio.house, order, stuck_and_told)
    return order


async def _asked_in_temporal(studio: Studio, workflow_id: str) -> None:
    """Press the cancel button, and wait until the workflow has heard of it."""
    await studio.client.get_workflow_handle(workflow_id).cancel()
    await until(lambda: studio.happened(workflow_id, "workflow_execution_cancel_requested"))


async def _never_taken(studio: Studio) -> TrialOrder:
    """An order that hears of its cancellation before its first step."""
    order = trial()
    handle = await studio.client.start_workflow(
        NameOf.TRIAL,
        order,
        id=order_workflow_id(order),
        task_queue=ORDERS_QUEUE,
        start_signal=NameOf.SIGNAL_CANCEL,
        start_signal_args=[taking_back(order)],
    )
    await until(lambda: studio.happened(handle.id, "workflow_execution_failed"))
    return order


@path(NameOf.CANCEL)
async def trial_taken_back(studio: Studio) -> str:
    order = trial()
    await studio.house.order(order)
    return await _cancelled(studio, order)


@path(NameOf.CANCEL)
async def a_later_period_moves_up(studio: Studio) -> str:
    first = PurchaseOrder(order=order_id(), email=f"{order_id()}@example.org", region="eu", days=30)
    opened = await studio.house.order(first)
    await studio.house.order(RenewalOrder(order=order_id(), line=opened.username, days=10))
    return await _cancelled(studio, first)


@path(NameOf.CANCEL, HASTY)
async def of_an_order_that_is_stuck(studio: Studio) -> str:
    order = await _stuck_trial(studio)
    asked = taking_back(order)
    await studio.house.start(asked)
    await progress(studio.house, asked, stuck_and_told)
    studio.heal()
    await studio.house.twinline.retry_now(order_workflow_id(asked), patience=SOON)
    return await ended(studio, order_workflow_id(asked))


@path(NameOf.CANCEL)
async def of_what_can_not_be_taken_back(studio: Studio) -> str:
    opened = await line(studio)
    block = BlockOrder(case="AB-80", line=opened.username, reason="Shared")
    await studio.house.order(block)
    asked = taking_back(block)
    await studio.house.start(asked)
    await until(lambda: studio.happened(order_workflow_id(asked), "workflow_execution_failed"))
    return order_workflow_id(asked)


@path(NameOf.CANCEL)
async def of_an_order_that_was_never_taken(studio: Studio) -> str:
    return await _cancelled(studio, await _never_taken(studio))


@path(NameOf.CANCEL, HASTY)
async def asked_to_cancel_itself(studio: Studio) -> str:
    order = trial()
    await studio.house.order(order)
    studio.host(OSCAM).trouble = FOREIGN
    asked = taking_back(order)
    await studio.house.start(asked)
    await progress(studio.house, asked, stuck_and_told)
    await _asked_in_temporal(studio, order_workflow_id(asked))
    studio.heal()
    await studio.house.twinline.retry_now(order_workflow_id(asked), patience=SOON)
    return await ended(studio, order_workflow_id(asked))


@path(NameOf.CANCEL, FORGETFUL)
async def cancel_long_wait(studio: Studio) -> str:
    order = trial()
    await studio.house.order(order)
    return await through_two_runs(studio, taking_back(order))


@path(NameOf.TRIAL, HASTY)
async def cancelled_in_temporal(studio: Studio) -> str:
    order = await _stuck_trial(studio)
    await _asked_in_temporal(studio, order_workflow_id(order))
    return await ended(studio, order_workflow_id(order))


@path(NameOf.TRIAL, HASTY)
async def cancelled_while_it_is_stuck(studio: Studio) -> str:
    order = await _stuck_trial(studio)
    await studio.house.start(taking_back(order))
    return await ended(studio, order_workflow_id(order))


@path(NameOf.TRIAL)
async def cancelled_before_it_was_taken(studio: Studio) -> str:
    return order_workflow_id(await _never_taken(studio))


@path(NameOf.TRIAL)
async def cancelled_and_ordered_again(studio: Studio) -> str:
    """When Temporal has forgotten both."""
    order = trial()
    await studio.house.order(order)
    await studio.forget(await _cancelled(studio, order))
    await studio.forget(order_workflow_id(order))
    try:
        await studio.house.order(order)
    except OrderCancelled:
        return order_workflow_id(order)
    raise AssertionError("it was taken again")


@path(NameOf.BLOCK, HASTY)
async def block_asked_to_cancel(studio: Studio) -> str:
    opened = await line(studio)
    studio.host(OSCAM).trouble = FOREIGN
    block = BlockOrder(case="AB-81", line=opened.username, reason="Shared")
    await studio.house.start(block)
    await progress(studio.house, block, stuck_and_told)
    workflow_id = order_workflow_id(block)
    await _asked_in_temporal(studio, workflow_id)
    studio.heal()
    await studio.house.twinline.retry_now(workflow_id, patience=SOON)
    return await ended(studio, workflow_id)


@path(NameOf.MOVE, HASTY)
async def move_cancelled(studio: Studio) -> str:
    opened = await line(studio)
    studio.host(OTHER_HOSTS[1]).trouble = FOREIGN
    move = MoveOrder(order=order_id(), line=opened.username, pair="us1")
    await studio.house.start(move)
    await progress(studio.house, move, fails_with("RecordConflict"))
    await _asked_in_temporal(studio, order_workflow_id(move))
    return await ended(studio, order_workflow_id(move))


@path(NameOf.TERM)
async def order_cancelled(studio: Studio) -> str:
    order = trial()
    handle = await studio.term_of(await studio.house.order(order))
    await _cancelled(studio, order)
    return await ended(studio, handle.id)


@path(NameOf.TERM)
async def end_brought_forward(studio: Studio) -> str:
    order = trial()
    opened = await studio.house.order(order)
    await studio.house.order(RenewalOrder(order=order_id(), line=opened.username, days=30))
    handle = await studio.term_of(opened)
    await _cancelled(studio, order)
    await studio.pass_time(handle)
    return await ended(studio, handle.id)


@path(NameOf.TERM)
async def term_asked_to_cancel(studio: Studio) -> str:
    handle = await studio.term_of(await line(studio))
    await _asked_in_temporal(studio, handle.id)
    await studio.pass_time(handle)
    return await ended(studio, handle.id)


@path(NameOf.BLOCK_END, BRISK)
async def block_end_asked_to_cancel(studio: Studio) -> str:
    opened = await line(studio)
    until_then = (await studio.house.line(opened.username)).created_at + timedelta(hours=1)
    block = BlockOrder(case="AB-82", line=opened.username, reason="Shared", until=until_then)
    await studio.house.order(block)
    handle = studio.client.get_workflow_handle(block_end_workflow_id(block))
    await _asked_in_temporal(studio, handle.id)
    await studio.pass_time(handle)
    return await ended(studio, handle.id)
