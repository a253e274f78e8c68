"""A close: the line ends for good, and its order is done when no server knows it any more."""

from temporalio import workflow

from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import CloseOrder, MailKind, NameOf, OrderSoFar, OrderStatus


@workflow.defn(name=NameOf.CLOSE)
class Close(LineOrder):
    """One close from order to receipt."""

    @workflow.run
    async def run(self, start: CloseOrder | OrderSoFar[CloseOrder]) -> OrderStatus:
        """Record, drive both halves until the line is gone from them, tell the customer."""
        return await self.carry_out(self._steps(self.begin(start)))

    async def _steps(self, order: CloseOrder) -> OrderStatus:
        recorded = await self.take(NameOf.RECORD_CLOSE, order)
        halves = self.drive_halves(recorded)
        await self.tell(MailKind.CLOSED, recorded, halves)
        await halves.wait(for_all=True)
        return await self.settle(recorded)
