"""Tells in the log how each activity ended, and whose ids stand in whatever is logged meanwhile."""

import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from twinline import metrics
from twinline.logs import Fact, about, note
from twinline.messages import NameOf, OrderKind

log = logging.getLogger(__name__)

_OF_A_HOST: Final = "host."
_KINDS: Final = frozenset(OrderKind)
_ROUTINE: Final = frozenset({NameOf.PROBE_HOST})
"""Of which every minute brings one for each host."""


class Telling(Interceptor):
    """Stands around every activity of a worker."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Put ours in front."""
        return _Telling(super().intercept_activity(next))


class _Telling(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        started = time.monotonic()
        with about(
            **ids_of(info.workflow_id or "", info.task_queue, input.args),
            workflow_id=info.workflow_id,
            run_id=info.workflow_run_id,
            activity=info.activity_type,
            attempt=info.attempt,
            task_queue=info.task_queue,
        ):
            try:
                result = await super().execute_activity(input)
            except Exception as error:
                # What was foreseen is tried again, and told by whoever it concerns; the SDK itself tells of the rest.
                foreseen = getattr(error, "category", None) is ApplicationErrorCategory.BENIGN
                if info.activity_type.startswith("record_") and getattr(error, "non_retryable", False):
                    metrics.ORDERS.labels(info.activity_type.removeprefix("record_"), "refused").inc()
                log.log(
                    logging.INFO if foreseen else logging.WARNING,
                    "an activity failed",
                    extra={"error": _name(error), "seconds": _since(started)},
                )
                raise
            if isinstance(line := getattr(result, "line_id", None), str):
                note(line=line)
            level = logging.DEBUG if info.activity_type in _ROUTINE else logging.INFO
            log.log(level, "an activity was done", extra={"seconds": _since(started)})
            return result


def ids_of(workflow_id: str, task_queue: str, args: Sequence[object]) -> dict[str, Fact]:
    """The order, line and host that an activity is about, as far as its workflow, queue and argument tell."""
    ids: dict[str, Fact] = {}
    kind, _, rest = workflow_id.partition("/")
    if kind in _KINDS:
        caller, _, ref = rest.partition("/")
        ids |= {"kind": kind, "caller": caller, "order": ref.partition("/")[0]}
    elif kind in ("term", "erase", "tell"):
        ids["line"] = rest.partition("/")[0]
    if task_queue.startswith(_OF_A_HOST):
        ids["host"] = task_queue.removeprefix(_OF_A_HOST)
    asked = args[0] if args else None
    for source in (getattr(asked, "term", None), getattr(asked, "task", None), asked):
        for attribute, name in (("line_id", "line"), ("host", "host")):
            if isinstance(value := getattr(source, attribute, None), str):
                ids[name] = value
    return ids


def _name(error: Exception) -> str:
    return error.type or "ApplicationError" if isinstance(error, ApplicationError) else type(error).__name__


def _since(started: float) -> float:
    return round(time.monotonic() - started, 4)
