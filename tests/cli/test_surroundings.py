"""Every command where something around it is wrong: a sentence and an exit code, no trace, nothing changed."""

import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.cli.alone import Alone
from tests.cli.conftest import Cli
from tests.cli.tree import LASTING, leaves

NEEDS_NOTHING = {"keys create"}


def _newer_ledger(folder: Path) -> Mapping[str, str]:
    with sqlite3.connect(folder / "ledger.db") as ledger:
        ledger.execute("UPDATE alembic_version SET version_num = '9999'")
    return {}


def _no_ledger(folder: Path) -> Mapping[str, str]:
    return {"TWINLINE_DATABASE_URL": f"sqlite:///{folder}/none.db"}


def _no_database(folder: Path) -> Mapping[str, str]:
    (folder / "ledger.db").write_text("this is a letter, and no database")
    return {}


def _open_ring(folder: Path) -> Mapping[str, str]:
    (folder / "keys.json").chmod(0o644)
    return {}


def _broken_ring(folder: Path) -> Mapping[str, str]:
    (folder / "keys.json").write_text("{}")
    return {}


def _foreign_ring(folder: Path) -> Mapping[str, str]:
    return {"TWINLINE_KEYS": str(folder)}


def _broken_inventory(folder: Path) -> Mapping[str, str]:
    (folder / "inventory.toml").write_text("[service\n\x1b[31m")
    return {}


def _nothing_set(_: Path) -> Mapping[str, str]:
    return dict.fromkeys(("TWINLINE_INVENTORY", "TWINLINE_DATABASE_URL", "TWINLINE_SMTP_URL", "TWINLINE_KEYS"), "")


def _nonsense(_: Path) -> Mapping[str, str]:
    return {"TWINLINE_GRACE": "soon", "TWINLINE_HTTP": "\x1b[31m", "TWINLINE_SMTP_URL": "gopher://x"}


WRONG: Mapping[str, Callable[[Path], Mapping[str, str]]] = {
    "a ledger of a newer version": _newer_ledger,
    "no ledger": _no_ledger,
    "a ledger that is no database": _no_database,
    "a key ring that others can read": _open_ring,
    "a key ring that is none": _broken_ring,
    "a key ring that is a folder": _foreign_ring,
    "an inventory that is no TOML": _broken_inventory,
    "nothing set": _nothing_set,
    "settings that make no sense": _nonsense,
}

OFTEN = ("a ledger of a newer version", "a key ring that others can read", "nothing set")
"""Tried by `make test`; the rest by `make soak`."""


@pytest.mark.parametrize(
    "wrong", [pytest.param(name, marks=() if name in OFTEN else (pytest.mark.soak,)) for name in WRONG]
)
async def test_whatever_is_wrong_around_it_every_command_says_so(alone: Alone, tmp_path: Path, wrong: str) -> None:
    folder = tmp_path / "machine"
    shutil.copytree(alone.folder, folder)
    env = {name: value.replace(str(alone.folder), str(folder)) for name, value in alone.env.items()}
    machine = Alone(folder, alone.line)
    cli = Cli({**env, **WRONG[wrong](folder), "TEMPORAL_ADDRESS": "no address"})
    before = machine.files()
    for leaf in leaves():
        if str(leaf) in LASTING or str(leaf) in NEEDS_NOTHING:
            continue
        words = [*leaf.examples[0], *(["--yes"] if "--yes" in leaf.options and "--yes" not in leaf.examples[0] else [])]
        said = await cli(*words)
        # Who asks the ledger alone needs no inventory.
        assert said.code in (2, 3, 4, 6) or (said.code == 0 and WRONG[wrong] is _broken_inventory), (words, said)
        for part in ("Traceback", "\x1b", "validation error", "Value error", "sqlalchemy", "sqlite3."):
            assert part not in said.out + said.err, (words, said)
        assert said.out.strip() or said.err.strip(), (words, said)
    # `keys rotate` needs none either.
    assert machine.files() == before or WRONG[wrong] is _broken_inventory
