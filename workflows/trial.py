"""A trial: 48 hours for a new customer."""

from temporalio import workflow

from workflows.halves import Halves
from workflows.ledger import in_ledger
from workflows.order import LineOrder

with workflow.unsafe.imports_passed_through():
    from twinline.messages import (
        LateTrial,
        LateTrialMoved,
        NameOf,
        OrderSoFar,
        OrderStatus,
        Recorded,
        TrialOrder,
    )


@workflow.defn(name=NameOf.TRIAL)
class Trial(LineOrder):
    """One trial from order to receipt."""

    @workflow.run
    async def run(self, start: TrialOrder | OrderSoFar[TrialOrder]) -> OrderStatus:
        """Record, keep the end, drive both halves, mail the credentials with both entries."""
        return await self.carry_out(self._steps(self.begin(start)))

    async def _steps(self, order: TrialOrder) -> OrderStatus:
        recorded = await self.take(NameOf.RECORD_TRIAL, order)
        await self.keep_the_end(recorded)
        halves = self.drive_halves(recorded)
        if await self.first_proof(recorded, halves):
            recorded = await self._start_late(recorded, halves)
        await self.tell_credentials(recorded, halves)
        return await self.settle(recorded)

    async def _start_late(self, recorded: Recorded, halves: Halves) -> Recorded:
        """The 48 hours begin when the customer can use them."""
        if recorded.grant_id is None:
            return recorded
        late = LateTrial(line_id=recorded.line_id, grant_id=recorded.grant_id, proven_at=workflow.now())
        moved = await in_ledger(NameOf.START_LATE_TRIAL, late, LateTrialMoved, summary="48 h from the first proof")
        self._recorded = recorded.model_copy(update={"ends_at": moved.ends_at, "revision": moved.revision})
        halves.raise_to(moved.revision)
        return self._recorded
