"""Reconcile: what orders and Terms should have brought about on one host, brought about after all."""

from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

from workflows.halves import HEARTBEAT_TIMEOUT
from workflows.ledger import in_ledger

with workflow.unsafe.imports_passed_through():
    from twinline.messages import HostReconciled, NameOf, Reconciled, ReconcileTask, Sweep, host_queue

AT_MOST: Final = timedelta(minutes=9)
"""The next one comes after ten minutes, and looks again at what this one could not bring about."""


@workflow.defn(name=NameOf.RECONCILE)
class Reconcile:
    """Ends what is past its end, drives on what is behind, and repairs what differs from the ledger."""

    @workflow.run
    async def run(self, task: ReconcileTask) -> Reconciled:
        """The ledger first, whether or not the host answers: an end must not wait for a host that is down."""
        sweep = Sweep(host=task.host, at=workflow.now())
        ended = await in_ledger(NameOf.END_OVERDUE, sweep, int, summary="end what is past its end")
        try:
            found = await workflow.execute_activity(
                NameOf.RECONCILE_HOST,
                task,
                task_queue=host_queue(task.host),
                result_type=HostReconciled,
                start_to_close_timeout=AT_MOST,
                schedule_to_close_timeout=AT_MOST,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=RetryPolicy(maximum_attempts=1),
                summary=f"{task.host}: compare and bring in step",
            )
        except ActivityError as error:
            cause = error.cause
            code = cause.type if isinstance(cause, ApplicationError) and cause.type else "WorkerLost"
            return Reconciled(host=task.host, ended=ended, found=None, error=code)
        return Reconciled(host=task.host, ended=ended, found=found)
