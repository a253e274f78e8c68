"""What tests of several rooms share: a key ring, and one Temporal server for the whole session."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings
from temporalio.testing import TimeSkipper

from tests.support.temporal import DevServer, dev_server
from twinline.keys import KeyRing

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

_LONG = (
    "workflows/test_orders.py",
    "demo/test_demo.py",
    "secrets/test_left_behind.py",
    "hosts/test_crash.py",
    "whole/test_races.py",
    "reconcile/test_reconcile.py",
    "chaos/test_power_cuts.py",
)
"""Files that take longer than half a minute, and would keep all waiting if they were begun last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files; the rest stays in its order."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(_LONG)}
    if lost := [str(path) for path in ranks if not path.exists()]:
        raise pytest.UsageError(f"tests/conftest.py begins with files that are not there: {', '.join(lost)}")
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(scope="session")
def key_ring() -> KeyRing:
    """A ring of random keys that stands in no file."""
    return KeyRing(primary="k1", keys={"k1": os.urandom(32)}, stable=os.urandom(32))


@pytest_asyncio.fixture(scope="session")
async def temporal_server() -> AsyncIterator[DevServer]:
    """Temporal in real time; also serves `temporal_env`, because clocks belong to workflows."""
    async with dev_server() as server:
        yield server


@pytest_asyncio.fixture(scope="session")
async def temporal_env(temporal_server: DevServer, key_ring: KeyRing) -> TimeSkipper:
    """Temporal with a virtual clock per workflow started through `.client`; sealed payloads as in production."""
    return TimeSkipper(await temporal_server.connect(key_ring))
