"""Works off a bulk run: its items become ordinary orders, a few at a time, and what came of each is kept."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from temporalio import activity

from activities.errors import translated
from activities.heartbeat import heartbeats
from activities.host import unless_shut_down
from starter.client import Twinline
from twinline.bulk import BulkCounts, BulkStart, StopBulk
from twinline.errors import TwinlineError, Unavailable
from twinline.ledger import Ledger, bulk
from twinline.ledger.bulk import Placed, Work
from twinline.messages import NameOf, Refusal
from twinline.priorities import bulk_priority
from twinline.settings import Settings

AT_ONCE: Final = 25
"""Items under way at the same time: a batch of a host takes all of them, and others still come between."""
PATIENCE: Final = timedelta(seconds=10)
"""How long an order is waited for at most before the next ones come; one that waits for a host goes on by itself."""


class BulkActivities:
    """The steps of a bulk run."""

    def __init__(self, ledger: Ledger, twinline: Twinline, settings: Settings) -> None:
        self._ledger = ledger
        self._twinline = twinline
        self._settings = settings

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity of this class, for the worker to register."""
        return [self.place_items, self.stop_bulk]

    @activity.defn(name=NameOf.PLACE_ITEMS)
    async def place_items(self, start: BulkStart) -> BulkCounts:
        """Order the next items and keep what came of them. Cut off anywhere, it may be done again.

        Raises Unavailable once that is kept, if of some nothing was heard.
        """
        with translated():
            async with heartbeats():
                async with self._ledger.read() as tx:
                    todo = await bulk.next_items(tx, start.bulk_id, limit=AT_ONCE)
                outcomes = await unless_shut_down(self._place_all(todo))
                results = [outcome for outcome in outcomes if isinstance(outcome, Placed)]
                async with self._ledger.write() as tx:
                    counts = await bulk.note_placed(tx, start.bulk_id, results, now=datetime.now(UTC))
                for outcome in outcomes:
                    if isinstance(outcome, Unavailable):
                        raise outcome
                return counts

    @activity.defn(name=NameOf.STOP_BULK)
    async def stop_bulk(self, asked: StopBulk) -> None:
        """Order nothing more of a run."""
        with translated():
            async with self._ledger.write() as tx:
                await bulk.stop_bulk(tx, asked.bulk_id, actor=asked.actor, now=asked.at)

    async def _place_all(self, todo: Sequence[Work]) -> Sequence[Placed | Unavailable | None]:
        return await asyncio.gather(*(self._place(work) for work in todo))

    async def _place(self, work: Work) -> Placed | Unavailable | None:
        """Order an item; None while nobody has taken the order, which may still be refused.

        Unavailable says nothing about the order: it may have been taken, and the same order again tells.
        """
        order = work.order
        try:
            patience = min(PATIENCE, self._settings.grace)
            status = await self._twinline.place(order, patience=patience, priority=bulk_priority(order.caller))
        except Unavailable as error:
            return error
        except TwinlineError as error:
            refused = Refusal(type=error.type, message=error.message, hint=error.hint, retryable=error.retryable)
            return Placed(item_id=work.item_id, refused=refused)
        return None if status.receipt is None else Placed(item_id=work.item_id, refused=None)
