"""A purchase: paid days, for a new customer or for a line that is there already."""

from temporalio import workflow

from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import NameOf, OrderSoFar, OrderStatus, PurchaseOrder


@workflow.defn(name=NameOf.PURCHASE)
class Purchase(LineOrder):
    """One purchase from order to receipt."""

    @workflow.run
    async def run(self, start: PurchaseOrder | OrderSoFar[PurchaseOrder]) -> OrderStatus:
        """Record, keep the end, drive both halves, mail the credentials with both entries."""
        return await self.carry_out(self._steps(self.begin(start)))

    async def _steps(self, order: PurchaseOrder) -> OrderStatus:
        recorded = await self.take(NameOf.RECORD_PURCHASE, order)
        await self.keep_the_end(recorded)
        halves = self.drive_halves(recorded)
        if order.line is None:
            await self.first_proof(recorded, halves)
        else:
            # The line is there already and may be working: nothing of it is delayed.
            await halves.wait(for_all=False)
        await self.tell_credentials(recorded, halves)
        return await self.settle(recorded)
