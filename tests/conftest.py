"""What tests of several rooms share: a key ring, and one Temporal server for the whole session."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import settings
from temporalio.testing import TimeSkipper

from tests.support.temporal import DevServer, dev_server
from twinline.keys import KeyRing

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


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
