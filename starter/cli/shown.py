"""Commands that show lines and orders."""

from typing import Annotated

import typer

from starter.cli import options
from starter.cli.running import perform
from twinline.messages import OrderKind

Kind = Annotated[OrderKind | None, typer.Option("--kind", help="Only orders of this kind.")]

order_app = typer.Typer(help="Show orders.", no_args_is_help=True)
line_app = typer.Typer(help="Show lines.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(order_app, name="order")
    app.add_typer(line_app, name="line")


@order_app.command("show")
def show_order(
    order: Annotated[str, typer.Argument(metavar="ID", help="Your own id of the order, or the case of a block.")],
    *,
    kind: Kind = None,
    line: Annotated[
        str | None, typer.Option("--line", metavar="LINE", help="The line of a block or unblock, if several have it.")
    ] = None,
    caller: options.Caller = "cli",
    as_json: options.AsJson = False,
) -> None:
    """Tell how far an order is, and what keeps it from going on."""
    from starter.cli.orders_shown import OrderName, show_order  # noqa: PLC0415 - the ledger would make help slow

    name = OrderName(ref=order, caller=caller, kind=kind, line=line)
    perform(show_order(name, as_json=as_json), as_json=as_json)


@order_app.command("list")
def list_orders(
    *,
    kind: Kind = None,
    line: Annotated[str | None, typer.Option("--line", metavar="LINE", help="Only orders of this line.")] = None,
    caller: Annotated[str | None, typer.Option("--caller", metavar="NAME", help="Only orders of this caller.")] = None,
    is_open: Annotated[
        bool | None, typer.Option("--open/--settled", help="Only orders that still go on, or only finished ones.")
    ] = None,
    limit: options.Limit = 100,
    cursor: options.Cursor = None,
    as_json: options.AsJson = False,
) -> None:
    """List orders, the newest first."""
    from starter.cli.orders_shown import list_orders  # noqa: PLC0415 - the ledger would make help slow

    settled = None if is_open is None else not is_open
    work = list_orders(
        kind=kind, line=line, caller=caller, settled=settled, limit=limit, cursor=cursor, as_json=as_json
    )
    perform(work, as_json=as_json)


@line_app.command("show")
def show_line(
    line: options.Line,
    *,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the password too.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show a line: its end, its halves, its blocks and its grants."""
    from starter.cli.lines_shown import show_line  # noqa: PLC0415 - the ledger would make help slow

    perform(show_line(line, reveal=reveal, as_json=as_json), as_json=as_json)


@line_app.command("list")
def list_lines(
    *,
    region: Annotated[str | None, typer.Option("--region", metavar="REGION", help="Only lines of this region.")] = None,
    pair: Annotated[str | None, typer.Option("--pair", metavar="PAIR", help="Only lines of this pair.")] = None,
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
    """List lines by name."""
    from starter.cli.lines_shown import list_lines  # noqa: PLC0415 - the ledger would make help slow

    work = list_lines(region=region, pair=pair, state=state, behind=behind, limit=limit, cursor=cursor, as_json=as_json)
    perform(work, as_json=as_json)
