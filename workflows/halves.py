"""The halves of one line, each driven on its own host's queue with retries of its own."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from twinline.messages import (
        HalfProven,
        HalfReceipt,
        HalfRef,
        HalfState,
        HalfTask,
        NameOf,
        host_queue,
    )

ATTEMPT_TIMEOUT = timedelta(minutes=3)
HEARTBEAT_TIMEOUT = timedelta(seconds=15)
FIRST_PAUSE = timedelta(seconds=1)
SHORT_CAP = timedelta(minutes=1)
LONG_CAP = timedelta(minutes=5)
ATTEMPTS_UNTIL_LONG_CAP = 30


def pause_after(attempts: int) -> timedelta:
    """Back-off before the next attempt: doubling to a minute, after half an hour to five."""
    if attempts > ATTEMPTS_UNTIL_LONG_CAP:
        return LONG_CAP
    return min(FIRST_PAUSE * 2 ** (attempts - 1), SHORT_CAP)


@dataclass
class _Half:
    ref: HalfRef
    state: HalfState = HalfState.PENDING
    revision: int = 0
    attempts: int = 0
    last_error: str | None = None
    next_attempt: datetime | None = None

    @property
    def proven(self) -> bool:
        return self.state in (HalfState.APPLIED, HalfState.REMOVED)


class Halves:
    """Drives every half until the running daemon holds the wanted revision; one host never waits for another."""

    def __init__(self, line_id: str, refs: tuple[HalfRef, ...], revision: int) -> None:
        self._line_id = line_id
        self._halves = [_Half(ref) for ref in refs]
        self._revision = revision
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to drive all halves at once."""
        self._tasks = [asyncio.create_task(self._drive(half)) for half in self._halves]

    def raise_to(self, revision: int) -> None:
        """Want a later revision: proven halves start again, the others find it out by themselves."""
        self._revision = max(self._revision, revision)
        for number, half in enumerate(self._halves):
            if half.proven and half.revision < self._revision:
                half.state = HalfState.PENDING
                self._tasks[number] = asyncio.create_task(self._drive(half))

    @property
    def any_proven(self) -> bool:
        """Whether at least one daemon holds what the ledger wants."""
        return any(half.proven for half in self._halves)

    @property
    def all_proven(self) -> bool:
        """Whether every daemon holds what the ledger wants."""
        return all(half.proven for half in self._halves)

    def proven_hosts(self) -> tuple[str, ...]:
        """The hosts whose daemon was seen to hold the line, be it at an earlier revision than is wanted by now."""
        return tuple(half.ref.host for half in self._halves if half.revision > 0)

    def receipts(self) -> tuple[HalfReceipt, ...]:
        """The halves as a receipt shows them."""
        return tuple(
            HalfReceipt(
                host=half.ref.host,
                protocol=half.ref.protocol,
                state=half.state,
                revision=half.revision,
                attempts=half.attempts,
                last_error=half.last_error,
                next_attempt=half.next_attempt,
            )
            for half in self._halves
        )

    async def wait(self, *, for_all: bool, patience: timedelta | None = None) -> bool:
        """Wait until all (or any) halves are proven; False when patience ran out first."""
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self.all_proven if for_all else self.any_proven,
                timeout=patience,
                timeout_summary="waiting for halves",
            )
        return self.all_proven if for_all else self.any_proven

    async def _drive(self, half: _Half) -> None:
        while half.revision < self._revision:
            half.attempts += 1
            half.next_attempt = None
            try:
                proven = await self._attempt(half)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                half.last_error = _condition(error)
                half.state = HalfState.FAILING
                pause = pause_after(half.attempts)
                half.next_attempt = workflow.now() + pause
                await workflow.sleep(pause, summary=f"next attempt on {half.ref.host}")
            else:
                half.revision = proven.revision
                half.state = proven.state
                half.last_error = None

    async def _attempt(self, half: _Half) -> HalfProven:
        return await workflow.execute_activity(
            NameOf.BRING_HALF,
            HalfTask(line_id=self._line_id, host=half.ref.host, revision=self._revision),
            task_queue=host_queue(half.ref.host),
            result_type=HalfProven,
            start_to_close_timeout=ATTEMPT_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            # The pauses are the workflow's own, so that a receipt can tell attempts, error and next attempt.
            retry_policy=RetryPolicy(maximum_attempts=1),
            summary=f"{half.ref.host}: bring to revision {self._revision}",
        )


def _condition(error: ActivityError) -> str:
    """The stable name of what failed, never its text."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type:
        return cause.type
    return "WorkerLost"
