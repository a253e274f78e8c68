"""The command line: the console script `twinline`.

Commands are declared in light modules (`orders`, `shown`, `hosts`) whose bodies import what they need when they
run, so that `twinline --help` and a slip in an option are answered at once.
"""

import asyncio
import contextlib
import logging
import os
import sys

import typer

from starter.cli import codec, drift, erase, hosts, keys, orders, shown, tokens, web, world

app = typer.Typer(
    name="twinline",
    help="Keeps each customer's line in step on a MultiCS and an OSCam host.",
    epilog="Exit codes: 0 done, 2 usage, 3 not found, 4 refused or conflict, 5 partly done or still going on, "
    "6 unavailable.",
    no_args_is_help=True,
    add_completion=False,
    # Local variables hold passwords and addresses.
    pretty_exceptions_show_locals=False,
)
orders.register(app)
shown.register(app)
hosts.register(app)
drift.register(app)
keys.register(app)
codec.register(app)
erase.register(app)
tokens.register(app)
web.register(app)
world.register(app)


@app.command()
def worker() -> None:
    """Work on orders until SIGTERM or Ctrl-C; prints `ready` once it polls."""
    import worker as process

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    raise typer.Exit(asyncio.run(process.run()))


def main() -> None:
    """Entry point of the console script; leaves without interpreter finalisation, which Temporal's SDK may abort."""
    code = 1
    try:
        app()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except Exception as error:  # noqa: BLE001 - shown as Python would show it, before we leave the hard way
        sys.excepthook(type(error), error, error.__traceback__)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # Whoever read our output may have gone; there is nobody left to tell.
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)
