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
    from twinline.connect import page_link, run_link, watched_runtime
    from twinline.mail import DisposableDomains
    from twinline.metrics_port import MetricsPort, Readiness

    context = Context.load()
    stop = stop_on_signals()
    listener = listen(*context.settings.http_address)
    async with context.ledger() as ledger:
        settings = context.settings
        core = watched_runtime()
        client = await context.temporal(runtime=core.runtime)
        logs.set_up(settings.secrets, link=run_link(settings, client))
        trials = TrialRules(
            disposable=DisposableDomains(settings.disposable_domains), per_range=settings.trials_per_range
        )
        page = page_link(settings, client)
        desk = Desk(ledger, Twinline(client), trials=trials, page=page, grace=settings.grace)

        async def ready() -> Readiness:
            found = await desk.readiness()
            return Readiness(ready=found.ready, reasons=found.model_dump(exclude={"ready"}))

        port = MetricsPort(
            settings.web_metrics_address,
            variable="TWINLINE_WEB_METRICS",
            # What waits in the ledger is told by workers.
            ledger=None,
            ready=ready,
            sdk=core.metrics,
        )
        with port:
            app = Telling(create_app(desk))
            await serve(app, listener, ready=lambda: typer.echo("ready"), stop=stop, proxies=settings.proxies)
    return Exit.DONE
