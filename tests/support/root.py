"""Tests that need a user of their own on this machine say so, instead of passing without having looked."""

import os
from pathlib import Path
from typing import Final

SYSTEM_PYTHON: Final = Path("/usr/bin/python3")
"""What a user without rights finds; the Python that runs the tests may stand in a folder of root's."""


def require_root(what: str = "acts as a user without rights") -> None:
    """Fail with what to do unless this process may do what a test does."""
    if os.geteuid() != 0:
        raise AssertionError(
            f"This test {what}, which only root can do: run `make test` as root, in a container for instance."
        )
    if not SYSTEM_PYTHON.exists():
        raise AssertionError(f"{SYSTEM_PYTHON} is missing: run `apt-get install -y python3`, or `make test` as root.")
