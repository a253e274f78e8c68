"""Turns what a database driver raises into our two errors: come back later, or repair the set-up."""

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from twinline.errors import Misconfigured, TwinlineError, Unavailable

DRIVER_ERRORS: Final = (DBAPIError, PoolTimeout, sqlite3.Error)

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
_TAKEN: Final = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}


def translated(error: Exception) -> TwinlineError | None:
    """The error a caller should see, or None when `error` is a mistake of ours that no caller can mend."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin, sqlite3.Error):
        return _of_sqlite(origin)
    if isinstance(error, OperationalError | InterfaceError | PoolTimeout):
        return Unavailable("the ledger does not answer", hint="Check the database; the order can be repeated then.")
    return None


def _of_sqlite(error: sqlite3.Error) -> TwinlineError | None:
    if isinstance(error, sqlite3.IntegrityError) and error.sqlite_errorcode in _TAKEN:
        return Unavailable(
            "another order was recorded at the same moment", hint="Repeat the order: it is answered by then."
        )
    # Extended result codes carry the primary one in their low byte.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _PASSING:
        return Unavailable(
            f"the ledger {_PASSING[code]}",
            hint="Repair the database file or wait until it is free; the same order can be repeated then.",
        )
    if code == sqlite3.SQLITE_NOTADB:
        return Misconfigured(
            "the ledger's file is not a database", hint="Let TWINLINE_DATABASE_URL name the ledger's own file."
        )
    if code == sqlite3.SQLITE_ERROR and str(error).startswith(("no such table", "no such column")):
        return Misconfigured(
            "the ledger lacks tables of this version of twinline",
            hint="Start `twinline worker`: it migrates the ledger before anything else.",
        )
    return None
