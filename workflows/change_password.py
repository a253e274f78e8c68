"""A new password: the old one stops working on each half as soon as its daemon holds the new one."""

from temporalio import workflow

from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import MailKind, NameOf, OrderSoFar, OrderStatus, PasswordOrder


@workflow.defn(name=NameOf.CHANGE_PASSWORD)
class ChangePassword(LineOrder):
    """One change of a password from order to receipt."""

    @workflow.run
    async def run(self, start: PasswordOrder | OrderSoFar[PasswordOrder]) -> OrderStatus:
        """Record, drive both halves, mail the new credentials once a server takes them."""
        return await self.carry_out(self._steps(self.begin(start)))

    async def _steps(self, order: PasswordOrder) -> OrderStatus:
        recorded = await self.take(NameOf.RECORD_PASSWORD, order)
        halves = self.drive_halves(recorded)
        # Until then the old password works everywhere, and a mail with the new one would send the customer away.
        await halves.wait(for_all=False)
        await self.tell_credentials(recorded, halves, kind=MailKind.PASSWORD)
        return await self.settle(recorded)
