"""Where the time of an order of a trial's shape goes, read from its workflow's history."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

_ACTIVITIES = 3


class NotThisShape(Exception):
    """The history has another number of activities, so something was tried more than once: not an idle order."""


@dataclass(frozen=True)
class Attempt:
    """One activity; all times are Unix seconds."""

    queue: str
    scheduled: float
    started: float
    completed: float


@dataclass(frozen=True)
class Timeline:
    """The moments of one order; Unix seconds."""

    begun: float
    first_task: float
    recorded: float
    """The first workflow task is done, and in it the local activity that records the order."""
    child_started: float
    multics: Attempt
    oscam: Attempt
    mail: Attempt
    ended: float

    @property
    def halves_scheduled(self) -> float:
        """When both halves were on their queues."""
        return max(self.multics.scheduled, self.oscam.scheduled)

    @property
    def halves_done(self) -> float:
        """When the slower half was done."""
        return max(self.multics.completed, self.oscam.completed)


def read(history: WorkflowHistory) -> Timeline:
    """Read a history; raises NotThisShape."""
    first = {event.event_type: _at(event) for event in reversed(history.events)}
    attempts = list(_attempts(history.events))
    by_role = {_role(attempt.queue): attempt for attempt in attempts}
    if len(attempts) != _ACTIVITIES or len(by_role) != _ACTIVITIES:
        raise NotThisShape(f"{len(attempts)} activities in place of {_ACTIVITIES}")
    return Timeline(
        begun=first[EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED],
        first_task=first[EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED],
        recorded=first[EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED],
        child_started=first[EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED],
        multics=by_role["multics"],
        oscam=by_role["oscam"],
        mail=by_role["mail"],
        ended=first[EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED],
    )


def _role(queue: str) -> Literal["multics", "oscam", "mail"]:
    """What runs on a queue; the hosts of an embedded pair are called mc-… and os-…."""
    _, host, name = queue.rpartition("host.")
    if not host:
        return "mail"
    return "multics" if name.startswith("mc") else "oscam"


def _attempts(events: Sequence[HistoryEvent]) -> Iterator[Attempt]:
    by_id = {event.event_id: event for event in events}
    for event in events:
        if event.event_type != EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            continue
        done = event.activity_task_completed_event_attributes
        scheduled = by_id[done.scheduled_event_id]
        queue = scheduled.activity_task_scheduled_event_attributes.task_queue.name
        yield Attempt(queue, _at(scheduled), _at(by_id[done.started_event_id]), _at(event))


def _at(event: HistoryEvent) -> float:
    return event.event_time.ToNanoseconds() / 1e9
