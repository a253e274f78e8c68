"""Paths of moves, and of orders that reach all four halves meanwhile."""

from datetime import timedelta

from temporalio.client import WorkflowHandle

from tests.replay.paths import path
from tests.replay.paths_orders import AWAY, FOREIGN, SOON, done, ended, line, refused, through_two_runs
from tests.replay.studio import FORGETFUL, Studio
from tests.workflows.house import HOSTS, OTHER_HOSTS
from tests.workflows.test_attention import fails_with, progress
from tests.workflows.test_moves import begin, in_overlap, move_of, served
from tests.workflows.test_orders import order_id, trial
from twinline.errors import SamePair
from twinline.messages import (
    TRIAL_LENGTH,
    BlockOrder,
    MoveOrder,
    NameOf,
    OrderStatus,
    RenewalOrder,
    order_workflow_id,
)

OVERLAP = timedelta(hours=24)


async def _overlapping(studio: Studio) -> tuple[str, MoveOrder, WorkflowHandle[object, OrderStatus]]:
    person, username = await served(studio.house)
    order, handle = await in_overlap(studio.house, username, person)
    return username, order, handle


async def _move(studio: Studio, **changes: object) -> MoveOrder:
    return move_of((await line(studio)).username, **changes)


@path(NameOf.MOVE)
async def moved(studio: Studio) -> str:
    return await done(studio, await _move(studio))


@path(NameOf.MOVE)
async def moved_without_an_overlap(studio: Studio) -> str:
    return await done(studio, await _move(studio, overlap_hours=0))


@path(NameOf.MOVE)
async def move_refused(studio: Studio) -> str:
    return await refused(studio, await _move(studio, pair="eu1"), SamePair)


@path(NameOf.MOVE)
async def moved_while_blocked(studio: Studio) -> str:
    username, order, handle = await _overlapping(studio)
    await studio.house.order(BlockOrder(case="AB-move", line=username, reason="Shared"))
    await studio.pass_time(handle)
    return order_workflow_id(order)


@path(NameOf.MOVE)
async def moved_with_a_new_half_given_up(studio: Studio) -> str:
    studio.host("os-us1").trouble = FOREIGN
    order = await _move(studio)
    handle = await begin(studio.house, order)
    await progress(studio.house, order, lambda receipt: receipt.halves[3].last_error is not None)
    await studio.house.twinline.abandon_half(handle.id, host="os-us1", reason="fire")
    await studio.pass_time(handle)
    return handle.id


@path(NameOf.MOVE)
async def called_off(studio: Studio) -> str:
    for host in OTHER_HOSTS:
        studio.host(host).trouble = FOREIGN
    order = await _move(studio)
    handle = await begin(studio.house, order)
    await progress(studio.house, order, lambda receipt: all(receipt.halves[n].last_error for n in (1, 3)))
    for host in OTHER_HOSTS:
        await studio.house.twinline.abandon_half(handle.id, host=host, reason="fire")
    return await ended(studio, handle.id)


@path(NameOf.MOVE)
async def moved_from_a_dead_pair(studio: Studio) -> str:
    """Both old hosts are gone for good; they are given up once the line has left them."""
    _, order, handle = await _overlapping(studio)
    for host in HOSTS:
        studio.host(host).trouble = FOREIGN
    assert studio.house.skipper is not None
    await studio.house.skipper.fast_forward(handle, OVERLAP + timedelta(seconds=1))
    await progress(studio.house, order, lambda receipt: all(receipt.halves[n].last_error for n in (0, 2)))
    for host in HOSTS:
        await studio.house.twinline.abandon_half(handle.id, host=host, reason="fire")
    return await ended(studio, handle.id)


@path(NameOf.MOVE)
async def old_pair_kept_until_a_new_host_serves(studio: Studio) -> str:
    username, _, handle = await _overlapping(studio)
    for host in OTHER_HOSTS:
        studio.host(host).trouble = AWAY
    waiting = RenewalOrder(order=order_id(), line=username, days=30)
    assert studio.house.skipper is not None
    with studio.house.skipper.with_time_skipping_disabled():
        await studio.house.start(waiting)
    await progress(studio.house, waiting, lambda receipt: all(receipt.halves[n].last_error for n in (1, 3)))
    await studio.house.skipper.fast_forward(handle, OVERLAP + timedelta(seconds=1))
    studio.heal()
    await studio.house.twinline.retry_now(order_workflow_id(waiting), patience=SOON)
    await done(studio, waiting)
    await studio.pass_time(handle)
    return handle.id


@path(NameOf.MOVE)
async def told_only_after_a_renewal(studio: Studio) -> str:
    """The line had ended when its new pair was ready, so there was nothing to tell."""
    opened = await studio.house.order(trial())
    studio.host("os-us1").trouble = FOREIGN
    order = move_of(opened.username)
    handle = await begin(studio.house, order)
    await progress(studio.house, order, lambda receipt: receipt.halves[3].last_error is not None)
    await studio.pass_time(await studio.term_of(opened), TRIAL_LENGTH + timedelta(seconds=1))
    studio.heal()
    await studio.house.twinline.retry_now(handle.id, patience=SOON)
    await progress(studio.house, order, lambda receipt: receipt.old_until is not None)
    await studio.house.order(RenewalOrder(order=order_id(), line=opened.username, days=30))
    await studio.pass_time(handle)
    return handle.id


@path(NameOf.MOVE, FORGETFUL)
async def move_long_wait(studio: Studio) -> str:
    return await through_two_runs(studio, await _move(studio), host="os-us1", reached=fails_with("RecordConflict"))


@path(NameOf.MOVE, FORGETFUL)
async def move_long_overlap(studio: Studio) -> str:
    """The history has grown long when the old pair begins to be kept."""
    studio.host("os-us1").down_for_attempts = 1
    order = await _move(studio)
    handle = await begin(studio.house, order)
    await progress(studio.house, order, lambda receipt: receipt.old_until is not None)
    await studio.pass_time(handle)
    return await ended(studio, handle.id)


@path(NameOf.BLOCK)
async def blocked_during_a_move(studio: Studio) -> str:
    username, _, handle = await _overlapping(studio)
    blocked = await done(studio, BlockOrder(case="AB-four", line=username, reason="Shared"))
    await studio.pass_time(handle)
    return blocked
