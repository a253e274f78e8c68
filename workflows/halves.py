"""The halves of one line, each driven on its own host's queue with retries of its own.

A half that fails is tried again soon, with growing pauses. One whose error asks for a person (`Attention`) is only
looked at every ten minutes, so that a repair is noticed even if nobody says so; `retry_now` tries it at once.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NoReturn

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from twinline.messages import (
        Attention,
        HalfProven,
        HalfReceipt,
        HalfRef,
        HalfSoFar,
        HalfState,
        HalfTask,
        HalfTrouble,
        NameOf,
        host_queue,
    )

ATTEMPT_TIMEOUT: Final = timedelta(minutes=3)
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=15)
FIRST_PAUSE: Final = timedelta(seconds=1)
SHORT_CAP: Final = timedelta(minutes=1)
LONG_CAP: Final = timedelta(minutes=5)
ATTEMPTS_UNTIL_LONG_CAP: Final = 30
LOOK_AGAIN: Final = timedelta(minutes=10)


def pause_after(attempts: int) -> timedelta:
    """Back-off before the next attempt: doubling to a minute, after half an hour to five."""
    if attempts > ATTEMPTS_UNTIL_LONG_CAP:
        return LONG_CAP
    return min(FIRST_PAUSE * 2 ** (attempts - 1), SHORT_CAP)


@dataclass
class Half:
    """One half as its workflow knows it."""

    ref: HalfRef
    state: HalfState = HalfState.PENDING
    revision: int = 0
    attempts: int = 0
    last_error: str | None = None
    next_attempt: datetime | None = None
    attention: Attention | None = None
    hint: str = ""
    waits_since: datetime | None = None
    """Since when it waits for a person."""
    asked: bool = False
    """Whether somebody wants it tried now, without any further pause."""
    trying: bool = False
    ended: int = 0
    """Attempts of this run that came to an end."""

    @property
    def proven(self) -> bool:
        """Whether its daemon was seen to hold the wanted revision."""
        return self.state in (HalfState.APPLIED, HalfState.REMOVED)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.proven or self.state is HalfState.ABANDONED

    def receipt(self) -> HalfReceipt:
        """The half as a receipt shows it."""
        return HalfReceipt(
            host=self.ref.host,
            protocol=self.ref.protocol,
            state=self.state,
            revision=self.revision,
            attempts=self.attempts,
            last_error=self.last_error,
            next_attempt=self.next_attempt,
            leaving=self.ref.leaving,
        )

    def so_far(self) -> HalfSoFar:
        """What the workflow's next run must know of it."""
        return HalfSoFar(receipt=self.receipt(), attention=self.attention, hint=self.hint, waits_since=self.waits_since)

    @classmethod
    def from_so_far(cls, so_far: HalfSoFar) -> "Half":
        """The half as the run before left it."""
        receipt = so_far.receipt
        return cls(
            ref=HalfRef(host=receipt.host, protocol=receipt.protocol, leaving=receipt.leaving),
            state=receipt.state,
            revision=receipt.revision,
            attempts=receipt.attempts,
            last_error=receipt.last_error,
            next_attempt=receipt.next_attempt,
            attention=so_far.attention,
            hint=so_far.hint,
            waits_since=so_far.waits_since,
        )


class Halves:
    """Drives every half until the running daemon holds the wanted revision; one host never waits for another.

    `changed` is called whenever a half stands differently; `begin_anew` when the workflow waits and its history has
    grown long: it hands everything to a next run and does not return.
    """

    def __init__(
        self,
        line_id: str,
        halves: Sequence[Half],
        revision: int,
        *,
        changed: Callable[[], None],
        begin_anew: Callable[[], NoReturn],
    ) -> None:
        self._line_id = line_id
        self._halves = tuple(halves)
        self._revision = revision
        self._changed = changed
        self._begin_anew = begin_anew
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._let_go = False

    def start(self) -> None:
        """Begin to drive all halves at once."""
        for half in self._halves:
            self._start(half)

    def raise_to(self, revision: int) -> None:
        """Want a later revision: proven halves start again, those that wait are tried at once."""
        self._revision = max(self._revision, revision)
        for half in self._halves:
            if half.proven and half.revision < self._revision:
                half.state = HalfState.PENDING
                self._start(half)
            elif not half.over:
                half.asked = True

    @property
    def line_id(self) -> str:
        """The line whose halves these are."""
        return self._line_id

    @property
    def all(self) -> Sequence[Half]:
        """Every half, in the order of the receipt."""
        return self._halves

    @property
    def any_proven(self) -> bool:
        """Whether at least one daemon holds what the ledger wants."""
        return any(half.proven for half in self._halves)

    @property
    def over(self) -> bool:
        """Whether every half is proven or given up."""
        return all(half.over for half in self._halves)

    def proven_hosts(self) -> tuple[str, ...]:
        """The hosts whose daemon was seen to hold the line, be it at an earlier revision than is wanted by now."""
        return tuple(half.ref.host for half in self._halves if half.revision > 0)

    def receipts(self) -> tuple[HalfReceipt, ...]:
        """The halves as a receipt shows them."""
        return tuple(half.receipt() for half in self._halves)

    def so_far(self) -> tuple[HalfSoFar, ...]:
        """What the workflow's next run must know."""
        return tuple(half.so_far() for half in self._halves)

    async def wait(
        self, *, for_all: bool, patience: timedelta | None = None, hosts: Collection[str] | None = None
    ) -> bool:
        """Wait until all (or any) halves are proven or given up; False when patience ran out first.

        Only those on `hosts` count, if these are given.
        """
        halves = [half for half in self._halves if hosts is None or half.ref.host in hosts]

        def reached() -> bool:
            return all(half.over for half in halves) or (not for_all and any(half.proven for half in halves))

        if patience is None or patience > timedelta(0):
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: reached() or self._history_is_long(),
                    timeout=patience,
                    timeout_summary="waiting for halves",
                )
        if not reached() and self._history_is_long():
            self._begin_anew()
        return reached()

    async def pause(self, until: datetime, *, summary: str) -> None:
        """Wait for a moment, whatever becomes of the halves meanwhile."""
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                self._history_is_long,
                timeout=max(until - workflow.now(), timedelta(0)),
                timeout_summary=summary,
            )
        if workflow.now() < until:
            self._begin_anew()

    async def try_again(self) -> None:
        """Try what is not over now, and wait until each has come to an end once more."""
        open_halves = [half for half in self._halves if not half.over]
        # An attempt that is under way may have looked before the repair, so it does not count.
        target = {half.ref.host: half.ended + 1 + half.trying for half in open_halves}
        for half in open_halves:
            half.asked = True
        await workflow.wait_condition(
            lambda: self._let_go or all(half.over or half.ended >= target[half.ref.host] for half in open_halves)
        )

    def let_go(self) -> None:
        """Begin no further attempt, and keep nobody who asked for one waiting: another workflow goes on from here."""
        self._let_go = True

    def abandon(self, host: str) -> Half | None:
        """Give a half up; None when there is nothing to give up by now."""
        half = next((half for half in self._halves if half.ref.host == host and not half.over), None)
        if half is not None:
            half.state = HalfState.ABANDONED
            half.next_attempt = None
            self._changed()
        return half

    def _start(self, half: Half) -> None:
        self._tasks[half.ref.host] = asyncio.create_task(self._drive(half))

    async def _drive(self, half: Half) -> None:
        await self._rest(half)
        while half.revision < self._revision and half.state is not HalfState.ABANDONED and not self._let_go:
            await self._try(half)
            await self._rest(half)

    async def _try(self, half: Half) -> None:
        recheck = half.attention is Attention.LINE and not half.asked
        half.attempts += 1
        half.next_attempt = None
        half.asked, half.trying = False, True
        try:
            proven = await self._attempt(half, recheck=recheck)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            self._failed(half, error)
        else:
            half.revision = proven.revision
            # What is wanted may have moved on meanwhile: then it is not over yet, and is tried again at once.
            half.state = proven.state if proven.revision >= self._revision else HalfState.PENDING
            half.last_error = half.attention = half.waits_since = None
        half.trying = False
        half.ended += 1
        self._changed()

    def _failed(self, half: Half, error: ActivityError) -> None:
        if self._let_go:
            return
        half.last_error, trouble = condition(error)
        half.hint, half.attention = trouble.hint, trouble.attention
        if half.attention is None:
            half.waits_since = None
        elif half.waits_since is None:
            half.waits_since = workflow.now()
        if half.state is HalfState.ABANDONED:
            return
        half.state = HalfState.FAILING
        pause = LOOK_AGAIN if half.attention is not None else pause_after(half.attempts)
        half.next_attempt = workflow.now() + pause

    async def _rest(self, half: Half) -> None:
        """Wait for the next attempt, or until somebody asks for it or gives the half up."""

        def woken() -> bool:
            return half.asked or half.over

        if half.next_attempt is None or woken():
            return
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                woken,
                timeout=max(half.next_attempt - workflow.now(), timedelta(0)),
                timeout_summary=f"next attempt on {half.ref.host}",
            )

    async def _attempt(self, half: Half, *, recheck: bool) -> HalfProven:
        return await workflow.execute_activity(
            NameOf.BRING_HALF,
            HalfTask(line_id=self._line_id, host=half.ref.host, revision=self._revision, recheck=recheck),
            task_queue=host_queue(half.ref.host),
            result_type=HalfProven,
            start_to_close_timeout=ATTEMPT_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            # The pauses are the workflow's own, so that a receipt can tell attempts, error and next attempt.
            retry_policy=RetryPolicy(maximum_attempts=1),
            summary=f"{half.ref.host}: bring to revision {self._revision}",
        )

    def _history_is_long(self) -> bool:
        """Whether to begin a new run now: nothing is under way that it could not take over."""
        return (
            workflow.info().is_continue_as_new_suggested()
            and not any(half.trying or half.asked for half in self._halves)
            and workflow.all_handlers_finished()
        )


def condition(error: ActivityError) -> tuple[str, HalfTrouble]:
    """The stable name of what failed, never its text, and what the host's error says beside it."""
    cause = error.cause
    if not isinstance(cause, ApplicationError) or not cause.type:
        return "WorkerLost", HalfTrouble(hint="")
    for detail in cause.details:
        if isinstance(detail, dict):
            return cause.type, HalfTrouble.model_validate(detail)
    return cause.type, HalfTrouble(hint="")
