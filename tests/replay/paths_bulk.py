"""Paths of bulk runs."""

from collections.abc import Sequence

import activities.bulk
from starter import bulk
from tests.replay.paths import path
from tests.replay.paths_orders import done, refused
from tests.replay.studio import FORGETFUL, Studio, until
from tests.workflows.test_bulk import blocking, blocks, opened, rows_to_import
from twinline.bulk import BulkImport, NewBulk, bulk_workflow_id
from twinline.errors import LineClosed
from twinline.messages import CloseOrder, ExtensionOrder


async def placed(studio: Studio, new: NewBulk, names: Sequence[str]) -> str:
    """Begin a run of blocks."""
    await bulk.begin(studio.house.ledger, studio.house.twinline, new, blocks(names), skip_invalid=False)
    return bulk_workflow_id(new.caller, new.run)


async def ended(studio: Studio, workflow_id: str) -> str:
    await studio.client.get_workflow_handle(workflow_id).result()
    return workflow_id


@path("Extension")
async def nobody_told(studio: Studio) -> str:
    """As bulk runs ask for it."""
    (name,) = await opened(studio.house, 1)
    return await done(studio, ExtensionOrder(order="extension-1", line=name, days=1))


@path("Extension")
async def customer_told(studio: Studio) -> str:
    """With the mail."""
    (name,) = await opened(studio.house, 1)
    return await done(studio, ExtensionOrder(order="extension-2", line=name, days=1, tell=True))


@path("Extension")
async def of_a_line_that_ended(studio: Studio) -> str:
    """It comes too late."""
    (name,) = await opened(studio.house, 1)
    await studio.house.order(CloseOrder(order="close-extension", line=name))
    return await refused(studio, ExtensionOrder(order="extension-3", line=name, days=1), LineClosed)


@path("Import")
async def taken_over(studio: Studio) -> str:
    """A line of another system."""
    new = NewBulk(run="import", job=BulkImport())
    rows = rows_to_import({"username": "jane77", "email": "person.jane77@example.com"})
    await bulk.begin(studio.house.ledger, studio.house.twinline, new, rows)
    await ended(studio, bulk_workflow_id(new.caller, new.run))
    return await ended(studio, "import/cli/import:1")


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
