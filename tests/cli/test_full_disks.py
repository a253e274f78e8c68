"""Every command where the ledger's disk takes nothing: a sentence and an exit code, nothing half done."""

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from starter.cli import app
from tests.cli.alone import Alone
from tests.cli.tree import LASTING, Leaf, leaves
from tests.support.mounts import fill, free, mount_small, set_read_only, with_own_mounts

LITTLE: Final = 2_000_000
"""Bytes; room for the ledger, and no more of it."""
OFTEN: Final = ("line show", "token create", "bulk block")
NEEDS_NO_LEDGER: Final = ("keys create",)


def _every(*, often: bool) -> list[Leaf]:
    return [
        leaf for leaf in leaves() if str(leaf) not in (*LASTING, *NEEDS_NO_LEDGER) and (not often or str(leaf) in OFTEN)
    ]


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_some_commands_where_the_ledgers_disk_takes_nothing(alone: Alone, tmp_path: Path, trouble: str) -> None:
    with_own_mounts(lambda: _try(alone, tmp_path, trouble, _every(often=True)))


@pytest.mark.soak
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_all_commands_where_the_ledgers_disk_takes_nothing(alone: Alone, tmp_path: Path, trouble: str) -> None:
    with_own_mounts(lambda: _try(alone, tmp_path, trouble, _every(often=False)))


def _try(alone: Alone, folder: Path, trouble: str, every: Sequence[Leaf]) -> None:
    disk = folder / "disk"
    disk.mkdir()
    mount_small(disk, size=LITTLE)
    shutil.copy(alone.folder / "ledger.db", disk)
    env = {**alone.env, "TWINLINE_DATABASE_URL": f"sqlite:///{disk}/ledger.db", "TEMPORAL_ADDRESS": "no address"}
    before = _contents(disk)
    if trouble == "full":
        fill(disk)
    else:
        set_read_only(disk, on=True)
    for leaf in every:
        yes = ["--yes"] if "--yes" in leaf.options and "--yes" not in leaf.examples[0] else []
        words = [*leaf.examples[0], *yes]
        said = CliRunner().invoke(app, words, env=env)
        told = f"{words}\n{said.exit_code}\n{said.stdout:.500}\n{said.stderr:.2000}\n{said.exception!r}"
        assert said.exception is None or isinstance(said.exception, SystemExit), told
        assert said.exit_code in (2, 3, 4, 6), told
        assert said.output.strip(), told
        for part in ("Traceback", "sqlalchemy", "sqlite3."):
            assert part not in said.output, told
    if trouble == "full":
        free(disk)
    else:
        set_read_only(disk, on=False)
    assert _contents(disk) == before
    said = CliRunner().invoke(app, ["line", "list"], env=env)
    assert said.exit_code == 0, said.output
    assert alone.line in said.stdout


def _contents(disk: Path) -> list[str]:
    with sqlite3.connect(disk / "ledger.db") as ledger:
        found = list(ledger.iterdump())
    ledger.close()
    return found
