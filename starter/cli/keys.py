"""The key ring on the command line."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli import options
from starter.cli.render import Exit
from starter.cli.running import perform


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    keys = typer.Typer(help="Look after the key ring.", no_args_is_help=True)
    keys.callback()(_keys)
    keys.command()(create)
    app.add_typer(keys, name="keys")


def _keys() -> None:
    """Look after the key ring."""


def create(
    path: Annotated[Path, typer.Argument(help="The file to make; TWINLINE_KEYS has to name it.")],
    *,
    as_json: options.AsJson = False,
) -> None:
    """Make a new key ring, readable by you alone; it never overwrites one, for nothing sealed would open again.

    Example: twinline keys create /etc/twinline/keys.json
    """
    perform(_create(path), as_json=as_json)


async def _create(path: Path) -> int:
    from twinline.keys import KeyRing  # noqa: PLC0415 - cryptography would make help slow

    KeyRing.create(path)
    typer.echo(f"{path} holds a new key ring. Keep a copy where the ledger's backups are not.")
    return Exit.DONE
