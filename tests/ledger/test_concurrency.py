"""Many at once, each with connections of its own, as separate workers are."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack

import pytest_asyncio
from sqlalchemy import Engine, event

from tests.ledger.stores import PostgresStore
from tests.ledger.support import START, Desk, Pairing, proof_of, take
from twinline.errors import RegionFull, TrialAlreadyUsed
from twinline.keys import KeyRing
from twinline.ledger import Ledger, fences, halves, models
from twinline.ledger.halves import StaleToken
from twinline.messages import HalfState, Order, PurchaseOrder, Recorded, TrialOrder


@pytest_asyncio.fixture
async def workers(desk: Desk, keys: KeyRing) -> AsyncIterator[list[Ledger]]:
    async with AsyncExitStack() as stack:
        ledgers: list[Ledger] = []
        for _ in range(4):
            ledger = await Ledger.open(desk.store.url, keys=keys)
            stack.push_async_callback(ledger.close)
            ledgers.append(ledger)
        yield ledgers


async def all_of(calls: list[Coroutine[None, None, Recorded]]) -> list[Recorded | BaseException]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_fifty_callers_with_the_same_order_get_one_line(desk: Desk, workers: list[Ledger]) -> None:
    order = TrialOrder(order="1", email="ann@example.com", region="eu")
    results = await all_of([take(workers[n % len(workers)], order, now=START) for n in range(50)])
    assert all(isinstance(result, Recorded) and result == results[0] for result in results)
    assert len(await desk.rows(models.Line)) == 1
    assert len(await desk.rows(models.Order)) == 1


async def test_of_many_trials_for_one_person_one_gets_through(desk: Desk, workers: list[Ledger]) -> None:
    orders = [TrialOrder(order=f"{n}", email="ann@example.com", region="eu") for n in range(12)]
    results = await all_of([take(workers[n % len(workers)], order, now=START) for n, order in enumerate(orders)])
    assert sorted(type(result).__name__ for result in results) == ["Recorded"] + ["TrialAlreadyUsed"] * 11
    assert sum(isinstance(result, TrialAlreadyUsed) for result in results) == 11
    assert len(await desk.rows(models.Line)) == 1


async def test_the_last_places_of_a_region_are_given_out_once(desk: Desk, workers: list[Ledger]) -> None:
    await desk.sync(Pairing(name="eu1", capacity=2), Pairing(name="eu2", capacity=3))
    orders: list[Order] = [
        PurchaseOrder(order=f"{n}", email=f"{n}@example.com", region="eu", days=1) for n in range(12)
    ]
    results = await all_of([take(workers[n % len(workers)], order, now=START) for n, order in enumerate(orders)])
    assert sum(isinstance(result, RegionFull) for result in results) == 7
    pairs = [line.pair for line in await desk.rows(models.Line)]
    assert (pairs.count("eu1"), pairs.count("eu2")) == (2, 3)


async def test_two_workers_of_one_host_never_both_record(desk: Desk, workers: list[Ledger]) -> None:
    recorded = [await desk.purchase(f"{n}@example.com") for n in range(5)]
    both_open = asyncio.Barrier(2)

    async def work(ledger: Ledger) -> fences.FenceToken | None:
        async with ledger.write() as tx:
            batch = await halves.open_batch(tx, "mc-eu1", limit=100, now=START)
        await both_open.wait()
        try:
            async with ledger.write() as tx:
                results = [proof_of(half) for half in batch.halves]
                await halves.close_batch(tx, "mc-eu1", batch.token, results, now=START)
        except StaleToken:
            return None
        return batch.token

    tokens = await asyncio.gather(*(work(ledger) for ledger in workers[:2]))
    assert sorted(tokens, key=lambda token: token is not None) == [None, fences.FenceToken(epoch=1, n=2)]
    for one in recorded:
        assert (await desk.view(one.username)).halves[0].state is HalfState.APPLIED


async def cancelled_at(statement: int, call: Coroutine[None, None, Recorded]) -> bool:
    """Run a call and cancel it as it waits for its n-th statement; whether it came that far."""
    task = asyncio.create_task(call)
    begun = 0

    def count(*_: object) -> None:
        nonlocal begun
        begun += 1
        if begun == statement:
            task.cancel()

    event.listen(Engine, "before_cursor_execute", count)
    try:
        await asyncio.wait([task])
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    return task.cancelled()


async def test_an_order_cancelled_at_any_statement_is_there_whole_or_not_and_the_ledger_free(desk: Desk) -> None:
    order = PurchaseOrder(order="1", email="ann@example.com", region="eu", days=1)
    tables = (models.Line, models.Order, models.Grant, models.Half)
    statement = 1
    while await cancelled_at(statement, take(desk.ledger, order, now=START)):
        counts = [len(await desk.rows(table)) for table in tables]
        if counts != [0, 0, 0, 0]:
            # A server may have committed by the time that it hears of it: the repeated order finds what it did.
            assert isinstance(desk.store, PostgresStore)
            assert counts == [1, 1, 1, 2]
            break
        statement += 1
    assert statement > 8, "an order takes more statements than that"
    await take(desk.ledger, order, now=START)
    assert [len(await desk.rows(table)) for table in tables] == [1, 1, 1, 2]
