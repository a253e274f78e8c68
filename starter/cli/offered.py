"""Looks up what `completing` offers."""

import asyncio
from collections.abc import Iterable
from typing import Final

from twinline.inventory import Inventory, load_inventory
from twinline.settings import Settings

PATIENCE: Final = 3.0
"""Seconds that the ledger gets; who presses Tab rather types on than waits longer."""


async def names_of_hosts() -> Iterable[str]:
    """Of all hosts; raises Misconfigured."""
    return [host.name for host in _inventory().hosts]


async def names_of_pairs() -> Iterable[str]:
    """Of all pairs; raises Misconfigured."""
    return [pair.name for pair in _inventory().pairs]


async def names_of_regions() -> Iterable[str]:
    """Of all regions; raises Misconfigured."""
    return sorted({pair.region for pair in _inventory().pairs})


async def usernames(beginning: str, limit: int) -> Iterable[str]:
    """Of lines; raises Misconfigured, Unavailable, KeyRingError."""
    from starter.cli.context import Context
    from twinline.ledger.queries import usernames_like

    async with asyncio.timeout(PATIENCE), Context.load().ledger() as ledger, ledger.read() as tx:
        return await usernames_like(tx, beginning, limit=limit)


async def order_ids(beginning: str, limit: int, *, settled: bool | None = None) -> Iterable[str]:
    """The caller's own ids of the orders of `cli`; raises Misconfigured, Unavailable, KeyRingError."""
    from starter.cli.context import Context
    from twinline.ledger.queries import order_ids_like

    async with asyncio.timeout(PATIENCE), Context.load().ledger() as ledger, ledger.read() as tx:
        return await order_ids_like(tx, beginning, caller="cli", settled=settled, limit=limit)


async def run_ids(beginning: str, limit: int) -> Iterable[str]:
    """The caller's own ids of the bulk runs of `cli`; raises Misconfigured, Unavailable, KeyRingError."""
    from starter.cli.context import Context
    from twinline.ledger.bulk import run_ids_like

    async with asyncio.timeout(PATIENCE), Context.load().ledger() as ledger, ledger.read() as tx:
        return await run_ids_like(tx, beginning, caller="cli", limit=limit)


def _inventory() -> Inventory:
    return load_inventory(Settings.load().inventory)
