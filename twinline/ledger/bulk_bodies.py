"""What stands sealed of an item of a bulk run."""

from typing import Any, Final

from twinline.ledger import models
from twinline.ledger.lines import seal, unseal
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.messages import Message

_TABLE: Final = "bulk_item"


class Body(Message):
    """How an item's line is called, and what is asked for while that may be needed."""

    line: str
    item: dict[str, Any] | None = None


def seal_body(tx: WriteTx, row: models.BulkItem, body: Body) -> None:
    """Keep it, in place of what was there."""
    row.body_sealed = seal(tx.keys, _TABLE, row.id, "body", body.model_dump_json().encode())


def body_of(tx: ReadTx, row: models.BulkItem) -> Body:
    """Open it; raises KeyRingError."""
    return Body.model_validate_json(unseal(tx.keys, _TABLE, row.id, "body", row.body_sealed))
