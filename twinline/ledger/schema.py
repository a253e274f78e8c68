"""Tells whether the ledger's tables are those of this version, without changing them."""

from twinline.errors import Misconfigured
from twinline.ledger.engine import Ledger
from twinline.ledger.migrations import is_at_head


async def is_current(ledger: Ledger) -> bool:
    """Whether every migration of this version, and no later one, was carried out; raises Unavailable."""
    async with ledger.read() as tx:
        return await (await tx.session.connection()).run_sync(is_at_head)


async def require_current(ledger: Ledger) -> None:
    """Raises Misconfigured unless the tables are those of this version, Unavailable."""
    if not await is_current(ledger):
        raise Misconfigured(
            "the ledger is not of this version of twinline",
            hint="Start this version's `twinline worker` once: it brings an older ledger up to date. For a newer one "
            "install the newer twinline here too.",
        )
