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

    def __init__(self) -> None:
        self._so_far: Reconciled | None = None

    @workflow.query
    def progress(self) -> Reconciled | None:
        """What has come of it so far; None until the ledger has answered."""
        return self._so_far

    @workflow.run
    async def run(self, task: ReconcileTask) -> Reconciled:
        """The ledger first, whether or not the host answers: an end must not wait for a host that is down."""
        sweep = Sweep(host=task.host, at=workflow.now())
        ended = await in_ledger(NameOf.END_OVERDUE, sweep, int, summary="end what is past its end")
        self._come_to(Reconciled(host=task.host, ended=ended, found=None), "It is compared with the ledger now.")
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
            failed = Reconciled(host=task.host, ended=ended, found=None, error=code)
            return self._come_to(failed, f"It could not be compared: `{code}`. The next Reconcile tries again.")
        return self._come_to(Reconciled(host=task.host, ended=ended, found=found), _in_words(found))

    def _come_to(self, so_far: Reconciled, then: str) -> Reconciled:
        self._so_far = so_far
        workflow.set_current_details(
            f"Host `{so_far.host}`. Ends that were overdue and were carried out: {so_far.ended}.\n\n{then}"
        )
        return so_far


def _in_words(found: HostReconciled) -> str:
    behind = ", ".join(f"{count} with `{code}`" for code, count in sorted(found.behind.items())) or "none"
    return (
        f"Lines that were not as the ledger wants them: {found.drifted}. Halves brought in step: {found.brought}; "
        f"still behind: {behind}."
    )
