"""Shows orders: what the ledger keeps of them, and how far those are that still go on."""

import asyncio
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from starter.cli.context import Context
from starter.cli.invalid import invalid_order
from starter.cli.placing import WAITING, Waiting, not_taken, show_status
from starter.cli.render import Exit, cells, moment, plain_table, say, show_json, show_refusal, show_table
from starter.cli.watching import watched
from starter.client import Twinline
from starter.from_ledger import receipt_from_ledger
from twinline.errors import TwinlineError, UnknownOrder
from twinline.ledger import Ledger
from twinline.ledger.halves import line_progress
from twinline.ledger.queries import OrderFilter, OrderView, order_view
from twinline.ledger.queries import list_orders as find_orders
from twinline.messages import HalfState, OrderKind, OrderStatus, Receipt, UnblockOrder, order_ref

LOOK_PATIENCE: Final = 2.0
"""Seconds to wait for Temporal when the ledger can tell most of it too."""

_OF_A_CASE: Final = (OrderKind.BLOCK, OrderKind.UNBLOCK)

TAKEN_BACK: Final = (
    OrderKind.TRIAL,
    OrderKind.PURCHASE,
    OrderKind.RENEWAL,
    OrderKind.EXTENSION,
    OrderKind.IMPORT,
    OrderKind.MOVE,
)
"""The kinds of orders that may be cancelled."""


@dataclass(frozen=True, kw_only=True)
class OrderName:
    """What a person knows of an order; a block is told from others of its case by its line."""

    ref: str
    caller: str
    kind: OrderKind | None
    line: str | None

    @property
    def full_ref(self) -> str:
        """The order's reference as the ledger keeps it, as far as we know it; raises InvalidOrder."""
        if self.line is None or self.kind not in (None, *_OF_A_CASE):
            return self.ref
        try:
            return order_ref(UnblockOrder(caller=self.caller, case=self.ref, line=self.line))
        except ValidationError as error:
            raise invalid_order(error) from None

    def workflow_ids(self) -> tuple[str, ...]:
        """The workflows that this order may be."""
        if self.kind is OrderKind.CANCEL:
            return tuple(f"{OrderKind.CANCEL}/{self.caller}/{self.ref}/{of}" for of in TAKEN_BACK)
        kinds = tuple(kind for kind in OrderKind if self.kind in (None, kind) and kind is not OrderKind.CANCEL)
        if self.full_ref != self.ref:
            kinds = tuple(kind for kind in kinds if kind in _OF_A_CASE)
        return tuple(f"{kind}/{self.caller}/{self.full_ref}" for kind in kinds)


async def show_order(name: OrderName, *, as_json: bool) -> int:
    """Show one order; raises UnknownOrder, InvalidOrder (ambiguous), Misconfigured, Unavailable."""
    context = Context.load()
    async with context.ledger() as ledger:
        try:
            async with ledger.read() as tx:
                view = await order_view(tx, name.full_ref, caller=name.caller, kind=name.kind)
        except UnknownOrder:
            if not await _waits_in_temporal(context, name):
                raise
            show_refusal(not_taken(), as_json=as_json)
            return Exit.GOING_ON
        if view.receipt is not None:
            code = show_status(_status(view.receipt, done=True), as_json=as_json)
            await _tell_repairs(ledger, view.receipt)
            return code
        return await _show_open(context, ledger, view, as_json=as_json)


async def watch_order(name: OrderName, waiting: Waiting, *, as_json: bool) -> int:
    """Wait for the end of an order and show it; raises as `show_order` does, and what refused the order."""
    context = Context.load()
    patience = waiting.patience(context.settings.grace)
    workflow_id = await _going_on(context, name)
    if workflow_id is None:
        return await show_order(name, as_json=as_json)
    twinline = Twinline(await context.temporal())
    outcome = twinline.outcome(workflow_id, patience=patience)
    status = await watched(twinline, workflow_id, outcome, sentence=WAITING, quiet=as_json)
    return await show_order(name, as_json=as_json) if status is None else show_status(status, as_json=as_json)


async def _going_on(context: Context, name: OrderName) -> str | None:
    """The workflow of an order that is not done; raises UnknownOrder, InvalidOrder (ambiguous)."""
    try:
        async with context.ledger() as ledger, ledger.read() as tx:
            view = await order_view(tx, name.full_ref, caller=name.caller, kind=name.kind)
    except UnknownOrder:
        running = await running_in_temporal(Twinline(await context.temporal(patience=LOOK_PATIENCE)), name)
        if not running:
            raise
        return running[0]
    return view.workflow_id if view.receipt is None else None


async def list_orders(
    *,
    kind: OrderKind | None,
    line: str | None,
    caller: str | None,
    settled: bool | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
) -> int:
    """List orders; raises InvalidOrder (no such cursor), Misconfigured, Unavailable."""
    wanted = OrderFilter(kind=kind, caller=caller, username=line, settled=settled)
    async with Context.load().ledger() as ledger, ledger.read() as tx:
        page = await find_orders(tx, wanted, cursor=cursor, limit=limit)
    if as_json:
        show_json(page)
        return Exit.DONE
    table = plain_table("order", "kind", "caller", "line", "taken", "settled")
    for view in page.orders:
        settled_at = "still goes on" if view.settled_at is None else moment(view.settled_at)
        if view.cancelled_at is not None:
            settled_at = f"cancelled {moment(view.cancelled_at)}"
        own_id = view.ref.partition("/")[0]
        table.add_row(*cells(own_id, view.kind, view.caller, view.username, moment(view.created_at), settled_at))
    if page.orders:
        show_table(table)
    else:
        say("No order is like that.")
    if page.cursor is not None:
        say(f"There are more: add --cursor '{page.cursor}'")
    return Exit.DONE


async def _show_open(context: Context, ledger: Ledger, view: OrderView, *, as_json: bool) -> int:
    try:
        live = await Twinline(await context.temporal(patience=LOOK_PATIENCE)).progress(view.workflow_id)
    except TwinlineError as error:
        say(f"{error.message}, so this is what the ledger knows.", hint=error.hint, style="yellow")
        live = None
    else:
        if live is None or live.receipt is None:
            say("No worker answers for this order, so this is what the ledger knows.", style="yellow")
    if live is None or live.receipt is None:
        live = _status(await receipt_from_ledger(ledger, view), done=False)
    return show_status(live, as_json=as_json)


async def _tell_repairs(ledger: Ledger, receipt: Receipt) -> None:
    """A receipt keeps what was true at its end; a half that was given up then may work by now."""
    given_up = {half.host for half in receipt.halves if half.state is HalfState.ABANDONED}
    if not given_up:
        return
    async with ledger.read() as tx:
        halves = await line_progress(tx, receipt.line)
    for half in halves:
        if half.host in given_up and half.proven == half.wanted:
            say(f"Since then {half.host} was brought in step again: it is {half.state}.")


def _status(receipt: Receipt, *, done: bool) -> OrderStatus:
    return OrderStatus(fingerprint="", done=done, receipt=receipt)


async def _waits_in_temporal(context: Context, name: OrderName) -> bool:
    """Whether the order was placed and no worker has taken it; no answer counts as no."""
    try:
        twinline = Twinline(await context.temporal(patience=LOOK_PATIENCE))
    except TwinlineError:
        return False
    return bool(await running_in_temporal(twinline, name))


async def running_in_temporal(twinline: Twinline, name: OrderName) -> tuple[str, ...]:
    """The workflows of that order that run; no answer counts as none."""
    ids = name.workflow_ids()
    found = await asyncio.gather(*(twinline.standing(workflow_id) for workflow_id in ids))
    return tuple(workflow_id for workflow_id, standing in zip(ids, found, strict=True) if standing == "running")
