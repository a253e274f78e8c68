"""Accounts that the daemon still serves though the accounts file has lost them: the next reload would drop them."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from twinline.hosts.errors import ShrunkenFile
from twinline.hosts.ports import Named, Wanted

FLOOR: Final = 20
PERCENT: Final = 5


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Who would be dropped, and of how many accounts that the daemon serves."""

    lines: frozenset[str] = frozenset()
    """Ids of lines that must be served."""
    others: frozenset[str] = frozenset()
    """Names of accounts that are not ours."""
    served: int = 0

    @property
    def too_great(self) -> bool:
        """Whether it is more likely a fault than an order."""
        return len(self.lines) + len(self.others) > max(FLOOR, self.served * PERCENT // 100)

    def error(self) -> ShrunkenFile:
        """What to tell about it."""
        lost = len(self.lines) + len(self.others)
        return ShrunkenFile(
            f"the accounts file lacks {lost} of the {self.served} accounts that the daemon serves, "
            f"{len(self.lines)} of them ours"
        )


def loss(
    missing: AbstractSet[str], *, served: int, lines: Mapping[str, Named], others: AbstractSet[str] | None
) -> Loss:
    """Judge names that the daemon serves and the file does not hold.

    `lines` are those of them that are ours; `others` are names of others that the file is known to have held, None
    when every account of the daemon must stand in it. What the ledger does not want served is no loss.
    """
    strangers = missing - lines.keys()
    return Loss(
        lines=frozenset(line.line_id for line in lines.values() if line.wanted is Wanted.PRESENT),
        others=frozenset(strangers if others is None else strangers & others),
        served=served,
    )
