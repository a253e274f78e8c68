"""Cancels an order, be it running or long finished."""

from pydantic import ValidationError

from starter import order_lookup
from starter.cli.context import CONNECT_PATIENCE, Context
from starter.cli.invalid import lasting_option
from starter.cli.orders_shown import OrderName
from starter.cli.placing import Waiting, show_status
from starter.cli.render import Exit, say, show_json
from starter.cli.watching import watched
from starter.client import Twinline
from twinline.messages import CancelOrder, Message, OrderKind, OrderStatus, order_workflow_id


class Withdrawn(Message):
    """What `order cancel --json` prints when there is no receipt: the order was cancelled before it was taken."""

    order: str
    kind: OrderKind
    withdrawn: bool = True


async def cancel(name: OrderName, waiting: Waiting, *, reason: str, actor: str, as_json: bool) -> int:
    """Cancel an order and show what came of it; raises TwinlineError."""
    # The kind matters for nothing yet; what else was typed is told before anybody is asked.
    _order(name, OrderKind.TRIAL, reason=reason, actor=actor)
    context = Context.load()
    patience = waiting.patience(context.settings.grace)
    client = await context.temporal(patience=CONNECT_PATIENCE)
    twinline = Twinline(client)
    async with context.ledger() as ledger:
        kind = await order_lookup.kind_of(ledger, twinline, name.id, caller=name.caller)
    order = _order(name, kind, reason=reason, actor=actor)
    placed = twinline.place(order, patience=patience)
    status = await watched(
        twinline, order_workflow_id(order), placed, sentence="waiting until its hosts have followed", quiet=as_json
    )
    return _show(order, status, as_json=as_json)


def _order(name: OrderName, kind: OrderKind, *, reason: str, actor: str) -> CancelOrder:
    try:
        return CancelOrder(caller=name.caller, order=name.id.own, of=kind, reason=reason, actor=actor)
    except ValidationError as error:
        raise lasting_option(error) from None


def _show(order: CancelOrder, status: OrderStatus, *, as_json: bool) -> Exit:
    if not status.done or status.receipt is not None:
        return show_status(status, as_json=as_json)
    if as_json:
        show_json(Withdrawn(order=order.order, kind=order.of))
    else:
        say("It was cancelled before it was taken: nothing was given, and nobody was told.", style="green")
    return Exit.DONE
