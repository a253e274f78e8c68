"""Looks an order up: the ledger has all that were taken, Temporal those that nobody has taken yet."""

from collections.abc import Callable
from dataclasses import dataclass

from starter.client import OUTCOME_PATIENCE, FoundOrder, Twinline
from starter.from_ledger import receipt_from_ledger
from starter.order_ids import OrderId
from twinline.errors import TwinlineError, UnknownOrder
from twinline.ledger import Ledger
from twinline.ledger.halves import HalfProgress, line_progress
from twinline.ledger.queries import OrderView, order_view
from twinline.messages import HalfState, OrderKind, Receipt


@dataclass(frozen=True, kw_only=True)
class Told:
    """How far an order is that was taken."""

    receipt: Receipt
    done: bool
    first_hand: bool
    """Whether the order tells it, or its end is on record; else it is what the ledger knows of its halves and mail."""


async def taken(ledger: Ledger, name: OrderId, *, caller: str) -> OrderView:
    """The order as it was recorded; raises UnknownOrder, InvalidOrder (ambiguous), Unavailable."""
    async with ledger.read() as tx:
        return await order_view(tx, name.ref, caller=caller, kind=name.kind)


async def untaken(
    twinline: Twinline, name: OrderId, *, caller: str, may_be: Callable[[OrderId], bool] = lambda _: True
) -> FoundOrder | None:
    """The order that stands in Temporal alone, one that runs rather than one that was refused; raises Unavailable."""
    for found in await twinline.find(name, caller=caller, may_be=may_be):
        # A cancellation that is done, and that the ledger does not know, has kept the order from being taken.
        if found.standing != "done" or found.kind is OrderKind.CANCEL:
            return found
    # No answer is not the same as no order.
    await twinline.require_answer()
    return None


async def refusal(twinline: Twinline, order: FoundOrder) -> TwinlineError | None:
    """What refused the order; its id is free again."""
    if order.standing != "refused":
        return None
    try:
        await twinline.outcome(order.workflow_id, patience=OUTCOME_PATIENCE)
    except TwinlineError as error:
        return error
    return None


async def kind_of(ledger: Ledger, twinline: Twinline, name: OrderId, *, caller: str) -> OrderKind:
    """What an order asks for, taken or not yet; raises UnknownOrder, InvalidOrder (ambiguous), Unavailable."""
    try:
        return (await taken(ledger, name, caller=caller)).kind
    except UnknownOrder:
        if name.kind not in (None, OrderKind.CANCEL):
            # It may have been withdrawn before; asking for that again changes nothing.
            return name.kind
        found = await untaken(twinline, name, caller=caller)
        if found is None or found.standing != "running":
            raise
        return found.kind


async def tell(ledger: Ledger, twinline: Twinline | None, view: OrderView) -> Told:
    """How far an order is; without Temporal, or where no worker answers, by the ledger alone. Raises Unavailable."""
    if view.receipt is not None:
        return Told(receipt=view.receipt, done=True, first_hand=True)
    status = None if twinline is None else await twinline.progress(view.workflow_id)
    if status is not None and status.receipt is not None:
        return Told(receipt=status.receipt, done=status.done, first_hand=True)
    receipt = await receipt_from_ledger(ledger, view)
    return Told(receipt=receipt, done=status is not None and status.done, first_hand=False)


@dataclass(frozen=True, kw_only=True)
class Since:
    """What became of a line after one of its orders had ended as its receipt says."""

    changed: bool
    """Whether hosts must hold something else by now."""
    repaired: tuple[HalfProgress, ...]
    """Halves that the order ended without, and that were brought in step afterwards."""


async def since(ledger: Ledger, receipt: Receipt) -> Since:
    """What a receipt does not tell, because it came later; raises Unavailable."""
    async with ledger.read() as tx:
        halves = await line_progress(tx, receipt.line)
    told = {half.host: half.revision for half in receipt.halves if half.state in (HalfState.APPLIED, HalfState.REMOVED)}
    given_up = {half.host for half in receipt.halves if half.state is HalfState.ABANDONED}
    return Since(
        changed=any(half.host in told and half.wanted > told[half.host] for half in halves),
        repaired=tuple(half for half in halves if half.host in given_up and half.proven == half.wanted),
    )
