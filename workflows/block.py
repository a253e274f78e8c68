"""A block: a reason why a line must not work."""

from temporalio import workflow

from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import BlockOrder, MailKind, NameOf, OrderStatus


@workflow.defn(name=NameOf.BLOCK)
class Block(LineOrder):
    """One block from order to receipt."""

    @workflow.run
    async def run(self, order: BlockOrder) -> OrderStatus:
        """Record, drive both halves until the line is refused and its sessions are gone, send notice."""
        recorded = await self.take(NameOf.RECORD_BLOCK, order)
        halves = self.drive_halves(recorded)
        await self.tell(MailKind.BLOCKED, recorded, halves)
        await halves.wait(for_all=True)
        return await self.settle(recorded)
