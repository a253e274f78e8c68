"""The key ring on the command line."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli import options
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
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to make; TWINLINE_KEYS has to name it.")],
    *,
    as_json: options.AsJson = False,
) -> None:
    """Make a new key ring, readable by you alone; it never overwrites one, for nothing sealed would open again.

    Example: twinline keys create /etc/twinline/keys.json
    """
    from starter.cli.keys_made import create_ring

    perform(create_ring(path, as_json=as_json), as_json=as_json)


def rotate(*, as_json: options.AsJson = False) -> None:
    """Add a fresh key to the ring of TWINLINE_KEYS, and seal the whole ledger with it.

    Running workers take it over by themselves. On other machines replace the ring's copies first by the new file.
    Old keys stay in the ring until `twinline keys retire`.

    Example: twinline keys rotate
    """
    from starter.cli.keys_made import rotate_ring

    perform(rotate_ring(as_json=as_json), as_json=as_json)


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
    confirm(
        f"Destroy {key}? No backup of the ledger of before its rotation will ever open again.", yes=yes, as_json=as_json
    )
    from starter.cli.keys_made import retire_key

    perform(retire_key(key, as_json=as_json), as_json=as_json)
