"""What stands of a bulk run in the ledger: sealed, resealed with all else, and gone with whom it is about."""

from datetime import timedelta

import pytest

from tests.ledger.support import Desk
from twinline.bulk import BlockItem, BulkBlock, BulkImport, ImportItem, ItemState, NewBulk
from twinline.errors import LineErased, OrdersRunning
from twinline.ledger import bulk, erasure, imports, models
from twinline.ledger.bulk_judged import Asked, judge
from twinline.ledger.sealing import sealed_with
from twinline.messages import CloseOrder, EraseTask, ImportOrder

REASON = "Jane shares with her neighbours"


async def test_an_item_is_sealed_and_an_erasure_takes_it_out_and_lets_it_never_be_ordered(desk: Desk) -> None:
    jane, john = await desk.purchase("jane@example.com"), await desk.purchase("john@example.com")
    new = NewBulk(run="leak", job=BulkBlock())
    asked = [Asked(row=row, item=BlockItem(line=line.username, reason=REASON)) for row, line in ((1, jane), (2, john))]
    before = await sealed_with(desk.ledger, desk.keys.primary)
    async with desk.ledger.write() as tx:
        bulk_id = await bulk.record_bulk(tx, new, asked, await judge(tx, new, asked, now=desk.now), now=desk.now)
    assert await sealed_with(desk.ledger, desk.keys.primary) == before + 2
    assert REASON.encode() not in desk.raw()
    closed = await desk.take(CloseOrder(order="close", line=jane.username))
    async with desk.ledger.write() as tx:
        order = await tx.session.get_one(models.Order, closed.order_id)
        for each in (jane.order_id, closed.order_id):
            (await tx.session.get_one(models.Order, each)).settled_at = desk.now
        assert order.line_id == jane.line_id

    async with desk.ledger.write() as tx:
        await erasure.erase_line(tx, EraseTask(line_id=jane.line_id), now=desk.now)

    rows = sorted(await desk.rows(models.BulkItem), key=lambda row: row.number)
    assert [(row.state, row.error, bool(row.body_sealed)) for row in rows] == [
        (ItemState.REFUSED, "LineErased", False),
        (ItemState.WAITING, None, True),
    ]
    async with desk.ledger.read() as tx:
        (left,) = await bulk.next_items(tx, bulk_id, limit=10)
        shown = (await bulk.bulk_items(tx, "cli", "leak")).items
    assert left.item_id == rows[1].id
    assert [item.line for item in shown] == ["", john.username]


async def waiting_import(desk: Desk, run: str, *names: str, email: str = "jane@example.com") -> str:
    """A run that was to bring lines of these names for one person."""
    new = NewBulk(caller="shop", run=run, job=BulkImport())
    fields = {"email": email, "password": "s3cret-1", "ends_at": desk.now + timedelta(days=9), "pair": "eu1"}
    asked = [
        Asked(row=row, item=ImportItem.model_validate({"username": name, **fields}), person=email)
        for row, name in enumerate(names, start=1)
    ]
    async with desk.ledger.write() as tx:
        return await bulk.record_bulk(tx, new, asked, await judge(tx, new, asked, now=desk.now), now=desk.now)


async def test_who_has_no_line_yet_is_forgotten_by_address_and_never_imported(desk: Desk) -> None:
    first = await waiting_import(desk, "one", "jane1", "jane2")
    async with desk.ledger.write() as tx:
        await bulk.stop_bulk(tx, first, actor="ann", now=desk.now)
    second = await waiting_import(desk, "two", "jane3")
    other = await waiting_import(desk, "three", "john", email="john@example.com")
    async with desk.ledger.read() as tx:
        (work,) = await bulk.next_items(tx, second, limit=10)
        assert await erasure.lineless_items(tx, "jane@example.com") == 3
    order = work.order
    assert isinstance(order, ImportOrder)

    async with desk.ledger.write() as tx:
        count = await erasure.forget_items(tx, "jane@example.com", known=(), actor="privacy", now=desk.now)

    assert count == 3
    of_jane = [row for row in await desk.rows(models.BulkItem) if row.bulk_id != other]
    assert {(row.state, row.error, row.body_sealed, row.person_hash, row.message) for row in of_jane} == {
        (ItemState.REFUSED, "LineErased", b"", None, "")
    }
    async with desk.ledger.write() as tx:
        assert not await bulk.resume_bulk(tx, first, actor="ann", now=desk.now)
        assert await erasure.lineless_items(tx, "jane@example.com") == 0
        assert len(await bulk.next_items(tx, other, limit=10)) == 1
    # Whoever was about to order it comes too late.
    with pytest.raises(LineErased):
        async with desk.ledger.write() as tx:
            await imports.record_import(tx, order, now=desk.now, workflow_id="import/shop/two:1")
    told = [(event.who, event.why) for event in await desk.rows(models.Event) if event.what == "bulk.items_erased"]
    assert sorted(told) == [("privacy", "bulk/shop/one"), ("privacy", "bulk/shop/two")]


async def test_a_line_that_was_imported_while_somebody_erases_is_told_of(desk: Desk) -> None:
    bulk_id = await waiting_import(desk, "late", "jane1", "jane2")
    async with desk.ledger.read() as tx:
        work, _ = await bulk.next_items(tx, bulk_id, limit=10)
    assert isinstance(work.order, ImportOrder)
    async with desk.ledger.write() as tx:
        opened = await imports.record_import(tx, work.order, now=desk.now, workflow_id="import/shop/late:1")
    with pytest.raises(OrdersRunning):
        async with desk.ledger.write() as tx:
            await erasure.forget_items(tx, "jane@example.com", known=(), actor="privacy", now=desk.now)
    async with desk.ledger.read() as tx:
        assert len(await bulk.next_items(tx, bulk_id, limit=10)) == 2, "all or nothing"
    async with desk.ledger.write() as tx:
        known = [opened.line_id]
        assert await erasure.forget_items(tx, "jane@example.com", known=known, actor="privacy", now=desk.now) == 1


async def test_an_import_whose_worker_died_once_it_was_taken_is_ordered_again_as_the_same(desk: Desk) -> None:
    bulk_id = await waiting_import(desk, "cut", "jane1")
    async with desk.ledger.read() as tx:
        (work,) = await bulk.next_items(tx, bulk_id, limit=10)
    assert isinstance(work.order, ImportOrder)
    async with desk.ledger.write() as tx:
        opened = await imports.record_import(tx, work.order, now=desk.now, workflow_id="import/shop/cut:1")
    # What was to be imported is forgotten by now, and nobody has kept that the order was taken.
    async with desk.ledger.read() as tx:
        assert await bulk.next_items(tx, bulk_id, limit=10) == (work,)
    async with desk.ledger.write() as tx:
        again = await imports.record_import(tx, work.order, now=desk.now, workflow_id="import/shop/cut:1")
        counts = await bulk.note_placed(tx, bulk_id, [bulk.Placed(item_id=work.item_id, refused=None)], now=desk.now)
    assert (again.line_id, counts.waiting, counts.refused) == (opened.line_id, 0, 0)


async def test_for_a_run_that_is_bound_to_its_callers_lines_there_are_no_others(desk: Desk) -> None:
    """Not even those that were erased: who they belonged to counts then too."""
    hers, erased = await desk.purchase("jane@example.com"), await desk.purchase("john@example.com")
    closed = await desk.take(CloseOrder(order="close", line=erased.username))
    async with desk.ledger.write() as tx:
        for each in (erased.order_id, closed.order_id):
            (await tx.session.get_one(models.Order, each)).settled_at = desk.now
    async with desk.ledger.write() as tx:
        await erasure.erase_line(tx, EraseTask(line_id=erased.line_id), now=desk.now)
    names = (hers.username, hers.line_id, erased.username)
    asked = [Asked(row=row, item=BlockItem(line=name, reason=REASON)) for row, name in enumerate(names, start=1)]
    opener = {event.who for event in await desk.rows(models.Event) if event.what == "line.opened"}.pop()
    told: dict[str, list[str | None]] = {}
    async with desk.ledger.read() as tx:
        for caller in (opener, "somebody"):
            new = NewBulk(caller=caller, run="own", job=BulkBlock(own=True))
            judged = await judge(tx, new, asked, now=desk.now)
            told[caller] = [one.problem and one.problem.type for one in judged]
    assert told == {opener: [None, "InvalidOrder", "LineErased"], "somebody": ["UnknownLine"] * 3}
