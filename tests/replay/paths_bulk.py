"""Paths of bulk runs."""

from collections.abc import Sequence

import activities.bulk
from starter import bulk
from tests.replay.paths import path
from tests.replay.studio import FORGETFUL, Studio, until
from tests.workflows.test_bulk import blocking, blocks, opened
from twinline.bulk import NewBulk, bulk_workflow_id


async def placed(studio: Studio, new: NewBulk, names: Sequence[str]) -> str:
    """Begin a run of blocks."""
    await bulk.begin(studio.house.ledger, studio.house.twinline, new, blocks(names), skip_invalid=False)
    return bulk_workflow_id(new.caller, new.run)


async def ended(studio: Studio, workflow_id: str) -> str:
    await studio.client.get_workflow_handle(workflow_id).result()
    return workflow_id


@path("Bulk")
async def several_steps(studio: Studio) -> str:
    """More items than one step orders."""
    names = await opened(studio.house, activities.bulk.AT_ONCE + 1)
    return await ended(studio, await placed(studio, blocking("several-steps"), names))


@path("Bulk")
async def stopped_in_temporal(studio: Studio) -> str:
    """Somebody presses the cancel button while the first items are under way."""
    oscam = studio.host("os-eu1")
    names = await opened(studio.house, activities.bulk.AT_ONCE + 1)
    oscam.free.clear()
    workflow_id = await placed(studio, blocking("stopped"), names)
    await until(lambda: studio.happened(workflow_id, "activity_task_scheduled"))
    await studio.client.get_workflow_handle(workflow_id).cancel()
    await until(lambda: studio.happened(workflow_id, "workflow_execution_cancel_requested"))
    oscam.free.set()
    return await ended(studio, workflow_id)


@path("Bulk", FORGETFUL)
async def many_items(studio: Studio) -> str:
    """So many steps that its history begins anew."""
    new = blocking("many-items")
    names = await opened(studio.house, activities.bulk.AT_ONCE * 8)
    return await ended(studio, await placed(studio, new, names))
