"""The embedded ledger: one SQLite file, one writer at a time.

Writers hold the lock of the file from their first statement on, so that what they look up holds when they write.
"""

import asyncio
import contextlib
import errno
import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from twinline.errors import Misconfigured, TwinlineError, Unavailable
from twinline.ledger.database import Database
from twinline.ledger.faults import away, lacks_tables, taken
from twinline.ledger.one_hop import OneHopConnection

_WRITES: Final = "twinline_writes"

# Result codes of SQLite (sqlite.org/rescode.html) that somebody can repair while we wait.
_PASSING: Final = {
    sqlite3.SQLITE_PERM: "is not accessible",
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked by another process",
    sqlite3.SQLITE_READONLY: "is not writable",
    sqlite3.SQLITE_IOERR: "has an input/output error",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_FULL: "has no space left on its disk",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
}
_OF_DISK: Final = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
_PASSING_ERRNO: Final = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}
_LOOK_AT_DISK: Final = "See that its disk has room (`df -h`) and that its folder may be written; then repeat it."
_TAKEN: Final = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}


def open_sqlite(path: Path, *, patience: float) -> Database:
    """Open a file, which is made if need be; `patience` seconds a writer waits for another.

    Raises Misconfigured, Unavailable (its disk takes nothing).
    """
    file = str(_created(path))
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=file),
        # Parameters are names, addresses and sealed secrets; an error text must not carry them.
        hide_parameters=True,
        async_creator=lambda: OneHopConnection.to(file, patience=patience),
        max_overflow=0,
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    event.listen(engine.sync_engine, "invalidate", _let_go)
    # SQLite's writers poll for their turn; within one process a queue is faster, and fair.
    turn = asyncio.Lock()
    return Database(
        reader=engine,
        writer=engine.execution_options(**{_WRITES: True}),
        turn=lambda: turn,
        check=_check,
        forget=partial(_forget, engine),
        driver_errors=(DBAPIError, PoolTimeout, sqlite3.Error),
        translated=_translated,
    )


def _created(path: Path) -> Path:
    """Make the file ours alone before SQLite can make it readable; -wal and -shm take over its mode.

    One that is there is not opened: with the first close of a file the kernel drops all locks that a process has on it,
    SQLite's as well (sqlite.org/howtocorrupt.html, 2.2), and another process would take the log away from under us.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        _require_access(path)
    except OSError as error:
        raise _not_opened(path, error.errno) from None
    return path


def _require_access(path: Path) -> None:
    if path.is_dir():
        raise _not_opened(path, errno.EISDIR)
    if not os.access(path, os.R_OK | os.W_OK):
        read_only = path.exists() and os.statvfs(path).f_flag & os.ST_RDONLY
        raise _not_opened(path, errno.EROFS if read_only else errno.EACCES)


def _not_opened(path: Path, why: int | None) -> TwinlineError:
    text = f"the ledger {path} cannot be opened: {os.strerror(why or errno.EIO)}"
    if why in _PASSING_ERRNO:
        return Unavailable(text, hint=_LOOK_AT_DISK)
    return Misconfigured(
        text, hint=f"Let the user that runs twinline write in {path.parent}, or change TWINLINE_DATABASE_URL."
    )


async def _check(connection: AsyncConnection) -> None:
    """Whatever SQLite takes for a database will do."""
    del connection


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # SQLAlchemy's recipe for SQLite: the driver must not begin on its own, `_begin` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        # An order that was accepted, and a fencing token that was given out, must outlive a power cut. NORMAL
        # would sync at checkpoints only and could forget the last of them.
        "synchronous = FULL",
        "foreign_keys = ON",
        # What is deleted or written over must not go on standing in free space of the file.
        "secure_delete = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _let_go(connection: DBAPIConnection, _: ConnectionPoolEntry, __: BaseException | None) -> None:
    # Whoever was cancelled in the middle of a statement leaves it open, and SQLite keeps a closed connection with
    # its transaction and its lock until somebody collects that statement.
    with contextlib.suppress(ValueError, sqlite3.Error):
        connection.rollback()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    # Past SQLAlchemy, which makes more of a statement than this one needs.
    cursor = connection.connection.cursor()
    cursor.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    cursor.close()


async def _forget(engine: AsyncEngine) -> bool:
    """Let the write-ahead log, which keeps older pages, begin anew."""
    async with engine.connect() as connection:
        return await connection.run_sync(_begin_log_anew)


def _begin_log_anew(connection: Connection) -> bool:
    # Past SQLAlchemy, which would begin a transaction, in which this can't be done.
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    busy, _, _ = cursor.fetchall()[0]
    cursor.close()
    return not busy


def _translated(error: Exception) -> TwinlineError | None:
    origin = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(origin, sqlite3.Error):
        return away() if isinstance(error, PoolTimeout) else None
    if isinstance(origin, sqlite3.IntegrityError) and origin.sqlite_errorcode in _TAKEN:
        return taken()
    # Extended result codes carry the primary one in their low byte.
    code = getattr(origin, "sqlite_errorcode", 0) & 0xFF
    if code in _PASSING:
        repair = "Repair the database file or wait until it is free; the same order can be repeated then."
        return Unavailable(f"the ledger {_PASSING[code]}", hint=_LOOK_AT_DISK if code in _OF_DISK else repair)
    if code == sqlite3.SQLITE_NOTADB:
        return Misconfigured(
            "the ledger's file is not a database", hint="Let TWINLINE_DATABASE_URL name the ledger's own file."
        )
    if code == sqlite3.SQLITE_ERROR and str(origin).startswith(("no such table", "no such column")):
        return lacks_tables()
    return None
