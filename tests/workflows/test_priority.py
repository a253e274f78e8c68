"""A block overtakes whatever waits; what nobody waits for yields."""

import asyncio
from datetime import timedelta
from pathlib import Path

from sqlmodel import col, select
from temporalio.client import Client
from temporalio.common import Priority
from temporalio.service import RPCError

from starter.client import Twinline
from tests.support.temporal import dev_server
from tests.workflows.house import run_house
from tests.workflows.test_orders import trial
from twinline.keys import KeyRing
from twinline.ledger import models
from twinline.messages import BlockOrder, Order, RenewalOrder, order_workflow_id
from twinline.priorities import BULK, priority_of
from twinline.sandbox.temporal_server import DYNAMIC_CONFIG

SLOTS = 2
FLOOD = 24
PATIENCE = timedelta(seconds=90)


async def test_a_block_overtakes_a_flood_of_orders_that_came_before_it(tmp_path: Path, key_ring: KeyRing) -> None:
    async with dev_server(flags=DYNAMIC_CONFIG) as server:
        client = await server.connect(key_ring)
        async with run_house(tmp_path, key_ring, client) as house:
            line = (await house.order(trial())).username
        flood = [RenewalOrder(caller="shop", order=f"r-{number}", line=line, days=1) for number in range(FLOOD)]
        block = BlockOrder(caller="abuse", case="AB-1", line=line, reason="Shared")
        # Nobody works on them yet, so all of it waits in the queue, and the block came last.
        waiting = [await placed(client, order) for order in (*flood, block)]

        async with run_house(tmp_path, key_ring, client, workflow_tasks=SLOTS) as house:
            await asyncio.gather(*waiting)
            async with house.ledger.read() as tx:
                events = await tx.session.exec(select(models.Event).order_by(col(models.Event.id)))
                happened = [(event.what, event.why) for event in events]
        priorities = [await _priority(client, order) for order in (flood[0], block)]

    names = [what for what, _ in happened]
    blocked = names.index("block.set")
    done = happened.index(("order.settled", happened[blocked][1]))
    given = [at for at, what in enumerate(names) if what == "grant.given"]
    settled = [at for at, what in enumerate(names) if what == "order.settled" and at > blocked]
    assert len(given) == FLOOD
    # Before it may come what was handed out already: one for each slot.
    assert sum(at < blocked for at in given) <= SLOTS
    assert sum(at > done for at in settled) >= FLOOD - SLOTS
    assert priorities == [Priority(priority_key=3, fairness_key="shop"), Priority(priority_key=1, fairness_key="abuse")]


async def placed(client: Client, order: Order) -> asyncio.Task[object]:
    """Place an order and give the wait for its end, once Temporal has it."""
    waiting = asyncio.create_task(Twinline(client).place(order, patience=PATIENCE))
    while True:
        try:
            await client.get_workflow_handle(order_workflow_id(order)).describe()
        except RPCError:
            await asyncio.sleep(0)
        else:
            return waiting


async def _priority(client: Client, order: Order) -> Priority:
    """With which priority its workflow was started."""
    history = await client.get_workflow_handle(order_workflow_id(order)).fetch_history()
    found = history.events[0].workflow_execution_started_event_attributes.priority
    return Priority(priority_key=found.priority_key, fairness_key=found.fairness_key)


def test_nothing_is_as_urgent_as_a_block_and_nothing_less_than_bulk() -> None:
    block = BlockOrder(case="AB-1", line="k7mq3xw9ab", reason="Shared")
    assert [priority.priority_key for priority in (priority_of(block), priority_of(trial()), BULK)] == [1, 3, 5]
