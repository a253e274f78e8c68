"""What tests of several rooms share: a key ring, and one Temporal server for the whole session."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings
from temporalio.testing import TimeSkipper
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.support.temporal import DevServer, dev_server
from twinline.keys import KeyRing

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

_TOGETHER = ("ledger", "cli", "reconcile", "api", "postgresql")
"""Folders whose tests share costly servers: one process runs each, or every process would start its own."""

_LONG = (
    # It ends every line of its house, and takes the longer the more tests were there before it.
    "workflows/test_told.py",
    "workflows/test_orders.py",
    "demo/test_demo.py",
    "whole/test_races.py",
    "secrets/test_left_behind.py",
    "hosts/test_crash.py",
    "chaos/test_power_cuts.py",
    "chaos/test_bulk_cuts.py",
    "sandbox_world/test_world.py",
    "hosts/test_true_time.py",
    "benchmarks/test_benchmarks_run.py",
)
"""Files that take long too, and would keep all waiting if they were begun last."""


class _ByServers(LoadFileScheduling):
    """Gives a process a whole file, or a whole folder whose tests share servers."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder = file.split("/")[-2]
        return folder if folder in _TOGETHER else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByServers:
    """Whatever `--dist` says."""
    return _ByServers(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; the rest stays in its order."""
    tests = Path(__file__).parent
    ranks = {tests / name: rank for rank, name in enumerate((*_TOGETHER, *_LONG))}
    if lost := [str(path) for path in ranks if not path.exists()]:
        raise pytest.UsageError(f"tests/conftest.py begins with what is not there: {', '.join(lost)}")
    items.sort(key=lambda item: min(ranks.get(path, len(ranks)) for path in (item.path, item.path.parent)))


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
