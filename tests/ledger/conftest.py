"""A migrated ledger for every test, on either database; migrating once and copying is what keeps them fast."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.ledger.stores import TEMPLATE, PostgresShelf, Shelf, SqliteShelf, SqliteStore
from tests.ledger.support import Desk, Pairing
from tests.support.postgresql import Cluster, run_postgresql
from twinline.keys import KeyRing
from twinline.ledger import Ledger, migrate

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing.create(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty ledger to copy; nobody opens it."""
    path = tmp_path_factory.mktemp("blank") / "ledger.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server with a migrated, empty ledger to copy."""
    with run_postgresql() as running:
        running.create(TEMPLATE)
        _migrate(running.url(TEMPLATE))
        yield running


def _migrate(url: str) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(migrate(url))
    loop.close()


@pytest.fixture(params=DATABASES)
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    """Where ledgers of this test come from, once for each database."""
    if request.param == "sqlite":
        yield SqliteShelf(request.getfixturevalue("blank"), tmp_path)
        return
    databases = PostgresShelf(request.getfixturevalue("cluster"))
    yield databases
    databases.clear()


@pytest.fixture(params=DATABASES)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without a single table, once for each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    with cluster.database() as url:
        yield url


@pytest_asyncio.fixture
async def desk(shelf: Shelf, keys: KeyRing) -> AsyncIterator[Desk]:
    store = shelf.new()
    ledger = await Ledger.open(store.url, keys=keys)
    desk = Desk(ledger=ledger, keys=keys, store=store)
    await desk.sync(Pairing(name="eu1"))
    yield desk
    await ledger.close()


@pytest_asyncio.fixture
async def sqlite_desk(blank: Path, tmp_path: Path, keys: KeyRing) -> AsyncIterator[Desk]:
    """One on SQLite, for what only a file can have wrong."""
    store: SqliteStore = SqliteShelf(blank, tmp_path).new()
    ledger = await Ledger.open(store.url, keys=keys)
    desk = Desk(ledger=ledger, keys=keys, store=store)
    await desk.sync(Pairing(name="eu1"))
    yield desk
    await ledger.close()
