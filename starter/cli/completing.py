"""What the shell offers after Tab: names of the inventory, and lines and orders that the ledger knows.

Nothing is changed, asked over the network but the ledger's database, or said: what can't be known is not offered.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Final, TypeVar

AT_MOST: Final = 50
LONGEST: Final = 64
"""Characters of what lines and orders may be called."""
_T = TypeVar("_T")


def hosts(incomplete: str) -> list[str]:
    """Names of hosts."""
    from starter.cli.offered import names_of_hosts

    return _beginning(incomplete, _known(names_of_hosts()))


def pairs(incomplete: str) -> list[str]:
    """Names of pairs."""
    from starter.cli.offered import names_of_pairs

    return _beginning(incomplete, _known(names_of_pairs()))


def regions(incomplete: str) -> list[str]:
    """Names of regions."""
    from starter.cli.offered import names_of_regions

    return _beginning(incomplete, _known(names_of_regions()))


def lines(incomplete: str) -> list[str]:
    """Usernames."""
    from starter.cli.offered import usernames

    return [] if len(incomplete) > LONGEST else _beginning(incomplete, _known(usernames(incomplete, AT_MOST)))


def orders(incomplete: str) -> list[str]:
    """Ids of the caller `cli`'s own orders, the newest first."""
    from starter.cli.offered import order_ids

    return [] if len(incomplete) > LONGEST else _beginning(incomplete, _known(order_ids(incomplete, AT_MOST)))


def open_orders(incomplete: str) -> list[str]:
    """Those of them that still go on."""
    from starter.cli.offered import order_ids

    if len(incomplete) > LONGEST:
        return []
    return _beginning(incomplete, _known(order_ids(incomplete, AT_MOST, settled=False)))


def runs(incomplete: str) -> list[str]:
    """Ids of the caller `cli`'s own bulk runs, the newest first."""
    from starter.cli.offered import run_ids

    return [] if len(incomplete) > LONGEST else _beginning(incomplete, _known(run_ids(incomplete, AT_MOST)))


def _known(work: Coroutine[object, object, Iterable[str]]) -> Iterable[str]:
    from twinline.errors import TwinlineError

    try:
        return asyncio.run(work)
    except (TwinlineError, TimeoutError):
        return ()


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name.startswith(incomplete)))
