"""What can be looked up, and that no list tells a secret."""

import pytest

from tests.ledger.support import HOUR, Desk, Pairing
from twinline.errors import InvalidOrder, UnknownLine, UnknownOrder
from twinline.ledger.queries import (
    LineFilter,
    OrderFilter,
    OrderView,
    holdings,
    line_view,
    list_lines,
    list_orders,
    order_view,
)
from twinline.messages import OrderKind, PurchaseOrder, Recorded, TrialOrder


async def usernames(desk: Desk, wanted: LineFilter, limit: int = 2) -> list[str]:
    """All pages of a list, read to the end."""
    names: list[str] = []
    cursor = None
    while True:
        async with desk.ledger.read() as tx:
            page = await list_lines(tx, wanted, cursor=cursor, limit=limit)
        assert len(page.lines) <= limit
        names += [line.username for line in page.lines]
        cursor = page.cursor
        if cursor is None:
            return names


async def order_ids(desk: Desk, wanted: OrderFilter, limit: int = 2) -> list[str]:
    """All pages of a list, read to the end."""
    ids: list[str] = []
    cursor = None
    while True:
        async with desk.ledger.read() as tx:
            page = await list_orders(tx, wanted, cursor=cursor, limit=limit)
        ids += [order.order_id for order in page.orders]
        cursor = page.cursor
        if cursor is None:
            return ids


async def show(desk: Desk, ref: str, caller: str = "cli", kind: OrderKind | None = None) -> OrderView:
    async with desk.ledger.read() as tx:
        return await order_view(tx, ref, caller=caller, kind=kind)


async def test_a_line_is_found_in_any_case_and_shows_no_secret(desk: Desk) -> None:
    ann = await desk.trial()
    view = await desk.view(ann.username.upper())
    assert view.username == ann.username
    text = view.model_dump_json()
    assert await desk.password(ann.username) not in text
    assert "example.com" not in text
    async with desk.ledger.read() as tx:
        with pytest.raises(UnknownLine):
            await line_view(tx, "nobody")


async def test_lists_of_lines_are_complete_in_order_and_filtered(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1"), Pairing(name="us1", region="us"))
    eu = [await desk.trial(f"{n}@example.com") for n in range(5)]
    us = await desk.trial("u@example.com", region="us")
    await desk.block(eu[0].username)
    for host in ("mc-eu1", "os-eu1"):
        await desk.prove(host)
    await desk.renew(eu[1].username)
    everybody = sorted([us.username, *(line.username for line in eu)])
    assert await usernames(desk, LineFilter()) == everybody
    assert await usernames(desk, LineFilter(), limit=6) == everybody
    assert await usernames(desk, LineFilter(region="eu")) == sorted(line.username for line in eu)
    assert await usernames(desk, LineFilter(pair="us1")) == [us.username]
    assert await usernames(desk, LineFilter(state="blocked")) == [eu[0].username]
    assert await usernames(desk, LineFilter(behind=True)) == sorted([eu[1].username, us.username])
    assert len(await usernames(desk, LineFilter(behind=False, region="eu"))) == 4
    assert await usernames(desk, LineFilter(region="mars")) == []


async def test_lists_of_orders_are_complete_newest_first_and_filtered(desk: Desk) -> None:
    taken: list[Recorded] = []
    for number in range(3):
        taken.append(await desk.trial(f"{number}@example.com"))
        desk.now += HOUR
    username = taken[0].username
    taken += [await desk.renew(username), await desk.block(username, caller="desk")]
    ids = [recorded.order_id for recorded in taken]
    listed = await order_ids(desk, OrderFilter())
    assert (sorted(listed), set(listed[:2]), listed[2:]) == (sorted(ids), set(ids[3:]), ids[2::-1])
    assert await order_ids(desk, OrderFilter(kind=OrderKind.TRIAL)) == ids[2::-1]
    assert await order_ids(desk, OrderFilter(caller="desk")) == [ids[4]]
    assert set(await order_ids(desk, OrderFilter(username=username))) == {ids[0], ids[3], ids[4]}
    assert await order_ids(desk, OrderFilter(settled=True)) == []
    assert len(await order_ids(desk, OrderFilter(settled=False))) == 5
    async with desk.ledger.read() as tx:
        with pytest.raises(InvalidOrder, match="cursor"):
            await list_orders(tx, OrderFilter(), cursor="yesterday")


async def test_an_order_is_found_by_its_id_and_a_block_by_its_case(desk: Desk) -> None:
    trial = await desk.take(TrialOrder(order="A_1", email="ann@example.com", region="eu"))
    await desk.take(PurchaseOrder(order="Ax1", email="ann@example.com", region="eu", days=1))
    blocked = await desk.block(trial.username, "case-1")
    view = await show(desk, "A_1")
    assert (view.recorded, view.username, view.receipt) == (trial, trial.username, None)
    assert "example.com" not in view.model_dump_json()
    assert (await show(desk, "case-1")).recorded == blocked
    await desk.unblock(trial.username, "case-1")
    assert (await show(desk, "case-1", kind=OrderKind.BLOCK)).recorded == blocked
    with pytest.raises(InvalidOrder, match="more than one order") as refusal:
        await show(desk, "case-1")
    assert "unblock case-1/" in refusal.value.hint
    for ref, caller in (("A%", "cli"), ("A_1", "shop"), ("case", "cli")):
        with pytest.raises(UnknownOrder):
            await show(desk, ref, caller)


@pytest.mark.parametrize("ref", ["x" * 100_000, "", "a\0b", "%", "a b"])
async def test_what_no_order_can_be_called_is_unknown_and_not_searched_for(desk: Desk, ref: str) -> None:
    async with desk.ledger.read() as tx:
        with pytest.raises(UnknownOrder) as refused:
            await order_view(tx, ref, caller="cli")
    assert len(str(refused.value)) < 200


async def test_holdings_are_what_a_host_must_hold_with_the_marks_of_its_batches(desk: Desk) -> None:
    ann, bob = await desk.trial("ann@example.com"), await desk.trial("bob@example.com")
    await desk.prove("mc-eu1")
    await desk.block(bob.username)
    marks = {item.line_id: item.mark for item in (await desk.open_batch("os-eu1")).halves}
    async with desk.ledger.read() as tx:
        held = {holding.line_id: holding for holding in await holdings(tx, "mc-eu1")}
    assert {line_id: holding.mark for line_id, holding in held.items()} == marks
    assert (held[ann.line_id].state, held[ann.line_id].wanted, held[ann.line_id].proven) == ("present", 1, 1)
    assert (held[bob.line_id].state, held[bob.line_id].wanted, held[bob.line_id].proven) == ("blocked", 2, 1)
