"""The root of all commands: what holds for each of them, whatever it does."""

import os
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup
from typer.exceptions import TyperException

from starter.cli.render import Exit, err, printable
from starter.cli.running import STOPPED

EXIT_CODES = (
    "Exit codes: 0 done, 2 usage, 3 not found, 4 refused or conflict, 5 partly done or still going on, "
    "6 unavailable, 130 stopped by Ctrl-C; 1 is a mistake of twinline's own. docs/cli.md has more."
)

_PYDANTIC = "Value error, "
"""What pydantic, with which typer reads values, puts before a sentence."""


class Root(TyperGroup):
    """Refuses words that are no text, and ends calmly when somebody stops it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as ever; words that the shell can hand over and nothing else can take are usage."""
        if any(not word.isascii() and _is_broken(word) for word in args):
            ctx.fail("a word is not UTF-8 text; write it anew, or correct the locale (LANG=C.UTF-8)")
        if any("\0" in word for word in args):
            ctx.fail("a word holds a NUL byte; leave it out")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what its parser refuses is told in our words."""
        try:
            return super().invoke(ctx)
        except TyperException as error:
            error.message = printable(error.message).replace(_PYDANTIC, "") + _example_for(error)
            raise
        except KeyboardInterrupt:
            err().print(Text(STOPPED))
            raise typer.Exit(Exit.INTERRUPTED) from None


def _example_for(error: TyperException) -> str:
    """The first example of the command that was not asked rightly, on a line of its own; groups have none."""
    command = getattr(error, "cmd", None)
    if command is None or isinstance(command, TyperGroup):
        return ""
    found = (line.strip() for line in (command.help or "").splitlines())
    return next((f"\n{line}" for line in found if line.startswith("Example: ")), "")


def _is_broken(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return True
    return False


def without_colours() -> None:
    """Let no part of us or of the libraries write escape codes."""
    os.environ["NO_COLOR"] = "1"
    os.environ["TERM"] = "dumb"


def _version(wanted: bool) -> None:  # noqa: FBT001 - the signature of a callback
    if wanted:
        from importlib.metadata import version

        typer.echo(f"twinline {version('twinline')}")
        raise typer.Exit


def _no_color(wanted: bool) -> None:  # noqa: FBT001 - the signature of a callback
    if wanted:
        without_colours()


def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Tell the version and exit.")
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", is_eager=True, callback=_no_color, help="Write no escape codes (NO_COLOR).")
    ] = False,
) -> None:
    """Keeps each customer's line in step on a MultiCS and an OSCam host.

    Example: twinline trial jane@example.org --region eu --order T-17
    """
