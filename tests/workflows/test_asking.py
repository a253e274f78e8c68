"""Every order's workflow tells how far it is, tries again when it is asked, and gives a half up."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
import pytest_asyncio

from tests.workflows.house import House
from tests.workflows.test_attention import fails_with, progress
from tests.workflows.test_orders import order_id, trial
from twinline.messages import (
    AnyOrder,
    BlockEndStatus,
    BlockOrder,
    CancelOrder,
    CloseOrder,
    ExtensionOrder,
    HalfState,
    MoveOrder,
    Order,
    OrderKind,
    PasswordOrder,
    PurchaseOrder,
    RenewalOrder,
    TermStatus,
    UnblockOrder,
    block_end_workflow_id,
    order_kind,
    order_workflow_id,
    term_workflow_id,
)
from twinline.search_attributes import CALLER, HOSTS, LINE_ID

OSCAM = "os-eu1"
CASE = "AB-1"

Build = Callable[[House], Awaitable[AnyOrder]]


@pytest_asyncio.fixture
async def real_house(impatient_house: House) -> AsyncIterator[House]:
    """A house in real time, whose hosts are well before and after."""
    yield impatient_house
    for host in impatient_house.hosts.values():
        host.heal()


async def _line(house: House) -> str:
    return (await house.order(trial())).username


async def _trial(house: House) -> Order:
    return trial()


async def _purchase(house: House) -> Order:
    return PurchaseOrder(caller="shop", order=order_id(), line=await _line(house), days=30)


async def _renewal(house: House) -> Order:
    return RenewalOrder(caller="shop", order=order_id(), line=await _line(house), days=30)


async def _extension(house: House) -> AnyOrder:
    return ExtensionOrder(caller="shop", order=order_id(), line=await _line(house), days=1)


async def _block(house: House) -> Order:
    return BlockOrder(caller="abuse", case=CASE, line=await _line(house), reason="Shared")


async def _unblock(house: House) -> Order:
    line = await _line(house)
    await house.order(BlockOrder(caller="abuse", case=CASE, line=line, reason="Shared"))
    return UnblockOrder(caller="abuse", case=CASE, line=line)


async def _password(house: House) -> Order:
    return PasswordOrder(caller="shop", order=order_id(), line=await _line(house))


async def _move(house: House) -> Order:
    return MoveOrder(caller="shop", order=order_id(), line=await _line(house), pair="us1", overlap_hours=0)


async def _close(house: House) -> Order:
    return CloseOrder(caller="shop", order=order_id(), line=await _line(house))


async def _cancel(house: House) -> Order:
    order = trial()
    await house.order(order)
    return CancelOrder(caller="shop", order=order.order, of=OrderKind.TRIAL, reason="refunded")


ORDERS: dict[OrderKind, Build] = {
    OrderKind.TRIAL: _trial,
    OrderKind.PURCHASE: _purchase,
    OrderKind.RENEWAL: _renewal,
    OrderKind.EXTENSION: _extension,
    OrderKind.BLOCK: _block,
    OrderKind.UNBLOCK: _unblock,
    OrderKind.PASSWORD: _password,
    OrderKind.MOVE: _move,
    OrderKind.CLOSE: _close,
    OrderKind.CANCEL: _cancel,
}


# An import is an order only of an item that the ledger has; tests/workflows/test_bulk.py.
@pytest.mark.parametrize("kind", sorted(set(OrderKind) - {OrderKind.IMPORT}))
async def test_an_order_tells_how_far_it_is_tries_when_asked_and_ends_without_a_half(
    real_house: House, kind: OrderKind
) -> None:
    house = real_house
    order = await ORDERS[kind](house)
    assert order_kind(order) is kind
    host = "os-us1" if kind is OrderKind.MOVE else OSCAM
    house.hosts[host].down_for_attempts = 10_000
    workflow_id = order_workflow_id(order)
    await house.start(order)

    before = await progress(house, order, fails_with("HostUnreachable"))
    tried = await house.twinline.retry_now(workflow_id, patience=timedelta(seconds=20))
    given_up = await house.twinline.abandon_half(workflow_id, host=host, reason="the box was sold")
    receipt = await house.order(order)

    assert tried is not None
    assert given_up is not None
    tries = [{half.host: half.attempts for half in halves}[host] for halves in (before.halves, tried)]
    assert tries[1] > tries[0]
    assert {half.host: half.state for half in given_up}[host] is HalfState.ABANDONED
    states = {half.host: half.state for half in receipt.halves}
    assert states.pop(host) is HalfState.ABANDONED
    assert set(states.values()) <= {HalfState.APPLIED, HalfState.REMOVED}
    found = (await house.client.get_workflow_handle(workflow_id).describe()).typed_search_attributes
    assert (found.get(LINE_ID), found.get(CALLER)) == (receipt.line, order.caller)
    assert sorted(found.get(HOSTS) or ()) == sorted(half.host for half in receipt.halves)


async def test_the_end_of_a_grant_and_of_a_block_tell_when_they_come(house: House) -> None:
    receipt = await house.order(trial())
    line = await house.line(receipt.username)
    block = BlockOrder(
        caller="abuse", case=CASE, line=line.username, reason="Shared", until=line.ends_at - timedelta(hours=1)
    )
    await house.order(block)
    term = house.client.get_workflow_handle(term_workflow_id(receipt.line, line.grants[0].grant_id))
    until = house.client.get_workflow_handle(block_end_workflow_id(block))

    end = await term.query("progress", result_type=TermStatus)
    lifting = await until.query("progress", result_type=BlockEndStatus)

    assert (end.line_id, end.ends_at, end.outcome) == (receipt.line, line.ends_at, None)
    assert (lifting.case, lifting.until, lifting.lifted_by) == (CASE, block.until, None)
    assert (await term.describe()).typed_search_attributes.get(LINE_ID) == receipt.line
    assert house.skipper is not None
    await house.skipper.fast_forward(term)
    await term.result()
    ended = await term.query("progress", result_type=TermStatus)
    assert ended.outcome == "ended"
    assert [half.state for half in ended.halves] == [HalfState.REMOVED, HalfState.REMOVED]
    await until.terminate("it is not asked about any more")
