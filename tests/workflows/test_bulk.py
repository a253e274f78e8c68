"""Bulk runs: every item becomes an ordinary order, once, whoever dies or is asked twice meanwhile."""

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import WorkflowHistory

from starter import bulk
from tests.workflows.house import House
from twinline.bulk import BulkBlock, BulkKind, BulkView, ItemView, NewBulk, Standing, bulk_workflow_id
from twinline.errors import InvalidRows, NothingToRetry, OrderConflict, UnknownOrder
from twinline.hosts.errors import HostKeyMismatch
from twinline.ledger import bulk as in_ledger
from twinline.ledger import orders
from twinline.ledger.bulk_judged import Asked, judge
from twinline.messages import BlockOrder, BlockOwner, CloseOrder, PurchaseOrder, UnblockOrder
from twinline.rows import Row

AT_ONCE = 3
NUMBERS = itertools.count(1)
PATIENCE = timedelta(seconds=60)


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """A few items are enough for several steps."""
    monkeypatch.setattr("activities.bulk.AT_ONCE", AT_ONCE)


def run_id(name: str = "run") -> str:
    """An id that no other test has."""
    return f"{name}-{next(NUMBERS)}"


async def opened(house: House, count: int) -> list[str]:
    """Lines that the ledger has, and no host yet; their names."""
    names: list[str] = []
    async with house.ledger.write() as tx:
        for _ in range(count):
            number = next(NUMBERS)
            email = f"bulk{number}@example.com"
            order = PurchaseOrder(caller="shop", order=f"bulk-{number}", email=email, region="eu", days=30)
            recorded = await orders.record_purchase(
                tx, order, person=email, now=datetime.now(UTC), workflow_id=f"purchase/shop/bulk-{number}"
            )
            names.append(recorded.username)
    return names


def blocks(names: Sequence[str], reason: str = "Shared", owner: str = "abuse") -> tuple[Asked, ...]:
    """Rows that ask for these lines to be blocked."""
    rows = [Row(number, {"line": name}) for number, name in enumerate(names, start=1)]
    return bulk.items_of(BulkKind.BLOCK, rows, {"reason": reason, "owner": owner})


def blocking(run: str, **of_job: object) -> NewBulk:
    """A run of blocks."""
    return NewBulk(caller="abuse", run=run, job=BulkBlock.model_validate({"case": run, **of_job}))


async def begun(house: House, new: NewBulk, asked: Sequence[Asked], *, skip_invalid: bool = False) -> BulkView:
    """Begin a run."""
    return (await bulk.begin(house.ledger, house.twinline, new, asked, skip_invalid=skip_invalid))[0]


async def over(house: House, new: NewBulk) -> BulkView:
    """Wait until everything of a run was ordered."""
    handle = house.client.get_workflow_handle(bulk_workflow_id(new.caller, new.run))
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await handle.result()
    return await bulk.view(house.ledger, new.caller, new.run)


async def items(house: House, new: NewBulk, standing: Standing | None = None) -> Sequence[ItemView]:
    """What became of a run's items."""
    async with house.ledger.read() as tx:
        return (await in_ledger.bulk_items(tx, new.caller, new.run, limit=1000, standing=standing)).items


async def history(house: House, new: NewBulk) -> WorkflowHistory:
    """What Temporal keeps of a run."""
    return await house.client.get_workflow_handle(bulk_workflow_id(new.caller, new.run)).fetch_history()


async def test_every_line_of_a_file_is_blocked_and_told_of(house: House) -> None:
    names = await opened(house, 5)
    new = blocking(run_id())

    plan = await bulk.plan(house.ledger, new, blocks(names))
    assert {change.before.state for change in plan.changes} == {"present"}
    assert not (await house.line(names[0])).blocks
    await begun(house, new, blocks(names))
    found = await over(house, new)

    assert (found.counts.done, found.state) == (5, "over")
    lines = [await house.line(name) for name in names]
    assert [(change.after.state, change.after.blocks) for change in plan.changes] == [
        (line.state, tuple(f"{block.owner}/{block.case}" for block in line.blocks)) for line in lines
    ]
    assert not any(house.serves(name) == (True, True) for name in names)
    assert [item.line for item in await items(house, new)] == names
    steps = [
        event
        for event in (await history(house, new)).events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert len(steps) == 2, "a few items each"


async def test_the_same_run_again_is_the_same_run_and_other_rows_are_refused(house: House) -> None:
    names = await opened(house, 3)
    new = blocking(run_id())
    both = await asyncio.gather(*(begun(house, new, blocks(names)) for _ in range(2)))
    await over(house, new)

    again = await begun(house, new, blocks(names))

    assert {each.created_at for each in (*both, again)} == {again.created_at}
    assert again.counts.done == 3
    assert (await bulk.plan(house.ledger, new, blocks(names))).known
    for other in (blocks(names[:2]), blocks(names, reason="Another"), blocks(names[::-1])):
        with pytest.raises(OrderConflict):
            await begun(house, new, other)
    with pytest.raises(OrderConflict):
        await begun(house, blocking(new.run, case="other"), blocks(names))


async def test_rows_that_cant_be_carried_out_keep_the_run_from_beginning_unless_they_are_skipped(house: House) -> None:
    good, closed, twice = await opened(house, 3)
    await house.order(CloseOrder(order=run_id("close"), line=closed))
    asked = blocks([good, closed, "nobodyhere", twice, twice, "Not A Name"])
    new = blocking(run_id())
    plan = await bulk.plan(house.ledger, new, asked)
    assert [(problem.row, problem.type) for problem in plan.problems] == [
        (2, "LineClosed"),
        (3, "UnknownLine"),
        (5, "InvalidOrder"),
        (6, "InvalidOrder"),
    ]
    with pytest.raises(InvalidRows, match=r"row 2 .* and 3 more"):
        await begun(house, new, asked)
    assert not (await house.line(good)).blocks

    await begun(house, new, asked, skip_invalid=True)
    found = await over(house, new)

    assert (found.counts.done, found.counts.refused) == (2, 4)
    refused = await items(house, new, "refused")
    assert [(item.row, item.problem and item.problem.type) for item in refused] == [
        (problem.row, problem.type) for problem in plan.problems
    ]
    with pytest.raises(InvalidRows, match="no row"):
        await begun(house, blocking(run_id()), blocks(["nobodyhere"]), skip_invalid=True)


async def test_a_line_that_others_block_keeps_their_blocks_and_the_row_says_so(house: House) -> None:
    theirs, ours, lifted = await opened(house, 3)
    new = blocking(run_id())
    await house.order(BlockOrder(case="P-1", line=theirs, owner=BlockOwner.PAYMENT, reason="Unpaid"))
    await house.order(BlockOrder(caller="abuse", case=new.run, line=ours, reason="Shared"))
    await house.order(BlockOrder(caller="abuse", case=new.run, line=lifted, reason="Shared"))
    await house.order(UnblockOrder(caller="abuse", case=new.run, line=lifted))
    asked = blocks([theirs, ours, lifted])
    plan = await bulk.plan(house.ledger, new, asked)
    assert [change.note for change in plan.changes] == [
        "already blocked by payment/P-1",
        "this block stands on it already",
    ]
    assert [(problem.row, problem.type) for problem in plan.problems] == [(3, "OrderConflict")]

    await begun(house, new, asked, skip_invalid=True)
    await over(house, new)

    assert len((await house.line(theirs)).blocks) == 2
    assert len((await house.line(ours)).blocks) == 1
    assert not (await house.line(lifted)).blocks
    assert [item.note for item in await items(house, new, "done")] == [change.note for change in plan.changes]


async def test_what_waits_for_a_person_is_told_as_stuck_and_keeps_no_other_item(impatient_house: House) -> None:
    house = impatient_house
    names = await opened(house, 5)
    new = blocking(run_id())
    house.hosts["os-eu1"].trouble = HostKeyMismatch("another key")

    await begun(house, new, blocks(names))
    found = await over(house, new)
    assert (found.state, found.counts.stuck) == ("over", 5)
    assert not any(house.serves(name)[0] for name in names)

    house.hosts["os-eu1"].heal()
    for item in await items(house, new, "stuck"):
        assert item.order is not None
        with contextlib.suppress(UnknownOrder, NothingToRetry):
            # What another one's batch took along is over already.
            await house.twinline.retry_now(item.order, patience=PATIENCE)
        await house.twinline.outcome(item.order, patience=PATIENCE)
    assert (await bulk.view(house.ledger, new.caller, new.run)).counts.done == 5


async def test_a_run_that_was_stopped_orders_nothing_more_until_it_is_resumed(house: House) -> None:
    names = await opened(house, 3)
    new = blocking(run_id())
    asked, now = blocks(names), datetime.now(UTC)
    async with house.ledger.write() as tx:
        # Whoever asked died before Temporal heard of it.
        await in_ledger.record_bulk(tx, new, asked, await judge(tx, new, asked, now=now), now=now)
    stopped = await bulk.stop(house.ledger, new.caller, new.run, actor="ann")
    assert (stopped.state, stopped.counts.cancelled, stopped.cancelled_by) == ("cancelled", 3, "ann")
    assert (await begun(house, new, blocks(names))).state == "cancelled", "the same run again does not resume it"

    await bulk.resume(house.ledger, house.twinline, new.caller, new.run, actor="ann")
    found = await over(house, new)

    assert (found.state, found.counts.done) == ("over", 3)
    assert (await bulk.resume(house.ledger, house.twinline, new.caller, new.run, actor="ann")).counts.done == 3


async def test_a_run_that_somebody_cancels_in_temporal_is_stopped(house: House) -> None:
    names = await opened(house, 9)
    new = blocking(run_id())
    await begun(house, new, blocks(names))
    await house.client.get_workflow_handle(bulk_workflow_id(new.caller, new.run)).cancel()

    found = await over(house, new)

    assert (found.state, found.cancelled_by) == ("cancelled", "temporal")
    assert found.counts.waiting == 0
    assert found.counts.cancelled + found.counts.done + found.counts.going == 9
    await bulk.resume(house.ledger, house.twinline, new.caller, new.run, actor="ann")
    assert (await over(house, new)).counts.done == 9
