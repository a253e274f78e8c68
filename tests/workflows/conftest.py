"""One house for all workflow tests of a session; each test brings its own orders and people."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio.testing import TimeSkipper, TimeSkippingConfig

from tests.support.temporal import DevServer, dev_server
from tests.workflows.house import House, run_house
from twinline.keys import KeyRing


@pytest_asyncio.fixture(scope="session")
async def session_house(
    tmp_path_factory: pytest.TempPathFactory, key_ring: KeyRing, temporal_server: DevServer
) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("house")
    # A Term that skipped its own 48 hours would end the line before its order is through.
    skipper = TimeSkipper(await temporal_server.connect(key_ring), config=TimeSkippingConfig(disable_propagation=True))
    async with run_house(folder, key_ring, skipper.client, skipper=skipper) as house:
        yield house


@pytest_asyncio.fixture(scope="session")
async def impatient_house(
    tmp_path_factory: pytest.TempPathFactory, key_ring: KeyRing, impatient_server: DevServer
) -> AsyncIterator[House]:
    """A house whose grace and delay notice are so short that a test can wait for them."""
    client = await impatient_server.connect(key_ring)
    folder = tmp_path_factory.mktemp("impatient")
    async with run_house(folder, key_ring, client, grace=1.5, delay_notice=2.5, health_every=0.2) as house:
        yield house


@pytest_asyncio.fixture(scope="session")
async def impatient_server() -> AsyncIterator[DevServer]:
    async with dev_server() as server:
        yield server


@pytest_asyncio.fixture
async def house(session_house: House) -> AsyncIterator[House]:
    """The house with both hosts up and a mail server that accepts everything, before and after."""
    yield session_house
    session_house.mails.heal()
    for host in session_house.hosts.values():
        host.heal()
