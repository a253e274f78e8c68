"""The ledger: the only source of truth. Files on hosts are projections of it.

Open it with `Ledger.open`; commands (`orders`, `terms`, `halves`, `mails`, `setup`) take one of its write
transactions, queries a read transaction.
"""

from twinline.ledger.engine import Ledger, migrate
from twinline.ledger.tx import ReadTx, WriteTx

__all__ = ["Ledger", "ReadTx", "WriteTx", "migrate"]
