"""Runs what a command does, and turns its errors into words and exit codes; light, so that help stays fast."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

import typer
from rich.text import Text

from starter.cli.render import Exit, err, exit_for, say, show_error
from twinline.errors import TwinlineError

STOPPED = "Stopped."


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person before something that is hard to undo; leaves with 2 where nobody can be asked, with 4 on a no."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        say(question, hint="Nobody can be asked here: add --yes if this is meant.", style="yellow")
        raise typer.Exit(Exit.USAGE)
    # Not typer.confirm: it also writes to standard output, which is for results.
    err().print(Text(f"{question} [y/N] "), end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        say("Nothing was done.")
        raise typer.Exit(Exit.REFUSED)


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
