"""The steps of a rebuild, each bounded, so that orders get through to the host in between."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from temporalio import activity

from activities.clocks import WorkerClock
from activities.errors import translated
from activities.heartbeat import heartbeats
from activities.host import unless_shut_down
from activities.host_ledger import LedgerOfHosts
from activities.in_step import Prevented, code_of, compared, driven_on
from twinline.hosts.drift import MEANINGS, Drift, Expected, Kind, LineDrift
from twinline.hosts.errors import HostError, StatusTrouble
from twinline.hosts.ports import Wanted
from twinline.hosts.writer import HostWriter
from twinline.ledger import Ledger
from twinline.ledger.rebuilds import note_rebuild
from twinline.messages import NameOf
from twinline.rebuild import ACCOUNT_SHUT, LinesLeft, RebuildNote, RebuildStep, RebuildStepped, added_up

AT_ONCE: Final = 1_000
"""Lines that one step writes again."""
_REFUSED: Final[Mapping[Kind, str]] = {Kind.TAKEN: "RecordConflict", Kind.SHUT: ACCOUNT_SHUT}
"""What no write of ours puts right, as the code that says why."""


class RebuildNotes:
    """Keeps in the ledger who asked for a rebuild, and what came of it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity of this class, for the worker to register."""
        return [self.note_rebuild]

    @activity.defn(name=NameOf.NOTE_REBUILD)
    async def note_rebuild(self, told: RebuildNote) -> None:
        """One event."""
        with translated():
            async with self._ledger.write() as tx:
                await note_rebuild(tx, told)


class RebuildActivities:
    """Brings one host in step with the ledger, some lines at a time, through its one writer."""

    def __init__(self, writer: HostWriter, ledger: LedgerOfHosts, clock: WorkerClock) -> None:
        self._writer = writer
        self._ledger = ledger
        self._clock = clock

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity of this class, for the worker to register."""
        return [self.rebuild_step]

    @activity.defn(name=NameOf.REBUILD_STEP)
    async def rebuild_step(self, step: RebuildStep) -> RebuildStepped:
        """Look, then write the next lines again that differ; a pass begins with what is behind."""
        accepting = self._writer.accepting_losses() if step.accept_loss else contextlib.nullcontext()
        with translated():
            await self._clock.look(activity.info().started_time)
            async with heartbeats():
                with accepting:
                    return await unless_shut_down(self._step(step))

    async def _step(self, step: RebuildStep) -> RebuildStepped:
        expected = await self._ledger.expected(step.host)
        still, drift = await compared(self._writer, self._ledger, expected, ())
        chosen, to_come = self._turn(drift, step.after)
        if not chosen and not step.after:
            # Pages of single accounts cost a daemon most: they are read when nothing else is left to do.
            served = [each.half for each in still if each.half.wanted is Wanted.PRESENT and not each.behind]
            still, drift = await compared(self._writer, self._ledger, expected, served)
            chosen, to_come = self._turn(drift, step.after)
        behind = {} if step.after else await self._ledger.behind(step.host)
        if not drift.daemon_told and not chosen and not behind:
            raise StatusTrouble("the daemon's status pages do not answer, or refuse our user and password")
        restoring = self._writer.restore(list(chosen.values()))
        driven, restored = await asyncio.gather(driven_on(self._writer, behind, recheck=step.recheck), restoring)
        failed = driven | {line_id: error for line_id, error in restored.items() if error is not None}
        done = {*behind, *restored} - failed.keys()
        refused = added_up(map(_refused, (line for line in drift.lines if _is_refused(line))))
        return RebuildStepped(
            should_hold=sum(_is_served(each) for each in still),
            held=_held(still, drift, done),
            changed=len(done),
            failed=added_up(map(_left, failed.values())),
            refused=refused,
            still_to_come=len(to_come),
            next_after=list(chosen)[-1] if to_come else None,
            proven=drift.daemon_told and not (step.after or restored or failed or refused),
        )

    def _turn(self, drift: Drift, after: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Ids of the lines to write again in this step and of those that come later, by their place in a pass."""
        losing = {line.line_id: line.loses_access for line in drift.lines}
        ours = drift.to_restore(together=self._writer.daemon.may_replace)
        places = {f"{int(not losing[line_id])}/{line_id}": line_id for line_id in ours}
        later = [place for place in sorted(places) if place > after]
        return {each: places[each] for each in later[:AT_ONCE]}, {each: places[each] for each in later[AT_ONCE:]}


def _is_served(each: Expected) -> bool:
    return each.half.wanted is Wanted.PRESENT


def _is_refused(line: LineDrift) -> bool:
    return line.line_id is not None and not line.repaired


def _held(still: Sequence[Expected], drift: Drift, done: AbstractSet[str]) -> int:
    """How many lines to be served were seen right in file and daemon, or proven since."""
    drifted = {line.line_id for line in drift.lines}
    seen = {
        each.half.line_id
        for each in still
        if drift.daemon_told and not each.behind and each.half.line_id not in drifted
    }
    return len({each.half.line_id for each in still if _is_served(each)} & (seen | done))


def _refused(line: LineDrift) -> LinesLeft:
    kind = next(kind for kind in line.kinds if not MEANINGS[kind].repaired)
    return LinesLeft(code=_REFUSED[kind], lines=1, asks=True, hint=MEANINGS[kind].hint)


def _left(error: Prevented) -> LinesLeft:
    asks = isinstance(error, HostError) and error.attention
    return LinesLeft(code=code_of(error), lines=1, asks=asks, hint=error.hint)
