"""Paths of Health: a host is looked at when somebody asks for it, so that two recordings see as many looks."""

from datetime import timedelta
from typing import Final

from temporalio.client import WorkflowHandle

from tests.replay.paths import path
from tests.replay.paths_orders import AWAY, MULTICS, OSCAM
from tests.replay.studio import FORGETFUL_IN_TRUE_TIME, HASTY, Studio, until
from tests.workflows.house import OTHER_HOSTS
from twinline.hosts.errors import HostKeyMismatch
from twinline.messages import (
    ORDERS_QUEUE,
    HealthStanding,
    HealthStart,
    HealthStatus,
    NameOf,
    RetryNow,
    health_workflow_id,
)

LEFT: Final = "us-left"
"""A host that no worker has."""

Handle = WorkflowHandle[object, HealthStatus]


async def _watched(studio: Studio, host: str, *, first_in: timedelta = timedelta(days=1)) -> Handle:
    return await studio.client.start_workflow(
        NameOf.HEALTH,
        HealthStart(host=host, first_in=first_in),
        id=health_workflow_id(host),
        task_queue=ORDERS_QUEUE,
        result_type=HealthStatus,
    )


async def _looked(handle: Handle) -> HealthStatus:
    """Have it look once it waits, so that it does so alone."""

    async def waits() -> bool:
        return (await handle.query("progress", result_type=HealthStatus)).next_look is not None

    await until(waits)
    return await handle.execute_update(NameOf.UPDATE_RETRY, RetryNow(actor="olga"), result_type=HealthStatus)  # pyright: ignore[reportUnknownMemberType] - the SDK's own


async def _stopped(handle: Handle) -> str:
    await handle.cancel()
    await handle.result()
    return handle.id


async def _away(handle: Handle) -> bool:
    return (await handle.query("progress", result_type=HealthStatus)).standing is HealthStanding.AWAY


@path(NameOf.HEALTH, HASTY)
async def watched_and_stopped(studio: Studio) -> str:
    handle = await _watched(studio, OSCAM)
    await _looked(handle)
    return await _stopped(handle)


@path(NameOf.HEALTH, HASTY)
async def stopped_while_it_looks(studio: Studio) -> str:
    host = OTHER_HOSTS[0]
    studio.host(host).free.clear()
    handle = await _watched(studio, host, first_in=timedelta(0))

    async def looking() -> bool:
        return bool((await handle.describe()).raw_description.pending_activities)

    await until(looking)
    return await _stopped(handle)


@path(NameOf.HEALTH, HASTY)
async def away_until_a_person_has_looked(studio: Studio) -> str:
    """Two failures apart, and then well again."""
    studio.host(MULTICS).trouble = HostKeyMismatch("another key")
    handle = await _watched(studio, MULTICS)
    await _looked(handle)
    await until(lambda: _away(handle))
    studio.heal()
    await _looked(handle)
    return await _stopped(handle)


@path(NameOf.HEALTH, HASTY)
async def no_worker_has_the_host(studio: Studio) -> str:
    handle = await _watched(studio, LEFT, first_in=timedelta(0))

    async def missed() -> bool:
        return (await handle.query("progress", result_type=HealthStatus)).missed is not None

    await until(missed)
    return await _stopped(handle)


@path(NameOf.HEALTH, FORGETFUL_IN_TRUE_TIME)
async def watched_for_long(studio: Studio) -> str:
    handle = await _watched(studio, OSCAM)
    begun = (await handle.describe()).run_id

    async def anew() -> bool:
        return (await handle.describe()).run_id != begun

    studio.host(OSCAM).trouble = AWAY
    while not await anew():
        await _looked(handle)
    await _looked(handle)
    return await _stopped(handle)
