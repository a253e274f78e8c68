"""A rebuild: a host whose file was lost, or is years old, is brought to hold every line that it should.

Reconcile does the same every ten minutes and forgets what it could not do; this goes on until it is proven. It goes
in passes over all lines, a bounded number of them in each step, so that orders get through in between.
"""

import contextlib
from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

from workflows.found_by import ask_a_person, be_found_by
from workflows.halves import HEARTBEAT_TIMEOUT, LOOK_AGAIN, condition, pause_after
from workflows.ledger import in_ledger
from workflows.steadily import steadily

with workflow.unsafe.imports_passed_through():
    import logging

    from twinline.messages import NameOf, RetryNow, host_queue
    from twinline.rebuild import (
        STILL_TO_COME,
        LinesLeft,
        Noted,
        RebuildNote,
        RebuildSoFar,
        RebuildStatus,
        RebuildStep,
        RebuildStepped,
        RebuildTask,
        StopRebuild,
        added_up,
        rebuild_workflow_id,
    )
    from twinline.search_attributes import HOSTS
    from twinline.summaries import rebuild_in_words

STEP_TIMEOUT: Final = timedelta(minutes=30)
"""For a slow daemon with thousands of pages to be read; a worker that is lost is noticed by its heartbeats."""

_log: Final = workflow.LoggerAdapter(logging.getLogger("twinline.attention"), None)
# The ids stand beside the message.
_log.workflow_info_on_message = False


@workflow.defn(name=NameOf.REBUILD)
class Rebuild:
    """One host from the question for it to the proof that it holds every line as the ledger wants it."""

    @workflow.init
    def __init__(self, start: RebuildTask | RebuildSoFar) -> None:
        if isinstance(start, RebuildSoFar):
            self._status, self._accept_loss, self._ending = start.status, start.accept_loss, start.ending
        else:
            self._status = RebuildStatus(
                host=start.host,
                actor=start.actor,
                reason=start.reason,
                since=workflow.now(),
                workflow_id=rebuild_workflow_id(start.host),
            )
            self._accept_loss, self._ending = start.accept_loss, ""
        self._consent: RebuildTask | None = None
        """Who has accepted the loss since, until that stands in the ledger."""
        self._stop: StopRebuild | None = None
        self._asked = isinstance(start, RebuildTask)
        """Whether somebody wants it tried now, also what waits for a person."""
        self._trying = False
        self._ended = 0
        self._after = ""
        """How far this pass is."""
        self._changed = False
        """Whether this pass has changed anything."""
        self._failed: tuple[LinesLeft, ...] = ()
        """What this pass has tried in vain."""

    @workflow.query
    def progress(self) -> RebuildStatus:
        """How many lines the host should hold, how many it was seen to hold, and why the others are left."""
        return self._status

    @workflow.signal(name=NameOf.SIGNAL_REBUILD)
    def ask_again(self, task: RebuildTask) -> None:
        """Somebody asked for the same rebuild: try now, and go on over a loss if he accepts it."""
        self._asked = True
        if task.accept_loss and not self._accept_loss:
            self._consent, self._accept_loss = task, True

    @workflow.signal(name=NameOf.SIGNAL_STOP_REBUILD)
    def stop_rebuild(self, asked: StopRebuild) -> None:
        """End it as far as it is."""
        self._stop = self._stop or asked

    @workflow.update(name=NameOf.UPDATE_RETRY)
    async def retry_now(self, asked: RetryNow) -> RebuildStatus:  # noqa: ARG002 - the signature is the update's
        """Try now, whatever it waits for, and answer when that was tried."""
        # A step that is under way may have looked before the repair, so it does not count.
        target = self._ended + 1 + self._trying
        self._asked = True
        await workflow.wait_condition(lambda: self._status.over or self._ended >= target)
        return self._status

    @workflow.run
    async def run(self, start: RebuildTask | RebuildSoFar) -> RebuildStatus:
        """Go on until it is proven; a cancel that Temporal asks for is the same as `twinline host rebuild --stop`."""
        return await steadily(self._steps(start), asked=self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        self._stop = self._stop or StopRebuild(actor="temporal", reason="asked for in Temporal")

    async def _steps(self, start: RebuildTask | RebuildSoFar) -> RebuildStatus:
        if isinstance(start, RebuildTask):
            be_found_by(HOSTS.value_set([self._status.host]))
            await self._note(start, "begun")
        while not self._status.done:
            await self._rest()
            if self._stop is not None:
                break
            if self._consent is not None:
                accepted, self._consent = self._consent, None
                await self._note(accepted, "loss_accepted")
            await self._step()
        if self._status.done:
            await self._note(self._status, "done")
        elif self._stop is not None:
            self._come_to(stopped_by=self._stop.actor, next_attempt=None, asks=None, hint="")
            await self._note(self._stop, "stopped")
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._status

    # -- one step

    async def _step(self) -> None:
        step = RebuildStep(
            host=self._status.host, after=self._after, recheck=not self._asked, accept_loss=self._accept_loss
        )
        self._asked, self._trying = False, True
        self._come_to(next_attempt=None)
        trying = workflow.start_activity(
            NameOf.REBUILD_STEP,
            step,
            task_queue=host_queue(step.host),
            result_type=RebuildStepped,
            start_to_close_timeout=STEP_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            # The pauses are the workflow's own, so that its status can tell attempts, error and next attempt.
            retry_policy=RetryPolicy(maximum_attempts=1),
            summary=f"{step.host}: look, and bring the next lines in step",
        )
        await workflow.wait_condition(lambda: trying.done() or self._stop is not None)
        if not trying.done():
            # What is under way on the host ends well there.
            trying.cancel()
            with contextlib.suppress(ActivityError):
                await trying
            return
        try:
            self._stepped(await trying)
        except ActivityError as error:
            self._not_reached(error)
        self._trying = False
        self._ended += 1

    def _stepped(self, found: RebuildStepped) -> None:
        self._after = found.next_after or ""
        self._changed = self._changed or found.changed > 0
        self._failed = added_up(self._failed, found.failed)
        if found.changed:
            # From here on the daemon has loaded the file: who is lost after that was not meant.
            self._accept_loss = False
        to_come = (LinesLeft(code=STILL_TO_COME, lines=found.still_to_come),) if found.still_to_come else ()
        left = added_up(self._failed, found.refused, to_come)
        asking = next((each for each in left if each.asks), None)
        self._come_to(
            done=found.proven,
            should_hold=found.should_hold,
            held=found.held,
            changed=self._status.changed + found.changed,
            left=left,
            last_error=None,
            asks=None if asking is None else asking.code,
            hint="" if asking is None else asking.hint,
        )
        if found.next_after is None and not found.proven:
            self._pass_ended(left)

    def _pass_ended(self, left: tuple[LinesLeft, ...]) -> None:
        attempts = self._counted("changed" if self._changed else "unchanged")
        if self._changed:
            # Next comes the look that sees whether it holds. Somebody else may be writing there, and each pass that
            # changes something is a reload: then less and less often.
            pause = pause_after(attempts - 1) if attempts > 1 else timedelta(0)
        else:
            pause = LOOK_AGAIN if left and all(each.asks for each in left) else pause_after(attempts)
        self._changed, self._failed = False, ()
        self._come_to(attempts=attempts, next_attempt=workflow.now() + pause)

    def _not_reached(self, error: ActivityError) -> None:
        code, trouble = condition(error)
        attempts = self._counted("error")
        asks = trouble.attention is not None
        self._come_to(
            last_error=code,
            attempts=attempts,
            asks=code if asks else None,
            hint=trouble.hint,
            next_attempt=workflow.now() + (LOOK_AGAIN if asks else pause_after(attempts)),
        )

    def _counted(self, ending: str) -> int:
        """How many tries in a row have ended like this."""
        attempts = self._status.attempts + 1 if ending == self._ending else 1
        self._ending = ending
        return attempts

    async def _rest(self) -> None:
        """Wait for the next step, or until somebody asks for it or stops it."""
        until = self._status.next_attempt

        def woken() -> bool:
            return self._asked or self._stop is not None

        if until is None or until <= workflow.now():
            return
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: woken() or self._history_is_long(),
                timeout=until - workflow.now(),
                timeout_summary=f"next look at {self._status.host}",
            )
        if not woken() and self._history_is_long():
            workflow.continue_as_new(
                RebuildSoFar(status=self._status, accept_loss=self._accept_loss, ending=self._ending)
            )

    @staticmethod
    def _history_is_long() -> bool:
        return workflow.info().is_continue_as_new_suggested() and workflow.all_handlers_finished()

    # -- what is noted and shown

    async def _note(self, by: RebuildTask | StopRebuild | RebuildStatus, what: Noted) -> None:
        note = RebuildNote(
            host=self._status.host,
            what=what,
            actor=by.actor,
            reason=by.reason,
            at=workflow.now(),
            held=self._status.held,
            should_hold=self._status.should_hold,
        )
        await in_ledger(NameOf.NOTE_REBUILD, note, type(None), summary=f"{what.replace('_', ' ')} by {by.actor}")

    def _come_to(self, **changes: Any) -> None:
        before = self._status.asks
        self._status = self._status.model_copy(update=changes)
        workflow.set_current_details(rebuild_in_words(self._status))
        if self._status.asks == before:
            return
        asks = self._status.asks
        ask_a_person(asks)
        what = "a rebuild waits for a person no longer" if asks is None else "a rebuild waits for a person"
        _log.warning(what, extra={"host": self._status.host, "code": asks or before})
