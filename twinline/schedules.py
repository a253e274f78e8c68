"""The schedules of our workflows, declared as data and brought in line when a worker starts."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Final

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from twinline.errors import Unavailable
from twinline.messages import ORDERS_QUEUE, RECONCILE_EVERY, NameOf, ReconcileTask, reconcile_workflow_id
from twinline.priorities import BULK

JITTER: Final = timedelta(minutes=1)
"""At most, so that many hosts are not looked at in the same second."""
CATCH_UP: Final = timedelta(minutes=1)
"""After an outage one look is enough, not one for each that was missed."""
_PREFIX: Final = reconcile_workflow_id("")


async def sync_schedules(client: Client, hosts: Iterable[str], *, every: timedelta = RECONCILE_EVERY) -> None:
    """Have one Reconcile for each of these hosts and for no others; a paused one stays paused. Raises Unavailable."""
    wanted = {reconcile_workflow_id(host): _reconcile(host, every) for host in hosts}
    try:
        await _sync(client, wanted)
    except RPCError as error:
        raise Unavailable(
            f"Temporal does not take our schedules ({error.status.name})",
            hint="Check TEMPORAL_ADDRESS and that the namespace allows schedules; the worker tries again when started.",
        ) from None


async def _sync(client: Client, wanted: Mapping[str, Schedule]) -> None:
    # A list may lag behind, so it only tells what to remove; what to add or change each schedule tells itself.
    known = [each.id async for each in await client.list_schedules() if each.id.startswith(_PREFIX)]
    for schedule_id in set(known) - wanted.keys():
        try:
            await client.get_schedule_handle(schedule_id).delete()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
    for schedule_id, schedule in wanted.items():
        try:
            await client.create_schedule(schedule_id, schedule)
        except ScheduleAlreadyRunningError:
            await client.get_schedule_handle(schedule_id).update(partial(_carried_over, schedule))


def _reconcile(host: str, every: timedelta) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            NameOf.RECONCILE,
            ReconcileTask(host=host),
            id=reconcile_workflow_id(host),
            task_queue=ORDERS_QUEUE,
            static_summary=f"reconcile {host}",
            priority=BULK,
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)], jitter=min(JITTER, every / 10)),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        state=ScheduleState(note="Brings one host in step with the ledger; the worker looks after this schedule."),
    )


def _carried_over(schedule: Schedule, found: ScheduleUpdateInput) -> ScheduleUpdate:
    """An update replaces the whole state, and a pause in it has a reason."""
    state = found.description.schedule.state
    if state.paused:
        schedule.state = state
    return ScheduleUpdate(schedule=schedule)
