"""Seals again what older keys sealed, so that after a rotation the new key alone opens the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlmodel import col, select

from twinline.keys import key_of
from twinline.ledger import models
from twinline.ledger.engine import Ledger
from twinline.ledger.lines import seal, unseal
from twinline.ledger.tx import WriteTx

_AT_A_TIME = 200
"""Rows of one transaction: orders must not wait long for their turn."""

SealedRow = TypeVar("SealedRow", models.Line, models.Mail, models.BulkItem)


@dataclass(frozen=True, kw_only=True)
class Resealed:
    """How many rows there are, and how many of them had something that an older key sealed."""

    rows: int
    changed: int

    def __add__(self, other: "Resealed") -> "Resealed":
        return Resealed(rows=self.rows + other.rows, changed=self.changed + other.changed)


async def sealed_with(ledger: Ledger, key_id: str) -> int:
    """How many secrets of the ledger this key has sealed; raises KeyRingError (a value is none), Unavailable."""
    count = 0
    async with ledger.read() as tx:
        line, mail, item = models.Line, models.Mail, models.BulkItem
        for column in (line.password_sealed, line.email_sealed, mail.body_sealed, item.body_sealed):
            count += sum(key_of(sealed) == key_id for sealed in await tx.session.exec(select(column)) if sealed)
    return count


async def reseal(ledger: Ledger) -> Resealed:
    """Seal every secret of the ledger with the primary key, a page of rows at a time; may be repeated at any time.

    Raises KeyRingError (a value needs a key that the ring lacks), Unavailable.
    """
    lines = await _reseal_table(ledger, models.Line, "line", ("password", "email"))
    mails = await _reseal_table(ledger, models.Mail, "mail", ("body",))
    return lines + mails + await _reseal_table(ledger, models.BulkItem, "bulk_item", ("body",))


async def _reseal_table(ledger: Ledger, table: type[SealedRow], name: str, columns: Sequence[str]) -> Resealed:
    done, last = Resealed(rows=0, changed=0), ""
    while True:
        async with ledger.write() as tx:
            query = select(table).where(col(table.id) > last).order_by(col(table.id)).limit(_AT_A_TIME)
            # Locked, or a new password that comes meanwhile would be sealed over by the old one.
            rows = (await tx.session.exec(query.with_for_update(key_share=True))).all()
            changed = sum(_reseal_row(tx, row, name, columns) for row in rows)
        if not rows:
            return done
        done, last = done + Resealed(rows=len(rows), changed=changed), rows[-1].id


def _reseal_row(tx: WriteTx, row: SealedRow, table: str, columns: Sequence[str]) -> bool:
    # What was erased is empty: there is nothing to seal.
    sealed_columns = {column: sealed for column in columns if (sealed := getattr(row, f"{column}_sealed"))}
    old = {column: sealed for column, sealed in sealed_columns.items() if key_of(sealed) != tx.keys.primary}
    for column, sealed in old.items():
        plain = unseal(tx.keys, table, row.id, column, sealed)
        setattr(row, f"{column}_sealed", seal(tx.keys, table, row.id, column, plain))
    return bool(old)
