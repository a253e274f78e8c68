"""A block: a reason why a line must not work."""

import contextlib

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import BlockOrder, MailKind, NameOf, OrderSoFar, OrderStatus, block_end_workflow_id


@workflow.defn(name=NameOf.BLOCK)
class Block(LineOrder):
    """One block from order to receipt."""

    @workflow.run
    async def run(self, start: BlockOrder | OrderSoFar[BlockOrder]) -> OrderStatus:
        """Record, drive both halves until the line is refused and its sessions are gone, send notice."""
        return await self.carry_out(self._steps(self.begin(start)))

    async def _steps(self, order: BlockOrder) -> OrderStatus:
        recorded = await self.take(NameOf.RECORD_BLOCK, order)
        if order.until is not None and not self.resumed:
            await self._keep_its_end(order)
        halves = self.drive_halves(recorded)
        await self.tell(MailKind.BLOCKED, recorded, halves)
        await halves.wait(for_all=True)
        return await self.settle(recorded)

    @staticmethod
    async def _keep_its_end(order: BlockOrder) -> None:
        with contextlib.suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                NameOf.BLOCK_END,
                order,
                id=block_end_workflow_id(order),
                static_summary=f"the end of the {order.owner} block of case {order.case}",
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )
