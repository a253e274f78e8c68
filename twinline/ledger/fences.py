"""Fencing tokens: each batch of a host gets a higher one; a new epoch begins above all that a host has seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from twinline.errors import Misconfigured
from twinline.ledger import models
from twinline.ledger.lines import note
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.ledger.types import utc
from twinline.messages import Message


@dataclass(frozen=True, kw_only=True, order=True)
class FenceToken:
    """Grows with every batch of a host; the host refuses one lower than it has seen."""

    epoch: int
    n: int


class FenceSnapshot(Message):
    """What an event shows of a host's fencing token."""

    epoch: int
    n: int


async def fence_row(tx: ReadTx, host: str) -> models.Fence:
    """The row of a host's token, locked when `tx` writes; raises Misconfigured."""
    fence = await tx.row(models.Fence, host)
    if fence is None:
        raise Misconfigured(
            f'the ledger does not know the host "{host}"',
            hint="Declare it in the inventory and restart the worker, which takes the inventory over.",
        )
    return fence


async def fence_token(tx: ReadTx, host: str) -> FenceToken:
    """The last token that was given out for this host; raises Misconfigured."""
    fence = await fence_row(tx, host)
    return FenceToken(epoch=fence.epoch, n=fence.n)


async def refence(tx: WriteTx, seen: Mapping[str, FenceToken], *, who: str, now: datetime) -> dict[str, FenceToken]:
    """Begin a new epoch for these hosts, above the ledger's own and above what each has seen; raises Misconfigured.

    For a ledger that was restored from a backup. Batches that were given out before are refused from now on.
    """
    begun: dict[str, FenceToken] = {}
    for host, token in sorted(seen.items()):
        fence = await fence_row(tx, host)
        before = FenceSnapshot(epoch=fence.epoch, n=fence.n)
        fence.epoch, fence.n = max(fence.epoch, token.epoch) + 1, 0
        after = FenceSnapshot(epoch=fence.epoch, n=fence.n)
        note(tx, at=utc(now), who=who, what="host.refenced", why=host, before=before, after=after)
        begun[host] = FenceToken(epoch=fence.epoch, n=fence.n)
    return begun
