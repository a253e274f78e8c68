"""A connection to a SQLite file that goes to its thread once for a statement.

Between SQLAlchemy and aiosqlite a statement is four visits to that thread (make a cursor, execute, fetch, close), and a
visit costs more than most statements of ours.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, Self

import aiosqlite


class _Statement(Protocol):
    """What is carried out in the connection's thread."""

    def __call__(self, cursor: sqlite3.Cursor, /) -> object: ...


class OneHopCursor:
    """What SQLAlchemy asks of a cursor; its rows are there as soon as the statement is done."""

    def __init__(self, connection: "OneHopConnection") -> None:
        self._connection = connection
        self._rows: Sequence[Any] = ()
        self.description: Any = None
        self.lastrowid: int | None = None
        self.rowcount = -1

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> None:
        """Carry a statement out."""
        await self._run(lambda cursor: cursor.execute(sql, tuple(parameters)))

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> None:
        """Carry a statement out for each of these."""
        await self._run(lambda cursor: cursor.executemany(sql, [tuple(each) for each in parameters]))

    async def fetchall(self) -> Sequence[Any]:
        """All rows that it gave."""
        return self._rows

    async def close(self) -> None:
        """Nothing to do: what was open in the thread is closed."""

    async def _run(self, statement: _Statement) -> None:
        self._rows, self.description, self.lastrowid, self.rowcount = await self._connection.in_thread(
            lambda connection: _carried_out(connection, statement)
        )


class OneHopConnection(aiosqlite.Connection):
    """aiosqlite's connection with that cursor."""

    @classmethod
    async def to(cls, file: str, *, patience: float) -> Self:
        """Open a file; a statement waits `patience` seconds for a lock of another process."""
        connection = cls(partial(sqlite3.connect, file, timeout=patience, check_same_thread=False), iter_chunk_size=64)
        # Whoever leaves the ledger open must still come to an end.
        connection._thread.daemon = True
        await connection
        return connection

    def cursor(self) -> Any:  # the async adapter of SQLAlchemy asks for nothing else of what comes back
        """Make a cursor, without a visit to the thread."""
        return _made(OneHopCursor(self))

    async def in_thread(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Have something done by the connection's own thread."""
        return await self._execute(work, self._conn)  # pyright: ignore[reportUnknownMemberType] - untyped there


async def _made(cursor: OneHopCursor) -> OneHopCursor:
    return cursor


def _carried_out(connection: sqlite3.Connection, statement: _Statement) -> tuple[Sequence[Any], Any, int | None, int]:
    cursor = connection.cursor()
    try:
        statement(cursor)
        return cursor.fetchall(), cursor.description, cursor.lastrowid, cursor.rowcount
    finally:
        cursor.close()
