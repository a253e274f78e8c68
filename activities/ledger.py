"""Activities that are one ledger transaction each; they run as local activities of the order workflows."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from temporalio import activity

from activities.counting import count_order
from activities.errors import translated
from twinline.errors import InvalidOrder
from twinline.ledger import Ledger, cancels, halves, imports, moves, orders, terms
from twinline.ledger.tx import WriteTx
from twinline.mail import Address, AddressError, DisposableDomains, normalise_person, parse_address
from twinline.messages import (
    AnyOrder,
    BlockOrder,
    CancelTaken,
    CloseOrder,
    EndGrant,
    ExtensionOrder,
    HalfAbandoned,
    HalvesAsked,
    ImportOrder,
    LateTrial,
    LateTrialMoved,
    MoveDecision,
    MoveMade,
    MoveOrder,
    MoveStep,
    NameOf,
    OldPairKept,
    OrderOutcome,
    OrderT,
    PasswordOrder,
    PurchaseOrder,
    Recorded,
    RenewalOrder,
    TakeCancel,
    TakeOrder,
    TermDecision,
    TrialOrder,
    UnblockOrder,
)
from twinline.settings import Settings

OrderT_contra = TypeVar("OrderT_contra", bound=AnyOrder, contravariant=True)


class _Record(Protocol[OrderT_contra]):
    """What takes one kind of order into the ledger."""

    async def __call__(self, tx: WriteTx, order: OrderT_contra, /, *, now: datetime, workflow_id: str) -> Recorded: ...


class LedgerActivities:
    """Takes orders into the ledger, keeps grants' ends, and stores receipts."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._disposable = DisposableDomains(settings.disposable_domains)

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity of this class, for the worker to register."""
        return [
            self.record_trial,
            self.record_purchase,
            self.record_renewal,
            self.record_block,
            self.record_unblock,
            self.record_password,
            self.record_close,
            self.record_move,
            self.record_cancel,
            self.record_extension,
            self.record_import,
            self.keep_old_pair,
            self.break_move,
            self.call_off_move,
            self.start_late_trial,
            self.end_grant,
            self.retry_halves,
            self.abandon_half,
            self.settle_order,
        ]

    @activity.defn(name=NameOf.RECORD_TRIAL)
    async def record_trial(self, task: TakeOrder[TrialOrder]) -> Recorded:
        """Take a trial: once per person."""
        with translated():
            email = _address(task.order.email)
            order = task.order.model_copy(update={"email": email.text})
            async with self._ledger.write() as tx:
                recorded = await orders.record_trial(
                    tx,
                    order,
                    person=normalise_person(email),
                    disposable=self._disposable.lists(email.domain),
                    now=task.at,
                    workflow_id=task.workflow_id,
                )
            return self._with_times(recorded)

    @activity.defn(name=NameOf.RECORD_PURCHASE)
    async def record_purchase(self, task: TakeOrder[PurchaseOrder]) -> Recorded:
        """Take a purchase, for a new customer or an existing line."""
        with translated():
            email = _address(task.order.email) if task.order.email is not None else None
            async with self._ledger.write() as tx:
                recorded = await orders.record_purchase(
                    tx,
                    task.order,
                    person=normalise_person(email) if email is not None else None,
                    now=task.at,
                    workflow_id=task.workflow_id,
                )
            return self._with_times(recorded)

    @activity.defn(name=NameOf.RECORD_RENEWAL)
    async def record_renewal(self, task: TakeOrder[RenewalOrder]) -> Recorded:
        """Take a renewal."""
        return await self._taken(orders.record_renewal, task)

    @activity.defn(name=NameOf.RECORD_BLOCK)
    async def record_block(self, task: TakeOrder[BlockOrder]) -> Recorded:
        """Take a block."""
        return await self._taken(orders.record_block, task)

    @activity.defn(name=NameOf.RECORD_UNBLOCK)
    async def record_unblock(self, task: TakeOrder[UnblockOrder]) -> Recorded:
        """Take an unblock."""
        return await self._taken(orders.record_unblock, task)

    @activity.defn(name=NameOf.RECORD_PASSWORD)
    async def record_password(self, task: TakeOrder[PasswordOrder]) -> Recorded:
        """Take a change of password."""
        return await self._taken(orders.record_password, task)

    @activity.defn(name=NameOf.RECORD_CLOSE)
    async def record_close(self, task: TakeOrder[CloseOrder]) -> Recorded:
        """Take a close."""
        return await self._taken(orders.record_close, task)

    @activity.defn(name=NameOf.RECORD_MOVE)
    async def record_move(self, task: TakeOrder[MoveOrder]) -> Recorded:
        """Take a move."""
        return await self._taken(orders.record_move, task)

    @activity.defn(name=NameOf.RECORD_EXTENSION)
    async def record_extension(self, task: TakeOrder[ExtensionOrder]) -> Recorded:
        """Take days that were not paid for."""
        return await self._taken(orders.record_extension, task)

    @activity.defn(name=NameOf.RECORD_IMPORT)
    async def record_import(self, task: TakeOrder[ImportOrder]) -> Recorded:
        """Take a line over from another system."""
        return await self._taken(imports.record_import, task)

    @activity.defn(name=NameOf.RECORD_CANCEL)
    async def record_cancel(self, task: TakeCancel) -> CancelTaken:
        """Take an order back."""
        with translated():
            async with self._ledger.write() as tx:
                taken = await cancels.record_cancel(tx, task)
            return CancelTaken(recorded=None if taken.recorded is None else self._with_times(taken.recorded))

    @activity.defn(name=NameOf.KEEP_OLD_PAIR)
    async def keep_old_pair(self, made: MoveMade) -> OldPairKept:
        """Set until when a move keeps the old pair."""
        with translated():
            async with self._ledger.write() as tx:
                return await moves.keep_old_pair(tx, made, grace=self._settings.grace)

    @activity.defn(name=NameOf.BREAK_MOVE)
    async def break_move(self, step: MoveStep) -> MoveDecision:
        """Let a move leave the old pair, if the new one serves."""
        with translated():
            async with self._ledger.write() as tx:
                return await moves.break_move(tx, step)

    @activity.defn(name=NameOf.CALL_OFF_MOVE)
    async def call_off_move(self, step: MoveStep) -> MoveDecision:
        """Let the line stay on its old pair."""
        with translated():
            async with self._ledger.write() as tx:
                return await moves.call_off_move(tx, step)

    @activity.defn(name=NameOf.START_LATE_TRIAL)
    async def start_late_trial(self, late: LateTrial) -> LateTrialMoved:
        """Let a trial's time begin at its first proof."""
        with translated():
            async with self._ledger.write() as tx:
                start = await terms.start_late_trial(tx, late, now=late.proven_at)
            return LateTrialMoved(ends_at=start.ends_at, revision=start.revision)

    @activity.defn(name=NameOf.END_GRANT)
    async def end_grant(self, question: EndGrant) -> TermDecision:
        """Carry out a grant's end if it has come and no other grant outlives it."""
        with translated():
            async with self._ledger.write() as tx:
                return await terms.end_grant(tx, question.term, now=question.at)

    @activity.defn(name=NameOf.RETRY_HALVES)
    async def retry_halves(self, asked: HalvesAsked) -> None:
        """Note who wants a line's halves looked at now."""
        with translated():
            async with self._ledger.write() as tx:
                await halves.retry_halves(tx, asked.line_id, actor=asked.actor, now=asked.at)

    @activity.defn(name=NameOf.ABANDON_HALF)
    async def abandon_half(self, given_up: HalfAbandoned) -> None:
        """Give a half up, with who and why."""
        with translated():
            async with self._ledger.write() as tx:
                await halves.abandon_half(
                    tx,
                    given_up.line_id,
                    given_up.host,
                    actor=given_up.actor,
                    reason=given_up.reason,
                    now=given_up.at,
                )

    @activity.defn(name=NameOf.SETTLE_ORDER)
    async def settle_order(self, outcome: OrderOutcome) -> None:
        """Keep the receipt."""
        with translated():
            async with self._ledger.write() as tx:
                took = await orders.settle_order(tx, outcome, now=activity.info().current_attempt_scheduled_time)
        if took is not None:
            count_order(outcome.receipt, took)

    async def _taken(self, record: _Record[OrderT], task: TakeOrder[OrderT]) -> Recorded:
        with translated():
            async with self._ledger.write() as tx:
                recorded = await record(tx, task.order, now=task.at, workflow_id=task.workflow_id)
            return self._with_times(recorded)

    def _with_times(self, recorded: Recorded) -> Recorded:
        return recorded.model_copy(
            update={
                "grace_seconds": self._settings.grace.total_seconds(),
                "delay_notice_seconds": self._settings.delay_notice.total_seconds(),
            }
        )


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except AddressError as error:
        raise InvalidOrder(str(error), hint="Give one plain mail address, such as name@example.com.") from None
