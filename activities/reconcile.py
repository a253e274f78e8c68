"""Bringing one host in step with the ledger, beside the orders."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from temporalio import activity

from activities.clocks import WorkerClock
from activities.errors import translated
from activities.heartbeat import heartbeats
from activities.host import unless_shut_down
from activities.host_ledger import LedgerOfHosts
from activities.in_step import code_of, compared, driven_on
from starter.bulk import take_up
from starter.client import Twinline
from twinline import metrics
from twinline.errors import Unavailable
from twinline.hosts.drift import Drift, Expected
from twinline.hosts.errors import HostError
from twinline.hosts.ports import Half, Wanted
from twinline.hosts.writer import HostWriter
from twinline.ledger import Ledger, mails, owed, terms
from twinline.ledger.trial_door import forget_ranges
from twinline.messages import DriftedLine, HostReconciled, NameOf, ReconcileTask, Sweep

log = logging.getLogger(__name__)

SWEPT_AT_ONCE: Final = 100
"""Grants, or lines that are owed a mail, that are looked up together."""
CLOSELY_AT_ONCE: Final = 200
"""Lines that a Reconcile which nobody asked for looks at closely; all get their turn."""
SHOWN: Final = 1_000
"""Drifted lines that a result names; a payload may not grow without bound."""


class SweepActivities:
    """Ends grants whose Term did not, tells what is owed, and takes up bulk runs that nobody works on."""

    def __init__(self, ledger: Ledger, twinline: Twinline, *, grace: timedelta) -> None:
        self._ledger = ledger
        self._twinline = twinline
        self._grace = grace

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity of this class, for the worker to register."""
        return [self.end_overdue]

    @activity.defn(name=NameOf.END_OVERDUE)
    async def end_overdue(self, sweep: Sweep) -> int:
        """End grants of this host's lines that are past their end, by the rule of a Term; how many there were.

        On the way, what is kept for a time only is forgotten, customers hear of halves that came into step after their
        order had ended, and bulk runs go on whose workflow was never begun, or was ended by somebody.
        """
        count = 0
        with translated():
            async with self._ledger.write() as tx:
                await forget_ranges(tx, now=sweep.at)
            async with self._ledger.write() as tx:
                await mails.forget_texts(tx, now=sweep.at)
            while True:
                async with self._ledger.read() as tx:
                    found = await terms.overdue(tx, sweep.host, now=sweep.at, limit=SWEPT_AT_ONCE)
                for term in found:
                    # A line each: who locks several waits for them in another order than somebody else.
                    async with self._ledger.write() as tx:
                        await terms.end_grant(tx, term, now=sweep.at, who="reconcile")
                count += len(found)
                if len(found) < SWEPT_AT_ONCE:
                    break
        try:
            await self._tell_owed(sweep)
            await self._take_up_runs()
        except Unavailable as error:
            # The host shall be brought in step all the same; the next Reconcile tries again.
            log.warning(
                "mails that are owed and bulk runs that nobody works on still wait",
                extra={"error": error.type, "hint": error.hint},
            )
        return count

    async def _tell_owed(self, sweep: Sweep) -> None:
        async with self._ledger.read() as tx:
            line_ids = await owed.lines_owed(tx, sweep.host, limit=SWEPT_AT_ONCE)
        for line_id in line_ids:
            async with self._ledger.write() as tx:
                message = await owed.message_owed(tx, line_id, grace=self._grace, now=sweep.at)
            if message is not None:
                await self._twinline.tell(message)

    async def _take_up_runs(self) -> None:
        for workflow_id in await take_up(self._ledger, self._twinline):
            log.warning("a bulk run goes on that nobody worked on", extra={"run": workflow_id})


class ReconcileActivities:
    """Compares one host with the ledger and brings it in step, through its one writer."""

    def __init__(self, writer: HostWriter, ledger: LedgerOfHosts, clock: WorkerClock) -> None:
        self._writer = writer
        self._ledger = ledger
        self._clock = clock
        self._last_looked_at = ""
        """The last of the names that were looked at closely; the next ones have their turn next time."""

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity of this class, for the worker to register."""
        return [self.reconcile_host]

    @activity.defn(name=NameOf.RECONCILE_HOST)
    async def reconcile_host(self, task: ReconcileTask) -> HostReconciled:
        """Drive on what is behind, then write again what differs, at the revision that it has."""
        accepting = self._writer.accepting_losses() if task.accept_loss else contextlib.nullcontext()
        with translated():
            await self._clock.look(activity.info().started_time)
            async with heartbeats():
                with accepting:
                    return await unless_shut_down(self._reconcile(task))

    async def _reconcile(self, task: ReconcileTask) -> HostReconciled:
        behind = await self._ledger.behind(task.host)
        failed = await driven_on(self._writer, behind, recheck=not task.asked)
        drift = await self._drift(task)
        restored = await self._writer.restore(drift.to_restore(together=self._writer.daemon.may_replace))
        metrics.DRIFTED.labels(task.host).set(len(drift.lines))
        metrics.RECONCILED.labels(task.host).set_to_current_time()
        if drift.lines:
            # How many, and of which kinds; a name is for results that are sealed.
            kinds = Counter(str(kind) for line in drift.lines for kind in line.kinds)
            log.warning("%d lines drifted", len(drift.lines), extra={"host": task.host, "kinds": dict(kinds)})
        return HostReconciled(
            brought=len(behind) - len(failed),
            behind=dict(Counter(map(code_of, failed.values()))),
            drifted=len(drift.lines),
            drift=tuple(
                DriftedLine(
                    username=line.username,
                    kinds=tuple(line.kinds),
                    error=_left(line.repaired, restored.get(line.line_id or "")),
                )
                for line in drift.lines[:SHOWN]
            ),
            daemon_told=drift.daemon_told,
        )

    async def _drift(self, task: ReconcileTask) -> Drift:
        expected = await self._ledger.expected(task.host)
        closely = self._closely(expected, everybody=task.asked)
        _, drift = await compared(self._writer, self._ledger, expected, closely)
        return drift

    def _closely(self, expected: Sequence[Expected], *, everybody: bool) -> list[Half]:
        """Whose page of the daemon is read as well: each may take a slow daemon tenths of a second."""
        served = [each.half for each in expected if each.half.wanted is Wanted.PRESENT and not each.behind]
        if everybody or len(served) <= CLOSELY_AT_ONCE:
            return served
        later = [half for half in served if half.username > self._last_looked_at]
        turn = [*later, *served][:CLOSELY_AT_ONCE]
        self._last_looked_at = turn[-1].username
        return turn


def _left(repaired: bool, error: HostError | None) -> str | None:  # noqa: FBT001 - one fact of a line
    if not repaired:
        return "NeedsAPerson"
    return None if error is None else error.code
