"""What each order does to the ledger, and what it refuses."""

import contextlib
from datetime import timedelta

import pytest

from tests.ledger.support import DAY, HOUR, START, Desk, Pairing
from twinline.errors import (
    InvalidOrder,
    LineClosed,
    LineEnded,
    OrderConflict,
    RegionFull,
    TrialAlreadyUsed,
    TwinlineError,
    UnknownBlock,
    UnknownLine,
    UnknownOrder,
    UnknownRegion,
)
from twinline.ledger import models, orders
from twinline.ledger.lines import Snapshot
from twinline.ledger.queries import order_view
from twinline.messages import (
    BlockOrder,
    BlockOwner,
    CloseOrder,
    HalfRef,
    HalfState,
    Order,
    OrderOutcome,
    PasswordOrder,
    PurchaseOrder,
    Receipt,
    Recorded,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
    order_kind,
    order_workflow_id,
)


async def everything(desk: Desk) -> list[object]:
    """Every row that an order could leave behind."""
    tables = (
        models.Line,
        models.Order,
        models.Grant,
        models.Block,
        models.Half,
        models.Trial,
        models.Event,
    )
    return [row for table in tables for row in await desk.rows(table)]


async def refused(desk: Desk, order: Order, error: type[TwinlineError]) -> TwinlineError:
    """Hand in an order that must be refused and must leave nothing behind."""
    before = await everything(desk)
    with pytest.raises(error) as refusal:
        await desk.take(order)
    assert await everything(desk) == before
    assert refusal.value.hint
    return refusal.value


async def test_a_trial_opens_a_line_with_both_halves_pending(desk: Desk) -> None:
    recorded = await desk.trial()
    assert recorded.plan == "trial"
    assert recorded.ends_at == START + 48 * HOUR
    assert recorded.revision == 1
    assert recorded.halves == (
        HalfRef(host="mc-eu1", protocol="multics"),
        HalfRef(host="os-eu1", protocol="oscam"),
    )
    view = await desk.view(recorded.username)
    assert (view.state, view.region, view.pair, view.created_at) == ("present", "eu", "eu1", START)
    assert [(half.state, half.wanted, half.proven) for half in view.halves] == [(HalfState.PENDING, 1, 0)] * 2
    assert [grant.grant_id for grant in view.grants] == [recorded.grant_id]


async def test_a_person_gets_one_trial(desk: Desk) -> None:
    await desk.trial("ann@example.com")
    error = await refused(desk, TrialOrder(order="x", email="ANN@example.com", region="eu"), TrialAlreadyUsed)
    assert "ann" not in f"{error} {error.hint}".lower()
    await desk.trial("bob@example.com")


async def test_who_bought_before_may_still_try(desk: Desk) -> None:
    bought = await desk.purchase("ann@example.com")
    tried = await desk.trial("ann@example.com")
    assert tried.line_id != bought.line_id


async def test_an_unknown_region_names_the_known_ones(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1"), Pairing(name="us1", region="us"))
    error = await refused(desk, TrialOrder(order="x", email="ann@example.com", region="mars"), UnknownRegion)
    assert "eu, us" in error.hint


async def test_a_full_region_takes_no_new_line_until_one_ends(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1", capacity=2))
    first = await desk.trial("ann@example.com")
    await desk.purchase("bob@example.com")
    order = PurchaseOrder(order="x", email="cid@example.com", region="eu", days=1)
    error = await refused(desk, order, RegionFull)
    assert error.retryable
    await desk.renew(first.username, days=1)
    desk.now = START + 4 * DAY
    view = await desk.view(first.username)
    await desk.end(first.model_copy(update={"grant_id": view.grants[-1].grant_id}))
    await desk.take(order)


async def test_a_blocked_line_keeps_its_place(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1", capacity=1))
    recorded = await desk.trial()
    await desk.block(recorded.username)
    await refused(desk, TrialOrder(order="x", email="bob@example.com", region="eu"), RegionFull)


async def test_lines_spread_over_the_pairs_by_how_full_they_are(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1", capacity=10), Pairing(name="eu2", capacity=20))
    for number in range(30):
        await desk.purchase(f"c{number}@example.com")
        lines = [line.pair for line in await desk.rows(models.Line)]
        assert abs(2 * lines.count("eu1") - lines.count("eu2")) <= 2
    await refused(desk, TrialOrder(order="x", email="ann@example.com", region="eu"), RegionFull)


async def test_new_lines_avoid_a_host_that_is_down_while_they_can(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1", capacity=10), Pairing(name="eu2", capacity=1))
    await desk.fail("os-eu1")
    pairs = [(await desk.view((await desk.trial(f"{n}@example.com")).username)).pair for n in range(2)]
    assert pairs == ["eu2", "eu1"]
    await desk.prove("os-eu1")
    await desk.sync(Pairing(name="eu1", capacity=10), Pairing(name="eu2", capacity=2))
    assert (await desk.view((await desk.trial("z@example.com")).username)).pair == "eu1"


async def test_a_purchase_opens_a_line_of_paid_days(desk: Desk) -> None:
    recorded = await desk.purchase(days=30)
    assert (recorded.plan, recorded.ends_at) == ("paid", START + 30 * DAY)
    again = await desk.purchase(days=30)
    assert again.line_id != recorded.line_id


async def test_a_trial_that_is_bought_keeps_its_credentials_and_its_time(desk: Desk) -> None:
    trial = await desk.trial()
    password = await desk.password(trial.username)
    desk.now = START + HOUR
    bought = await desk.take(PurchaseOrder(order="p", line=trial.username, days=30))
    assert (bought.line_id, bought.username) == (trial.line_id, trial.username)
    assert (bought.plan, bought.ends_at) == ("paid", trial.ends_at + 30 * DAY)
    assert bought.revision == 2
    assert await desk.password(trial.username) == password
    view = await desk.view(trial.username)
    assert [(grant.plan, grant.starts_at) for grant in view.grants] == [("trial", START), ("paid", trial.ends_at)]


async def test_a_renewal_of_a_running_line_adds_to_its_end(desk: Desk) -> None:
    recorded = await desk.purchase(days=30)
    desk.now = START + 10 * DAY
    renewed = await desk.renew(recorded.username, days=7)
    assert renewed.ends_at == START + 37 * DAY


async def test_a_line_that_has_ended_comes_back_from_now_on(desk: Desk) -> None:
    recorded = await desk.trial()
    desk.now = recorded.ends_at
    await desk.end(recorded)
    desk.now += 3 * DAY
    renewed = await desk.renew(recorded.username, days=7)
    assert renewed.ends_at == desk.now + 7 * DAY
    assert (await desk.view(recorded.username)).state == "present"


async def test_a_renewal_while_the_end_is_overdue_counts_from_now(desk: Desk) -> None:
    recorded = await desk.trial()
    desk.now = recorded.ends_at + HOUR
    renewed = await desk.renew(recorded.username, days=1)
    assert renewed.ends_at == desk.now + DAY
    assert (await desk.end(recorded)).outcome == "overtaken"


async def test_orders_for_a_line_that_is_not_there_are_refused(desk: Desk) -> None:
    for order in (
        RenewalOrder(order="a", line="nobody", days=1),
        PurchaseOrder(order="b", line="nobody", days=1),
        BlockOrder(case="c", line="nobody", reason="shared"),
        UnblockOrder(case="c", line="nobody"),
        PasswordOrder(order="d", line="nobody"),
        CloseOrder(order="e", line="nobody"),
    ):
        error = await refused(desk, order, UnknownLine)
        assert "nobody" in str(error)


async def test_a_closed_line_takes_no_further_orders(desk: Desk) -> None:
    recorded = await desk.trial()
    await desk.take(CloseOrder(order="close", line=recorded.username))
    for order in (
        RenewalOrder(order="a", line=recorded.username, days=1),
        PurchaseOrder(order="b", line=recorded.username, days=1),
        BlockOrder(case="c", line=recorded.username, reason="shared"),
        UnblockOrder(case="c", line=recorded.username),
        PasswordOrder(order="d", line=recorded.username),
        CloseOrder(order="e", line=recorded.username),
    ):
        await refused(desk, order, LineClosed)


async def test_a_close_takes_the_line_from_its_hosts_whatever_was_paid_for(desk: Desk) -> None:
    bought = await desk.purchase(days=30)
    await desk.prove("mc-eu1")
    closed = await desk.take(CloseOrder(order="close", line=bought.username))
    assert closed.revision == bought.revision + 1
    (half,) = (await desk.open_batch("mc-eu1")).halves
    assert (half.state, half.ends_at) == ("absent", None)
    desk.now = bought.ends_at
    assert (await desk.end(bought)).outcome == "ended"
    assert (await desk.view(bought.username)).revision == closed.revision, "the hosts hold nothing before and after"


async def test_a_new_password_raises_the_revision_and_is_another_one(desk: Desk) -> None:
    trial = await desk.trial()
    old = await desk.password(trial.username)
    await desk.prove("mc-eu1")
    changed = await desk.take(PasswordOrder(order="pw", line=trial.username))
    (half,) = (await desk.open_batch("mc-eu1")).halves
    assert changed.revision == half.revision == trial.revision + 1
    assert half.password.get_secret_value() == await desk.password(trial.username) != old
    assert (await desk.view(trial.username)).ends_at == trial.ends_at
    assert old.encode() not in desk.raw()


async def test_the_password_of_a_blocked_line_can_be_changed_and_the_block_stays(desk: Desk) -> None:
    trial = await desk.trial()
    await desk.block(trial.username)
    changed = await desk.take(PasswordOrder(order="pw", line=trial.username))
    assert [block.case for block in changed.blocks] == ["case-1"]
    assert (await desk.view(trial.username)).state == "blocked"


async def test_the_password_of_a_line_that_ended_is_not_changed(desk: Desk) -> None:
    trial = await desk.trial()
    desk.now = trial.ends_at
    await desk.end(trial)
    error = await refused(desk, PasswordOrder(order="pw", line=trial.username), LineEnded)
    assert "Renew it first" in error.hint


async def test_a_block_and_its_lifting_each_raise_the_revision(desk: Desk) -> None:
    recorded = await desk.trial()
    blocked = await desk.block(recorded.username)
    assert blocked.revision == 2
    assert [(block.owner, block.case) for block in blocked.blocks] == [(BlockOwner.ABUSE, "case-1")]
    assert blocked.grant_id is None
    assert (await desk.view(recorded.username)).state == "blocked"
    lifted = await desk.unblock(recorded.username)
    assert (lifted.revision, lifted.blocks) == (3, ())
    assert (await desk.view(recorded.username)).state == "present"


async def test_blocks_of_different_owners_and_cases_are_independent(desk: Desk) -> None:
    username = (await desk.trial()).username
    await desk.block(username, "a", BlockOwner.ABUSE)
    second = await desk.block(username, "b", BlockOwner.ABUSE)
    third = await desk.block(username, "p", BlockOwner.PAYMENT)
    assert (second.revision, third.revision) == (2, 2), "the hosts hold the same as before"
    await desk.unblock(username, "p", BlockOwner.PAYMENT)
    await desk.unblock(username, "a", BlockOwner.ABUSE)
    view = await desk.view(username)
    assert (view.state, [block.case for block in view.blocks]) == ("blocked", ["b"])
    await desk.unblock(username, "b", BlockOwner.ABUSE)
    assert (await desk.view(username)).state == "present"


async def test_a_block_survives_renewal_and_purchase_and_end(desk: Desk) -> None:
    trial = await desk.trial()
    await desk.block(trial.username)
    renewed = await desk.renew(trial.username, days=1)
    assert [block.case for block in renewed.blocks] == ["case-1"]
    assert (await desk.view(trial.username)).state == "blocked"
    desk.now = renewed.ends_at
    await desk.end(renewed)
    assert (await desk.view(trial.username)).state == "absent"
    bought = await desk.take(PurchaseOrder(order="p", line=trial.username, days=9))
    assert [block.case for block in bought.blocks] == ["case-1"]
    assert (await desk.view(trial.username)).state == "blocked"


async def test_the_same_case_from_another_caller_joins_the_block(desk: Desk) -> None:
    username = (await desk.trial()).username
    first = await desk.block(username, caller="desk")
    second = await desk.block(username, caller="shop")
    assert second.order_id != first.order_id
    assert (second.revision, second.blocks) == (first.revision, first.blocks)
    assert len(await desk.rows(models.Block)) == 1


async def test_lifting_a_block_that_does_not_stand_names_those_that_do(desk: Desk) -> None:
    username = (await desk.trial()).username
    await desk.block(username, "a", BlockOwner.PAYMENT)
    for order in (
        UnblockOrder(case="a", line=username, owner=BlockOwner.ABUSE),
        UnblockOrder(case="b", line=username, owner=BlockOwner.PAYMENT),
    ):
        error = await refused(desk, order, UnknownBlock)
        assert "payment/a" in error.hint
    await desk.unblock(username, "a", BlockOwner.PAYMENT)
    error = await refused(
        desk, UnblockOrder(case="a", line=username, owner=BlockOwner.PAYMENT, caller="shop"), UnknownBlock
    )
    assert "none" in error.hint


async def test_a_block_until_a_moment_that_has_passed_is_refused(desk: Desk) -> None:
    username = (await desk.trial()).username
    order = BlockOrder(case="c", line=username, reason="late", until=START)
    await refused(desk, order, InvalidOrder)
    blocked = await desk.take(order.model_copy(update={"until": START + HOUR}))
    assert blocked.blocks[0].until == START + HOUR


async def _every_kind(desk: Desk) -> list[tuple[Order, Recorded]]:
    trial = TrialOrder(order="t", email="ann@example.com", region="eu")
    recorded = await desk.take(trial)
    line = recorded.username
    taken: list[tuple[Order, Recorded]] = [(trial, recorded)]
    for order in (
        PurchaseOrder(order="p", email="bob@example.com", region="eu", days=1),
        PurchaseOrder(order="q", line=line, days=1),
        RenewalOrder(order="r", line=line, days=1),
        BlockOrder(case="c", line=line, reason="shared"),
        UnblockOrder(case="c", line=line),
        PasswordOrder(order="w", line=line),
        CloseOrder(order="x", line=line),
    ):
        taken.append((order, await desk.take(order)))
    return taken


async def test_the_same_order_again_gives_what_was_recorded_then(desk: Desk) -> None:
    taken = await _every_kind(desk)
    await desk.prove("mc-eu1")
    desk.now += 9 * DAY
    before = await everything(desk)
    for order, recorded in taken:
        if isinstance(order, BlockOrder):
            # It was lifted since, and an old receipt must not say that the line is blocked.
            assert "lifted before" in str(await refused(desk, order, OrderConflict))
        else:
            assert await desk.take(order) == recorded
    assert await everything(desk) == before


async def test_an_order_id_again_for_something_else_is_a_conflict(desk: Desk) -> None:
    (line, *_) = [recorded.username for _, recorded in await _every_kind(desk)]
    for order in (
        TrialOrder(order="t", email="eve@example.com", region="eu"),
        TrialOrder(order="p", email="eve@example.com", region="eu"),
        PurchaseOrder(order="p", email="bob@example.com", region="eu", days=2),
        PurchaseOrder(order="r", line=line, days=1),
        RenewalOrder(order="t", line=line, days=1),
        BlockOrder(case="c", line=line, reason="another reason"),
        BlockOrder(case="c", line=line, reason="shared", owner=BlockOwner.PAYMENT),
        UnblockOrder(case="c", line=line, owner=BlockOwner.PAYMENT),
    ):
        error = await refused(desk, order, OrderConflict)
        assert "was used before for something else" in str(error)
        assert "eve" not in str(error)


async def test_each_caller_has_order_ids_of_its_own(desk: Desk) -> None:
    first = await desk.take(TrialOrder(order="1", email="ann@example.com", region="eu"))
    second = await desk.take(TrialOrder(order="1", email="bob@example.com", region="eu", caller="shop"))
    assert first.line_id != second.line_id


async def test_one_case_can_block_several_lines(desk: Desk) -> None:
    lines = [(await desk.trial(f"{name}@example.com")).username for name in ("ann", "bob")]
    for line in lines:
        await desk.block(line, "case-9")
    assert [(await desk.view(line)).state for line in lines] == ["blocked", "blocked"]


async def test_every_order_leaves_an_event_with_before_and_after(desk: Desk) -> None:
    taken = await _every_kind(desk)
    events = [event for event in await desk.rows(models.Event) if event.line_id is not None]
    whats = ["line.opened", "line.opened", "grant.given", "grant.given", "block.set", "block.lifted"]
    whats += ["password.changed", "line.closed"]
    assert [event.what for event in events] == whats
    assert {event.who for event in events} == {"cli"}
    for event, (_, recorded) in zip(events, taken, strict=True):
        assert event.line_id == recorded.line_id
        assert event.after is not None
        after = Snapshot.model_validate_json(event.after)
        assert after.revision == recorded.revision
        if event.before is None:
            assert event.what == "line.opened"
        else:
            assert Snapshot.model_validate_json(event.before).revision == recorded.revision - 1
    assert [event.why for event in events[:3]] == ["order/cli/t", "order/cli/p", "order/cli/q"]


def receipt_of(order: Order, recorded: Recorded) -> Receipt:
    """The receipt of an order whose halves are not there yet."""
    return Receipt(
        order="t",
        kind=order_kind(order),
        line=recorded.line_id,
        username=recorded.username,
        plan=recorded.plan,
        ends_at=recorded.ends_at,
        blocks=recorded.blocks,
        halves=(),
        mail=None,
        workflow_id=order_workflow_id(order),
    )


async def test_a_settled_order_keeps_its_first_receipt(desk: Desk) -> None:
    order = TrialOrder(order="t", email="ann@example.com", region="eu")
    recorded = await desk.take(order)
    receipt = receipt_of(order, recorded)
    for plan in ("trial", "paid"):
        outcome = OrderOutcome(order_id=recorded.order_id, receipt=receipt.model_copy(update={"plan": plan}))
        async with desk.ledger.write() as tx:
            await orders.settle_order(tx, outcome, now=desk.now)
        desk.now += timedelta(minutes=1)
    async with desk.ledger.read() as tx:
        view = await order_view(tx, "t", caller="cli")
    assert (view.receipt, view.settled_at) == (receipt, START)
    with pytest.raises(UnknownOrder):
        async with desk.ledger.write() as tx:
            unknown = OrderOutcome(order_id="none", receipt=receipt)
            await orders.settle_order(tx, unknown, now=desk.now)


async def test_of_an_order_that_ends_it_is_told_when_its_last_half_was_proven(desk: Desk) -> None:
    order = TrialOrder(order="t", email="ann@example.com", region="eu")
    recorded = await desk.take(order)
    desk.now += timedelta(seconds=2)
    await desk.prove("mc-eu1")
    desk.now += timedelta(seconds=5)
    await desk.prove("os-eu1")
    desk.now += timedelta(seconds=3)
    view = await desk.view(recorded.username)
    receipt = receipt_of(order, recorded).model_copy(update={"halves": tuple(half.receipt() for half in view.halves)})
    given_up = receipt.halves[0].model_copy(update={"state": HalfState.ABANDONED})
    cases = (
        (receipt, timedelta(seconds=7)),
        (receipt.model_copy(update={"halves": (given_up, receipt.halves[1])}), None),
        (receipt.model_copy(update={"halves": ()}), None),
        # A later change was proven since: when this one was nobody knows any more.
        (receipt.model_copy(update={"halves": (receipt.halves[0].model_copy(update={"revision": 9}),)}), None),
    )
    for case, proven in cases:
        with contextlib.suppress(_Undone):
            async with desk.ledger.write() as tx:
                took = await orders.settle_order(
                    tx, OrderOutcome(order_id=recorded.order_id, receipt=case), now=desk.now
                )
                assert took == orders.Took(timedelta(seconds=10), proven)
                raise _Undone


class _Undone(Exception):
    """Takes a transaction back."""
