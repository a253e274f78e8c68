"""Shows orders: what the ledger keeps of them, and how far those are that still go on."""

from dataclasses import dataclass
from typing import Final

from starter import order_lookup
from starter.cli.context import Context
from starter.cli.placing import WAITING, Waiting, not_taken, say_since, show_status
from starter.cli.render import Exit, cells, moment, plain_table, say, show_json, show_refusal, show_table
from starter.cli.watching import watched
from starter.client import FoundOrder, Twinline
from starter.order_ids import OrderId
from twinline.errors import TwinlineError, Unavailable, UnknownOrder
from twinline.ledger.queries import OrderFilter
from twinline.ledger.queries import list_orders as find_orders
from twinline.messages import OrderKind, OrderStatus

LOOK_PATIENCE: Final = 2.0
"""Seconds to wait for Temporal when the ledger can tell most of it too."""


@dataclass(frozen=True, kw_only=True)
class OrderName:
    """What a person knows of an order."""

    ref: str
    caller: str
    kind: OrderKind | None
    line: str | None

    @property
    def id(self) -> OrderId:
        """The order's id, as far as it is known."""
        return OrderId.named(self.ref, kind=self.kind, line=self.line)


async def show_order(name: OrderName, *, as_json: bool) -> int:
    """Show one order; raises UnknownOrder, InvalidOrder (ambiguous), what refused it, Misconfigured, Unavailable."""
    context = Context.load()
    async with context.ledger() as ledger:
        try:
            view = await order_lookup.taken(ledger, name.id, caller=name.caller)
        except UnknownOrder:
            if not await _waits_in_temporal(context, name):
                raise
            show_refusal(not_taken(), as_json=as_json)
            return Exit.GOING_ON
        twinline = None if view.receipt is not None else await _reached(context)
        told = await order_lookup.tell(ledger, twinline, view)
        if not told.first_hand and twinline is not None:
            say("No worker answers for this order, so this is what the ledger knows.", style="yellow")
        status = OrderStatus(fingerprint="", done=told.done, receipt=told.receipt)
        code = show_status(status, as_json=as_json, page=context.page())
        await say_since(ledger, told.receipt, ended_at=view.settled_at)
        return code


async def watch_order(name: OrderName, waiting: Waiting, *, as_json: bool) -> int:
    """Wait for the end of an order and show it; raises as `show_order` does."""
    context = Context.load()
    patience = waiting.patience(context.settings.grace)
    workflow_id = await _going_on(context, name)
    if workflow_id is None:
        return await show_order(name, as_json=as_json)
    twinline = Twinline(await context.temporal())
    outcome = twinline.outcome(workflow_id, patience=patience)
    status = await watched(twinline, workflow_id, outcome, sentence=WAITING, quiet=as_json)
    if status is None:
        return await show_order(name, as_json=as_json)
    return show_status(status, as_json=as_json, page=context.page())


async def _going_on(context: Context, name: OrderName) -> str | None:
    """The workflow of an order that is not done; raises UnknownOrder, InvalidOrder (ambiguous), what refused it."""
    try:
        async with context.ledger() as ledger:
            view = await order_lookup.taken(ledger, name.id, caller=name.caller)
    except UnknownOrder:
        twinline = Twinline(await context.temporal(patience=LOOK_PATIENCE))
        found = await _untaken(twinline, name)
        if found is None:
            raise
        return found.workflow_id
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


async def _reached(context: Context) -> Twinline | None:
    """Temporal, if it answers; a person is told if it does not."""
    try:
        return Twinline(await context.temporal(patience=LOOK_PATIENCE))
    except TwinlineError as error:
        say(f"{error.message}, so this is what the ledger knows.", hint=error.hint, style="yellow")
        return None


async def _waits_in_temporal(context: Context, name: OrderName) -> bool:
    """Whether the order was placed and no worker has taken it; raises what refused it, Unavailable."""
    try:
        twinline = Twinline(await context.temporal(patience=LOOK_PATIENCE))
    except Unavailable as error:
        raise Unavailable(
            f"the ledger has no such order, and it may still wait in Temporal: {error.message}", hint=error.hint
        ) from None
    return await _untaken(twinline, name) is not None


async def _untaken(twinline: Twinline, name: OrderName) -> FoundOrder | None:
    """The order that no worker has taken yet; raises what refused it."""
    found = await order_lookup.untaken(twinline, name.id, caller=name.caller)
    if found is None or found.standing == "running":
        return found
    error = await order_lookup.refusal(twinline, found)
    if error is not None:
        raise error
    return None
