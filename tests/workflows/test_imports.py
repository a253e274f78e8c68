"""What may not be loaded where: heavy imports slow every workflow run, and a storefront needs none of ours."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "asyncssh",
    "sqlmodel",
    "sqlalchemy",
    "aiosmtplib",
    "jinja2",
    "twinline.ledger",
    "twinline.hosts",
    "twinline.mail",
)
WORKFLOWS = sorted(path.stem for path in (Path(__file__).parents[2] / "workflows").glob("[!_]*.py"))

# The first module that brings something heavy along is told with it.
LOOK = f"""
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
    if found := [name for name in {HEAVY!r} if name in sys.modules]:
        sys.exit(f"{{module}} loads {{found}}")
"""


@pytest.mark.parametrize("modules", [[f"workflows.{name}" for name in WORKFLOWS], ["starter.client"]])
def test_importing_them_loads_nothing_heavy(modules: list[str]) -> None:
    look = subprocess.run([sys.executable, "-c", LOOK, *modules], check=False, capture_output=True, text=True)

    assert (look.returncode, look.stderr) == (0, "")
