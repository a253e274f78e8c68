"""A block's own end: lifts one block when its `until` has come."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from twinline.messages import BlockOrder, NameOf, OrderStatus, UnblockOrder, order_workflow_id


@workflow.defn(name=NameOf.BLOCK_END)
class BlockEnd:
    """Sleeps until the moment that the block was set for, then places the owner's own unblock."""

    @workflow.run
    async def run(self, order: BlockOrder) -> None:
        """Lift the block, unless its owner has done so before."""
        if order.until is None:
            return
        await workflow.sleep(max(order.until - workflow.now(), timedelta(0)), summary="until the block ends")
        unblock = UnblockOrder(caller=order.caller, case=order.case, line=order.line, owner=order.owner)
        try:
            await workflow.execute_child_workflow(
                NameOf.UNBLOCK,
                unblock,
                id=order_workflow_id(unblock),
                result_type=OrderStatus,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )
        except WorkflowAlreadyStartedError:
            # The owner lifted it by hand.
            return
        except ChildWorkflowError as error:
            # The line was closed or the block lifted through another order: there is nothing left to lift.
            if not (isinstance(error.cause, ApplicationError) and error.cause.type in ("UnknownBlock", "LineClosed")):
                raise
