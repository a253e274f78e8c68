"""How the command line speaks: words on a terminal, JSON for machines, and the exit code of an error.

With `--json` a command writes exactly one JSON value to standard output: its result, or the error as
`{type, message, hint, retryable}`, so that a machine has one place to read. What the shell words themselves get
wrong (an unknown option, a missing one) is told by the parser on standard error, with exit code 2.
"""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from twinline.errors import Category, TwinlineError
from twinline.messages import BlockInfo, Refusal

_WIDTH_WITHOUT_TERMINAL: Final = 160
"""Columns for output that no terminal shows: a file has no width, and folded cells are hard to search."""


class Exit(IntEnum):
    """What exit codes mean; 1 is left to mistakes of our own."""

    DONE = 0
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    GOING_ON = 5
    UNAVAILABLE = 6
    INTERRUPTED = 130


_EXITS: Final = {
    Category.USAGE: Exit.USAGE,
    Category.NOT_FOUND: Exit.NOT_FOUND,
    Category.REFUSED: Exit.REFUSED,
    Category.UNAVAILABLE: Exit.UNAVAILABLE,
}


def exit_for(error: TwinlineError) -> Exit:
    """The exit code of an error."""
    return _EXITS[error.category]


def out() -> Console:
    """Standard output, for people."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error, for people."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    # Markup off: sentences carry names and reasons from outside, and "[red]" in them is text.
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_WITHOUT_TERMINAL
    return console


def say(sentence: str, *, hint: str = "", style: str = "") -> None:
    """Tell a person something beside the result, on standard error."""
    console = err()
    console.print(Text(sentence, style=style), soft_wrap=True)
    if hint:
        console.print(Text(f"  {hint}", style="dim"), soft_wrap=True)


def show_json(value: BaseModel | str) -> None:
    """Write one JSON value (a model, or text that is JSON already) to standard output."""
    text = value if isinstance(value, str) else value.model_dump_json()
    sys.stdout.write(text + "\n")


def show_refusal(refusal: Refusal, *, as_json: bool) -> None:
    """Tell what went wrong: one JSON object on standard output, or sentence and hint on standard error."""
    if as_json:
        show_json(refusal)
    else:
        say(refusal.message, hint=refusal.hint, style="red")


def show_error(error: TwinlineError, *, as_json: bool) -> None:
    """Tell an error of the house, as `show_refusal` does."""
    refusal = Refusal(type=error.type, message=error.message, hint=error.hint, retryable=error.retryable)
    show_refusal(refusal, as_json=as_json)


def plain_table(*columns: str) -> Table:
    """A table without frame; the first column is never cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    return table


def cells(*texts: str) -> Sequence[Text]:
    """Table cells in which nothing is taken for markup."""
    return [Text(text) for text in texts]


def moment(when: datetime) -> str:
    """A point in time as this machine's clock shows it, with UTC where that differs."""
    here, there = when.astimezone(), when.astimezone(UTC)
    universal = f"{there:%Y-%m-%d %H:%M} UTC"
    if here.utcoffset() == there.utcoffset():
        return universal
    return f"{here:%Y-%m-%d %H:%M %Z} ({universal})"


def block_line(block: BlockInfo) -> str:
    """One active block in a line."""
    until = "" if block.until is None else f", until {moment(block.until)}"
    return f"{block.owner} {block.case}, since {moment(block.since)}{until}: {block.reason}"
