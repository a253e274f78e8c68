"""Runs what a command does, and turns its errors into words and exit codes; light, so that help stays fast."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn, TextIO

import typer
from rich.text import Text

from starter.cli.render import Exit, err, exit_for, say, show_error, show_refusal
from twinline.errors import TwinlineError
from twinline.messages import Refusal

STOPPED = "Stopped."
NOT_DONE = "Nothing was done."


def confirm(question: str, *, yes: bool, as_json: bool = False) -> None:
    """Ask a person before what no other command takes back; leaves with 2 where nobody can be asked, with 4 on a no.

    Commands ask that end something for good, destroy it, or keep it for ever: docs/cli.md.
    """
    if yes:
        return
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        refused = Refusal(
            type="NotConfirmed",
            message=question,
            hint="Nobody can be asked here: add --yes if this is meant.",
            retryable=False,
        )
        show_refusal(refused, as_json=as_json)
        raise typer.Exit(Exit.USAGE)
    try:
        with _ctrl_c_interrupts():
            # Not typer.confirm: it also writes to standard output, which is for results.
            err().print(Text(f"{question} [y/N] "), end="", soft_wrap=True)
            # Whoever reads the question may press Ctrl-C before we wait for the answer.
            answer = sys.stdin.readline()
    except KeyboardInterrupt:
        say(f"\n{NOT_DONE}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    if answer.strip().lower() not in ("y", "yes"):
        # After Ctrl-D the cursor still stands behind the question.
        say(NOT_DONE if answer.endswith("\n") else f"\n{NOT_DONE}")
        raise typer.Exit(Exit.REFUSED)


@contextlib.contextmanager
def _ctrl_c_interrupts() -> Generator[None]:
    """Let Ctrl-C end the waiting at once: an event loop would note it, and go on waiting for the answer."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


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


def stay_up(work: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    """Run a command that stays up, with a log; why it ends stands there too, unless a person reads along."""
    from twinline import logs

    style: logs.Style = "text"
    try:
        style = logs.set_up()
        code = asyncio.run(work())
    except TwinlineError as error:
        logs.give_up(error, style=style)
        code = exit_for(error)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    raise typer.Exit(code)
