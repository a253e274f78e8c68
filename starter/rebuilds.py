"""Asks for the rebuild of a host, tells how far it is, and stops it."""

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Final

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowQueryFailedError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from twinline.errors import ORDER_ERRORS, TwinlineError, Unavailable, UnknownRebuild
from twinline.messages import ORDERS_QUEUE, NameOf
from twinline.priorities import BULK
from twinline.rebuild import RebuildStatus, RebuildTask, StopRebuild, rebuild_workflow_id

ANSWER_TIMEOUT: Final = timedelta(seconds=3)
START_TIMEOUT: Final = timedelta(seconds=10)
EVERY: Final = 0.5
"""Seconds between two looks how far it is."""
TRIES: Final = 5
"""How often a rebuild is asked for that ends in the very moment."""


class Rebuilds:
    """Rebuilds as Temporal knows them; one host has one at a time, however often it is asked for."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(self, task: RebuildTask) -> None:
        """See that a rebuild of the host goes on and tries now; raises Unavailable. Asking again is always safe."""
        for _ in range(TRIES):
            try:
                await self._start(task)
            except WorkflowAlreadyStartedError:
                if await self._signal(task.host, NameOf.SIGNAL_REBUILD, task):
                    return
            except RPCError as error:
                raise _unavailable(error) from None
            else:
                return
        raise Unavailable("the rebuild keeps ending", hint="Ask again.")

    async def stop(self, host: str, asked: StopRebuild) -> None:
        """Let it end as far as it is; raises UnknownRebuild (none is running), Unavailable."""
        if not await self._signal(host, NameOf.SIGNAL_STOP_REBUILD, asked):
            raise UnknownRebuild(f"no rebuild of {host} is running", hint="There is nothing to stop.")

    async def running(self, host: str) -> bool:
        """Whether one goes on; raises Unavailable."""
        try:
            found = await self._client.get_workflow_handle(rebuild_workflow_id(host)).describe(
                rpc_timeout=ANSWER_TIMEOUT
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise _unavailable(error) from None
        return found.status is WorkflowExecutionStatus.RUNNING

    async def status(self, host: str) -> RebuildStatus | None:
        """How far the host's latest one is; None when Temporal knows none, or nobody could answer."""
        handle = self._client.get_workflow_handle(rebuild_workflow_id(host))
        with contextlib.suppress(RPCError, WorkflowQueryFailedError):
            return await handle.query("progress", result_type=RebuildStatus, rpc_timeout=ANSWER_TIMEOUT)
        return None

    async def wait(self, host: str, *, patience: timedelta, until_over: bool = False) -> RebuildStatus | None:
        """Wait at most `patience` until it is over or, unless `until_over`, waits for a person.

        None when no worker could answer. Raises what refused it, and Unavailable.
        """
        handle = self._client.get_workflow_handle(rebuild_workflow_id(host), result_type=RebuildStatus)
        over = time.monotonic() + patience.total_seconds()
        ending = asyncio.create_task(handle.result())
        try:
            while True:
                left = over - time.monotonic()
                await asyncio.wait((ending,), timeout=max(0, min(EVERY, left)))
                if ending.done():
                    return ending.result()
                status = await self.status(host)
                if left <= 0 or (status is not None and waits_for_a_person(status) and not until_over):
                    return status
        except WorkflowFailureError as error:
            raise _refusal(error) from None
        except RPCError as error:
            raise _unavailable(error) from None
        finally:
            ending.cancel()

    async def _start(self, task: RebuildTask) -> None:
        await self._client.start_workflow(
            NameOf.REBUILD,
            task,
            id=rebuild_workflow_id(task.host),
            task_queue=ORDERS_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=f"see that {task.host} holds every line that it should",
            static_details=f"`twinline host rebuild {task.host} --stop` ends it as far as it is.",
            priority=BULK,
            rpc_timeout=START_TIMEOUT,
        )

    async def _signal(self, host: str, signal: str, asked: RebuildTask | StopRebuild) -> bool:
        """Whether there was one to be told."""
        try:
            await self._client.get_workflow_handle(rebuild_workflow_id(host)).signal(
                signal, asked, rpc_timeout=ANSWER_TIMEOUT
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise _unavailable(error) from None
        return True


def waits_for_a_person(status: RebuildStatus) -> bool:
    """Whether it can't go on by itself; while it tries it may find that it can."""
    return status.asks is not None and status.next_attempt is not None


def _refusal(error: WorkflowFailureError) -> TwinlineError:
    cause = error.cause
    if not isinstance(cause, ApplicationError) or cause.type not in ORDER_ERRORS:
        return Unavailable(
            f"the rebuild ended in a way that was not foreseen ({type(cause).__name__})",
            hint="Look at it in the Temporal UI; asking again begins another one.",
        )
    return ORDER_ERRORS[cause.type](cause.message, hint=str(cause.details[0]) if cause.details else "")


def _unavailable(error: RPCError) -> Unavailable:
    return Unavailable(
        f"Temporal does not answer ({error.status.name})",
        hint="Check TEMPORAL_ADDRESS and that the server runs; asking again is safe.",
    )
