"""`twinline web`: the HTTP API."""

import logging

import typer

from starter.cli.render import Exit
from starter.cli.running import perform


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(web)


def web() -> None:
    """Serve the HTTP API at TWINLINE_HTTP (127.0.0.1:8080) until SIGTERM or Ctrl-C; prints `ready` once it listens.

    It speaks plain HTTP: put a proxy with TLS in front of it. `twinline token create` makes the tokens.

    Example: TWINLINE_HTTP=127.0.0.1:8081 twinline web
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    perform(_web(), as_json=False)


async def _web() -> int:
    from starter.api.app import create_app
    from starter.api.serving import listen, serve, stop_on_signals
    from starter.cli.context import Context
    from starter.client import Twinline
    from starter.desk import Desk

    context = Context.load()
    stop = stop_on_signals()
    listener = listen(*context.settings.http_address)
    async with context.ledger() as ledger:
        desk = Desk(ledger, Twinline(await context.temporal()))
        await serve(create_app(desk), listener, ready=lambda: typer.echo("ready"), stop=stop)
    return Exit.DONE
