"""Tells when this worker's own clock is minutes off; it stops nothing, because ends go by Temporal's clock."""

import logging
import time
from collections.abc import Callable
from datetime import datetime

from twinline import metrics
from twinline.hosts.clocks import MOST_APART, ClockFacts
from twinline.ledger import Ledger
from twinline.spans import span

log = logging.getLogger("twinline.clocks")


class WorkerClock:
    """This machine's clock, compared with Temporal's and with that of the ledger's database; one per process."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self._far_from: set[str] = set()

    async def look(self, handed_out: datetime) -> None:
        """Warn once when it is off, and once when that is over; raises Unavailable.

        `handed_out` is when Temporal handed out the activity that asks, by its own clock. One that was on its way for
        as long as counts here had timed out before.
        """
        self._tell("Temporal", self._clock() - handed_out.timestamp())
        asked = self._clock()
        theirs = await self._ledger.now()
        facts = ClockFacts(asked=asked, theirs=theirs.timestamp(), answered=self._clock())
        self._tell("the ledger's database", -facts.off)

    def _tell(self, whose: str, ahead: float) -> None:
        metrics.WORKER_CLOCK.labels(whose.removeprefix("the ledger's ").lower()).set(ahead)
        far = abs(ahead) > MOST_APART
        if far and whose not in self._far_from:
            way = "ahead of" if ahead > 0 else "behind"
            log.warning("this machine's clock is %s %s that of %s", span(abs(ahead)), way, whose)
        elif not far and whose in self._far_from:
            log.warning("this machine's clock agrees again with that of %s", whose)
        (self._far_from.add if far else self._far_from.discard)(whose)
