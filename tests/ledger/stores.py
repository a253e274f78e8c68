"""Where a ledger of a test is kept: a SQLite file, or a database of a PostgreSQL server."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.postgresql import Cluster

TEMPLATE = "blank"
"""The PostgreSQL database that is copied: migrated, empty, and nobody is connected to it."""


@dataclass(frozen=True)
class SqliteStore:
    """A file."""

    path: Path

    @property
    def url(self) -> str:
        """What TWINLINE_DATABASE_URL is to be."""
        return f"sqlite:///{self.path}"

    def raw(self) -> bytes:
        """What a thief of the files would have: the database with its write-ahead log."""
        companions = [self.path, self.path.with_name(self.path.name + "-wal")]
        return b"".join(file.read_bytes() for file in companions if file.exists())


@dataclass(frozen=True)
class PostgresStore:
    """A database of a test server."""

    cluster: Cluster
    name: str

    @property
    def url(self) -> str:
        """What TWINLINE_DATABASE_URL is to be."""
        return self.cluster.url(self.name)

    def raw(self) -> bytes:
        """What a thief of the database's files would have."""
        return self.cluster.files_of(self.name)


Store = SqliteStore | PostgresStore


class Shelf(Protocol):
    """Makes migrated, empty ledgers of one kind."""

    def new(self) -> Store:
        """Another one."""
        ...


class SqliteShelf:
    """Copies a file into a folder."""

    def __init__(self, blank: Path, folder: Path) -> None:
        self._blank = blank
        self._folder = folder
        self._count = 0

    def new(self) -> SqliteStore:
        """Another copy."""
        self._count += 1
        name = "ledger.db" if self._count == 1 else f"ledger-{self._count}.db"
        return SqliteStore(Path(shutil.copy(self._blank, self._folder / name)))


class PostgresShelf:
    """Copies a database, or takes one that a test before it has left empty."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._made: list[str] = []

    def new(self) -> PostgresStore:
        """Another one."""
        spare = self._cluster.spare
        self._made.append(spare.pop() if spare else self._cluster.create(template=TEMPLATE))
        return PostgresStore(self._cluster, self._made[-1])

    def clear(self) -> None:
        """Empty them all for the next test, whoever is connected: a third of the time of a new copy."""
        for name in self._made:
            self._cluster.empty(name)
            self._cluster.spare.append(name)
        self._made.clear()
