"""What all orders share: into the ledger, the end made safe, the halves, the mail that is true, the receipt."""

import contextlib
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError

from workflows.halves import HEARTBEAT_TIMEOUT, Halves

with workflow.unsafe.imports_passed_through():
    from twinline.messages import (
        MailChoice,
        MailKind,
        MailReceipt,
        MailState,
        MailStored,
        MailTask,
        NameOf,
        Order,
        OrderOutcome,
        OrderStatus,
        Receipt,
        Recorded,
        TakeOrder,
        TermStart,
        order_kind,
        order_ref,
        term_workflow_id,
    )

LEDGER_TIMEOUT = timedelta(seconds=20)
LEDGER_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=20))
SECOND_CHANCE = timedelta(seconds=5)
MAIL_TIMEOUT = timedelta(minutes=2)
MAIL_RETRY = RetryPolicy(initial_interval=timedelta(seconds=2), maximum_interval=timedelta(minutes=10))


T = TypeVar("T")


async def in_ledger(name: str, argument: Any, result: type[T], *, summary: str) -> T:
    """One ledger transaction; waits for a ledger that is away, and raises what the ledger refuses."""
    try:
        return await workflow.execute_local_activity(
            name,
            argument,
            result_type=result,
            start_to_close_timeout=LEDGER_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary=summary,
        )
    except ActivityError as error:
        # The condition's own name has to be the outermost one: callers and retries go by it.
        if isinstance(error.cause, ApplicationError):
            raise error.cause from None
        raise


class LineOrder:
    """State and steps of one order; a workflow's `run` puts the steps in order."""

    def __init__(self) -> None:
        self._order: Order | None = None
        self._recorded: Recorded | None = None
        self._halves: Halves | None = None
        self._mail: MailReceipt | None = None
        self._done = False

    @workflow.query
    def progress(self) -> OrderStatus:
        """How far the order is, each half with attempts, last error and next attempt."""
        if self._order is None:
            return OrderStatus(fingerprint="", done=False)
        return OrderStatus(fingerprint=self._order.fingerprint(), done=self._done, receipt=self._receipt())

    # -- steps

    async def take(self, activity: str, order: Order) -> Recorded:
        """Record the order; from here on it survives everything."""
        self._order = order
        info = workflow.info()
        taken = TakeOrder(order=order, at=info.start_time, workflow_id=info.workflow_id)
        self._recorded = await in_ledger(activity, taken, Recorded, summary="into the ledger")
        return self._recorded

    async def keep_the_end(self, recorded: Recorded) -> None:
        """Start the grant's Term before anything can fail, so that the end comes whatever follows."""
        if recorded.grant_id is None:
            return
        # The same order again, after Temporal forgot it, finds its Term already there.
        with contextlib.suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                NameOf.TERM,
                TermStart(line_id=recorded.line_id, grant_id=recorded.grant_id, ends_at=recorded.ends_at),
                id=term_workflow_id(recorded.line_id, recorded.grant_id),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )

    def drive_halves(self, recorded: Recorded) -> Halves:
        """Start both halves; neither waits for the other."""
        self._halves = Halves(recorded.line_id, recorded.halves, recorded.revision)
        self._halves.start()
        return self._halves

    async def first_proof(self, recorded: Recorded, halves: Halves) -> bool:
        """Wait for the first half, telling the customer after a while; whether it came inside the grace."""
        grace = timedelta(seconds=recorded.grace_seconds)
        if await halves.wait(for_all=False, patience=grace):
            return True
        notice = timedelta(seconds=recorded.delay_notice_seconds) - grace
        if not await halves.wait(for_all=False, patience=notice):
            await self.send(MailKind.DELAYED, recorded)
            await halves.wait(for_all=False)
        return False

    async def tell(self, kind: MailKind, recorded: Recorded, halves: Halves) -> MailStored | None:
        """Send the message that is true now; it waits for both halves no longer than the grace allows."""
        await self._wait_for_both(recorded, halves)
        return await self.send(kind, recorded)

    @staticmethod
    async def _wait_for_both(recorded: Recorded, halves: Halves) -> None:
        grace = timedelta(seconds=recorded.grace_seconds)
        left = grace - (workflow.now() - workflow.info().start_time)
        # After an outage both hosts tend to come back together, and one mail says more than two.
        await halves.wait(for_all=True, patience=max(left, min(grace, SECOND_CHANCE)))

    async def tell_credentials(
        self, recorded: Recorded, halves: Halves, *, kind: MailKind = MailKind.CREDENTIALS
    ) -> None:
        """Mail the credentials with both entries, and a second, short mail for a half that was not ready yet."""
        await self._wait_for_both(recorded, halves)
        ready = halves.proven_hosts()
        told = await self.send(kind, recorded, hosts=ready)
        await halves.wait(for_all=True)
        late = tuple(half.host for half in recorded.halves if half.host not in ready)
        if late and told is not None and told.kind is kind:
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
        choice = await in_ledger(NameOf.STORE_MAIL, task, MailChoice, summary=f"write the {kind} mail")
        stored = choice.stored
        if stored is None:
            return None
        self._mail = MailReceipt(kind=stored.kind, state=stored.state, message_id=stored.message_id)
        state = await workflow.execute_activity(
            NameOf.HAND_OVER_MAIL,
            stored.mail_id,
            result_type=MailState,
            start_to_close_timeout=MAIL_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=MAIL_RETRY,
            summary=f"hand over the {stored.kind} mail",
        )
        self._mail = MailReceipt(kind=stored.kind, state=state, message_id=stored.message_id)
        return stored

    async def settle(self, recorded: Recorded) -> OrderStatus:
        """Keep the receipt in the ledger, for when Temporal has forgotten the order."""
        self._done = True
        status = self.progress()
        if status.receipt is not None:
            outcome = OrderOutcome(order_id=recorded.order_id, receipt=status.receipt)
            await in_ledger(NameOf.SETTLE_ORDER, outcome, type(None), summary="keep the receipt")
        return status

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
        )


def _own_id(order: Order) -> str:
    """The id by which the caller knows the order."""
    return order_ref(order).split("/", 1)[0]
