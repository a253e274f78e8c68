"""An extension: days that nobody paid for; it lifts no block, and the customer is told only if that is wanted."""

from temporalio import workflow

from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import ExtensionOrder, MailKind, NameOf, OrderSoFar, OrderStatus


@workflow.defn(name=NameOf.EXTENSION)
class Extension(LineOrder):
    """One extension from order to receipt."""

    @workflow.run
    async def run(self, start: ExtensionOrder | OrderSoFar[ExtensionOrder]) -> OrderStatus:
        """Record, keep the new end, drive both halves, tell the customer if that was asked for."""
        return await self.carry_out(self._steps(self.begin(start)))

    async def _steps(self, order: ExtensionOrder) -> OrderStatus:
        recorded = await self.take(NameOf.RECORD_EXTENSION, order)
        await self.keep_the_end(recorded)
        halves = self.drive_halves(recorded)
        if order.tell:
            await self.tell(MailKind.EXTENDED, recorded, halves)
        await halves.wait(for_all=True)
        return await self.settle(recorded)
