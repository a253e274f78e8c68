"""`twinline web`: the HTTP API."""

import typer

from starter.cli.render import Exit
from starter.cli.running import stay_up


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(web)


def web() -> None:
    """Serve the HTTP API at TWINLINE_HTTP (127.0.0.1:8080) until SIGTERM or Ctrl-C; prints `ready` once it listens.

    It speaks plain HTTP: put a proxy with TLS in front of it. `twinline token create` makes the tokens.

    Example: TWINLINE_HTTP=127.0.0.1:8081 twinline web
    """
    stay_up(_web)


async def _web() -> int:
    from starter.api.app import create_app
    from starter.api.serving import listen, serve, stop_on_signals
    from starter.api.telling import Telling
    from starter.cli.context import Context
    from starter.client import Twinline
    from starter.desk import Desk
    from twinline import logs
    from twinline.connect import logging_runtime, page_link

    context = Context.load()
    stop = stop_on_signals()
    listener = listen(*context.settings.http_address)
    async with context.ledger() as ledger:
        client = await context.temporal(runtime=logging_runtime())
        logs.set_up(context.settings.secrets, link=page_link(context.settings, client))
        desk = Desk(ledger, Twinline(client))
        await serve(Telling(create_app(desk)), listener, ready=lambda: typer.echo("ready"), stop=stop)
    return Exit.DONE
