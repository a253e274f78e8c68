"""The typed client: places orders with Temporal and tells what became of them.

It needs no worker, SSH or database; a storefront can import it: docs/storefront.md.
"""

import asyncio
import contextlib
import os
import re
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import AwareDatetime
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeTaskQueueRequest
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateHandle,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from starter.bulk_runs import BlockRow, BlockRun, BulkRuns, ExtendRun, ImportRow, ImportRun
from starter.order_ids import OrderId, unknown_order
from starter.ordering import Ordering
from twinline.bulk import BulkStart, bulk_workflow_id
from twinline.connect import connect_temporal
from twinline.errors import (
    ORDER_ERRORS,
    InvalidOrder,
    Misconfigured,
    OrderConflict,
    TwinlineError,
    Unavailable,
    UnknownOrder,
)
from twinline.keys import KeyRing
from twinline.messages import (
    CALLER_FORM,
    GRACE,
    ORDERS_QUEUE,
    AbandonHalf,
    AnyOrder,
    CancelOrder,
    EraseStatus,
    EraseTask,
    HalfReceipt,
    HalfState,
    HalvesStatus,
    HostGone,
    MailTask,
    Message,
    NameOf,
    OrderKind,
    OrderStatus,
    RetryNow,
    erase_workflow_id,
    order_kind,
    order_workflow_id,
    tell_workflow_id,
)
from twinline.priorities import BULK, bulk_priority, priority_of
from twinline.search_attributes import ATTENTION_REASON, CALLER, LINE_ID
from twinline.summaries import details_of, summary_of

QUERY_TIMEOUT = timedelta(seconds=3)
"""For what a worker has to answer."""
DESCRIBE_TIMEOUT = timedelta(seconds=3)
"""For what the server knows by itself."""
ANSWER_TIMEOUT = timedelta(seconds=1)
"""For whether it is there at all."""
START_TIMEOUT = timedelta(seconds=10)
"""For a server that is there, and has much to do."""
DOUBTS_AFTER = timedelta(seconds=2)
"""How long a start may take until the server is asked whether it is there at all."""
POLLER_AGE = 90.0
"""Seconds. A worker polls at least once a minute; the server names a poller for minutes after it has gone."""
ACCEPTED_WITHIN = timedelta(seconds=5)
"""How long a worker may take to take up a request before it counts as away."""
UPDATE_TRIES = 5
STARTS = 5
"""How often an order is started after others that had its id were refused."""

_WORKFLOWS = {
    OrderKind.TRIAL: NameOf.TRIAL,
    OrderKind.PURCHASE: NameOf.PURCHASE,
    OrderKind.RENEWAL: NameOf.RENEWAL,
    OrderKind.BLOCK: NameOf.BLOCK,
    OrderKind.UNBLOCK: NameOf.UNBLOCK,
    OrderKind.PASSWORD: NameOf.CHANGE_PASSWORD,
    OrderKind.MOVE: NameOf.MOVE,
    OrderKind.CLOSE: NameOf.CLOSE,
    OrderKind.CANCEL: NameOf.CANCEL,
    OrderKind.EXTENSION: NameOf.EXTENSION,
    OrderKind.IMPORT: NameOf.IMPORT,
}

OUTCOME_PATIENCE = timedelta(seconds=5)
"""How long to wait for an outcome that is there already."""

__all__ = ["BlockRow", "BlockRun", "BulkRuns", "ExtendRun", "ImportRow", "ImportRun", "PendingStep", "Twinline"]

Standing = Literal["unknown", "running", "refused", "done"]
_Handle = WorkflowHandle[object, OrderStatus]
_T = TypeVar("_T")


class PendingStep(Message):
    """An activity that is being tried, or waits for its next try; `last_error` is the name of what failed it."""

    step: str
    attempts: int
    last_error: str | None


class FoundOrder(Message):
    """An order as Temporal has it, worker or not."""

    order: str
    """The caller's own id, or the case of a block."""
    kind: OrderKind
    id: str
    """Tells it from all other orders of its caller."""
    workflow_id: str
    standing: Standing
    placed_at: AwareDatetime | None = None


class Twinline(Ordering):
    """Places orders. The same order twice is one order, however many callers place it at once."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    async def connect(cls, key_ring: Path | None = None, *, patience: timedelta = timedelta(seconds=30)) -> Self:
        """Connect to Temporal as `TEMPORAL_*` and its profiles say, trying for `patience`.

        `key_ring` is the file with which orders are sealed on their way, by default that of `TWINLINE_KEYS`. Raises
        Misconfigured (nothing can be used as it is set) and Unavailable (no answer in time).
        """
        path = key_ring or Path(os.environ.get("TWINLINE_KEYS", ""))
        if path == Path():
            raise Misconfigured("TWINLINE_KEYS is not set", hint="Set it to the path of the key ring file (mode 0600).")
        return cls(await connect_temporal(keys=KeyRing.load(path), patience=patience.total_seconds()))

    async def place(
        self,
        order: AnyOrder,
        *,
        patience: timedelta = GRACE,
        priority: Priority | None = None,
        ask_worker: bool = True,
    ) -> OrderStatus:
        """Place an order and wait at most `patience` until it is done; then its progress so far is returned.

        `priority` is its kind's own unless something else is said. A worker that has much to do may take seconds to
        tell the progress; who knows it from elsewhere says not to `ask_worker`. Raises the TwinlineError that refused
        it, OrderConflict when its id was used for another order, and Unavailable when Temporal does not answer.
        Placing it again is always safe.
        """
        for _ in range(STARTS):
            handle, new = await self._start(order, priority or priority_of(order))
            if new and patience <= timedelta(0):
                # Nobody has to be asked what stands under this id, and the worker has other things to do.
                return OrderStatus(fingerprint=order.fingerprint(), done=False)
            try:
                status = await self._awaited(handle, patience, ask_worker=ask_worker)
            except Unavailable:
                raise
            except TwinlineError:
                if new or await self._placed(handle, order) == order.fingerprint():
                    raise
                # Refused was another order under this id, whose end we had waited for; the id is free again.
                continue
            fingerprint = await self._placed(handle, order) if status is None else status.fingerprint
            if fingerprint == order.fingerprint():
                return status or OrderStatus(fingerprint=fingerprint, done=False)
            break
        raise OrderConflict(
            "this order id was used before for something else",
            hint="Take a new id for a new order; repeat an order with exactly the same contents.",
        )

    async def hand_in(self, order: AnyOrder) -> None:
        """Place an order and do not even look how it stands; raises Unavailable."""
        await self._start(order, priority_of(order))

    async def answers(self) -> bool:
        """Whether Temporal answers and has our namespace."""
        asked = DescribeNamespaceRequest(namespace=self._client.namespace)
        try:
            await self._client.workflow_service.describe_namespace(asked, timeout=ANSWER_TIMEOUT)
        except RPCError:
            return False
        return True

    async def require_answer(self) -> None:
        """Raises Unavailable unless Temporal answers."""
        if not await self.answers():
            raise Unavailable(
                "Temporal does not answer",
                hint="Check TEMPORAL_ADDRESS and that the server runs; placing the same order again is safe.",
            )

    async def workers_poll(self) -> bool:
        """Whether a worker takes orders, or did so a moment ago; no answer counts as no."""
        asked = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=ORDERS_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        try:
            found = await self._client.workflow_service.describe_task_queue(asked, timeout=ANSWER_TIMEOUT)
        except RPCError:
            return False
        now = time.time()
        return any(now - each.last_access_time.ToDatetime(UTC).timestamp() <= POLLER_AGE for each in found.pollers)

    async def waiting_for_a_person(self, *, limit: int = 1000) -> tuple[tuple[str, str], ...]:
        """Running workflows that ask for a person, each with the code of why; raises Unavailable."""
        query = f"{ATTENTION_REASON.name} IS NOT NULL AND ExecutionStatus = 'Running'"
        return tuple(
            (each.id, each.typed_search_attributes.get(ATTENTION_REASON) or "unknown")
            for each in await self._listed(query, limit)
        )

    async def untaken_orders(self, *, before: datetime, limit: int = 1000) -> tuple[int, datetime | None]:
        """How many orders, up to `limit`, were placed before then and are in no ledger yet, and since when.

        Raises Unavailable.
        """
        types = ", ".join(f"'{name}'" for name in _WORKFLOWS.values())
        # Every order that was taken has a line.
        query = f"WorkflowType IN ({types}) AND ExecutionStatus = 'Running' AND {LINE_ID.name} IS NULL"
        found = await self._listed(f"{query} AND StartTime <= '{before.astimezone(UTC).isoformat()}'", limit)
        return len(found), min((each.start_time for each in found), default=None)

    async def _listed(self, query: str, limit: int) -> Sequence[WorkflowExecution]:
        try:
            return [
                each async for each in self._client.list_workflows(query, limit=limit, rpc_timeout=DESCRIBE_TIMEOUT)
            ]
        except RPCError as error:
            if error.status is RPCStatusCode.INVALID_ARGUMENT:
                raise Unavailable(
                    "Temporal can't list workflows by the attributes that twinline gives them",
                    hint="Start `twinline worker`, which makes them known there.",
                ) from None
            raise _unavailable(error) from None

    async def standing(self, workflow_id: str) -> Standing:
        """How a workflow stands as Temporal knows without a worker; no answer counts as unknown."""
        try:
            found = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=DESCRIBE_TIMEOUT)
        except RPCError:
            return "unknown"
        return _standing(found.status)

    async def find(
        self, name: OrderId, *, caller: str, may_be: Callable[[OrderId], bool] = lambda _: True
    ) -> tuple[FoundOrder, ...]:
        """All orders in Temporal that this name may mean, those that run first; no answer counts as none."""
        names = [full for full in name.candidates() if may_be(full)]
        standings = await asyncio.gather(*(self.standing(full.workflow_id(caller)) for full in names))
        found = [_found(full, caller, standing) for full, standing in zip(names, standings, strict=True)]
        known: tuple[Standing, ...] = ("running", "done", "refused")
        return tuple(each for standing in known for each in found if each.standing == standing)

    async def order(
        self, order: str, *, kind: OrderKind | None = None, line: str | None = None, caller: str = "cli"
    ) -> OrderStatus:
        """How far an order is that Temporal still knows, by the caller's own id or by its `id`; nothing is ordered.

        A case of blocks needs its `line`. Raises what refused the order, UnknownOrder, InvalidOrder (more than one
        order has that id: say which kind) and Unavailable.
        """
        found = await self.find(OrderId.named(order, kind=kind, line=line), caller=caller)
        if not found:
            await self.require_answer()
        # The id of a refused order is free for another one.
        valid = [each for each in found if each.standing != "refused"] or list(found[:1])
        if not valid:
            raise unknown_order()
        if len(valid) > 1:
            kinds = ", ".join(each.kind for each in valid)
            raise InvalidOrder("this caller has more than one order of that id", hint=f"Say which kind: {kinds}.")
        if valid[0].standing == "running":
            status = await self.progress(valid[0].workflow_id)
        else:
            status = await self.outcome(valid[0].workflow_id, patience=OUTCOME_PATIENCE)
        return status or OrderStatus(fingerprint="", done=False)

    async def orders(
        self, *, caller: str = "cli", kind: OrderKind | None = None, going_on: bool | None = None, limit: int = 100
    ) -> tuple[FoundOrder, ...]:
        """A caller's orders that Temporal still knows, the newest first; one of a moment ago may not be listed yet.

        Those that it has forgotten stand in the ledger, which `GET /v1/orders` lists. Raises InvalidOrder (there can
        be no such caller), Unavailable.
        """
        if not re.fullmatch(CALLER_FORM, caller):
            raise InvalidOrder("no caller can have that name", hint="Give the one that the orders were placed for.")
        begins = " OR ".join(f"WorkflowId STARTS_WITH '{each}/{caller}/'" for each in OrderKind if kind in (None, each))
        query = f"({begins})"
        if going_on is not None:
            query += f" AND ExecutionStatus {'=' if going_on else '!='} 'Running'"
        return tuple(
            _found(OrderId.of_workflow(each.id), caller, _standing(each.status), placed_at=each.start_time)
            for each in await self._listed(query, limit)
        )

    async def cancel(
        self,
        order: str,
        *,
        kind: OrderKind,
        reason: str,
        caller: str = "cli",
        actor: str = "cli",
        patience: timedelta = GRACE,
    ) -> OrderStatus:
        """Take an order back, running or long finished, and wait at most `patience` until its hosts have followed.

        `caller` is whose order it is, `actor` who asks. Doing so again changes nothing. The status has no receipt when
        the order had not been taken yet; then it never will be. Raises as `place` does, and CannotCancel.
        """
        asked = CancelOrder(caller=caller, order=order, of=kind, reason=reason, actor=actor)
        return await self.place(asked, patience=patience)

    async def progress(self, workflow_id: str) -> OrderStatus | None:
        """How far an order is that Temporal still knows; None when it does not, or nobody could answer."""
        handle = self._client.get_workflow_handle(workflow_id)
        with contextlib.suppress(RPCError, WorkflowQueryFailedError):
            return await handle.query("progress", result_type=OrderStatus, rpc_timeout=QUERY_TIMEOUT)
        return None

    async def outcome(self, workflow_id: str, *, patience: timedelta) -> OrderStatus | None:
        """Wait at most `patience` for the end of an order that was placed before; as `progress` when it takes longer.

        Raises the TwinlineError that refused it, and Unavailable.
        """
        handle: _Handle = self._client.get_workflow_handle(workflow_id, result_type=OrderStatus)
        return await self._awaited(handle, patience)

    async def erase(
        self, line_id: str, *, gone: Sequence[str] = (), actor: str = "cli", patience: timedelta = GRACE
    ) -> EraseStatus | None:
        """Have everything forgotten that tells whose a line was, and wait at most `patience` for that.

        Hosts that are `gone` for good are not waited for; `actor` answers for it that nothing is left of their disks.
        Gives how far it is by then, None when no worker has taken it up. Raises LineServed, OrdersRunning, UnknownLine
        and Unavailable. Asking again is always safe.
        """
        handle = await self._start_erasure(EraseTask(line_id=line_id, actor=actor))
        try:
            await self._tell_gone(handle, gone, actor)
            async with asyncio.timeout(patience.total_seconds()):
                return await handle.result()
        except TimeoutError:
            with contextlib.suppress(RPCError, WorkflowQueryFailedError):
                return await handle.query("progress", result_type=EraseStatus, rpc_timeout=QUERY_TIMEOUT)
            return None
        except WorkflowFailureError as error:
            raise _refusal(error) from None
        except RPCError as error:
            raise _unavailable(error) from None

    async def _tell_gone(self, handle: WorkflowHandle[object, EraseStatus], gone: Sequence[str], actor: str) -> None:
        for host in gone:
            try:
                await handle.signal(
                    NameOf.SIGNAL_HOST_GONE, HostGone(host=host, actor=actor), rpc_timeout=DESCRIBE_TIMEOUT
                )
            except RPCError as error:
                # It has ended by itself.
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise

    async def _start_erasure(self, task: EraseTask) -> WorkflowHandle[object, EraseStatus]:
        try:
            return await self._unless_away(
                self._client.start_workflow(
                    NameOf.ERASE,
                    task,
                    id=erase_workflow_id(task.line_id),
                    task_queue=ORDERS_QUEUE,
                    result_type=EraseStatus,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    # The ledger knows what is done already.
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    static_summary="forget whose line it was",
                    priority=BULK,
                    rpc_timeout=START_TIMEOUT,
                )
            )
        except RPCError as error:
            raise _unavailable(error) from None

    async def run_bulk(self, bulk: BulkStart, *, caller: str, run: str, summary: str) -> None:
        """See that somebody works on a run that the ledger has; it may be going on, or over, already.

        Raises Unavailable.
        """
        try:
            await self._unless_away(
                self._client.start_workflow(
                    NameOf.BULK,
                    bulk,
                    id=bulk_workflow_id(caller, run),
                    task_queue=ORDERS_QUEUE,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    # The ledger knows what is done already.
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    # One that was about to end looks again.
                    start_signal=NameOf.SIGNAL_BULK,
                    static_summary=summary,
                    static_details=f"`twinline bulk show {run} --caller {caller}` tells more.",
                    search_attributes=TypedSearchAttributes([SearchAttributePair(CALLER, caller)]),
                    priority=bulk_priority(caller),
                    rpc_timeout=START_TIMEOUT,
                )
            )
        except RPCError as error:
            raise _unavailable(error) from None

    async def tell(self, task: MailTask) -> None:
        """See that a customer gets a message that is owed; somebody may be at it already. Raises Unavailable."""
        try:
            await self._unless_away(
                self._client.start_workflow(
                    NameOf.TELL,
                    task,
                    id=tell_workflow_id(task.line_id, task.kind, task.ref),
                    task_queue=ORDERS_QUEUE,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    # What was not true when it was last looked at may be so by now.
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    static_summary=f"the {task.kind} mail that a line is owed",
                    search_attributes=TypedSearchAttributes([SearchAttributePair(LINE_ID, task.line_id)]),
                    rpc_timeout=START_TIMEOUT,
                )
            )
        except RPCError as error:
            raise _unavailable(error) from None

    async def waits_for(self, workflow_id: str) -> tuple[PendingStep, ...]:
        """What a running workflow's activities wait for, by their ids; nothing when Temporal does not know it."""
        try:
            found = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=DESCRIBE_TIMEOUT)
        except RPCError:
            return ()
        return tuple(
            PendingStep(
                step=step.activity_id,
                attempts=step.attempt,
                last_error=step.last_failure.application_failure_info.type or None,
            )
            for step in found.raw_description.pending_activities
        )

    async def retry_now(
        self, workflow_id: str, *, actor: str = "cli", patience: timedelta = GRACE
    ) -> tuple[HalfReceipt, ...] | None:
        """Have a workflow (an order's or a Term's) try its halves now, and wait at most `patience` for that.

        Gives the halves after the try, or None when they were still being tried. Raises NothingToRetry, UnknownOrder
        (no such workflow is running) and Unavailable (Temporal or its worker does not answer).
        """
        return await self._update(workflow_id, NameOf.UPDATE_RETRY, RetryNow(actor=actor), patience)

    async def abandon_half(
        self, workflow_id: str, *, host: str, reason: str, actor: str = "cli", patience: timedelta = GRACE
    ) -> tuple[HalfReceipt, ...] | None:
        """Give one half of a workflow up for good, as far as this order is concerned; doing it again changes nothing.

        Raises as `retry_now` does, and UnknownHalf.
        """
        asked = AbandonHalf(host=host, reason=reason, actor=actor)
        return await self._update(workflow_id, NameOf.UPDATE_ABANDON, asked, patience)

    async def _update(
        self, workflow_id: str, update: str, asked: RetryNow | AbandonHalf, patience: timedelta
    ) -> tuple[HalfReceipt, ...] | None:
        handle = self._client.get_workflow_handle(workflow_id)
        # One id for all tries: what was taken once is not taken again.
        update_id = str(uuid.uuid4())
        for tries_left in reversed(range(UPDATE_TRIES)):
            try:
                # Accepted means that a worker has taken it; from then on it happens, whether somebody waits or not.
                async with asyncio.timeout(max(patience, ACCEPTED_WITHIN).total_seconds()):
                    accepted = await handle.start_update(  # pyright: ignore[reportUnknownMemberType] - the SDK's own
                        update,
                        asked,
                        id=update_id,
                        wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                        result_type=HalvesStatus,
                    )
            except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
                raise _no_worker() from None
            except WorkflowUpdateFailedError as error:
                raise _refusal(error) from None
            except RPCError as error:
                # Dropped with a workflow task that failed, as one does when something else comes at the same moment.
                if error.status is RPCStatusCode.FAILED_PRECONDITION and tries_left:
                    continue
                ended = await self._ended(error, workflow_id)
                if isinstance(asked, AbandonHalf) and _gave_up(ended, asked.host):
                    # It was what the workflow waited for, and its end came before the answer.
                    return ended
                raise _unanswered(error) from None
            return await self._answer(accepted, patience)
        raise _no_worker()

    async def _answer(
        self, accepted: WorkflowUpdateHandle[HalvesStatus], patience: timedelta
    ) -> tuple[HalfReceipt, ...] | None:
        try:
            async with asyncio.timeout(patience.total_seconds()):
                return (await accepted.result()).halves
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
            return None
        except WorkflowUpdateFailedError as error:
            raise _refusal(error) from None
        except RPCError as error:
            ended = await self._ended(error, accepted.workflow_id)
            if ended is not None:
                return ended
            raise _unanswered(error) from None

    async def _ended(self, error: RPCError, workflow_id: str) -> tuple[HalfReceipt, ...] | None:
        """The halves with which an order ended, if it is its end that an update was not answered for."""
        if error.status is not RPCStatusCode.NOT_FOUND:
            return None
        status = await self.progress(workflow_id)
        return status.receipt.halves if status is not None and status.done and status.receipt is not None else None

    async def _start(self, order: AnyOrder, priority: Priority) -> tuple[_Handle, bool]:
        """The workflow of an order, and whether it was started just now."""
        workflow_id = order_workflow_id(order)
        kind = order_kind(order)
        try:
            started = await self._unless_away(
                self._client.start_workflow(
                    _WORKFLOWS[kind],
                    order,
                    id=workflow_id,
                    task_queue=ORDERS_QUEUE,
                    result_type=OrderStatus,
                    # The same as to use the one that is there, but that it says so.
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    id_reuse_policy=_reuse_policy(kind),
                    static_summary=summary_of(order),
                    static_details=details_of(order),
                    priority=priority,
                    rpc_timeout=START_TIMEOUT,
                )
            )
        except WorkflowAlreadyStartedError as error:
            return self._client.get_workflow_handle(workflow_id, run_id=error.run_id, result_type=OrderStatus), False
        except RPCError as error:
            raise _unavailable(error) from None
        return started, True

    async def _unless_away(self, starting: Coroutine[Any, Any, _T]) -> _T:
        """What a start gives, however long a server that is there takes for it; raises Unavailable for one that isn't.

        The start may have been taken all the same; starting it again under its id is what to do.
        """
        task = asyncio.create_task(starting)
        try:
            done, _ = await asyncio.wait((task,), timeout=DOUBTS_AFTER.total_seconds())
            if not done:
                await self.require_answer()
            return await task
        finally:
            task.cancel()

    async def _placed(self, handle: _Handle, order: AnyOrder) -> str:
        """The fingerprint of the order that stands under this id, for when no worker can be asked.

        Where the ledger has long known the order, so that its workflow began anew, it is taken for the same one: the
        ledger's own answer follows.
        """
        asked = order.fingerprint()
        try:
            async for event in handle.fetch_history_events(page_size=1, rpc_timeout=DESCRIBE_TIMEOUT):
                started = event.workflow_execution_started_event_attributes
                if started.continued_execution_run_id:
                    return asked
                (first,) = await self._client.data_converter.decode(started.input.payloads, [type(order)])
                return first.fingerprint()
        except RPCError as error:
            raise _unavailable(error) from None
        return asked

    async def _awaited(self, handle: _Handle, patience: timedelta, *, ask_worker: bool = True) -> OrderStatus | None:
        try:
            async with asyncio.timeout(patience.total_seconds()):
                return await handle.result()
        except TimeoutError:
            return await self.progress(handle.id) if ask_worker else None
        except WorkflowFailureError as error:
            raise _refusal(error) from None
        except RPCError as error:
            raise _unavailable(error) from None


def _standing(status: WorkflowExecutionStatus | None) -> Standing:
    match status:
        case WorkflowExecutionStatus.RUNNING:
            return "running"
        case WorkflowExecutionStatus.FAILED:
            return "refused"
        case _:
            return "done"


def _found(name: OrderId, caller: str, standing: Standing, *, placed_at: datetime | None = None) -> FoundOrder:
    if name.kind is None:
        raise ValueError("an order without a kind")
    return FoundOrder(
        order=name.own,
        kind=name.kind,
        id=name.text,
        workflow_id=name.workflow_id(caller),
        standing=standing,
        placed_at=placed_at,
    )


def _reuse_policy(kind: OrderKind) -> WorkflowIDReusePolicy:
    """Which closed orders may run again under their id; the ledger sees to it that nothing happens twice.

    A refused order left no trace, so its id may be used again, corrected. A block runs again always: its old
    receipt must not pass for a line that is blocked when the block was lifted since.
    """
    if kind is OrderKind.BLOCK:
        return WorkflowIDReusePolicy.ALLOW_DUPLICATE
    return WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY


def _refusal(error: WorkflowFailureError | WorkflowUpdateFailedError) -> TwinlineError:
    """The error of the house that a failed order stands for."""
    cause: BaseException | None = error.cause
    while cause is not None and not isinstance(cause, ApplicationError):
        cause = cause.__cause__
    if cause is None or cause.type not in ORDER_ERRORS:
        return Unavailable(
            f"the workflow ended or answered in a way that was not foreseen ({type(error.cause).__name__})",
            hint="Look at it in the Temporal UI; placing the same order again continues it.",
        )
    hint = str(cause.details[0]) if cause.details else ""
    return ORDER_ERRORS[cause.type](cause.message, hint=hint)


def _gave_up(halves: tuple[HalfReceipt, ...] | None, host: str) -> bool:
    return any(half.host == host and half.state is HalfState.ABANDONED for half in halves or ())


def _unanswered(error: RPCError) -> TwinlineError:
    if error.status is not RPCStatusCode.NOT_FOUND:
        return _unavailable(error)
    return UnknownOrder(
        "no such workflow is running",
        hint="`twinline order show ID` tells what became of it; what is done needs no retry.",
    )


def _no_worker() -> Unavailable:
    return Unavailable(
        "no worker has taken the request yet",
        hint="Start `twinline worker`, then ask again; nothing is lost meanwhile.",
    )


def _unavailable(error: RPCError) -> Unavailable:
    return Unavailable(
        f"Temporal does not answer ({error.status.name})",
        hint="Check TEMPORAL_ADDRESS and that the server runs; placing the same order again is safe.",
    )
