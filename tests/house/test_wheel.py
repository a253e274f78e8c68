"""What a wheel holds: an editable install hides what was not packaged."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.wheels import build_wheel, install_alone

LOOK = """
import pathlib, sys
import activities, starter.cli, starter.client, twinline.hosts, worker, workflows
for module in (activities, starter.cli, starter.client, twinline.hosts, worker, workflows):
    assert pathlib.Path(module.__file__).is_relative_to(sys.argv[1]), module.__file__
from twinline.hosts.ssh import helper_source
from twinline.ledger.engine import migrate
from twinline.mail import default_composer
assert b"def serve" in helper_source()
default_composer()
from starter.api.problems import KNOWN, page_of
for name in KNOWN:
    page_of(name)
import asyncio
asyncio.run(migrate("sqlite:///" + sys.argv[1] + "/ledger.db"))
print("whole")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it would be given out."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_a_wheel_holds_program_templates_and_migrations(wheel: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names}

    looked = subprocess.run(
        [sys.executable, "-c", LOOK, str(unpacked)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        check=False,
        capture_output=True,
        text=True,
    )

    assert looked.stdout == "whole\n", looked.stderr
    info = next(top for top in tops if top.endswith(".dist-info"))
    assert tops == {"activities", "starter", "templates", "twinline", "workflows", "worker.py", info}
    # Type checkers of those who import the client look for these.
    assert names >= {"starter/py.typed", "twinline/py.typed"}


def test_the_installed_wheel_brings_a_program_that_starts(wheel: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "venv"
    site = install_alone(wheel, fresh)
    # What it depends on is borrowed; a path file of ours is not read there, so that twinline itself can't be.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*words: str) -> str:
        said = subprocess.run(
            [fresh / "bin" / "twinline", *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return said.stdout

    assert run("--version") == f"twinline {version('twinline')}\n"
    assert " trial " in run("--help")
    where = [fresh / "bin" / "python", "-c", "import starter.cli; print(starter.cli.__file__)"]
    loaded = subprocess.run(where, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert loaded.startswith(str(site))
