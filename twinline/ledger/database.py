"""What the ledger asks of a database; SQLite and PostgreSQL each give it in a way of their own."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from twinline.errors import TwinlineError


@dataclass(frozen=True, kw_only=True)
class Database:
    """An opened database."""

    reader: AsyncEngine
    """Its transactions see everything at one moment."""
    writer: AsyncEngine
    """Another face of the same pool of connections; what its transactions have looked up they may rely on."""
    turn: Callable[[], AbstractAsyncContextManager[object]]
    """What a writer waits for before it takes a connection."""
    check: Callable[[AsyncConnection], Awaitable[None]]
    """Raises Misconfigured when the database can't be a ledger."""
    forget: Callable[[], Awaitable[bool]]
    """Takes deleted rows out of all files; False when somebody is in the way."""
    driver_errors: tuple[type[Exception], ...]
    translated: Callable[[Exception], TwinlineError | None]
    """The error that a caller should see, or None when it is a mistake of ours that no caller can mend."""
