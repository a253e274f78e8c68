"""How the command line speaks: words on a terminal, JSON for machines, and the exit code of an error.

With `--json` a command writes exactly one JSON value to standard output: its result, or the error as
`{type, message, hint, retryable}`, so that a machine has one place to read. What the shell words themselves get
wrong (an unknown option, a missing one) is told by the parser on standard error, with exit code 2.

Names, reasons and lines of files come from outside. None of their control characters reaches a terminal: here all
output for people goes through one console that replaces them, and JSON is written in ASCII.
"""

import errno
import os
import re
import signal
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final, Literal

from pydantic import BaseModel
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from twinline.errors import Category, TwinlineError
from twinline.messages import BlockInfo, Refusal

_WIDTH_WITHOUT_TERMINAL: Final = 10_000
"""Columns for output that no terminal shows: a file has no width, and a folded id can't be searched or copied."""
# All that a terminal may obey (C0, DEL, C1), what turns the direction of text around, and halves of surrogates.
_COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_REPLACEMENT: Final = "\ufffd"


class Exit(IntEnum):
    """What exit codes mean; 1 is left to mistakes of our own."""

    DONE = 0
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    GOING_ON = 5
    UNAVAILABLE = 6
    INTERRUPTED = 130
    NOBODY_READS = 128 + signal.SIGPIPE


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


class _Console(Console):
    """Writes nothing that a terminal would obey but what rich itself puts there."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with what is not for terminals replaced."""
        for segment in super().render(renderable, options):
            if segment.control or not _COMMANDS.search(segment.text):
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Let it be told by the exit code, as other programs do."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def printable(text: str) -> str:
    """The text without anything that a terminal would obey but line breaks and tabs."""
    return _COMMANDS.sub(_REPLACEMENT, text)


def _console(*, stderr: bool) -> Console:
    # Markup off: sentences carry names and reasons from outside, and "[red]" in them is text.
    console = _Console(stderr=stderr, markup=False, highlight=False, emoji=False, color_system=_colours())
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_WITHOUT_TERMINAL
    return console


def _colours() -> Literal["auto"] | None:
    # Without colours there is no bold and no dim either: who asks for that reads with something that knows none.
    return None if os.environ.get("NO_COLOR") else "auto"


def say(sentence: str, *, hint: str = "", style: str = "") -> None:
    """Tell a person something beside the result, on standard error."""
    console = err()
    console.print(Text(sentence, style=style), soft_wrap=True)
    if hint:
        console.print(Text(f"  {hint}", style="dim"), soft_wrap=True)


def show_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """Write one JSON value, an object or a list of them, to standard output."""
    text = _json(value) if isinstance(value, BaseModel) else f"[{','.join(_json(item) for item in value)}]"
    sys.stdout.write(text + "\n")


def _json(value: BaseModel) -> str:
    return value.model_dump_json(ensure_ascii=True).replace("\x7f", "\\u007f")


def show_text(text: str) -> None:
    """Write a line to standard output as it is, however narrow the terminal: it is to be copied."""
    sys.stdout.write(printable(text) + "\n")


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


def show_table(table: Table, console: Console | None = None) -> None:
    """Print a table; where it would have to break words, as on a narrow terminal, each row as a list instead."""
    console = console or out()
    if not console.is_terminal or not _breaks_words(table, console):
        console.print(table)
        return
    for row in zip(*(column.cells for column in table.columns), strict=True):
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="dim")
        grid.add_column(overflow="fold")
        for column, cell in zip(table.columns, row, strict=True):
            if not isinstance(cell, Text) or cell.plain:
                grid.add_row(column.header, cell)
        console.print(grid)
        console.print()


def _breaks_words(table: Table, console: Console) -> bool:
    # Rich measures nothing as wider than the console, and takes width from columns whatever their longest word.
    written = "".join(segment.text for line in console.render_lines(table) for segment in (*line, Segment.line()))
    words = {word for column in table.columns for cell in column.cells for word in str(cell).split()}
    return not words <= set(written.split())


def cells(*texts: str) -> Sequence[Text]:
    """Table cells in which nothing is taken for markup, and nothing is wider than it was measured."""
    return [Text(printable(text)) for text in texts]


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
