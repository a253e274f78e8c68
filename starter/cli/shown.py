"""Commands that show lines and orders."""

from typing import Annotated

import typer

from starter.cli import completing, options
from starter.cli.orders import STOPPED
from starter.cli.running import confirm, perform
from twinline.messages import OrderKind

Kind = Annotated[OrderKind | None, typer.Option("--kind", help="Only orders of this kind.")]

_ID_HELP = "Your own id of the order, or the case of a block."
AnOrder = Annotated[str, typer.Argument(metavar="ID", help=_ID_HELP, autocompletion=completing.orders)]
WhichOpen = Annotated[str, typer.Argument(metavar="ID", help=_ID_HELP, autocompletion=completing.open_orders)]
OfBlock = Annotated[str | None, options.line_option("The line of a block or unblock, if several have it.")]
WhichOrder = Annotated[str | None, typer.Argument(metavar="ID", help=_ID_HELP, autocompletion=completing.open_orders)]
OfLine = Annotated[str | None, options.line_option("All that waits for this line; with ID: the line of a block.")]

order_app = typer.Typer(help="Show orders, and help those on that wait for a person.", no_args_is_help=True)
line_app = typer.Typer(help="Show lines.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(order_app, name="order")
    app.add_typer(line_app, name="line")


@order_app.command("show")
def show_order(
    order: AnOrder,
    *,
    kind: Kind = None,
    line: OfBlock = None,
    caller: options.Caller = "cli",
    as_json: options.AsJson = False,
) -> None:
    """Tell how far an order is, and what keeps it from going on.

    Example: twinline order show A-17 --kind block --line k7mq3xw9ab
    """
    from starter.cli.orders_shown import OrderName, show_order

    name = OrderName(ref=order, caller=caller, kind=kind, line=line)
    perform(show_order(name, as_json=as_json), as_json=as_json)


@order_app.command("watch")
def watch_order(
    order: WhichOpen,
    *,
    kind: Kind = None,
    line: OfBlock = None,
    caller: options.Caller = "cli",
    timeout: options.Timeout = None,
    as_json: options.AsJson = False,
) -> None:
    """Wait until an order is done, and show meanwhile how its halves stand; then as `order show`.

    Example: twinline order watch T-17 --timeout 600
    """
    from starter.cli.orders_shown import OrderName, watch_order
    from starter.cli.placing import Waiting

    name = OrderName(ref=order, caller=caller, kind=kind, line=line)
    perform(watch_order(name, Waiting(timeout, no_wait=False), as_json=as_json), as_json=as_json, stopped=STOPPED)


@order_app.command("list")
def list_orders(
    *,
    kind: Kind = None,
    line: Annotated[str | None, options.line_option("Only orders of this line.")] = None,
    caller: Annotated[str | None, typer.Option("--caller", metavar="NAME", help="Only orders of this caller.")] = None,
    is_open: Annotated[
        bool | None, typer.Option("--open/--settled", help="Only orders that still go on, or only finished ones.")
    ] = None,
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Only what waits for a person, or is late, with what to do.")
    ] = (False),
    host: Annotated[str | None, options.host_option("With --stuck: only what waits for this host.")] = None,
    limit: options.Limit = 100,
    cursor: options.Cursor = None,
    as_json: options.AsJson = False,
) -> None:
    """List orders, the newest first; with --stuck what waits for a person, the longest first.

    Example: twinline order list --stuck --host os-eu1
    """
    if stuck and (kind, caller, is_open, cursor) != (None,) * 4:
        raise typer.BadParameter("--stuck goes with --host, --line and --limit only")
    if host is not None and not stuck:
        raise typer.BadParameter("--host goes with --stuck")
    if stuck:
        from starter.cli.orders_stuck import list_stuck

        perform(list_stuck(host=host, line=line, limit=limit, as_json=as_json), as_json=as_json)
    from starter.cli.orders_shown import list_orders

    settled = None if is_open is None else not is_open
    work = list_orders(
        kind=kind, line=line, caller=caller, settled=settled, limit=limit, cursor=cursor, as_json=as_json
    )
    perform(work, as_json=as_json)


@order_app.command("retry")
def retry_order(
    order: WhichOrder = None,
    *,
    kind: Kind = None,
    line: OfLine = None,
    all_stuck: Annotated[bool, typer.Option("--all-stuck", help="Everything that waits for a person.")] = False,
    host: Annotated[str | None, options.host_option("With --all-stuck: only what waits for this host.")] = None,
    caller: options.Caller = "cli",
    actor: options.Actor = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Try now what waits, once its cause is repaired: an order, all that waits for a line, or all that is stuck.

    Example: twinline order retry T-17
    Example: twinline order retry --all-stuck --host os-eu1
    """
    from starter.cli.orders_asked import Chosen, retry
    from starter.cli.orders_shown import OrderName
    from starter.cli.placing import Waiting

    name = None if order is None else OrderName(ref=order, caller=caller, kind=kind, line=line)
    chosen = Chosen(name=name, line=line if order is None else None, all_stuck=all_stuck, host=host)
    perform(retry(chosen, Waiting(timeout, no_wait), actor=actor, as_json=as_json), as_json=as_json)


@order_app.command("abandon")
def abandon_half(
    order: WhichOrder = None,
    *,
    host: Annotated[str, options.host_option("Whose half to give up.")],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="One line, kept for ever; let it name no customer.")
    ],
    kind: Kind = None,
    line: OfLine = None,
    yes: options.Yes = False,
    caller: options.Caller = "cli",
    actor: options.Actor = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Let an order end without one of its halves; it is repaired later if that can be done.

    Example: twinline order abandon T-17 --host os-eu1 --reason "the box was sold"
    """
    which = order or line
    if which is None:
        raise typer.BadParameter("give the order's ID, or --line for all that waits for a line")
    confirm(f"Give up the half on {host}, and let {which} end without it?", yes=yes, as_json=as_json)
    from starter.cli.orders_asked import Chosen, abandon
    from starter.cli.orders_shown import OrderName
    from starter.cli.placing import Waiting

    name = None if order is None else OrderName(ref=order, caller=caller, kind=kind, line=line)
    chosen = Chosen(name=name, line=line if order is None else None)
    work = abandon(chosen, Waiting(timeout, no_wait), host=host, reason=reason, actor=actor, as_json=as_json)
    perform(work, as_json=as_json)


@order_app.command("cancel")
def cancel_order(
    order: AnOrder,
    *,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="One line, kept for ever; let it name no customer.")
    ],
    kind: Kind = None,
    yes: options.Yes = False,
    caller: options.Caller = "cli",
    actor: options.Actor = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Take back what is left of the time that an order gave, or a move that is not over; it may be long finished.

    Example: twinline order cancel R-17 --reason "refunded"
    """
    confirm(f"Cancel order {order} of {caller}?", yes=yes, as_json=as_json)
    from starter.cli.orders_cancelled import cancel
    from starter.cli.orders_shown import OrderName
    from starter.cli.placing import Waiting

    name = OrderName(ref=order, caller=caller, kind=kind, line=None)
    work = cancel(name, Waiting(timeout, no_wait), reason=reason, actor=actor, as_json=as_json)
    perform(work, as_json=as_json)


@line_app.command("show")
def show_line(
    line: options.Line,
    *,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the password too.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show a line: its end, its halves, its blocks and its grants.

    Example: twinline line show k7mq3xw9ab --reveal
    """
    from starter.cli.lines_shown import show_line

    perform(show_line(line, reveal=reveal, as_json=as_json), as_json=as_json)


@line_app.command("events")
def list_events(
    line: options.Line,
    *,
    limit: options.Limit = 100,
    cursor: options.Cursor = None,
    as_json: options.AsJson = False,
) -> None:
    """Tell what happened to a line, the newest first: who did what, why, and what it changed.

    Example: twinline line events k7mq3xw9ab
    """
    from starter.cli.lines_shown import list_events

    perform(list_events(line, limit=limit, cursor=cursor, as_json=as_json), as_json=as_json)


@line_app.command("list")
def list_lines(
    *,
    region: Annotated[str | None, options.region_option("Only lines of this region.")] = None,
    pair: Annotated[str | None, options.pair_option("Only lines of this pair.")] = None,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help="Only lines that must be present, blocked or absent."),
    ] = None,
    behind: Annotated[
        bool | None, typer.Option("--behind/--in-step", help="Only lines with a half still to be written, or without.")
    ] = None,
    limit: options.Limit = 100,
    cursor: options.Cursor = None,
    as_json: options.AsJson = False,
) -> None:
    """List lines by name.

    Example: twinline line list --region eu --state blocked
    """
    from starter.cli.lines_shown import list_lines

    work = list_lines(region=region, pair=pair, state=state, behind=behind, limit=limit, cursor=cursor, as_json=as_json)
    perform(work, as_json=as_json)
