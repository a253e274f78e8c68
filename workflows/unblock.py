"""An unblock: one owner lifts its own block; others stay."""

from temporalio import workflow

from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import MailKind, NameOf, OrderSoFar, OrderStatus, UnblockOrder


@workflow.defn(name=NameOf.UNBLOCK)
class Unblock(LineOrder):
    """One unblock from order to receipt."""

    @workflow.run
    async def run(self, start: UnblockOrder | OrderSoFar[UnblockOrder]) -> OrderStatus:
        """Record, drive both halves to what the ledger wants now, tell the customer how it stands."""
        return await self.carry_out(self._steps(self.begin(start)))

    async def _steps(self, order: UnblockOrder) -> OrderStatus:
        recorded = await self.take(NameOf.RECORD_UNBLOCK, order)
        halves = self.drive_halves(recorded)
        await self.tell(MailKind.UNBLOCKED, recorded, halves)
        await halves.wait(for_all=True)
        return await self.settle(recorded)
