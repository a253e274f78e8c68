"""A Term: keeps one grant's end, whatever becomes of the order that gave it, and reminds the customer of it."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NoReturn

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from workflows.driver import DrivesHalves
from workflows.ledger import in_ledger
from workflows.mailing import hand_over, store_mail
from workflows.steadily import steadily

with workflow.unsafe.imports_passed_through():
    from twinline.messages import (
        EndGrant,
        EndMoved,
        HalfSoFar,
        MailKind,
        MailStored,
        MailTask,
        NameOf,
        TermDecision,
        TermSoFar,
        TermStart,
        TermStatus,
    )
    from twinline.priorities import BULK
    from twinline.summaries import moment


@workflow.defn(name=NameOf.TERM)
class Term(DrivesHalves):
    """Sleeps until the end and asks the ledger whether this grant is still the one that counts."""

    def __init__(self) -> None:
        super().__init__()
        self._start: TermStart | None = None
        self._ends_at: datetime | None = None
        self._moved_to: datetime | None = None
        self._decision: TermDecision | None = None
        self._handing_over: set[asyncio.Task[None]] = set()

    @workflow.run
    async def run(self, start: TermStart | TermSoFar) -> TermDecision:
        """End the line when its last grant ends; be silent when a later grant overtook this one."""
        return await steadily(self._keep(start), asked=self._asked_to_cancel)

    def _asked_to_cancel(self) -> None:
        self.show_note("An end is not cancelled: `twinline order cancel` takes the order back that gave the time.")

    async def _keep(self, start: TermStart | TermSoFar) -> TermDecision:
        taken_over: tuple[HalfSoFar, ...] = ()
        if isinstance(start, TermSoFar):
            start, decision, taken_over = start.start, start.decision, start.halves
        else:
            self._start = start
            decision = await self._decide(start)
        self._start, self._decision, self._ends_at = start, decision, decision.ends_at
        self._show()
        if decision.outcome == "ended":
            halves = self.drive(start.line_id, decision.halves, decision.revision, taken_over)
            await halves.wait(for_all=True)
            await self.finish_handlers()
        return decision

    @workflow.signal(name=NameOf.SIGNAL_END_MOVED)
    def end_moved(self, moved: EndMoved) -> None:
        """Take up that the grant ends at another time; the ledger decides all the same.

        Of several the earliest: they may come in any order, and to ask too early does no harm.
        """
        self._moved_to = min(moved.ends_at, self._moved_to or moved.ends_at)

    @workflow.query
    def progress(self) -> TermStatus:
        """When the end comes, and how far it is once it has."""
        start, decision = self._start, self._decision
        if start is None:
            raise ApplicationError("this Term has not begun yet", type="NothingToRetry")
        return TermStatus(
            line_id=start.line_id,
            grant_id=start.grant_id,
            ends_at=self._ends_at or start.ends_at,
            outcome=None if decision is None or decision.outcome == "later" else decision.outcome,
            halves=self._halves.receipts() if self._halves is not None else (),
        )

    def heading(self) -> Sequence[str]:
        """The line, and when its time is or was over."""
        if self._start is None:
            return ()
        line = f"`{self._start.line_id}`"
        if self._decision is None:
            ends_at = moment(self._ends_at or self._start.ends_at)
            return (f"Line {line} has time until {ends_at}, or longer if more is given by then.", "")
        match self._decision.outcome:
            case "overtaken":
                return (f"More time was given to line {line}, and its end is kept elsewhere.", "")
            case "cancelled":
                return (f"The order that gave this time to line {line} was cancelled.", "")
            case _:
                return (f"The time of line {line} was over at {moment(self._decision.ends_at)}.", "")

    async def _decide(self, start: TermStart) -> TermDecision:
        ends_at = start.ends_at
        while True:
            ends_at, self._moved_to = min(self._moved_to or ends_at, ends_at), None
            self._ends_at = ends_at
            self._show()
            if not await self._wait_for(start, ends_at):
                continue
            question = EndGrant(term=start, at=workflow.now())
            decision = await in_ledger(NameOf.END_GRANT, question, TermDecision, summary="is this the end?")
            if decision.outcome != "later":
                return decision
            ends_at = decision.ends_at

    async def _wait_for(self, start: TermStart, ends_at: datetime) -> bool:
        """Wait for the end, reminding of it; False when the end was moved meanwhile."""
        for ahead in start.reminders:
            # One whose time had passed before we waited is left out.
            if workflow.now() >= ends_at - ahead:
                continue
            if not await self._sleep(ends_at - ahead, summary=f"until {ahead} before the end"):
                return False
            if workflow.now() < ends_at:
                await self._remind(start, ends_at, ahead)
        return await self._sleep(ends_at, summary="until the grant ends")

    async def _sleep(self, until: datetime, *, summary: str) -> bool:
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._moved_to is not None,
                timeout=max(until - workflow.now(), timedelta(0)),
                timeout_summary=summary,
            )
        return self._moved_to is None

    async def _remind(self, start: TermStart, ends_at: datetime, ahead: timedelta) -> None:
        hours = ahead // timedelta(hours=1)
        task = MailTask(
            line_id=start.line_id,
            kind=MailKind.REMINDER,
            ref=f"{start.grant_id}/{hours}h",
            reference=start.reference,
            at=workflow.now(),
            grant_id=start.grant_id,
        )
        stored = await store_mail(task)
        if stored is not None:
            # Beside the rest: a mail server that is away must not hold up the end.
            self._handing_over.add(asyncio.create_task(self._hand_over(stored, ends_at - workflow.now())))

    @staticmethod
    async def _hand_over(stored: MailStored, at_most: timedelta) -> None:
        # A reminder that did not get out before the end has lost its meaning.
        with contextlib.suppress(ActivityError):
            await hand_over(stored, at_most=at_most, priority=BULK)

    def begin_anew(self) -> NoReturn:
        """Go on in a next run, whose history is short again."""
        if self._start is None or self._decision is None or self._halves is None:
            raise RuntimeError("a Term that drives no halves has nothing to hand on")
        workflow.continue_as_new(TermSoFar(start=self._start, decision=self._decision, halves=self._halves.so_far()))
