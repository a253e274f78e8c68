"""A move, make before break: the new pair is proven, the customer told, and only then the old pair left."""

from datetime import timedelta
from typing import Final

from temporalio import workflow

from workflows.halves import Halves
from workflows.ledger import in_ledger
from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import (
        MailKind,
        MoveDecision,
        MoveMade,
        MoveOrder,
        MoveStep,
        NameOf,
        OldPairKept,
        OrderSoFar,
        OrderStatus,
        Recorded,
    )

ASK_AGAIN: Final = timedelta(minutes=10)


@workflow.defn(name=NameOf.MOVE)
class Move(LineOrder):
    """One move from order to receipt."""

    @workflow.run
    async def run(self, start: MoveOrder | OrderSoFar[MoveOrder]) -> OrderStatus:
        """Record, drive the new pair, tell the customer, keep the old pair for a while, leave it."""
        return await self.carry_out(self._steps(self.begin(start)))

    async def _steps(self, order: MoveOrder) -> OrderStatus:
        recorded = await self.take(NameOf.RECORD_MOVE, order)
        # The old halves are at this revision already, so nothing is written there before the break.
        halves = self.drive_halves(recorded)
        new = {half.host for half in recorded.halves if not half.leaving}
        await halves.wait(for_all=True, hosts=new)
        if new.isdisjoint(halves.proven_hosts()):
            decision = await self._step(NameOf.CALL_OFF_MOVE, recorded, summary="the new pair was given up")
            for half in halves.all:
                half.ref = half.ref.model_copy(update={"leaving": half.ref.host in new})
        else:
            await self._keep_old_pair(recorded, halves, timedelta(hours=order.overlap_hours))
            decision = await self._break(recorded, halves)
        self._recorded = recorded.model_copy(update={"revision": decision.revision})
        halves.raise_to(decision.revision)
        await halves.wait(for_all=True)
        return await self.settle(recorded)

    async def _keep_old_pair(self, recorded: Recorded, halves: Halves, overlap: timedelta) -> None:
        """Tell the customer, who then has time to change the entries."""
        now = workflow.now()
        made = MoveMade(order_id=recorded.order_id, at=now, keep_until=now + overlap)
        kept = await in_ledger(NameOf.KEEP_OLD_PAIR, made, OldPairKept, summary="until when the old pair is kept")
        self._old_until = kept.until
        self.show_note(f"The new pair is ready; the old one is kept until {kept.until:%Y-%m-%d %H:%M} UTC.")
        told = self._told or await self._tell_entries(recorded, halves)
        await halves.pause(kept.until, summary="the old pair is kept")
        if not told and await self._tell_entries(recorded, halves):
            # The line had ended when the new pair was ready, and was renewed since.
            await halves.pause(workflow.now() + overlap, summary="the old pair is kept for longer")

    async def _tell_entries(self, recorded: Recorded, halves: Halves) -> bool:
        """Whether there was something to tell: of a line that has ended there is not."""
        self._told = await self.send(MailKind.MOVED, recorded, hosts=halves.proven_hosts()) is not None
        return self._told

    async def _break(self, recorded: Recorded, halves: Halves) -> MoveDecision:
        while True:
            decision = await self._step(NameOf.BREAK_MOVE, recorded, summary="leave the old pair")
            if decision.outcome != "later":
                self.show_note("")
                return decision
            self.show_note("No server of the new pair serves just now, so the old pair is kept.")
            await halves.pause(workflow.now() + ASK_AGAIN, summary="until the new pair serves")

    async def _step(self, name: str, recorded: Recorded, *, summary: str) -> MoveDecision:
        step = MoveStep(order_id=recorded.order_id, at=workflow.now())
        return await in_ledger(name, step, MoveDecision, summary=summary)
