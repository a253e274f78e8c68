"""The embedded world with its ledger on PostgreSQL, and two workers at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client

from starter.client import Twinline
from tests.cli.conftest import Cli, WorkerProcess
from tests.support.postgresql import Cluster, run_postgresql
from tests.support.world import FAST
from twinline.codec import data_converter
from twinline.keys import KeyRing
from twinline.sandbox.world import World

LEDGER = "twinline_ledger"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with run_postgresql() as running:
        running.create(LEDGER)
        yield running


@pytest_asyncio.fixture(scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> AsyncIterator[World]:
    async with World(
        tmp_path_factory.mktemp("world"), timescale=FAST, grace=30, database_url=cluster.url(LEDGER)
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def workers(world: World) -> AsyncIterator[list[WorkerProcess]]:
    """Two, as on two machines."""
    both = [WorkerProcess(world.env, world.folder / f"worker-{number}.log") for number in range(2)]
    # At once: of two that find no tables one makes them.
    await asyncio.gather(*(worker.start() for worker in both))
    yield both
    assert await asyncio.gather(*(worker.stop() for worker in both)) == [0, 0]


@pytest_asyncio.fixture(scope="session")
async def twinline(world: World, workers: list[WorkerProcess]) -> Twinline:
    """A storefront's client."""
    keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
    return Twinline(await Client.connect(world.temporal.address, data_converter=data_converter(keys)))


@pytest.fixture(scope="session")
def cli(world: World, workers: list[WorkerProcess]) -> Cli:
    return Cli(world.env)
