"""What the ledger keeps of requests for trials, on either database, and for how long."""

from datetime import timedelta

import pytest
from sqlmodel import update

from tests.ledger.support import HOUR, Desk
from twinline.errors import DisposableAddress, OrderConflict, TrialRangeUsed
from twinline.ledger import models, orders
from twinline.ledger.erasure import erase_line
from twinline.ledger.trial_door import admit_trial, forget_ranges, range_of, refuse_taken_id
from twinline.messages import CloseOrder, EraseTask, PurchaseOrder, Recorded, TrialOrder, order_workflow_id

MINE, NEIGHBOUR, FAR = "203.0.113.7", "203.0.113.8", "198.51.100.1"


async def admit(
    desk: Desk, number: int, client: str | None = MINE, *, per_range: int = 1, untold: bool = True
) -> TrialOrder:
    order = TrialOrder(caller="shop", order=f"T-{number}", email=f"p{number}@example.com", region="eu")
    async with desk.ledger.write() as tx:
        await admit_trial(
            tx,
            order,
            person=order.email,
            client=client,
            per_range=per_range,
            disposable=False,
            untold=untold,
            known=False,
            now=desk.now,
        )
    return order


async def test_a_range_is_full_for_a_day_and_each_id_counts_once(desk: Desk) -> None:
    await admit(desk, 1)
    desk.now += 23 * HOUR
    await admit(desk, 1, NEIGHBOUR)
    with pytest.raises(TrialRangeUsed) as refused:
        await admit(desk, 2, NEIGHBOUR)
    assert refused.value.wait == HOUR
    await admit(desk, 3, FAR)
    await admit(desk, 4, NEIGHBOUR, per_range=2)
    with pytest.raises(TrialRangeUsed) as refused:
        await admit(desk, 5, per_range=2)
    assert refused.value.wait == HOUR
    desk.now += HOUR
    await admit(desk, 6, per_range=2)
    await admit(desk, 7, per_range=0)


async def test_from_where_somebody_asked_is_forgotten_after_a_day(desk: Desk) -> None:
    await admit(desk, 1)
    desk.now += 24 * HOUR - timedelta(seconds=1)
    await admit(desk, 2, FAR)
    for later, known in ((0, 2), (1, 1)):
        desk.now += later * HOUR
        async with desk.ledger.write() as tx:
            await forget_ranges(tx, now=desk.now)
        rows = await desk.rows(models.TrialRequest)
        assert sum(row.range_hash is not None for row in rows) == known
    assert len(rows) == 2
    for text in (MINE, FAR, range_of(MINE), range_of(FAR), "p1@example.com"):
        assert text.encode() not in desk.raw()


async def test_an_id_of_which_nothing_was_told_stands_for_its_request(desk: Desk) -> None:
    order = await admit(desk, 1)
    told = await admit(desk, 2, FAR, untold=False)
    for asked, conflict in (
        (order, False),
        (order.model_copy(update={"email": "q@example.com"}), True),
        (PurchaseOrder(caller="shop", order="T-1", days=1, email=order.email, region="eu"), True),
        (order.model_copy(update={"caller": "other", "email": "q@example.com"}), False),
        (told.model_copy(update={"email": "q@example.com"}), False),
    ):
        async with desk.ledger.read() as tx:
            if conflict:
                with pytest.raises(OrderConflict):
                    await refuse_taken_id(tx, asked)
            else:
                await refuse_taken_id(tx, asked)


async def take(desk: Desk, order: TrialOrder, *, disposable: bool) -> Recorded:
    async with desk.ledger.write() as tx:
        return await orders.record_trial(
            tx, order, person=order.email, disposable=disposable, now=desk.now, workflow_id=order_workflow_id(order)
        )


async def test_throw_away_addresses_are_refused_by_the_ledger_whoever_asks(desk: Desk) -> None:
    order = TrialOrder(caller="cli", order="T-1", email="p@example.com", region="eu")
    with pytest.raises(DisposableAddress):
        await take(desk, order, disposable=True)
    taken = await take(desk, order, disposable=False)
    # A list that changes takes nothing back.
    assert await take(desk, order, disposable=True) == taken


async def test_erasing_a_person_forgets_all_its_requests(desk: Desk) -> None:
    order, other = await admit(desk, 1), await admit(desk, 2, FAR)
    taken = await take(desk, order, disposable=False)
    async with desk.ledger.write() as tx:
        again = order.model_copy(update={"order": "T-9"})
        await admit_trial(
            tx,
            again,
            person=order.email,
            client="192.0.2.1",
            per_range=1,
            disposable=False,
            untold=True,
            known=False,
            now=desk.now,
        )
    assert len(await desk.rows(models.TrialRequest)) == 3
    await desk.take(CloseOrder(order="X-1", line=taken.username))
    async with desk.ledger.write() as tx:
        await tx.session.exec(update(models.Order).values(settled_at=desk.now))
        await erase_line(tx, EraseTask(line_id=taken.line_id), now=desk.now)
    assert [row.identity for row in await desk.rows(models.TrialRequest)] == [f"order/shop/{other.order}"]
