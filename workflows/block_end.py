"""A block's own end: lifts one block when its `until` has come."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, WorkflowAlreadyStartedError

from workflows.steadily import steadily

with workflow.unsafe.imports_passed_through():
    from twinline.messages import (
        BlockEndStatus,
        BlockOrder,
        NameOf,
        OrderStatus,
        UnblockOrder,
        order_workflow_id,
    )
    from twinline.summaries import details_of, moment, summary_of


@workflow.defn(name=NameOf.BLOCK_END)
class BlockEnd:
    """Sleeps until the moment that the block was set for, then places the owner's own unblock."""

    def __init__(self) -> None:
        self._order: BlockOrder | None = None
        self._lifted_by: str | None = None

    @workflow.query
    def progress(self) -> BlockEndStatus:
        """Until when the block is set, and what lifted it then."""
        if self._order is None or self._order.until is None:
            raise ApplicationError("this block has no end of its own", type="NothingToRetry")
        return BlockEndStatus(case=self._order.case, until=self._order.until, lifted_by=self._lifted_by)

    @workflow.run
    async def run(self, order: BlockOrder) -> None:
        """Lift the block, unless its owner has done so before."""
        await steadily(self._keep(order), asked=self._asked_to_cancel)

    @staticmethod
    def _asked_to_cancel() -> None:
        workflow.set_current_details("A block's end is not cancelled: lift the block with `twinline unblock`.")

    async def _keep(self, order: BlockOrder) -> None:
        self._order = order
        if order.until is None:
            return
        workflow.set_current_details(
            f"The {order.owner} block of case {order.case} stands until {moment(order.until)}."
        )
        await workflow.sleep(max(order.until - workflow.now(), timedelta(0)), summary="until the block ends")
        unblock = UnblockOrder(caller=order.caller, case=order.case, line=order.line, owner=order.owner)
        self._lifted_by = order_workflow_id(unblock)
        workflow.set_current_details(f"The time of the block is over: `{self._lifted_by}` lifts it.")
        try:
            await workflow.execute_child_workflow(
                NameOf.UNBLOCK,
                unblock,
                id=self._lifted_by,
                static_summary=summary_of(unblock),
                static_details=details_of(unblock),
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
