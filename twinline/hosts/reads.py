"""Group read: all who ask at the same time what is proven on one host share one transaction."""

import asyncio
from collections.abc import Mapping

from twinline.errors import UnknownLine
from twinline.hosts.ports import HostLedger, Proven


class ProvenReads:
    """What the ledger holds as proven on one host, read once for everybody who waits for the read before to end."""

    def __init__(self, host: str, ledger: HostLedger) -> None:
        self._host = host
        self._ledger = ledger
        self._asked: set[str] = set()
        self._next: asyncio.Task[Mapping[str, Proven]] | None = None
        self._turn = asyncio.Lock()

    async def of(self, line_id: str) -> Proven:
        """What is proven of one half by now; raises UnknownLine for a half that does not exist."""
        self._asked.add(line_id)
        if self._next is None:
            self._next = asyncio.create_task(self._read(), name=f"what is proven on {self._host}")
        found = (await asyncio.shield(self._next)).get(line_id)
        if found is None:
            raise no_half(line_id, self._host)
        return found

    async def _read(self) -> Mapping[str, Proven]:
        async with self._turn:
            # Who asks from here on may ask about something that this read no longer sees.
            asked, self._asked, self._next = self._asked, set(), None
            return await self._ledger.proven(self._host, sorted(asked))


def no_half(line_id: str, host: str) -> UnknownLine:
    """The refusal to write a line that the ledger does not have on this host."""
    return UnknownLine(
        f'line {line_id} has no half on host "{host}"',
        hint="Was the ledger restored from an older backup? Repeat the order.",
    )
