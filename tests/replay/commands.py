"""What today's workflow code asks Temporal for while it goes through a history again, in lines that a person can read.

Temporal's own replay compares kinds, names and order. It does not look at task queues, at what becomes of a child when
its parent ends, or at which search attribute is set; these lines do. What stands behind `#` is for the reader only.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from temporalio.bridge.proto.child_workflow import ParentClosePolicy
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_commands import StartChildWorkflowExecution, WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import Replayer, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from twinline.runner import HouseRunner

PATCH: Final = "patch "
_NOTE: Final = "  # "


@dataclass(frozen=True)
class Replayed:
    """What came of one replay."""

    commands: tuple[str, ...]
    """What today's code asked for, in order."""
    failure: str | None
    """In what Temporal saw it leave the history; None when it did not."""

    @property
    def counted(self) -> tuple[str, ...]:
        """The commands without what is only for the reader."""
        return counted(self.commands)


def counted(commands: Sequence[str]) -> tuple[str, ...]:
    """Commands without what is only for the reader."""
    return tuple(line.split(_NOTE, 1)[0] for line in commands)


def type_of(workflow: type) -> str:
    """The name by which Temporal knows a workflow."""
    return str(getattr(workflow, "__temporal_workflow_definition").name)


async def replay(
    histories: Sequence[WorkflowHistory],
    *,
    workflows: Sequence[type],
    converter: DataConverter,
) -> list[Replayed]:
    """Have these workflows go through each history again."""
    watching = _Watching()
    types = {each.events[0].workflow_execution_started_event_attributes.workflow_type.name for each in histories}
    replayer = Replayer(
        # Each one that is given is imported into a sandbox first, which is most of a short replay.
        workflows=[each for each in workflows if type_of(each) in types],
        data_converter=converter,
        workflow_runner=watching,
        # Without the deadlock detector, which takes a busy machine for a workflow that hangs, and on this thread.
        debug_mode=True,
    )

    async def one_by_one() -> AsyncIterator[WorkflowHistory]:
        for history in histories:
            yield history

    found: list[Replayed] = []
    async with replayer.workflow_replay_iterator(one_by_one()) as results:
        async for result in results:
            failure = None if result.replay_failure is None else str(result.replay_failure)
            found.append(Replayed(watching.taken(), failure))
    return found


class _Watching(WorkflowRunner):
    """Runs workflows as a worker does, and keeps what they ask for."""

    def __init__(self) -> None:
        self._inner = HouseRunner()
        self._lines: list[str] = []

    def taken(self) -> tuple[str, ...]:
        """What was asked for since the last call."""
        lines = tuple(self._lines)
        self._lines.clear()
        return lines

    def prepare_workflow(self, defn: Any) -> None:
        self._inner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _Watched(self._inner.create_instance(det), _Words(det.info.task_queue), self._lines)


class _Watched(WorkflowInstance):
    def __init__(self, inner: WorkflowInstance, words: "_Words", lines: list[str]) -> None:
        self._inner = inner
        self._words = words
        self._lines = lines

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = self._inner.activate(act)
        self._words.hear(act)
        self._lines.extend(self._words.of(completion))
        return completion

    def get_serialization_context(self, command_info: Any) -> Any:
        return self._inner.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> Any:
        return self._inner.get_external_store_context(command_info)

    def get_info(self) -> Any:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()


class _Words:
    """One workflow's commands in words; remembers what later commands refer to by number."""

    def __init__(self, own_queue: str) -> None:
        self._own_queue = own_queue
        self._updates: dict[str, str] = {}
        self._notes: dict[tuple[str, int], str] = {}

    def hear(self, act: WorkflowActivation) -> None:
        """Learn the names of the updates that are answered later."""
        for job in act.jobs:
            if job.HasField("do_update"):
                self._updates[job.do_update.protocol_instance_id] = job.do_update.name

    def of(self, completion: WorkflowActivationCompletion) -> list[str]:
        """What a workflow asked for in one go; the answers to queries change nothing and are left out."""
        if completion.HasField("failed"):
            return [f"workflow task fails: {completion.failed.failure.message}"]
        lines: list[str] = []
        for command in completion.successful.commands:
            if command.HasField("respond_to_query"):
                continue
            said, note = self._said(command), self._note(command)
            at = len(lines)
            # Python 3.11 ends a wait after the step that follows it, later ones before; a history can't tell.
            while command.HasField("cancel_timer") and at and lines[at - 1].startswith("local "):
                at -= 1
            lines.insert(at, f"{said}{_NOTE}{note}" if note else said)
        return lines

    def _said(self, command: WorkflowCommand) -> str:
        kind = str(command.WhichOneof("variant"))
        said = _SAID.get(kind)
        if said is not None:
            return said(getattr(command, kind)).replace(f" on {self._own_queue}", "").rstrip()
        if kind == "update_response":
            answer = command.update_response
            return f"update {self._updates[answer.protocol_instance_id]} {answer.WhichOneof('response')}"
        return kind.replace("_", " ")

    def _note(self, command: WorkflowCommand) -> str:
        kind = str(command.WhichOneof("variant"))
        if kind in _ENDS:
            return self._notes[_ENDS[kind], getattr(command, kind).seq]
        summary = command.user_metadata.summary.data
        note = str(json.loads(summary)) if summary else ""
        if kind == "start_timer":
            seconds = command.start_timer.start_to_fire_timeout.ToTimedelta().total_seconds()
            note = f"{note}, {seconds:,.0f} s"
        if kind in _ENDS.values():
            self._notes[kind, getattr(command, kind).seq] = note
        return note


def _child(command: StartChildWorkflowExecution) -> str:
    policy = ParentClosePolicy.Name(command.parent_close_policy).removeprefix("PARENT_CLOSE_POLICY_")
    return f"child {command.workflow_type}, {policy.lower()}"


_SAID: Final[Mapping[str, Callable[[Any], str]]] = {
    "schedule_local_activity": lambda command: f"local {command.activity_type}",
    "schedule_activity": lambda command: f"activity {command.activity_type} on {command.task_queue}",
    "start_child_workflow_execution": _child,
    "start_timer": lambda _: "timer",
    "set_patch_marker": lambda command: f"{PATCH}{command.patch_id}",
    "upsert_workflow_search_attributes": lambda command: (
        f"set {' '.join(sorted(command.search_attributes.indexed_fields))}"
    ),
    "continue_as_new_workflow_execution": lambda _: "continue as new",
    "complete_workflow_execution": lambda _: "complete",
    "cancel_workflow_execution": lambda _: "end cancelled",
    "fail_workflow_execution": lambda command: f"fail {command.failure.application_failure_info.type}",
    "signal_external_workflow_execution": lambda command: f"signal {command.signal_name}",
}
"""What stands in a line of each kind of command; of the others, just their kind."""

_ENDS: Final = {
    "cancel_timer": "start_timer",
    "request_cancel_activity": "schedule_activity",
    "request_cancel_local_activity": "schedule_local_activity",
}
