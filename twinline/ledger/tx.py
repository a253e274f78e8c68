"""What commands and queries get: one transaction, the keys, and the source of randomness."""

from dataclasses import dataclass, field
from random import Random

from sqlmodel.ext.asyncio.session import AsyncSession

from twinline.keys import KeyRing


@dataclass(frozen=True, kw_only=True)
class ReadTx:
    """A transaction that only looks: everything in it is seen at one moment."""

    session: AsyncSession = field(repr=False)
    keys: KeyRing = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class WriteTx(ReadTx):
    """A transaction that may write, the only one of its kind at its time; it takes effect whole or not at all."""

    random: Random = field(repr=False)
