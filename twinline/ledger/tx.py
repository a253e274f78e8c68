"""What commands and queries get: one transaction, the keys, and the source of randomness."""

import hashlib
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Final, TypeVar

from sqlalchemy import bindparam, inspect
from sqlmodel import SQLModel, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from twinline.keys import KeyRing

Row = TypeVar("Row", bound=SQLModel)

LOCKED: Final = {"key_share": True}
"""How a row is locked that is going to be changed: others may still refer to it."""


@dataclass(frozen=True, kw_only=True)
class ReadTx:
    """A transaction that only looks: everything in it is seen at one moment."""

    session: AsyncSession = field(repr=False)
    keys: KeyRing = field(repr=False)

    async def row(self, table: type[Row], key: str) -> Row | None:
        """The row of that key, for tables whose key is one column; locked when this transaction writes."""
        query = _by_key(table, locks=isinstance(self, WriteTx))  # pyright: ignore[reportArgumentType] - of a class
        found = await self.session.exec(query, params={"key": key})
        return found.one_or_none()


@dataclass(frozen=True, kw_only=True)
class WriteTx(ReadTx):
    """A transaction that may write; it takes effect whole or not at all.

    On SQLite it is the only one of its kind at its time. On PostgreSQL others run beside it: it may rely on the rows
    that it has locked, and on what it asked for by `alone`, in the order that `twinline.ledger.postgresql` tells.
    """

    random: Random = field(repr=False)

    async def alone(self, *name: str) -> None:
        """Wait until no other transaction holds this name, and hold it to the end; for what has no row to be locked."""
        if self.session.get_bind().dialect.name == "postgresql":
            await self.session.exec(lock_on(*name))


@cache
def _by_key(table: type[Row], *, locks: bool) -> SelectOfScalar[Row]:
    """Made once, because making such a statement costs as much as carrying it out."""
    (key,) = inspect(table, raiseerr=True).primary_key
    query = select(table).where(key == bindparam("key"))
    return query.with_for_update(key_share=True) if locks else query


def lock_on(*name: str) -> SelectOfScalar[None]:
    """The statement by which a transaction on PostgreSQL waits for a name and holds it."""
    digest = hashlib.sha256("\0".join(name).encode()).digest()
    return select(func.pg_advisory_xact_lock(int.from_bytes(digest[:8], signed=True)))
