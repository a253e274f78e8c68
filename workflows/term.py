"""A Term: keeps one grant's end, whatever becomes of the order that gave it."""

from datetime import timedelta

from temporalio import workflow

from workflows.halves import Halves
from workflows.order import in_ledger

with workflow.unsafe.imports_passed_through():
    from twinline.messages import EndGrant, NameOf, TermDecision, TermStart


@workflow.defn(name=NameOf.TERM)
class Term:
    """Sleeps until the end and asks the ledger whether this grant is still the one that counts."""

    @workflow.run
    async def run(self, start: TermStart) -> TermDecision:
        """End the line when its last grant ends; be silent when a later grant overtook this one."""
        ends_at = start.ends_at
        while True:
            await workflow.sleep(max(ends_at - workflow.now(), timedelta(0)), summary="until the grant ends")
            question = EndGrant(term=start, at=workflow.now())
            decision = await in_ledger(NameOf.END_GRANT, question, TermDecision, summary="is this the end?")
            if decision.outcome != "later":
                break
            ends_at = decision.ends_at
        if decision.outcome == "ended":
            halves = Halves(start.line_id, decision.halves, decision.revision)
            halves.start()
            await halves.wait(for_all=True)
        return decision
