"""An import: a line as another system had it. The customer has the credentials already, so that no mail is due."""

from temporalio import workflow

from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import ImportOrder, NameOf, OrderSoFar, OrderStatus


@workflow.defn(name=NameOf.IMPORT)
class ImportLine(LineOrder):
    """One import from order to receipt."""

    @workflow.run
    async def run(self, start: ImportOrder | OrderSoFar[ImportOrder]) -> OrderStatus:
        """Record, keep the end that the line had, drive both halves."""
        return await self.carry_out(self._steps(self.begin(start)))

    async def _steps(self, order: ImportOrder) -> OrderStatus:
        recorded = await self.take(NameOf.RECORD_IMPORT, order)
        await self.keep_the_end(recorded)
        await self.drive_halves(recorded).wait(for_all=True)
        return await self.settle(recorded)
