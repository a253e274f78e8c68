"""Opens the ledger and gives out its transactions."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random, SystemRandom
from typing import Final, Self

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel.ext.asyncio.session import AsyncSession

from twinline.errors import Misconfigured, Unavailable
from twinline.keys import KeyRing
from twinline.ledger.faults import DRIVER_ERRORS, translated
from twinline.ledger.migrations import upgrade
from twinline.ledger.tx import ReadTx, WriteTx

_WRITES: Final = "twinline_writes"
_PATIENCE: Final = 10.0
"""Seconds that a writer waits for one of another process."""


class Ledger:
    """The only source of truth. One per process and event loop; left open, its threads keep the process up."""

    def __init__(self, engine: AsyncEngine, *, keys: KeyRing, random: Random) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{_WRITES: True})
        self._read_session = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)
        self._write_session = async_sessionmaker(self._writer, class_=AsyncSession, expire_on_commit=False)
        # SQLite's writers poll for their turn; within one process a queue is faster, and fair.
        self._turn = asyncio.Lock()
        self._keys = keys
        self._random = random

    @classmethod
    async def open(cls, url: str, *, keys: KeyRing, random: Random | None = None, patience: float = _PATIENCE) -> Self:
        """Open the ledger without migrating it; `random` makes ids and credentials (by default the system's).

        Raises Misconfigured (the URL is not that of a SQLite file), Unavailable (it cannot be opened now).
        """
        ledger = cls(_engine(url, patience), keys=keys, random=random or SystemRandom())
        try:
            async with ledger.read():
                pass
        except BaseException:
            await ledger.close()
            raise
        return ledger

    async def close(self) -> None:
        """Close all connections; the last process to do so folds the write-ahead log into the file."""
        await self._engine.dispose()

    async def migrate(self) -> None:
        """Bring the tables to this version; raises Misconfigured when a newer one was here, Unavailable."""
        with _translating():
            async with self._turn, self._writer.begin() as connection:
                await connection.run_sync(upgrade)

    async def forget_deleted(self) -> None:
        """See that what was deleted or written over stands in no file of the ledger any more; raises Unavailable.

        SQLite keeps older pages in its write-ahead log until that begins anew.
        """
        with _translating():
            async with self._turn, self._engine.connect() as connection:
                began_anew = await connection.run_sync(_begin_log_anew)
        if not began_anew:
            raise Unavailable(
                "somebody reads the ledger, so that its write-ahead log can't begin anew",
                hint="Nothing to do: it is tried again.",
            )

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[WriteTx]:
        """One write transaction: committed at the end of the block, undone when the block raises.

        Raises Unavailable when the database is locked or away: nothing happened, and it may be repeated.
        """
        with _translating():
            async with self._turn, self._write_session() as session, session.begin():
                # The lock is taken now: what is looked up in the block must still hold when it writes.
                await session.connection()
                yield WriteTx(session=session, keys=self._keys, random=self._random)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[ReadTx]:
        """One read transaction; raises Unavailable when the database is away."""
        with _translating():
            async with self._read_session() as session, session.begin():
                await session.connection()
                yield ReadTx(session=session, keys=self._keys)


async def migrate(url: str) -> None:
    """Bring the ledger at `url` to this version; raises as `Ledger.open` and `Ledger.migrate` do."""
    engine = _engine(url, _PATIENCE)
    try:
        with _translating():
            async with engine.execution_options(**{_WRITES: True}).begin() as connection:
                await connection.run_sync(upgrade)
    finally:
        await engine.dispose()


@contextmanager
def _translating() -> Generator[None]:
    try:
        yield
    except DRIVER_ERRORS as error:
        known = translated(error)
        if known is None:
            raise
        raise known from error


def _engine(url: str, patience: float) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(_created(_file_of(url)))),
        # Parameters are names, addresses and sealed secrets; an error text must not carry them.
        hide_parameters=True,
        connect_args={"timeout": patience},
        max_overflow=0,
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    event.listen(engine.sync_engine, "invalidate", _let_go)
    return engine


def _file_of(url: str) -> Path:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    # The value is never shown: the URL of another database holds its password.
    if parsed is None or parsed.get_backend_name() != "sqlite" or parsed.database in {None, "", ":memory:"}:
        raise Misconfigured(
            "TWINLINE_DATABASE_URL is not the URL of a SQLite file",
            hint="Set it to sqlite:////absolute/path/ledger.db (four slashes).",
        )
    return Path(str(parsed.database))


def _created(path: Path) -> Path:
    """Make the file ours alone before SQLite can make it readable; -wal and -shm take over its mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Misconfigured(
            f"the ledger {path} cannot be opened: {error.strerror}",
            hint=f"Let the user that runs twinline write in {path.parent}, or change TWINLINE_DATABASE_URL.",
        ) from None
    return path


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # SQLAlchemy's recipe for SQLite: the driver must not begin on its own, `_begin` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        # An order that was accepted, and a fencing token that was given out, must outlive a power cut. NORMAL
        # would sync at checkpoints only and could forget the last of them.
        "synchronous = FULL",
        # What is deleted or written over must not go on standing in free space of the file.
        "secure_delete = ON",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_log_anew(connection: Connection) -> bool:
    if connection.dialect.name != "sqlite":
        return True
    # Past SQLAlchemy, which would begin a transaction, in which this can't be done.
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    busy, _, _ = cursor.fetchall()[0]
    cursor.close()
    return not busy


def _let_go(connection: DBAPIConnection, _: ConnectionPoolEntry, __: BaseException | None) -> None:
    # Whoever was cancelled in the middle of a statement leaves it open, and SQLite keeps a closed connection with
    # its transaction and its lock until somebody collects that statement.
    with contextlib.suppress(ValueError, sqlite3.Error):
        connection.rollback()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
