"""Runs what a command does, and turns its errors into words and exit codes; light, so that help stays fast."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn

import typer

from starter.cli.render import Exit, exit_for, say, show_error
from twinline.errors import TwinlineError

STOPPED = "Stopped."


def perform(work: Coroutine[Any, Any, int], *, as_json: bool, stopped: str = STOPPED) -> NoReturn:
    """Run a command to its end and leave with its exit code; `stopped` is said after Ctrl-C."""
    try:
        code = asyncio.run(work)
    except TwinlineError as error:
        show_error(error, as_json=as_json)
        code = exit_for(error)
    except KeyboardInterrupt:
        say(stopped)
        code = Exit.INTERRUPTED
    raise typer.Exit(code)
