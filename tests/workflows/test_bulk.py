"""Bulk runs: every item becomes an ordinary order, once, whoever dies or is asked twice meanwhile."""

import asyncio
import contextlib
import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select
from temporalio.client import WorkflowHistory

from starter import bulk
from starter.client import Twinline
from tests.workflows.house import House
from tests.workflows.test_orders import trial
from twinline.bulk import (
    BulkBlock,
    BulkExtend,
    BulkImport,
    BulkKind,
    BulkView,
    ItemView,
    NewBulk,
    Standing,
    bulk_workflow_id,
)
from twinline.errors import (
    InvalidRows,
    NothingToRetry,
    OrderConflict,
    Unavailable,
    UnknownLine,
    UnknownOrder,
    UnknownPair,
    UnknownRegion,
)
from twinline.hosts.errors import HostKeyMismatch
from twinline.ledger import bulk as in_ledger
from twinline.ledger import models, orders
from twinline.ledger.bulk_bodies import Body, body_of
from twinline.ledger.bulk_judged import Asked, judge
from twinline.ledger.lines import recipient_of
from twinline.ledger.queries import is_opened_by
from twinline.messages import (
    AnyOrder,
    BlockOrder,
    BlockOwner,
    CloseOrder,
    ExtensionOrder,
    MailKind,
    OrderStatus,
    PurchaseOrder,
    RenewalOrder,
    UnblockOrder,
)
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
    assert {change.before and change.before.state for change in plan.changes} == {"present"}
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


async def test_an_item_of_whose_order_nothing_was_heard_is_not_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, deaf = await opened(house, 4), set[str]()
    place = Twinline.place

    async def unheard(twinline: Twinline, order: AnyOrder, **options: Any) -> OrderStatus:
        status = await place(twinline, order, **options)
        if isinstance(order, BlockOrder) and order.line == names[1] and order.line not in deaf:
            deaf.add(order.line)
            raise Unavailable("Temporal does not answer (NOT_FOUND)", hint="It is tried again.")
        return status

    monkeypatch.setattr(Twinline, "place", unheard)
    new = blocking(run_id())
    await begun(house, new, blocks(names))

    found = await over(house, new)

    assert (deaf, found.counts.done) == ({names[1]}, 4)


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


async def test_every_line_that_runs_gets_days_of_its_own_plan_and_nobody_is_mailed(impatient_house: House) -> None:
    house = impatient_house
    paid, blocked, ended = await opened(house, 3)
    on_trial = (await house.order(trial())).username
    await house.order(BlockOrder(case=run_id("case"), line=blocked, reason="Shared"))
    await house.order(CloseOrder(order=run_id("close"), line=ended))
    house.hosts["os-eu1"].heal()
    before = {name: await house.line(name) for name in (paid, blocked, on_trial, ended)}
    mails = len(house.mails.mails)
    new = NewBulk(caller="ops", run=run_id("outage"), job=BulkExtend(days=1, region="eu"))

    plan = await bulk.plan(house.ledger, new)
    planned = {change.line: change for change in plan.changes}
    assert ended not in planned
    assert planned[blocked].note.startswith("stays blocked by abuse/case-")
    assert planned[on_trial].after.plan == "trial"
    await begun(house, new, ())
    found = await over(house, new)
    for item in await items(house, new):
        assert item.order is not None
        await house.twinline.outcome(item.order, patience=PATIENCE)

    after = {name: await house.line(name) for name in before}
    for name in (paid, blocked, on_trial):
        assert after[name].ends_at == before[name].ends_at + timedelta(days=1) == planned[name].after.ends_at
        assert (after[name].plan, after[name].state) == (before[name].plan, before[name].state)
        assert {half.proven for half in after[name].halves} == {after[name].revision}
    assert after[ended] == before[ended]
    assert found.counts.items == len(planned)
    assert len(house.mails.mails) == mails
    # Who runs by now may be another one; the run is the same, and gives nobody a second day.
    await opened(house, 1)
    again = await begun(house, new, ())
    assert again.counts == (await bulk.view(house.ledger, "ops", new.run)).counts
    assert (await house.line(paid)).ends_at == after[paid].ends_at
    with pytest.raises(OrderConflict):
        await begun(house, NewBulk(caller="ops", run=new.run, job=BulkExtend(days=2, region="eu")), ())


@pytest.mark.parametrize(
    ("job", "error"),
    [
        (BulkExtend(days=1, region="nowhere"), UnknownRegion),
        (BulkExtend(days=1, region="eu", pair="us1"), UnknownPair),
        (BulkExtend(days=1, region="us"), InvalidRows),
    ],
)
async def test_an_extension_of_what_is_not_there_is_refused(
    house: House, job: BulkExtend, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await bulk.plan(house.ledger, NewBulk(run=run_id(), job=job))


async def test_a_customer_is_told_of_an_extension_if_that_is_wanted(house: House) -> None:
    (name,) = await opened(house, 1)
    order = ExtensionOrder(caller="ops", order=run_id("ext"), line=name, days=1, tell=True)
    status = await house.twinline.place(order, patience=PATIENCE)
    assert status.receipt is not None
    assert status.receipt.mail is not None
    assert status.receipt.mail.kind is MailKind.EXTENDED


def rows_to_import(*rows: Mapping[str, str]) -> tuple[Asked, ...]:
    """Rows of an import, with what a row does not say."""
    ends_at = (datetime.now(UTC) + timedelta(days=90)).isoformat()
    given = [{"password": "s3cret!", "ends_at": ends_at, **row} for row in rows]
    return bulk.items_of(
        BulkKind.IMPORT, [Row(number, row) for number, row in enumerate(given, start=2)], {"pair": "eu1"}
    )


async def test_lines_of_another_system_come_over_as_they_were(house: House) -> None:
    new = NewBulk(caller="acme", run=run_id("import"), job=BulkImport())
    first, second = f"jane{next(NUMBERS)}", f"john{next(NUMBERS)}"
    rows = rows_to_import(
        {"username": first, "email": f"{first}@example.com"},
        {"username": second, "email": f"{second}@example.com", "password": "0ther_one", "region": "us"},
    )
    plan = await bulk.plan(house.ledger, new, rows)
    assert [(change.line, change.before, change.after.state) for change in plan.changes] == [
        (first, None, "present"),
        (second, None, "present"),
    ]
    mails = len(house.mails.mails)

    await begun(house, new, rows)
    found = await over(house, new)

    assert found.counts.done == 2
    line, other = await house.line(first), await house.line(second)
    assert (line.pair, other.pair, line.plan, line.ends_at) == ("eu1", "us1", "paid", plan.changes[0].after.ends_at)
    assert (await house.password(first)).get_secret_value() == "s3cret!"
    assert (await house.password(second)).get_secret_value() == "0ther_one"
    assert house.serves(first) == (True, True)
    assert len(house.mails.mails) == mails
    async with house.ledger.read() as tx:
        assert await is_opened_by(tx, line.line_id, "acme")
        assert (await recipient_of(tx, line.line_id)).get_secret_value() == f"{first}@example.com"
        kept = [
            body_of(tx, row) for row in await tx.session.exec(select(models.BulkItem)) if row.line_id == line.line_id
        ]
    assert kept == [Body(line=first)], "what an item held is forgotten once its line is there"
    assert (await begun(house, new, rows)).counts.done == 2
    # They are lines like all others from now on.
    await house.order(RenewalOrder(order=run_id("r"), line=first, days=30))
    assert [item.line for item in await items(house, new)] == [first, second]


async def test_rows_that_cant_be_imported_are_told_before_anything_begins(house: House) -> None:
    (taken,) = await opened(house, 1)
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    good = {"username": f"anna{next(NUMBERS)}", "email": "anna@example.com"}
    bad: Sequence[Mapping[str, str]] = (
        {**good, "username": taken},
        {**good, "username": "Anna_1"},
        {**good, "username": "anna22", "password": "s3cret#"},
        {**good, "username": "anna33", "password": "x" * 25},
        {**good, "username": "anna44", "email": "anna@"},
        {**good, "username": "anna55", "ends_at": past},
        {**good, "username": "anna66", "ends_at": "31.12.2031"},
        {**good, "username": "anna77", "region": "nowhere"},
        {**good, "username": "anna88", "pair": "eu9"},
        {**good, "username": "anna99", "region": "eu", "pair": "eu1"},
        good,
    )
    new = NewBulk(run=run_id("import"), job=BulkImport())

    plan = await bulk.plan(house.ledger, new, rows_to_import(good, *bad))

    assert [problem.type for problem in plan.problems] == [
        "UsernameTaken",
        *["InvalidOrder"] * 6,
        "UnknownRegion",
        "UnknownPair",
        *["InvalidOrder"] * 2,
    ]
    told = "".join(problem.message for problem in plan.problems)
    assert "s3cret" not in told
    assert "anna@" not in told
    with pytest.raises(InvalidRows):
        await begun(house, new, rows_to_import(good, *bad))
    with pytest.raises(UnknownLine):
        await house.line(good["username"])


async def test_a_name_that_somebody_else_got_meanwhile_is_refused_as_that_row_alone(house: House) -> None:
    names = [f"otto{next(NUMBERS)}" for _ in range(2)]
    asked = rows_to_import(*({"username": name, "email": f"{name}@example.com"} for name in names))
    first = NewBulk(run=run_id("import"), job=BulkImport())
    now = datetime.now(UTC)
    async with house.ledger.write() as tx:
        await in_ledger.record_bulk(tx, first, asked, await judge(tx, first, asked, now=now), now=now)
    second = NewBulk(run=run_id("import"), job=BulkImport())
    await begun(house, second, asked[:1])
    await over(house, second)

    await bulk.resume(house.ledger, house.twinline, first.caller, first.run, actor="ann")
    found = await over(house, first)

    assert (found.counts.done, found.counts.refused) == (1, 1)
    (refused,) = await items(house, first, "refused")
    assert refused.problem is not None
    assert (refused.line, refused.problem.type) == (names[0], "UsernameTaken")


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
