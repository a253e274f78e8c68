"""Health: looks at one host again and again, so that what is wrong with it is known before an order needs it."""

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Final, NoReturn

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType, is_cancelled_exception

from workflows.found_by import ask_a_person, be_found_by
from workflows.halves import ATTEMPT_TIMEOUT, HEARTBEAT_TIMEOUT

with workflow.unsafe.imports_passed_through():
    from twinline.messages import (
        HealthLooked,
        HealthSoFar,
        HealthStanding,
        HealthStart,
        HealthStatus,
        HealthTask,
        NameOf,
        RetryNow,
        host_queue,
    )
    from twinline.search_attributes import HOSTS
    from twinline.summaries import moment

TAKEN_WITHIN: Final = timedelta(seconds=30)
"""After which a look that no worker took is given up: nobody knows then how the host is."""
AGAIN_AFTER_MISSED: Final = timedelta(seconds=15)
NO_WORKER: Final = "NoWorker"
LOOKS_PER_RUN: Final = 200
"""About two thousand events."""


@workflow.defn(name=NameOf.HEALTH)
class Health:
    """Watches a host until it is told to stop."""

    def __init__(self) -> None:
        self._host = ""
        self._so_far = HealthSoFar()
        self._missed: str | None = None
        """Why nobody looked when it was due."""
        self._next_look: datetime | None = None
        self._looks = 0
        """Of this run, those that came to an end."""
        self._asked = self._looking = self._stopped = False

    @workflow.run
    async def run(self, start: HealthStart) -> HealthStatus:
        """Look for as long as the host is in the inventory; a cancel says that it no longer is."""
        self._host, self._so_far = start.host, start.so_far
        if list(workflow.info().typed_search_attributes.get(HOSTS) or ()) != [start.host]:
            be_found_by(HOSTS.value_set([start.host]))
        # A cancel ends a pause as the one, a look as the other; what else a look may end with is no end of the watch.
        with contextlib.suppress(asyncio.CancelledError, ActivityError):
            await self._watch(start.first_in)
        self._stopped, self._next_look = True, None
        self._show()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.progress()

    @workflow.query
    def progress(self) -> HealthStatus:
        """How the host stands, and when it is looked at next."""
        return HealthStatus(
            host=self._host,
            standing=self._so_far.standing if self._missed is None else HealthStanding.UNKNOWN,
            so_far=self._so_far,
            missed=self._missed,
            next_look=self._next_look,
        )

    @workflow.update(name=NameOf.UPDATE_RETRY)
    async def retry_now(self, asked: RetryNow) -> HealthStatus:  # noqa: ARG002 - the signature is every workflow's
        """Look now, and answer when that is done; who asks together gets one look."""
        # One that is under way may have looked before the repair, so it does not count.
        wanted = self._looks + 1 + self._looking
        self._asked = True
        await workflow.wait_condition(lambda: self._stopped or self._looks >= wanted)
        return self.progress()

    async def _watch(self, pause: timedelta) -> NoReturn:
        while True:
            await self._rest(pause)
            pause = await self._look()
            if await self._may_begin_anew():
                workflow.continue_as_new(HealthStart(host=self._host, first_in=pause, so_far=self._so_far))

    async def _rest(self, pause: timedelta) -> None:
        self._next_look = workflow.now() + pause
        self._show()
        if pause > timedelta(0):
            with contextlib.suppress(asyncio.TimeoutError):
                await workflow.wait_condition(
                    lambda: self._asked, timeout=pause, timeout_summary=f"next look at {self._host}"
                )
        self._next_look = None

    async def _look(self) -> timedelta:
        """Look once; gives how long to wait until the next time."""
        self._asked, self._looking = False, True
        try:
            looked = await workflow.execute_activity(
                NameOf.PROBE_HOST,
                HealthTask(host=self._host, so_far=self._so_far),
                task_queue=host_queue(self._host),
                result_type=HealthLooked,
                schedule_to_start_timeout=TAKEN_WITHIN,
                start_to_close_timeout=ATTEMPT_TIMEOUT,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=RetryPolicy(maximum_attempts=1),
                summary=f"look at {self._host}",
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            self._missed, pause = _why(error), AGAIN_AFTER_MISSED
        else:
            self._so_far, self._missed, pause = looked.so_far, None, looked.again_in
        finally:
            self._looking = False
        self._looks += 1
        return pause

    async def _may_begin_anew(self) -> bool:
        """Whether this run is long enough; who asked for the look that is done has the answer by then."""
        if self._looks < LOOKS_PER_RUN and not workflow.info().is_continue_as_new_suggested():
            return False
        await workflow.wait_condition(lambda: self._asked or workflow.all_handlers_finished())
        return not self._asked

    def _show(self) -> None:
        ask_a_person(self._so_far.attention)
        workflow.set_current_details("\n\n".join(_in_words(self.progress(), stopped=self._stopped)))


def _why(error: ActivityError) -> str:
    """The stable name of what kept everybody from looking, never its text."""
    cause = error.cause
    if isinstance(cause, TimeoutError) and cause.type is TimeoutType.SCHEDULE_TO_START:
        return NO_WORKER
    return cause.type if isinstance(cause, ApplicationError) and cause.type else "WorkerLost"


def _in_words(status: HealthStatus, *, stopped: bool) -> list[str]:
    """Paragraphs for Temporal's own pages (Markdown)."""
    so_far, host = status.so_far, f"**{status.host}**"
    since = "some time" if so_far.since is None else moment(so_far.since)
    match status.standing:
        case HealthStanding.WELL:
            said = [f"{host} answers since {since}."]
        case HealthStanding.AWAY:
            said = [f"{host} **does not answer** since {since}. New lines go to other pairs of its region."]
        case HealthStanding.UNKNOWN:
            said = [f"Nobody knows how {host} is."]
    if status.missed is not None:
        worker = " Does a worker run that has it in its inventory?" if status.missed == NO_WORKER else ""
        said.append(f"Nobody looked when it was due: `{status.missed}`.{worker}")
    elif so_far.code is not None:
        doubt = "" if status.standing is HealthStanding.AWAY else " Once may be a reload of its daemon."
        said.append(f"The last look ended with `{so_far.code}`. To do: {so_far.hint}.{doubt}")
    elif so_far.attention is not None:
        said.append(f"**A person has to look**: `{so_far.attention}`. To do: {so_far.hint}.")
    if stopped:
        said.append("It is watched no longer; a worker whose inventory has it begins anew when it starts.")
    elif status.next_look is not None:
        looked = "" if so_far.looked_at is None else f"Last looked at {so_far.looked_at:%H:%M:%S} UTC. "
        said.append(f"{looked}The next look is at {status.next_look:%H:%M:%S} UTC, or at once after `retry_now`.")
    return said
