"""Which hosts are watched: one Health for each of the inventory, brought in line when a worker starts."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.service import RPCError, RPCStatusCode

from twinline.errors import Unavailable
from twinline.messages import HEALTH_EVERY, ORDERS_QUEUE, HealthStart, NameOf, health_workflow_id
from twinline.priorities import BULK
from twinline.search_attributes import HOSTS

_RUNNING: Final = f"WorkflowType = '{NameOf.HEALTH}' AND ExecutionStatus = 'Running'"


async def sync_watched(client: Client, hosts: Sequence[str], *, every: timedelta = HEALTH_EVERY) -> None:
    """Have one Health for each of these hosts and for no others; one that runs goes on. Raises Unavailable.

    First looks are spread over the time between two looks at one host.
    """
    try:
        # The list may lag behind; a host that it misses is found at the next start of a worker.
        known = [each.id async for each in client.list_workflows(_RUNNING)]
        for workflow_id in set(known) - {health_workflow_id(host) for host in hosts}:
            await _stop(client, workflow_id)
        for number, host in enumerate(hosts, start=1):
            await _start(client, host, first_in=every * number / len(hosts))
    except RPCError as error:
        raise Unavailable(
            f"Temporal does not let us begin to watch hosts ({error.status.name})",
            hint="Check TEMPORAL_ADDRESS and that the server runs; the worker tries again when started.",
        ) from None


async def _start(client: Client, host: str, *, first_in: timedelta) -> None:
    await client.start_workflow(
        NameOf.HEALTH,
        HealthStart(host=host, first_in=first_in),
        id=health_workflow_id(host),
        task_queue=ORDERS_QUEUE,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=TypedSearchAttributes([SearchAttributePair(HOSTS, [host])]),
        static_summary=f"watch {host}",
        priority=BULK,
    )


async def _stop(client: Client, workflow_id: str) -> None:
    try:
        await client.get_workflow_handle(workflow_id).cancel()
    except RPCError as error:
        # It has ended since.
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
