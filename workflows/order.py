"""What all orders share: into the ledger, the end made safe, the halves, the mail that is true, the receipt."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, FailureError, WorkflowAlreadyStartedError

from workflows.driver import DrivesHalves
from workflows.halves import Halves
from workflows.ledger import in_ledger
from workflows.mailing import choose_mail, hand_over
from workflows.steadily import steadily

with workflow.unsafe.imports_passed_through():
    from twinline.messages import (
        REMINDERS,
        AnyOrder,
        CancelInfo,
        CancelOrder,
        CancelTaken,
        GrantEnd,
        HalfSoFar,
        MailKind,
        MailReceipt,
        MailState,
        MailStored,
        MailTask,
        NameOf,
        OrderOutcome,
        OrderSoFar,
        OrderStatus,
        OrderT,
        Plan,
        Receipt,
        Recorded,
        TakeCancel,
        TakeOrder,
        TermStart,
        order_kind,
        order_ref,
        order_workflow_id,
        term_workflow_id,
    )
    from twinline.priorities import priority_of
    from twinline.search_attributes import LINE_ID
    from twinline.summaries import details_of, moment, summary_of

SECOND_CHANCE = timedelta(seconds=5)

T = TypeVar("T")

_TIME: Mapping[Plan, str] = MappingProxyType({"trial": "a trial", "paid": "paid time"})


class LineOrder(DrivesHalves):
    """State and steps of one order; a workflow's `run` puts the steps in order.

    Each step knows when a run before this one has done it already.
    """

    def __init__(self) -> None:
        super().__init__()
        self._order: AnyOrder | None = None
        self._taken_over: tuple[HalfSoFar, ...] = ()
        self._recorded: Recorded | None = None
        self._driven_since: datetime | None = None
        self._seen_working = False
        self._mail: MailReceipt | None = None
        self._told = False
        self._told_ready: tuple[str, ...] = ()
        self._old_until: datetime | None = None
        self._unserved = False
        self._done = False
        self._ended_at: datetime | None = None
        self._cancel: CancelOrder | None = None
        """Who has asked that this order be cancelled, until that is decided."""
        self._cancelled: CancelInfo | None = None

    @workflow.query
    def progress(self) -> OrderStatus:
        """How far the order is, each half with attempts, last error and next attempt."""
        if self._order is None:
            return OrderStatus(fingerprint="", done=False)
        return OrderStatus(
            fingerprint=self._order.fingerprint(),
            done=self._done,
            receipt=self._receipt(),
            ended_at=self._ended_at,
        )

    # -- cancelling

    @workflow.signal(name=NameOf.SIGNAL_CANCEL)
    def cancel_order(self, asked: CancelOrder) -> None:
        """Take up that this order is being cancelled."""
        self._cancel = asked

    async def carry_out(self, steps: Coroutine[Any, Any, OrderStatus]) -> OrderStatus:
        """Take an order's steps to their end, or give way to its cancellation.

        A cancel that Temporal asks for (`handle.cancel()`, the button on its pages) is the same as `twinline order
        cancel`. What can't be taken back goes on as if nobody had asked.
        """
        carrying: asyncio.Task[OrderStatus] | None = None

        def decided() -> bool:
            return self._cancel is not None or carrying is None or carrying.done()

        try:
            while True:
                # What was asked for before the first step counts before it.
                await self._look_for(decided)
                asked, self._cancel = self._cancel, None
                if asked is not None:
                    if (status := await self._give_way(asked, carrying)) is not None:
                        return status
                elif carrying is None:
                    carrying = asyncio.create_task(steps)
                elif carrying.done():
                    return carrying.result()
        finally:
            steps.close()

    async def _look_for(self, reached: Callable[[], bool]) -> None:
        try:
            await asyncio.sleep(0)
            await workflow.wait_condition(reached)
        except asyncio.CancelledError:
            if self._order is None or isinstance(self._order, CancelOrder):
                self.show_note("A cancellation is not cancelled: order again, under a new id.")
            else:
                self._cancel = CancelOrder(
                    caller=self._order.caller,
                    order=_own_id(self._order),
                    of=order_kind(self._order),
                    actor="temporal",
                    reason="asked for in Temporal",
                )

    async def _give_way(self, asked: CancelOrder, carrying: asyncio.Task[OrderStatus] | None) -> OrderStatus | None:
        """Let the ledger decide whether this order is cancelled; None when it goes on."""
        try:
            taken = await self._uninterrupted(self._take_back(asked))
        except ApplicationError as refusal:
            hint = refusal.details[0] if refusal.details else ""
            self.show_note(f"A cancel was asked for and refused: {refusal.message}. {hint}")
            return None
        if carrying is not None:
            # The ledger may know of it before we do.
            await self._look_for(lambda: carrying.done() or self._recorded is not None)
        if taken is not None:
            await self._uninterrupted(self._start_cancelling(asked))
        if taken is None or taken.cancels is None or self._recorded is None:
            raise ApplicationError(
                "the order was cancelled before it was taken",
                "Nothing was given and nobody was told; order again under a new id.",
                type="OrderCancelled",
                non_retryable=True,
            )
        if carrying is not None:
            carrying.cancel()
            with contextlib.suppress(asyncio.CancelledError, FailureError):
                await carrying
        self.let_go()
        self._cancelled = taken.cancels.info
        changed = {"ends_at": taken.ends_at, "revision": taken.revision, "blocks": taken.blocks}
        self._recorded = self._recorded.model_copy(update=changed)
        return await self._uninterrupted(self.settle(self._recorded))

    @staticmethod
    async def _take_back(asked: CancelOrder) -> Recorded | None:
        task = TakeCancel(order=asked, at=workflow.now(), running=True)
        return (await in_ledger(NameOf.RECORD_CANCEL, task, CancelTaken, summary="take the order back")).recorded

    @staticmethod
    async def _start_cancelling(asked: CancelOrder) -> None:
        # Who asked with `twinline order cancel` has started it already.
        with contextlib.suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                NameOf.CANCEL,
                asked,
                id=order_workflow_id(asked),
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=summary_of(asked),
                static_details=details_of(asked),
                priority=priority_of(asked),
            )

    @staticmethod
    async def _uninterrupted(step: Coroutine[Any, Any, T]) -> T:
        return await steadily(step, asked=lambda: None)

    # -- steps

    def begin(self, start: OrderT | OrderSoFar[OrderT]) -> OrderT:
        """Take up what an earlier run has done, if there was one; the order itself."""
        if not isinstance(start, OrderSoFar):
            self._order = start
            return start
        self._order, self._taken_over = start.order, start.halves
        self._recorded, self._driven_since, self._mail = start.recorded, start.driven_since, start.mail
        self._seen_working, self._told, self._told_ready = start.seen_working, start.told, start.told_ready
        self._unserved = start.unserved
        return start.order

    async def take(self, activity: str, order: AnyOrder) -> Recorded:
        """Record the order; from here on it survives everything."""
        if self._recorded is not None:
            return self._recorded
        workflow.set_current_details("The ledger has not taken the order yet.")
        info = workflow.info()
        taken = TakeOrder(order=order, at=info.start_time, workflow_id=info.workflow_id)
        self._recorded = await in_ledger(activity, taken, Recorded, summary="into the ledger")
        return self._recorded

    async def keep_the_end(self, recorded: Recorded) -> None:
        """Start the grant's Term before anything can fail, so that the end comes whatever follows."""
        if recorded.grant_id is None or self.resumed:
            return
        end = GrantEnd(
            grant_id=recorded.grant_id,
            plan=recorded.plan,
            ends_at=recorded.ends_at,
            open=True,
            reference=_own_id(self._order) if self._order is not None else "",
        )
        # The same order again, after Temporal forgot it, finds its Term already there.
        await self.start_term(recorded, end)

    @staticmethod
    async def start_term(recorded: Recorded, end: GrantEnd) -> None:
        """Have a Term keep a grant's end, unless it has one already."""
        with contextlib.suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                NameOf.TERM,
                TermStart(
                    line_id=recorded.line_id,
                    grant_id=end.grant_id,
                    ends_at=end.ends_at,
                    reminders=REMINDERS[end.plan],
                    reference=end.reference,
                ),
                id=term_workflow_id(recorded.line_id, end.grant_id),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=TypedSearchAttributes([SearchAttributePair(LINE_ID, recorded.line_id)]),
                static_summary=f"the end of {_TIME[end.plan]}, first set to {moment(end.ends_at)}",
            )

    def drive_halves(self, recorded: Recorded) -> Halves:
        """Start both halves; neither waits for the other."""
        self._driven_since = self._driven_since or workflow.now()
        return self.drive(recorded.line_id, recorded.halves, recorded.revision, self._taken_over)

    async def first_proof(self, recorded: Recorded, halves: Halves) -> bool:
        """Wait for the first half, telling the customer after a while; whether it came late.

        Nothing is late when all halves were given up: then there is no proof from which a time could count.
        """
        if self._seen_working:
            return False
        late = not await halves.wait(for_all=False, patience=self._left_of(recorded.grace_seconds))
        if late and not await halves.wait(for_all=False, patience=self._left_of(recorded.delay_notice_seconds)):
            await self.send(MailKind.DELAYED, recorded)
            await halves.wait(for_all=False)
        self._seen_working = True
        if not halves.any_proven and self._mail is None:
            # All were given up before anything was said: what a Reconcile repairs is told when it works.
            await self.send(MailKind.DELAYED, recorded)
        return late and halves.any_proven

    def _left_of(self, seconds: float) -> timedelta:
        since = self._driven_since or workflow.now()
        return since + timedelta(seconds=seconds) - workflow.now()

    async def tell(self, kind: MailKind, recorded: Recorded, halves: Halves) -> None:
        """Send the message that is true now; it waits for both halves no longer than the grace allows."""
        if self._told:
            return
        await self._wait_for_both(recorded, halves)
        await self.send(kind, recorded)
        self._told = True

    async def _wait_for_both(self, recorded: Recorded, halves: Halves) -> None:
        grace = timedelta(seconds=recorded.grace_seconds)
        left = timedelta(0) if self.resumed else grace - (workflow.now() - workflow.info().start_time)
        # After an outage both hosts tend to come back together, and one mail says more than two.
        await halves.wait(for_all=True, patience=max(left, min(grace, SECOND_CHANCE)))

    async def tell_credentials(
        self, recorded: Recorded, halves: Halves, *, kind: MailKind = MailKind.CREDENTIALS
    ) -> None:
        """Mail the credentials with both entries, and a second, short mail for a half that was not ready yet."""
        if not self._told:
            await self._wait_for_both(recorded, halves)
            ready = halves.proven_hosts()
            stored = await self.send(kind, recorded, hosts=ready)
            self._told = True
            self._told_ready = ready if stored is not None and stored.kind is kind else ()
        await halves.wait(for_all=True)
        late = tuple(host for host in halves.proven_hosts() if host not in self._told_ready)
        if late and self._told_ready:
            await self.send(MailKind.SECOND_HALF, recorded, hosts=late)

    async def send(self, kind: MailKind, recorded: Recorded, *, hosts: tuple[str, ...] = ()) -> MailStored | None:
        """Store the message that is true now, then hand it over until its outcome is known; None if none is."""
        task = MailTask(
            line_id=recorded.line_id,
            kind=kind,
            ref=recorded.mail_ref,
            reference=_own_id(self._order) if self._order is not None else "",
            at=workflow.now(),
            hosts=hosts,
        )
        choice = await choose_mail(task)
        stored = choice.stored
        if stored is None:
            self._unserved = choice.unserved and kind is MailKind.CREDENTIALS
            return None
        self._mailed(stored, stored.state)
        self._mailed(stored, await hand_over(stored))
        return stored

    def _mailed(self, stored: MailStored, state: MailState) -> None:
        self._mail = MailReceipt(kind=stored.kind, state=state, message_id=stored.message_id)
        self._show()

    async def settle(self, recorded: Recorded) -> OrderStatus:
        """Keep the receipt in the ledger, for when Temporal has forgotten the order."""
        self._done, self._ended_at = True, workflow.now()
        status = self.progress()
        if status.receipt is not None:
            outcome = OrderOutcome(order_id=recorded.order_id, receipt=status.receipt)
            await in_ledger(NameOf.SETTLE_ORDER, outcome, type(None), summary="keep the receipt")
        await self.finish_handlers()
        return status

    @property
    def resumed(self) -> bool:
        """Whether an earlier run has taken the order, and this one goes on with it."""
        return bool(self._taken_over)

    def begin_anew(self) -> NoReturn:
        """Go on in a next run, whose history is short again; who waits for the result waits on."""
        if self._order is None or self._recorded is None or self._halves is None or self._driven_since is None:
            raise RuntimeError("an order that was not taken has nothing to hand on")
        so_far = OrderSoFar(
            order=self._order,
            recorded=self._recorded,
            driven_since=self._driven_since,
            seen_working=self._seen_working,
            halves=self._halves.so_far(),
            mail=self._mail,
            told=self._told,
            told_ready=self._told_ready,
            unserved=self._unserved,
        )
        workflow.continue_as_new(so_far)

    @property
    def caller(self) -> str | None:
        """Who placed the order."""
        return None if self._order is None else self._order.caller

    # -- what is shown

    def heading(self) -> Sequence[str]:
        """The line, until when it is paid for, what blocks it, and the mail."""
        recorded, mail = self._recorded, self._mail
        if recorded is None:
            return ()
        if self._cancelled is not None:
            return (f"Cancelled by {self._cancelled.actor} at {moment(self._cancelled.at)}.", "")
        blocked = f", blocked by {', '.join(sorted({block.owner for block in recorded.blocks}))}"
        until = f"{_TIME[recorded.plan]} until {moment(recorded.ends_at)}"
        return (
            f"Line `{recorded.line_id}`, {until}{blocked if recorded.blocks else ''}.",
            "",
            f"Mail: {'none so far' if mail is None else f'{mail.kind}, {mail.state}'}.",
            "",
        )

    # -- receipt

    def _receipt(self) -> Receipt | None:
        if self._order is None or self._recorded is None:
            return None
        return Receipt(
            order=_own_id(self._order),
            kind=order_kind(self._order),
            line=self._recorded.line_id,
            username=self._recorded.username,
            plan=self._recorded.plan,
            ends_at=self._recorded.ends_at,
            blocks=self._recorded.blocks,
            halves=self._halves.receipts() if self._halves is not None else (),
            mail=self._mail,
            workflow_id=workflow.info().workflow_id,
            cancelled=self._cancelled,
            old_until=self._old_until,
            unserved=self._unserved,
        )


def _own_id(order: AnyOrder) -> str:
    """The id by which the caller knows the order."""
    return order_ref(order).split("/", 1)[0]
