"""A migrated ledger for every test; migrating once and copying the file is what keeps them fast."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.ledger.support import Desk, Pairing
from twinline.keys import KeyRing
from twinline.ledger import Ledger, migrate


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing.create(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty ledger to copy; nobody opens it."""
    path = tmp_path_factory.mktemp("blank") / "ledger.db"
    loop = asyncio.new_event_loop()
    loop.run_until_complete(migrate(f"sqlite:///{path}"))
    loop.close()
    return path


@pytest_asyncio.fixture
async def desk(blank: Path, tmp_path: Path, keys: KeyRing) -> AsyncIterator[Desk]:
    path = Path(shutil.copy(blank, tmp_path / "ledger.db"))
    ledger = await Ledger.open(f"sqlite:///{path}", keys=keys)
    desk = Desk(ledger=ledger, keys=keys, path=path)
    await desk.sync(Pairing(name="eu1"))
    yield desk
    await ledger.close()
