"""When a host is idle again after a change, so that the next one is measured from rest."""

import asyncio
import time
from typing import Final

MARGIN: Final = 0.1


class Rest:
    """Keeps the moment from which on nothing that was measured before is felt any more."""

    def __init__(self, *, quiet: float) -> None:
        self._quiet = quiet
        self._from = 0.0

    def after(self, elapsed: float) -> None:
        """Note that a change ended now that took `elapsed` seconds from its first write to its proof, or longer.

        MultiCS hears the next trigger after a fixed time plus twice the time to visible, counted from the close
        (daemons.md, *Rules a writer must obey*, 8); the writer waits for that by itself, and we do before it.
        """
        self._from = time.monotonic() + max(self._quiet, self._quiet * 2 / 3 + elapsed) + MARGIN

    async def come(self) -> None:
        """Wait until then."""
        await asyncio.sleep(self._from - time.monotonic())
