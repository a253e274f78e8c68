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
    keys.command()(rotate)
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


def rotate() -> None:
    """Add a fresh key to the ring of TWINLINE_KEYS, and seal the whole ledger with it.

    Running workers take it over by themselves. On other machines replace the ring's copies first by the new file.
    Old keys stay in the ring: they still open what Temporal keeps of older orders.

    Example: twinline keys rotate
    """
    perform(_rotate(), as_json=False)


async def _rotate() -> int:
    from starter.cli.context import Context  # noqa: PLC0415 - see `_create`
    from twinline.keys import KeyRing  # noqa: PLC0415
    from twinline.ledger.sealing import reseal  # noqa: PLC0415

    context = Context.load()
    async with context.ledger():
        pass  # a ledger that is away must be told before the ring is changed
    keys = KeyRing.rotate(context.settings.keys)
    typer.echo(f'{context.settings.keys} has a new key, "{keys.primary}", which seals from now on.')
    async with Context(context.settings, keys).ledger() as ledger:
        done = await reseal(ledger)
    typer.echo(f"{done.changed} of {done.rows} rows of the ledger were sealed again with it.")
    typer.echo("Copy the ring to where you keep its backup; keep the old keys in it.")
    return Exit.DONE


async def _create(path: Path) -> int:
    from twinline.keys import KeyRing  # noqa: PLC0415 - cryptography would make help slow

    KeyRing.create(path)
    typer.echo(f"{path} holds a new key ring. Keep a copy where the ledger's backups are not.")
    return Exit.DONE
