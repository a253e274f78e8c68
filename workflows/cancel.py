"""A cancellation: what an order gave is taken back, and who has read of it is told."""

import contextlib

from temporalio import workflow
from temporalio.exceptions import FailureError

from workflows.ledger import in_ledger
from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import (
        CancelOrder,
        Cancels,
        CancelTaken,
        EndMoved,
        MailKind,
        NameOf,
        OrderSoFar,
        OrderStatus,
        Recorded,
        TakeCancel,
        cancelled_workflow_id,
        term_workflow_id,
    )


@workflow.defn(name=NameOf.CANCEL)
class Cancel(LineOrder):
    """One cancellation from order to receipt."""

    @workflow.run
    async def run(self, start: CancelOrder | OrderSoFar[CancelOrder]) -> OrderStatus:
        """Stop the order if it still runs, record, move the ends, drive the halves, tell the customer if need be."""
        return await self.carry_out(self._steps(self.begin(start)))

    async def _steps(self, order: CancelOrder) -> OrderStatus:
        recorded = self._recorded or await self._take_back_order(order)
        if recorded is None or recorded.cancels is None:
            self._done = True
            await self.finish_handlers()
            return self.progress()
        self._cancelled = recorded.cancels.info
        if not self.resumed:
            await self._move_ends(recorded, recorded.cancels)
        halves = self.drive_halves(recorded)
        if recorded.cancels.told:
            await self.tell(MailKind.CANCELLED, recorded, halves)
        await halves.wait(for_all=True)
        return await self.settle(recorded)

    async def _take_back_order(self, order: CancelOrder) -> Recorded | None:
        workflow.set_current_details("The ledger has not taken the cancellation yet.")
        running = await _tell(cancelled_workflow_id(order), NameOf.SIGNAL_CANCEL, order)
        task = TakeCancel(order=order, at=workflow.info().start_time, running=running)
        taken = await in_ledger(NameOf.RECORD_CANCEL, task, CancelTaken, summary="take the order back")
        self._recorded = taken.recorded
        return taken.recorded

    async def _move_ends(self, recorded: Recorded, cancels: Cancels) -> None:
        """Let each grant whose end has moved be ended at the new time, by its own Term."""
        for end in cancels.ends:
            if end.open:
                await self.start_term(recorded, end)
            term = term_workflow_id(recorded.line_id, end.grant_id)
            await _tell(term, NameOf.SIGNAL_END_MOVED, EndMoved(ends_at=end.ends_at))


async def _tell(workflow_id: str, signal: str, message: CancelOrder | EndMoved) -> bool:
    """Signal another workflow; whether it is running."""
    with contextlib.suppress(FailureError):
        await workflow.get_external_workflow_handle(workflow_id).signal(signal, message)
        return True
    return False
