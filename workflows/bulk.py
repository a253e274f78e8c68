"""A bulk run: one step after the other until no item waits; each step orders the next few.

What the items are, and what came of each, stands in the ledger alone, so that a step which was cut off, or a run that
somebody ended, is taken up where it stopped, and this history says nothing about anybody.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from workflows.halves import FIRST_PAUSE, HEARTBEAT_TIMEOUT, LONG_CAP
from workflows.ledger import in_ledger
from workflows.steadily import steadily

with workflow.unsafe.imports_passed_through():
    from twinline.bulk import BulkCounts, BulkStart, StopBulk
    from twinline.messages import NameOf
    from twinline.summaries import counts_in_words

STEP_TIMEOUT = timedelta(minutes=5)
RETRY = RetryPolicy(initial_interval=FIRST_PAUSE, maximum_interval=LONG_CAP)


@workflow.defn(name=NameOf.BULK)
class Bulk:
    """One run from its first item to its last."""

    def __init__(self) -> None:
        self._counts: BulkCounts | None = None
        self._look_again = False
        self._stop = False

    @workflow.query
    def progress(self) -> BulkCounts | None:
        """How its items stood after the last step; None before the first."""
        return self._counts

    @workflow.signal(name=NameOf.SIGNAL_BULK)
    def look_again(self) -> None:
        """Somebody has let items wait again."""
        self._look_again = True

    @workflow.run
    async def run(self, start: BulkStart) -> BulkCounts:
        """Order what waits; a cancel that Temporal asks for is the same as `twinline bulk cancel`."""
        return await steadily(self._steps(start), asked=self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        self._stop = True

    async def _steps(self, start: BulkStart) -> BulkCounts:
        while True:
            self._look_again = False
            if self._stop:
                self._stop = False
                asked = StopBulk(bulk_id=start.bulk_id, actor="temporal", at=workflow.now())
                await in_ledger(NameOf.STOP_BULK, asked, type(None), summary="order nothing more")
            counts = await workflow.execute_activity(
                NameOf.PLACE_ITEMS,
                start,
                result_type=BulkCounts,
                start_to_close_timeout=STEP_TIMEOUT,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=RETRY,
                summary="order the next items",
            )
            self._counts = counts
            workflow.set_current_details(counts_in_words(counts))
            if counts.waiting == 0 and not self._look_again and not self._stop:
                return counts
            if workflow.info().is_continue_as_new_suggested() and not self._stop:
                workflow.continue_as_new(start)
