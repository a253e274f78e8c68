"""An erasure: nothing of a line and its customer is left where twinline can reach it, once no host holds the line.

Durable, because a host may be down for days, and forgetting must not depend on somebody who remembers it.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from workflows.found_by import be_found_by
from workflows.halves import ATTEMPT_TIMEOUT, FIRST_PAUSE, HEARTBEAT_TIMEOUT, LONG_CAP
from workflows.ledger import in_ledger

with workflow.unsafe.imports_passed_through():
    from twinline.messages import (
        EraseBegun,
        EraseStatus,
        EraseTask,
        ErasureStep,
        HostGone,
        HostToEmpty,
        NameOf,
        host_queue,
    )
    from twinline.search_attributes import HOSTS, LINE_ID
    from twinline.summaries import erasure_in_words

RETRY = RetryPolicy(initial_interval=FIRST_PAUSE, maximum_interval=LONG_CAP)
FORGET_TIMEOUT = timedelta(minutes=10)


@workflow.defn(name=NameOf.ERASE)
class Erase:
    """One line from the question whether it may be erased to its tombstone; every step may be taken twice."""

    def __init__(self) -> None:
        self._status: EraseStatus | None = None
        self._gone: dict[str, HostGone] = {}

    @workflow.query
    def progress(self) -> EraseStatus | None:
        """Which hosts were seen to hold nothing of the line; None before it was taken up."""
        return self._status

    @workflow.signal(name=NameOf.SIGNAL_HOST_GONE)
    async def host_gone(self, told: HostGone) -> None:
        """Wait for this host no longer; of a host that was seen to hold nothing it changes nothing."""
        self._gone.setdefault(told.host, told)

    @workflow.run
    async def run(self, task: EraseTask) -> EraseStatus:
        """Hosts first, then histories, and the ledger last: it alone knows where the rest is."""
        workflow.set_current_details(f"The ledger is asked whether line `{task.line_id}` may be forgotten.")
        begun = await in_ledger(NameOf.BEGIN_ERASURE, self._step(task), EraseBegun, summary="take no further orders")
        self._is(EraseStatus(line=task.line_id, done=False, hosts=begun.hosts, empty=()))
        be_found_by(LINE_ID.value_set(task.line_id), HOSTS.value_set(begun.hosts))
        await asyncio.gather(*(self._empty(task.line_id, host) for host in begun.hosts))
        await workflow.execute_activity(
            NameOf.FORGET_HISTORIES,
            task.line_id,
            start_to_close_timeout=FORGET_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=RETRY,
            summary="delete the histories of its orders",
        )
        step = self._step(task).model_copy(update={"gone": tuple(self._gone[host] for host in self._known().gone)})
        await in_ledger(NameOf.ERASE_LINE, step, type(None), summary="forget whose line it was")
        return self._is(self._known().model_copy(update={"done": True}))

    async def _empty(self, line_id: str, host: str) -> None:
        # Temporal's own retries: an outage of weeks adds nothing to the history.
        proof = workflow.start_activity(
            NameOf.PROVE_EMPTY,
            HostToEmpty(host=host, line_id=line_id),
            activity_id=host,
            task_queue=host_queue(host),
            start_to_close_timeout=ATTEMPT_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=RETRY,
            summary=f"{host}: see that nothing of the line is left",
        )
        gone = asyncio.create_task(workflow.wait_condition(lambda: host in self._gone))
        await workflow.wait((proof, gone), return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if proof.done():
            proof.result()
            self._seen(empty=(host,))
        else:
            proof.cancel()
            self._seen(gone=(host,))

    def _seen(self, *, empty: tuple[str, ...] = (), gone: tuple[str, ...] = ()) -> None:
        known = self._known()
        seen = {"empty": (*known.empty, *empty), "gone": (*known.gone, *gone)}
        self._is(known.model_copy(update={name: tuple(sorted(hosts)) for name, hosts in seen.items()}))

    def _known(self) -> EraseStatus:
        if self._status is None:
            raise RuntimeError("an erasure that the ledger has not begun is at no host")
        return self._status

    def _is(self, status: EraseStatus) -> EraseStatus:
        self._status = status
        workflow.set_current_details(erasure_in_words(status))
        return status

    @staticmethod
    def _step(task: EraseTask) -> ErasureStep:
        return ErasureStep(task=task, at=workflow.now())
