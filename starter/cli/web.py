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
    from starter.trial_door import TrialRules
    from twinline import logs
    from twinline.connect import logging_runtime, page_link
    from twinline.mail import DisposableDomains

    context = Context.load()
    stop = stop_on_signals()
    listener = listen(*context.settings.http_address)
    async with context.ledger() as ledger:
        settings = context.settings
        client = await context.temporal(runtime=logging_runtime())
        logs.set_up(settings.secrets, link=page_link(settings, client))
        trials = TrialRules(
            disposable=DisposableDomains(settings.disposable_domains), per_range=settings.trials_per_range
        )
        app = Telling(create_app(Desk(ledger, Twinline(client), trials=trials)))
        await serve(app, listener, ready=lambda: typer.echo("ready"), stop=stop, proxies=settings.proxies)
    return Exit.DONE
