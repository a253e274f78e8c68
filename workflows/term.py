"""A Term: keeps one grant's end, whatever becomes of the order that gave it."""

from datetime import timedelta
from typing import NoReturn

from temporalio import workflow

from workflows.driver import DrivesHalves
from workflows.ledger import in_ledger

with workflow.unsafe.imports_passed_through():
    from twinline.messages import EndGrant, HalfSoFar, NameOf, TermDecision, TermSoFar, TermStart


@workflow.defn(name=NameOf.TERM)
class Term(DrivesHalves):
    """Sleeps until the end and asks the ledger whether this grant is still the one that counts."""

    def __init__(self) -> None:
        super().__init__()
        self._start: TermStart | None = None
        self._decision: TermDecision | None = None

    @workflow.run
    async def run(self, start: TermStart | TermSoFar) -> TermDecision:
        """End the line when its last grant ends; be silent when a later grant overtook this one."""
        taken_over: tuple[HalfSoFar, ...] = ()
        if isinstance(start, TermSoFar):
            start, decision, taken_over = start.start, start.decision, start.halves
        else:
            decision = await self._decide(start)
        self._start, self._decision = start, decision
        if decision.outcome == "ended":
            halves = self.drive(start.line_id, decision.halves, decision.revision, taken_over)
            await halves.wait(for_all=True)
            await self.finish_handlers()
        return decision

    @staticmethod
    async def _decide(start: TermStart) -> TermDecision:
        ends_at = start.ends_at
        while True:
            await workflow.sleep(max(ends_at - workflow.now(), timedelta(0)), summary="until the grant ends")
            question = EndGrant(term=start, at=workflow.now())
            decision = await in_ledger(NameOf.END_GRANT, question, TermDecision, summary="is this the end?")
            if decision.outcome != "later":
                return decision
            ends_at = decision.ends_at

    def begin_anew(self) -> NoReturn:
        """Go on in a next run, whose history is short again."""
        if self._start is None or self._decision is None or self._halves is None:
            raise RuntimeError("a Term that drives no halves has nothing to hand on")
        workflow.continue_as_new(TermSoFar(start=self._start, decision=self._decision, halves=self._halves.so_far()))
