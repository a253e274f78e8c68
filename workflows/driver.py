"""What every workflow that drives halves takes and shows: `retry_now`, `abandon_half`, and who it waits for."""

from collections.abc import Sequence
from typing import Any, Final, NoReturn

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import ApplicationError

from workflows.found_by import ask_a_person, be_found_by
from workflows.halves import Half, Halves
from workflows.ledger import in_ledger

with workflow.unsafe.imports_passed_through():
    import logging

    from twinline.messages import (
        AbandonHalf,
        HalfAbandoned,
        HalfRef,
        HalfSoFar,
        HalfState,
        HalvesAsked,
        HalvesStatus,
        NameOf,
        RetryNow,
    )
    from twinline.search_attributes import CALLER, HOSTS, LINE_ID
    from twinline.summaries import moment

_log: Final = workflow.LoggerAdapter(logging.getLogger("twinline.attention"), None)
# The ids stand beside the message.
_log.workflow_info_on_message = False


class DrivesHalves:
    """Base of the workflows that drive a line's halves."""

    def __init__(self) -> None:
        self._halves: Halves | None = None
        self._waiting: dict[str, str] = {}
        """By host, why a person was told to look."""
        self._note = ""

    def drive(self, line_id: str, refs: Sequence[HalfRef], revision: int, so_far: Sequence[HalfSoFar] = ()) -> Halves:
        """Start all halves, as the run before left them if there was one."""
        halves = [Half.from_so_far(half) for half in so_far] or [Half(ref) for ref in refs]
        self._halves = Halves(line_id, halves, revision, changed=self._changed, begin_anew=self.begin_anew)
        self._be_found(line_id, [half.ref.host for half in halves])
        self._waiting = {half.ref.host: half.last_error or "" for half in halves if _waits(half)}
        self._show()
        self._halves.start()
        return self._halves

    @property
    def caller(self) -> str | None:
        """Who placed the order; None for what no order is."""
        return None

    def _be_found(self, line_id: str, hosts: Sequence[str]) -> None:
        """Let Temporal list this workflow by line, caller and host; a run that goes on with it says nothing new."""
        updates: list[SearchAttributeUpdate[Any]] = []
        known = workflow.info().typed_search_attributes
        if known.get(LINE_ID) != line_id:
            updates.append(LINE_ID.value_set(line_id))
        if self.caller is not None and known.get(CALLER) != self.caller:
            updates.append(CALLER.value_set(self.caller))
        if sorted(known.get(HOSTS) or ()) != sorted(hosts):
            updates.append(HOSTS.value_set(hosts))
        if updates:
            be_found_by(*updates)

    def begin_anew(self) -> NoReturn:
        """Continue as new with everything that the next run must know."""
        raise NotImplementedError

    async def finish_handlers(self) -> None:
        """Let those who asked have their answer before the workflow ends."""
        await workflow.wait_condition(workflow.all_handlers_finished)

    def let_go(self) -> None:
        """Leave the halves to another workflow; nobody has to act for this one any more."""
        if self._halves is None:
            return
        self._halves.let_go()
        for half in self._halves.all:
            half.attention = None
        self._changed()

    # -- updates

    @workflow.update(name=NameOf.UPDATE_RETRY)
    async def retry_now(self, asked: RetryNow) -> HalvesStatus:
        """Try the halves that are not proven now, and answer when each was tried."""
        halves = self._driven()
        request = HalvesAsked(line_id=halves.line_id, actor=asked.actor, at=workflow.now())
        await in_ledger(NameOf.RETRY_HALVES, request, type(None), summary=f"asked for by {asked.actor}")
        await halves.try_again()
        return HalvesStatus(halves=halves.receipts())

    @retry_now.validator
    def _may_retry(self, asked: RetryNow) -> None:  # noqa: ARG002 - the signature is the update's
        if self._driven().over:
            raise ApplicationError(
                "no half of this is waiting", "Every half is proven or given up.", type="NothingToRetry"
            )

    @workflow.update(name=NameOf.UPDATE_ABANDON)
    async def abandon_half(self, asked: AbandonHalf) -> HalvesStatus:
        """Give a half up, so that the rest can end without it."""
        halves = self._driven()
        request = HalfAbandoned(
            line_id=halves.line_id, host=asked.host, reason=asked.reason, actor=asked.actor, at=workflow.now()
        )
        await in_ledger(NameOf.ABANDON_HALF, request, type(None), summary=f"{asked.host} given up by {asked.actor}")
        if (half := halves.abandon(asked.host)) is not None:
            _tell("a half was given up", half, half.last_error or "none", halves.line_id)
        return HalvesStatus(halves=halves.receipts())

    @abandon_half.validator
    def _may_abandon(self, asked: AbandonHalf) -> None:
        halves = {half.ref.host: half for half in self._driven().all}
        if asked.host not in halves:
            raise ApplicationError(
                f'there is no half on host "{asked.host}" here', f"Its hosts: {', '.join(halves)}.", type="UnknownHalf"
            )
        if halves[asked.host].proven:
            raise ApplicationError(
                f"the half on {asked.host} is proven", "There is nothing to give up.", type="NothingToRetry"
            )

    def _driven(self) -> Halves:
        if self._halves is None:
            raise ApplicationError(
                "no half of this is driven yet", "Wait until the order is in the ledger.", type="NothingToRetry"
            )
        return self._halves

    # -- what is shown

    def show_note(self, note: str) -> None:
        """Let a sentence stand under the halves on Temporal's own pages."""
        self._note = note
        self._show()

    def heading(self) -> Sequence[str]:
        """Lines that stand above the halves there."""
        return ()

    def _changed(self) -> None:
        self._alert()
        self._show()

    def _alert(self) -> None:
        """Tell once that a half begins to wait for a person, and once that this is over."""
        halves = self._driven()
        for half in halves.all:
            before, now = self._waiting.get(half.ref.host), half.last_error if _waits(half) else None
            if before == now:
                continue
            if now is not None:
                self._waiting[half.ref.host] = now
                _tell("a half waits for a person", half, now, halves.line_id)
            elif before is not None:
                del self._waiting[half.ref.host]
                if half.state is not HalfState.ABANDONED:
                    _tell("a half waits for a person no longer", half, before, halves.line_id)

    def _show(self) -> None:
        halves = self._halves
        if halves is None:
            workflow.set_current_details("\n".join([*self.heading(), self._note]))
            return
        waiting = [half for half in halves.all if _waits(half)]
        reason = waiting[0].last_error if waiting else None
        ask_a_person(reason)
        lines = [*self.heading(), *(_in_words(half) for half in halves.all)]
        if waiting:
            lines += ["", "Then send `retry_now`, or give the half up with `abandon_half`."]
        if self._note:
            lines += ["", self._note]
        workflow.set_current_details("\n".join(lines))


def _waits(half: Half) -> bool:
    """Whether a person has to act before this half can go on."""
    return half.attention is not None and not half.over


def _in_words(half: Half) -> str:
    """A half as Temporal's own pages show it (Markdown)."""
    host = f"- **{half.ref.host}** ({half.ref.protocol})"
    if half.state is HalfState.ABANDONED:
        return f"{host}: given up"
    if half.proven:
        return f"{host}: {half.state} at revision {half.revision}"
    if _waits(half):
        since = f" since {moment(half.waits_since)}" if half.waits_since is not None else ""
        return f"{host} **waits for a person**{since}: `{half.last_error}`. To do: {half.hint}."
    if half.last_error is not None:
        again = "now" if half.next_attempt is None else f"after {half.next_attempt:%H:%M:%S} UTC"
        tries = "1 attempt" if half.attempts == 1 else f"{half.attempts} attempts"
        return f"{host}: failing with `{half.last_error}` after {tries}; tried again {again}"
    return f"{host}: being written"


def _tell(what: str, half: Half, code: str, line_id: str) -> None:
    _log.warning(what, extra={"host": half.ref.host, "line": line_id, "code": code})
