"""The key ring on the command line."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli import options
from starter.cli.render import Exit
from starter.cli.running import confirm, perform


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    keys = typer.Typer(help="Look after the key ring.", no_args_is_help=True)
    keys.callback()(_keys)
    keys.command()(create)
    keys.command()(rotate)
    keys.command()(retire)
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
    Old keys stay in the ring until `twinline keys retire`.

    Example: twinline keys rotate
    """
    perform(_rotate(), as_json=False)


def retire(
    key: Annotated[str, typer.Argument(metavar="KEY", help="An old key of the ring, such as k1.")],
    *,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Destroy an old key, so that nobody opens what stands sealed with it in backups of the ledger.

    Rotate first; replace the ring's copies on other machines, and restart what runs there. Then no backup of before can
    be restored with its passwords and addresses. Temporal's histories still open.

    Example: twinline keys retire k1
    """
    confirm(f"Destroy {key}? No backup of the ledger of before its rotation will ever open again.", yes=yes)
    perform(_retire(key), as_json=as_json)


async def _retire(key: str) -> int:
    from starter.cli.context import Context
    from twinline.keys import KeyRing, KeyRingError
    from twinline.ledger.sealing import sealed_with

    context = Context.load()
    async with context.ledger() as ledger:
        needed = await sealed_with(ledger, key)
    if needed:
        raise KeyRingError(
            f'the key "{key}" is still needed: {needed} secrets of the ledger are sealed with it',
            hint="`twinline keys rotate` seals them with a new one.",
        )
    KeyRing.retire(context.settings.keys, key)
    typer.echo(
        f"{key} is destroyed, in this file. Replace every other copy of it, backups too: they still hold the key."
    )
    return Exit.DONE


async def _rotate() -> int:
    from starter.cli.context import Context
    from twinline.keys import KeyRing
    from twinline.ledger.sealing import reseal

    context = Context.load()
    async with context.ledger():
        pass  # a ledger that is away must be told before the ring is changed
    keys = KeyRing.rotate(context.settings.keys)
    typer.echo(f'{context.settings.keys} has a new key, "{keys.primary}", which seals from now on.')
    async with Context(context.settings, keys).ledger() as ledger:
        done = await reseal(ledger)
    typer.echo(f"{done.changed} of {done.rows} rows of the ledger were sealed again with it.")
    typer.echo("Copy the ring to where you keep its backup. Old keys still open older backups of the ledger.")
    return Exit.DONE


async def _create(path: Path) -> int:
    from twinline.keys import KeyRing

    KeyRing.create(path)
    typer.echo(f"{path} holds a new key ring. Keep a copy where the ledger's backups are not.")
    return Exit.DONE
