"""Forgetting whose a line was: hosts seen to be empty of it, histories deleted, the ledger's row made a tombstone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.client import WorkflowExecution as Execution
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from activities.errors import translated
from activities.heartbeat import heartbeats
from activities.host import unless_shut_down
from activities.host_ledger import LedgerOfHosts
from twinline.hosts.writer import HostWriter
from twinline.keys import KeyRing
from twinline.ledger import Ledger, erasure
from twinline.ledger.erasure import Histories
from twinline.mail import AddressError, normalise_person, parse_address
from twinline.messages import ORDERS_QUEUE, EraseBegun, ErasureStep, HostToEmpty, NameOf

_UNDONE: Final = f'TaskQueue = "{ORDERS_QUEUE}" AND ExecutionStatus IN ("Failed", "Terminated", "Canceled", "TimedOut")'
"""Orders that came to nothing leave nothing in the ledger, but their histories tell who asked."""
_IDS_AT_ONCE: Final = 20
_LOOKS: Final = 60
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0
"""Seconds between two looks at whether Temporal has deleted what it was told to."""


_Told = Mapping[str, Any]
"""What a workflow was told when it was started."""


class _Run(NamedTuple):
    workflow_id: str
    run_id: str


class EmptyHostActivities:
    """Sees on one host that it holds nothing of a line, through its one writer."""

    def __init__(self, writer: HostWriter, ledger: LedgerOfHosts) -> None:
        self._writer = writer
        self._ledger = ledger

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity of this class, for the worker to register."""
        return [self.prove_empty]

    @activity.defn(name=NameOf.PROVE_EMPTY)
    async def prove_empty(self, task: HostToEmpty) -> None:
        """See that neither the daemon nor any file of ours on the host holds anything of the line."""
        with translated():
            async with heartbeats():
                half = await self._ledger.to_erase(task.host, task.line_id)
                await unless_shut_down(self._writer.vacate(half))


class ErasureActivities:
    """The steps of an erasure in the ledger and in Temporal."""

    def __init__(self, ledger: Ledger, client: Client, keys: KeyRing) -> None:
        self._ledger = ledger
        self._client = client
        self._keys = keys

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity of this class, for the worker to register."""
        return [self.begin_erasure, self.forget_histories, self.erase_line]

    @activity.defn(name=NameOf.BEGIN_ERASURE)
    async def begin_erasure(self, step: ErasureStep) -> EraseBegun:
        """Let no order reach the line any more."""
        with translated():
            async with self._ledger.write() as tx:
                return await erasure.begin_erasure(tx, step.task, now=step.at)

    @activity.defn(name=NameOf.ERASE_LINE)
    async def erase_line(self, step: ErasureStep) -> None:
        """Take out of the ledger whose line it was, and see that its file keeps no copy."""
        with translated():
            async with self._ledger.write() as tx:
                await erasure.erase_line(tx, step.task, now=step.at, gone=step.gone)
            await self._ledger.forget_deleted()

    @activity.defn(name=NameOf.FORGET_HISTORIES)
    async def forget_histories(self, line_id: str) -> None:
        """Have Temporal delete every workflow that was about the line or its customer, refused orders too."""
        with translated():
            async with heartbeats():
                async with self._ledger.read() as tx:
                    histories = await erasure.histories_of(tx, line_id)
                try:
                    await self._forget(histories)
                except RPCError as error:
                    raise _later(f"Temporal does not delete histories ({error.status.name})") from None

    async def _forget(self, histories: Histories) -> None:
        told: set[_Run] = set()
        pause = _FIRST_PAUSE
        for _ in range(_LOOKS):
            left = {_Run(run.id, run.run_id) async for run in self._runs(histories)}
            # The list lags behind: what it does not show yet is asked for by its id.
            left |= {run for name in histories.workflow_ids if (run := await self._current_run(name)) is not None}
            if not left:
                return
            for run in left - told:
                await self._delete(run)
            told |= left
            # Temporal deletes in its own time; half a minute is usual.
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise _later("Temporal has not deleted all histories yet")

    async def _runs(self, histories: Histories) -> AsyncIterator[Execution]:
        ids = histories.workflow_ids
        for start in range(0, len(ids), _IDS_AT_ONCE):
            named = ", ".join(f'"{name}"' for name in ids[start : start + _IDS_AT_ONCE])
            async for run in self._client.list_workflows(f"WorkflowId IN ({named})"):
                yield run
        async for run in self._client.list_workflows(_UNDONE):
            if await self._is_about(run, histories):
                yield run

    async def _is_about(self, run: Execution, histories: Histories) -> bool:
        handle = self._client.get_workflow_handle(run.id, run_id=run.run_id)
        try:
            async for event in handle.fetch_history_events(page_size=1):
                payloads = event.workflow_execution_started_event_attributes.input.payloads
                told: list[object] = await self._client.data_converter.decode(payloads)
                return any(self._names(cast("_Told", one), histories) for one in told if isinstance(one, dict))
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        return False

    def _names(self, told: _Told, histories: Histories) -> bool:
        # An order that goes on in a further run stands inside what that was told.
        inner = told.get("order")
        order = cast("_Told", inner) if isinstance(inner, dict) else told
        if order.get("line") == histories.username:
            return True
        email = order.get("email")
        if email is None:
            return False
        try:
            person = normalise_person(parse_address(email))
        except AddressError:
            return False
        return self._keys.mac("person", person) == histories.person_hash

    async def _current_run(self, workflow_id: str) -> _Run | None:
        try:
            found = await self._client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        return _Run(workflow_id, found.run_id)

    async def _delete(self, run: _Run) -> None:
        execution = WorkflowExecution(workflow_id=run.workflow_id, run_id=run.run_id)
        request = DeleteWorkflowExecutionRequest(namespace=self._client.namespace, workflow_execution=execution)
        try:
            await self._client.workflow_service.delete_workflow_execution(request)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise


def _later(text: str) -> ApplicationError:
    return ApplicationError(text, type="Unavailable", category=ApplicationErrorCategory.BENIGN)
