"""What a wheel holds: an editable install hides what was not packaged."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

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


def test_a_wheel_holds_program_templates_and_migrations(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    unpacked = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
        tops = {name.split("/")[0] for name in archive.namelist()}

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
