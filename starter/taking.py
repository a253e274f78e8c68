"""Waits for what becomes of an order: for its end, or only until it is known to be taken or refused."""

import asyncio
from datetime import timedelta
from typing import Final

from starter import order_lookup
from starter.client import Twinline
from starter.order_ids import OrderId
from twinline.errors import OrderCancelled, UnknownOrder
from twinline.ledger import Ledger
from twinline.ledger.filing import earlier_order
from twinline.messages import Order, OrderStatus

TAKEN_WITHIN: Final = timedelta(seconds=0.5)
"""How long to wait at most for an order to be taken or refused; it is safe all the same."""
LOOKS: Final = (0.1, 0.15)
"""Seconds before each look into the ledger; a worker that has nothing else to do takes an order in less."""


async def place(
    ledger: Ledger, twinline: Twinline, order: Order, *, as_taken: Order, new: bool, patience: timedelta | None
) -> OrderStatus:
    """Place an order and wait at most `patience` for its end; without any, until the ledger has taken it.

    `as_taken` is the order in the form in which the ledger keeps it, `new` whether the ledger did not have it before.
    How far it is by then is what the ledger knows: no worker is asked, who may be busy. Raises as `Twinline.place`
    does.
    """
    if patience is not None:
        status = await twinline.place(order, patience=patience, ask_worker=False)
        untaken = new and patience <= timedelta(0)
    else:
        status = await _taken_or_over(ledger, twinline, order, as_taken, new=new)
        untaken = False
    return status if untaken or status.receipt is not None else await _from_ledger(ledger, order) or status


async def _taken_or_over(
    ledger: Ledger, twinline: Twinline, order: Order, as_taken: Order, *, new: bool
) -> OrderStatus:
    placing = asyncio.create_task(twinline.place(order, patience=TAKEN_WITHIN, ask_worker=False))
    try:
        # One that the ledger had before may have to run again.
        for pause in LOOKS if new else ():
            await asyncio.wait((placing,), timeout=pause)
            if placing.done():
                break
            if await _is_taken(ledger, as_taken):
                return OrderStatus(fingerprint=order.fingerprint(), done=False)
        return await placing
    finally:
        placing.cancel()


async def _is_taken(ledger: Ledger, order: Order) -> bool:
    """Raises OrderConflict."""
    async with ledger.read() as tx:
        try:
            return await earlier_order(tx, order) is not None
        except OrderCancelled:
            # Its workflow is about to say so.
            return False


async def _from_ledger(ledger: Ledger, order: Order) -> OrderStatus | None:
    try:
        view = await order_lookup.taken(ledger, OrderId.of(order), caller=order.caller)
    except UnknownOrder:
        return None
    told = await order_lookup.tell(ledger, None, view)
    return OrderStatus(fingerprint=order.fingerprint(), done=told.done, receipt=told.receipt)
