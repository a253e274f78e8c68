"""A workflow of an order's shape whose activities do nothing: what Temporal alone costs."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from temporalio import activity, workflow
from temporalio.workflow import ParentClosePolicy

ORDERS_QUEUE: Final = "bench.orders"
PAIRS: Final = 2
TIMEOUT: Final = timedelta(seconds=20)
CHILD_LIFE: Final = timedelta(hours=48)


def host_queues(pair: int) -> tuple[str, str]:
    """The queues of a pair's two hosts."""
    return f"bench.host.mc{pair}", f"bench.host.os{pair}"


@activity.defn
async def nothing() -> None:
    """Stands where a ledger transaction or a half stands."""


@workflow.defn
class NoopTerm:
    """Stands where a Term stands: started, and then asleep for two days."""

    @workflow.run
    async def run(self) -> None:
        """Sleep."""
        await workflow.sleep(CHILD_LIFE)


@workflow.defn
class NoopOrder:
    """The steps of workflows/trial.py and purchase.py on the same kinds of queues, with nothing in them."""

    @workflow.run
    async def run(self, pair: int) -> None:
        """Record, start the child, both halves in parallel, write the mail, hand it over, keep the receipt."""
        await self._local()
        await workflow.start_child_workflow(
            NoopTerm.run, id=f"{workflow.info().workflow_id}/term", parent_close_policy=ParentClosePolicy.ABANDON
        )
        await asyncio.gather(*(self._activity(queue) for queue in host_queues(pair)))
        await self._local()
        await self._activity(None)
        await self._local()

    @staticmethod
    async def _local() -> None:
        await workflow.execute_local_activity(nothing, start_to_close_timeout=TIMEOUT)

    @staticmethod
    async def _activity(queue: str | None) -> None:
        await workflow.execute_activity(nothing, task_queue=queue, start_to_close_timeout=TIMEOUT)


WORKFLOWS: Final[Sequence[type]] = (NoopOrder, NoopTerm)
ACTIVITIES: Final[Sequence[Callable[..., Any]]] = (nothing,)
