"""Looking at one host: through its one writer, judged by the rule, kept in the ledger."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from temporalio import activity

from activities.errors import translated
from activities.heartbeat import heartbeats
from activities.host import unless_shut_down
from twinline import metrics
from twinline.health.rule import Seen, Tempo, after
from twinline.hosts.errors import HostError, HostLoginRefused, kinds
from twinline.hosts.writer import HostWriter
from twinline.ledger import Ledger, WriteTx, halves, looks
from twinline.messages import HealthLooked, HealthSoFar, HealthStanding, HealthTask, NameOf

log = logging.getLogger(__name__)

TELLING: Final = frozenset(kind.__name__ for kind in kinds() if kind.on_the_way)
"""The errors of which a look tells that they are over."""


def _now() -> datetime:
    return datetime.now(UTC)


class HealthActivities:
    """Looks at one host."""

    def __init__(
        self, writer: HostWriter, ledger: Ledger, every: timedelta, clock: Callable[[], datetime] = _now
    ) -> None:
        self._writer = writer
        self._ledger = ledger
        self._tempo = Tempo(every)
        self._clock = clock

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity of this class, for the worker to register."""
        return [self.probe_host]

    @activity.defn(name=NameOf.PROBE_HOST)
    async def probe_host(self, task: HealthTask) -> HealthLooked:
        """See whether helper and daemon answer, keep what came of it, and tell the ledger what that means."""
        with translated():
            async with heartbeats():
                return await unless_shut_down(self._look(task))

    async def _look(self, task: HealthTask) -> HealthLooked:
        at, started = self._clock(), time.monotonic()
        seen = await self._seen(at)
        seconds = time.monotonic() - started
        so_far = after(task.so_far, seen, self._tempo)
        async with self._ledger.write() as tx:
            if await looks.keep_look(tx, task.host, at=at, code=seen.code, seconds=seconds):
                await _note(tx, task.host, so_far, seen)
        metrics.PROBES.labels(task.host, seen.code or "well").inc()
        _tell(task.host, task.so_far, so_far)
        return HealthLooked(so_far=so_far, again_in=self._tempo.pause_after(so_far, seen))

    async def _seen(self, at: datetime) -> Seen:
        try:
            apart = await self._writer.probe()
        except HostError as error:
            attention = error.code if error.attention else None
            shut_out = isinstance(error, HostLoginRefused)
            return Seen(at=at, code=error.code, attention=attention, hint=error.hint, shut_out=shut_out)
        if apart is not None:
            return Seen(at=at, attention=apart.code, hint=apart.hint)
        return Seen(at=at)


async def _note(tx: WriteTx, host: str, so_far: HealthSoFar, seen: Seen) -> None:
    if so_far.standing is HealthStanding.AWAY and so_far.code is not None and so_far.since is not None:
        asks = so_far.attention is not None
        await halves.note_away(tx, host, code=so_far.code, since=so_far.since, host_asks=asks, of=TELLING)
    elif seen.code is None and seen.attention is None:
        await halves.note_well(tx, host, of=TELLING)


def _tell(host: str, before: HealthSoFar, now: HealthSoFar) -> None:
    """Say once that a host does not answer, and once that it does again."""
    if now.standing is before.standing:
        return
    if now.standing is HealthStanding.AWAY:
        log.warning("the host does not answer", extra={"host": host, "error": now.code, "hint": now.hint})
    elif before.standing is HealthStanding.AWAY:
        log.warning("the host answers again", extra={"host": host})
