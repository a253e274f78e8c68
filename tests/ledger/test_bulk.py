"""What stands of a bulk run in the ledger: sealed, resealed with all else, and gone with whom it is about."""

from tests.ledger.support import Desk
from twinline.bulk import BlockItem, BulkBlock, ItemState, NewBulk
from twinline.ledger import bulk, erasure, models
from twinline.ledger.bulk_judged import Asked, judge
from twinline.ledger.sealing import sealed_with
from twinline.messages import CloseOrder, EraseTask

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
