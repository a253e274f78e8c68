"""A renewal: further paid days for a line; it lifts no block."""

from temporalio import workflow

from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import MailKind, NameOf, OrderSoFar, OrderStatus, RenewalOrder


@workflow.defn(name=NameOf.RENEWAL)
class Renewal(LineOrder):
    """One renewal from order to receipt."""

    @workflow.run
    async def run(self, start: RenewalOrder | OrderSoFar[RenewalOrder]) -> OrderStatus:
        """Record, keep the new end, drive both halves, tell the customer until when."""
        return await self.carry_out(self._steps(self.begin(start)))

    async def _steps(self, order: RenewalOrder) -> OrderStatus:
        recorded = await self.take(NameOf.RECORD_RENEWAL, order)
        await self.keep_the_end(recorded)
        halves = self.drive_halves(recorded)
        await self.tell(MailKind.EXTENDED, recorded, halves)
        await halves.wait(for_all=True)
        return await self.settle(recorded)
