"""How a host is compared with the ledger and driven on, whoever asks for it: Reconcile or a rebuild."""

import asyncio
from collections.abc import Mapping, Sequence

from activities.host_ledger import LedgerOfHosts
from twinline.errors import TwinlineError
from twinline.hosts.drift import Drift, Expected, compare
from twinline.hosts.errors import HostError
from twinline.hosts.ports import Half
from twinline.hosts.writer import HostWriter

Prevented = HostError | TwinlineError


async def compared(
    writer: HostWriter, ledger: LedgerOfHosts, expected: Sequence[Expected], closely: Sequence[Half]
) -> tuple[Sequence[Expected], Drift]:
    """Where the host differs from what is expected of it, some lines looked at closely; raises HostError.

    Gives also what is expected by now: what changed while we looked is behind, and no drift.
    """
    look = await writer.look(closely)
    still = await ledger.still(writer.host, expected)
    # In a thread: a file may hold thousands of records, and orders go on meanwhile.
    return still, await asyncio.to_thread(compare, writer.daemon, still, look)


async def driven_on(writer: HostWriter, behind: Mapping[str, int], *, recheck: bool) -> dict[str, Prevented]:
    """Bring these lines to the revisions that are wanted; what prevents it, by line id."""
    brought = [writer.bring(line_id, revision, recheck=recheck) for line_id, revision in behind.items()]
    outcomes = await asyncio.gather(*brought, return_exceptions=True)
    failed: dict[str, Prevented] = {}
    for line_id, outcome in zip(behind, outcomes, strict=True):
        if isinstance(outcome, HostError | TwinlineError):
            failed[line_id] = outcome
        elif isinstance(outcome, BaseException):
            raise outcome
    return failed


def code_of(error: Prevented) -> str:
    """The stable name of what prevents it."""
    return error.code if isinstance(error, HostError) else error.type
