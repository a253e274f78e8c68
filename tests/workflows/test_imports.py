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


@pytest.mark.parametrize("module", [*(f"workflows.{name}" for name in WORKFLOWS), "starter.client"])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    look = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True)

    assert loaded.stdout.split() == []
