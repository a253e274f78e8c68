"""What commands and queries get: one transaction, the keys, and the source of randomness."""

import hashlib
from dataclasses import dataclass, field
from random import Random
from typing import Final

from sqlmodel import func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from twinline.keys import KeyRing

LOCKED: Final = {"key_share": True}
"""How a row is locked that is going to be changed: others may still refer to it."""


@dataclass(frozen=True, kw_only=True)
class ReadTx:
    """A transaction that only looks: everything in it is seen at one moment."""

    session: AsyncSession = field(repr=False)
    keys: KeyRing = field(repr=False)


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


def lock_on(*name: str) -> SelectOfScalar[None]:
    """The statement by which a transaction on PostgreSQL waits for a name and holds it."""
    digest = hashlib.sha256("\0".join(name).encode()).digest()
    return select(func.pg_advisory_xact_lock(int.from_bytes(digest[:8], signed=True)))
