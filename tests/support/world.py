"""The embedded world for tests, twenty times as fast as real daemons."""

from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from twinline.sandbox.world import World

FAST: Final = 0.05


@pytest_asyncio.fixture(scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One world with one pair for the whole session, without its worker."""
    async with World(tmp_path_factory.mktemp("world"), timescale=FAST) as running:
        yield running
