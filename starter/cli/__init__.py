"""The command line: the console script `twinline`.

Commands are declared in light modules (`orders`, `shown`, `hosts`) whose bodies import what they need when they
run, so that `twinline --help` and a slip in an option are answered at once.
"""

import asyncio
import io
import logging
import os
import sys
from pathlib import Path
from typing import TextIO

import typer

from starter.cli import (
    bash_words,
    bulk,
    codec,
    drift,
    erase,
    hosts,
    keys,
    option_words,
    orders,
    root,
    shown,
    tokens,
    web,
    world,
)
from starter.cli.render import Exit

app = typer.Typer(
    name="twinline",
    cls=root.Root,
    callback=root.options,
    epilog=root.EXIT_CODES,
    no_args_is_help=True,
    # Local variables hold passwords and addresses.
    pretty_exceptions_show_locals=False,
)
orders.register(app)
shown.register(app)
hosts.register(app)
drift.register(app)
bulk.register(app)
keys.register(app)
codec.register(app)
erase.register(app)
tokens.register(app)
web.register(app)
world.register(app)


@app.command()
def worker() -> None:
    """Work on orders until SIGTERM or Ctrl-C; prints `ready` once it polls.

    Example: twinline worker
    """
    import worker as process

    raise typer.Exit(asyncio.run(process.run()))


def main() -> None:
    """Entry point of the console script; leaves without interpreter finalisation, which Temporal's SDK may abort."""
    _let_streams_take_everything()
    if os.environ.get("NO_COLOR"):
        root.without_colours()
    code = 1
    try:
        with bash_words.taken_together(), option_words.completed():
            app()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
        if isinstance(leaving.__context__, BrokenPipeError):
            code = Exit.NOBODY_READS
    except Exception as error:  # noqa: BLE001 - shown as Python would show it, before we leave the hard way
        sys.excepthook(type(error), error, error.__traceback__)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Whoever read our output may have gone; there is nobody left to tell.
            code = code or Exit.NOBODY_READS
    os._exit(code)


def _as_found(name: str) -> TextIO | None:
    """A stream of ours; pyright takes it for always there, and `>&-` makes it None."""
    return getattr(sys, name)


def _nowhere() -> TextIO:
    """Open as long as the process lives, as a stream of it is."""
    return Path(os.devnull).open("w")


def _let_streams_take_everything() -> None:
    """A closed stream swallows, and a character that the locale does not have becomes a question mark."""
    sys.stdout, sys.stderr = (stream or _nowhere() for stream in (_as_found("stdout"), _as_found("stderr")))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
