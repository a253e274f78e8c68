"""Opens the ledger and gives out its transactions."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random, SystemRandom
from typing import Final, Self

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlmodel import func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from twinline.errors import Misconfigured, Unavailable
from twinline.keys import KeyRing
from twinline.ledger.database import Database
from twinline.ledger.migrations import upgrade
from twinline.ledger.sqlite import open_sqlite
from twinline.ledger.tx import ReadTx, WriteTx, lock_on
from twinline.metrics import LEDGER_SECONDS, timed

_READS, _WRITES = (LEDGER_SECONDS.labels(mode) for mode in ("read", "write"))
_PATIENCE: Final = 10.0
"""Seconds that a writer waits for one of another process."""


class Ledger:
    """The only source of truth. One per process and event loop; left open, its threads keep the process up."""

    def __init__(self, database: Database, *, keys: KeyRing, random: Random) -> None:
        self._database = database
        self._read_session = async_sessionmaker(database.reader, class_=AsyncSession, expire_on_commit=False)
        self._write_session = async_sessionmaker(database.writer, class_=AsyncSession, expire_on_commit=False)
        self._keys = keys
        self._random = random

    @classmethod
    async def open(cls, url: str, *, keys: KeyRing, random: Random | None = None, patience: float = _PATIENCE) -> Self:
        """Open the ledger without migrating it; `random` makes ids and credentials (by default the system's).

        Raises Misconfigured (the URL names no database that can be a ledger), Unavailable (it cannot be opened now).
        """
        ledger = cls(_database(url, patience), keys=keys, random=random or SystemRandom())
        try:
            async with ledger.read() as tx:
                await ledger._database.check(await tx.session.connection())
        except BaseException:
            await ledger.close()
            raise
        return ledger

    async def close(self) -> None:
        """Close all connections; the last process to do so folds SQLite's write-ahead log into the file."""
        await self._database.writer.dispose()

    async def migrate(self) -> None:
        """Bring the tables to this version; raises Misconfigured when a newer one was here, Unavailable."""
        with _translating(self._database):
            await _migrate(self._database)

    @property
    def kind(self) -> str:
        """What it is kept in, as a person calls it; known once it was opened."""
        version: tuple[int, ...] | None = getattr(self._database.writer.dialect, "server_version_info", None)
        if self._database.writer.dialect.name == "sqlite" or not version:
            return "SQLite"
        return f"PostgreSQL {version[0]}"

    async def now(self) -> datetime:
        """What the clock of the ledger's own machine shows, which decides between others; raises Unavailable."""
        if self._database.writer.dialect.name == "sqlite":
            return datetime.now(UTC)
        async with self.read() as tx:
            return (await tx.session.exec(select(func.clock_timestamp()))).one()

    async def forget_deleted(self) -> None:
        """See that what was deleted or written over stands in no file of the ledger any more; raises Unavailable.

        A database keeps older versions of rows for a while; copies, such as archived logs, are not the ledger's.
        """
        with _translating(self._database):
            async with self._database.turn():
                forgotten = await self._database.forget()
        if not forgotten:
            raise Unavailable(
                "somebody reads the ledger, so that its write-ahead log can't begin anew",
                hint="Nothing to do: it is tried again.",
            )

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[WriteTx]:
        """One write transaction: committed at the end of the block, undone when the block raises.

        Raises Unavailable when the database is locked or away. It may be repeated, as whatever is written here can be:
        of a connection that breaks during the commit, and of a task that is cancelled then, nobody knows which it was.
        """
        with timed(_WRITES), _translating(self._database):
            async with self._database.turn(), self._write_session() as session, session.begin():
                # It begins now, on SQLite with the lock: what is looked up in the block must hold when it writes.
                await session.connection()
                yield WriteTx(session=session, keys=self._keys, random=self._random)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[ReadTx]:
        """One read transaction; raises Unavailable when the database is away."""
        with timed(_READS), _translating(self._database):
            async with self._read_session() as session, session.begin():
                await session.connection()
                yield ReadTx(session=session, keys=self._keys)


async def migrate(url: str) -> None:
    """Bring the ledger at `url` to this version; raises as `Ledger.open` and `Ledger.migrate` do."""
    database = _database(url, _PATIENCE)
    try:
        with _translating(database):
            await _migrate(database)
    finally:
        await database.writer.dispose()


async def _migrate(database: Database) -> None:
    async with database.turn(), database.writer.begin() as connection:
        await database.check(connection)
        if connection.dialect.name == "postgresql":
            # Of workers that start together the first does it.
            await connection.execute(lock_on("migrations"))
        await connection.run_sync(upgrade)


@contextmanager
def _translating(database: Database) -> Generator[None]:
    try:
        yield
    except database.driver_errors as error:
        known = database.translated(error)
        if known is None:
            raise
        raise known from error


def _database(url: str, patience: float) -> Database:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    match _kind(parsed):
        case "sqlite" if parsed is not None:
            return open_sqlite(Path(str(parsed.database)), patience=patience)
        case "postgresql" if parsed is not None:
            # Loading the driver takes a while, which nobody with a file should wait for.
            from twinline.ledger.postgresql import open_postgresql  # noqa: PLC0415

            return open_postgresql(parsed, patience=patience)
        case _:
            # The value is never shown: it may hold a password.
            raise Misconfigured(
                "TWINLINE_DATABASE_URL is not the URL of a SQLite file or of a PostgreSQL database",
                hint=(
                    "Set it to sqlite:////absolute/path/ledger.db (four slashes), or to "
                    "postgresql://user:password@host/database."
                ),
            )


def _kind(url: URL | None) -> str | None:
    if url is None or url.database in {None, "", ":memory:"}:
        return None
    return {"sqlite": "sqlite", "postgresql": "postgresql", "postgresql+psycopg": "postgresql"}.get(url.drivername)
