"""Paths of rebuilds: through passes and pauses to the proof, or until somebody stops them."""

from collections.abc import Callable
from unittest import mock

from temporalio.client import WorkflowFailureError

import activities.rebuild
from starter.rebuilds import Rebuilds
from tests.replay.paths import path
from tests.replay.paths_orders import OSCAM, ended, line
from tests.replay.studio import BRISK, HASTY, Setting, Studio, until
from twinline.hosts.errors import ShrunkenFile
from twinline.messages import NameOf, RetryNow
from twinline.rebuild import RebuildStatus, RebuildTask, StopRebuild, rebuild_workflow_id

UNHURRIED = Setting(skipping=False, long_history=40)
TASK = RebuildTask(host=OSCAM, actor="olga", reason="new disk")
WORKFLOW_ID = rebuild_workflow_id(OSCAM)


async def asked(studio: Studio, task: RebuildTask = TASK) -> str:
    """Ask for it; its workflow id."""
    await Rebuilds(studio.client).ask(task)
    return rebuild_workflow_id(task.host)


async def reached(studio: Studio, far: Callable[[RebuildStatus], bool]) -> None:
    """Wait until it is so far."""

    async def is_reached() -> bool:
        status = await Rebuilds(studio.client).status(OSCAM)
        return status is not None and far(status)

    await until(is_reached)


async def retried(studio: Studio) -> RebuildStatus:
    handle = studio.client.get_workflow_handle(WORKFLOW_ID)
    return await handle.execute_update(  # pyright: ignore[reportUnknownMemberType] - the SDK's own
        NameOf.UPDATE_RETRY, RetryNow(actor="olga"), result_type=RebuildStatus
    )


@path(NameOf.REBUILD, BRISK)
async def several_steps(studio: Studio) -> str:
    """More lines are lost than one step writes again, which is made few."""
    lines = [await line(studio) for _ in range(3)]
    studio.host(OSCAM).missing = {each.username for each in lines}
    with mock.patch.object(activities.rebuild, "AT_ONCE", 2):
        return await ended(studio, await asked(studio))


@path(NameOf.REBUILD, BRISK)
async def nothing_to_do(studio: Studio) -> str:
    """The host is in order."""
    await line(studio)
    return await ended(studio, await asked(studio))


@path(NameOf.REBUILD, HASTY)
async def away_for_a_while(studio: Studio) -> str:
    """The host is back by the third try."""
    studio.host(OSCAM).missing = {(await line(studio)).username}
    studio.host(OSCAM).down_for_attempts = 2
    return await ended(studio, await asked(studio))


@path(NameOf.REBUILD, HASTY)
async def somebody_else_writes(studio: Studio) -> str:
    """What was written is lost again, and again."""
    studio.host(OSCAM).missing = {(await line(studio)).username}
    studio.host(OSCAM).lost_again = 2
    return await ended(studio, await asked(studio))


@path(NameOf.REBUILD, HASTY)
async def loss_accepted_later(studio: Studio) -> str:
    """It waits for a person, who asks again and accepts the loss."""
    studio.host(OSCAM).missing = {(await line(studio)).username}
    studio.host(OSCAM).trouble = ShrunkenFile("the accounts file lacks 30 of the 40 accounts")
    await asked(studio)
    await reached(studio, lambda status: status.asks == "ShrunkenFile")
    studio.host(OSCAM).trouble = None
    return await ended(studio, await asked(studio, TASK.model_copy(update={"accept_loss": True})))


@path(NameOf.REBUILD, HASTY)
async def asked_for_and_retried(studio: Studio) -> str:
    """A record of somebody else's stands there until the second try that is asked for."""
    studio.host(OSCAM).taken = {(await line(studio)).username}
    await asked(studio)
    await reached(studio, lambda status: status.asks == "RecordConflict")
    assert (await retried(studio)).asks == "RecordConflict"
    studio.host(OSCAM).taken.clear()
    assert (await retried(studio)).done
    return await ended(studio, WORKFLOW_ID)


@path(NameOf.REBUILD, HASTY)
async def stopped_while_it_waits(studio: Studio) -> str:
    """A person has to act, and lets it be."""
    studio.host(OSCAM).taken = {(await line(studio)).username}
    await asked(studio)
    await reached(studio, lambda status: status.asks is not None)
    await Rebuilds(studio.client).stop(OSCAM, StopRebuild(actor="olga", reason="the box goes back"))
    return await ended(studio, WORKFLOW_ID)


@path(NameOf.REBUILD, BRISK)
async def rebuild_stopped_in_temporal(studio: Studio) -> str:
    """Somebody presses the cancel button while a step is under way."""
    studio.host(OSCAM).free.clear()
    workflow_id = await asked(studio)
    await until(lambda: studio.happened(workflow_id, "activity_task_scheduled"))
    await studio.client.get_workflow_handle(workflow_id).cancel()
    done = await ended(studio, workflow_id)
    studio.heal()
    return done


@path(NameOf.REBUILD, UNHURRIED)
async def rebuild_long_wait(studio: Studio) -> str:
    """So many tries that its history begins anew."""
    studio.host(OSCAM).taken = {(await line(studio)).username}
    handle = studio.client.get_workflow_handle(await asked(studio))
    first = (await handle.describe()).run_id

    async def new() -> bool:
        await retried(studio)
        return (await handle.describe()).run_id != first

    await until(new)
    studio.heal()
    await asked(studio)
    return await ended(studio, WORKFLOW_ID)


@path(NameOf.REBUILD, BRISK)
async def rebuild_of_no_host(studio: Studio) -> str:
    """The ledger knows no host of that name."""
    workflow_id = await asked(studio, TASK.model_copy(update={"host": "nowhere"}))
    try:
        return await ended(studio, workflow_id)
    except WorkflowFailureError:
        return workflow_id
