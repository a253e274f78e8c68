"""The half activity of one host; it runs on that host's own queue, so one dead host blocks no other."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.errors import translated
from activities.heartbeat import heartbeats
from twinline.hosts.ports import Wanted
from twinline.hosts.writer import HostWriter
from twinline.messages import HalfProven, HalfState, HalfTask, NameOf

LAST_WORD_SECONDS = 3.0

T = TypeVar("T")


class HostActivities:
    """Drives halves on one host through its writer."""

    def __init__(self, writer: HostWriter) -> None:
        self._writer = writer

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity of this class, for the worker to register."""
        return [self.bring_half]

    @activity.defn(name=NameOf.BRING_HALF)
    async def bring_half(self, task: HalfTask) -> HalfProven:
        """Wait until the running daemon is seen to hold at least this revision of the line."""
        with translated():
            async with heartbeats():
                proven = await unless_shut_down(self._writer.bring(task.line_id, task.revision, recheck=task.recheck))
        state = HalfState.APPLIED if proven.wanted is Wanted.PRESENT else HalfState.REMOVED
        return HalfProven(revision=proven.revision, state=state, proven_at=datetime.now(UTC))


async def unless_shut_down(work: Coroutine[Any, Any, T]) -> T:
    """Give way to another worker when this one shuts down; a batch that is under way may still end well."""
    task = asyncio.ensure_future(work)
    shutdown = asyncio.ensure_future(activity.wait_for_worker_shutdown())
    try:
        await asyncio.wait((task, shutdown), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait((task,), timeout=LAST_WORD_SECONDS)
        if not task.done():
            raise ApplicationError(
                "the worker shuts down", type="WorkerShutdown", category=ApplicationErrorCategory.BENIGN
            )
        return task.result()
    finally:
        task.cancel()
        shutdown.cancel()
