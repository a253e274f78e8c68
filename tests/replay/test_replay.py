"""Workflows that run since an earlier release go on with today's code: every history that was kept is gone again."""

import asyncio
import difflib
import socket
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final, cast

import pytest
from temporalio.api.common.v1 import Payloads
from temporalio.client import WorkflowHistory

from tests.replay.commands import Replayed, counted, replay, type_of
from tests.replay.coverage import Coverage
from tests.replay.paths import PATHS
from tests.replay.paths_health import LEFT
from tests.replay.record import open_converter
from tests.replay.shelf import Shelf, this_release
from tests.support.temporal import DevServer
from tests.workflows.house import HOSTS, OTHER_HOSTS, inventory
from twinline.keys import KeyRing
from twinline.messages import ORDERS_QUEUE, host_queue
from twinline.settings import Settings
from worker import WORKFLOWS, build_workers

SHELF: Final = Shelf()
KEPT: Final = [(release, name) for release in SHELF.releases for name in SHELF.names(release)]
UNSEEN: Final = {
    # Queries and validators are not part of a history.
    "block_end.py:progress: if self._order is None or self._order.until is None:",
    'block_end.py:progress: raise ApplicationError("this block has no end of its own", type="NothingToRetry")',
    "block_end.py:progress: return BlockEndStatus("
    "case=self._order.case, until=self._order.until, lifted_by=self._lifted_by)",
    "bulk.py:progress: return self._counts",
    "driver.py:_may_abandon: halves = {half.ref.host: half for half in self._driven().all}",
    "driver.py:_may_abandon: if asked.host not in halves:",
    "driver.py:_may_abandon: if halves[asked.host].proven:",
    "driver.py:_may_abandon: raise ApplicationError(",
    "driver.py:_may_retry: if self._driven().over:",
    "driver.py:_may_retry: raise ApplicationError(",
    "erase.py:progress: return self._status",
    'erase.py:_known: raise RuntimeError("an erasure that the ledger has not begun is at no host")',
    "rebuild.py:progress: return self._status",
    "reconcile.py:progress: return self._so_far",
    "tell.py:progress: return self._mail",
    "halves.py:over: return all(half.over for half in self._halves)",
    'order.py:progress: return OrderStatus(fingerprint="", done=False)',
    "term.py:progress: if start is None:",
    'term.py:progress: raise ApplicationError("this Term has not begun yet", type="NothingToRetry")',
    "term.py:progress: return TermStatus(",
    "term.py:progress: start, decision = self._start, self._decision",
    # What is only shown, or only a longer pause.
    "driver.py:heading: return ()",
    'health.py:_in_words: said.append(f"**A person has to look**: `{so_far.attention}`. To do: {so_far.hint}.")',
    "halves.py:pause_after: return LONG_CAP",
    "order.py:heading: return ()",
    "term.py:heading: return ()",
    # An error under another name goes the same way.
    'halves.py:condition: return "WorkerLost", HalfTrouble(hint="")',
    'halves.py:condition: return cause.type, HalfTrouble(hint="")',
    'health.py:_why: return cause.type if isinstance(cause, ApplicationError) and cause.type else "WorkerLost"',
    # A ledger's error comes as itself in this version of the SDK, not wrapped.
    "ledger.py:in_ledger: if isinstance(error.cause, ApplicationError):",
    "ledger.py:in_ledger: raise error.cause from None",
    "ledger.py:in_ledger: raise",
    # Only when a cancel comes between two steps, or while an attempt fails: then there is nothing to let go.
    "driver.py:let_go: return",
    "halves.py:_failed: return",
    # What never comes, and would be a mistake of ours.
    "block_end.py:_keep: raise",
    "block_end.py:_keep: return",
    "halves.py:_try: raise",
    "driver.py:_driven: raise ApplicationError(",
    "driver.py:begin_anew: raise NotImplementedError",
    'order.py:begin_anew: raise RuntimeError("an order that was not taken has nothing to hand on")',
    'term.py:begin_anew: raise RuntimeError("a Term that drives no halves has nothing to hand on")',
    "trial.py:_start_late: return recorded",
}
"""Statements that no recording goes through, and why none is needed."""

Histories = Mapping[tuple[str, str], WorkflowHistory]
Results = Mapping[tuple[str, str], Replayed]


@pytest.fixture(scope="module")
def histories() -> Histories:
    return {(release, name): SHELF.history(release, name) for release, name in KEPT}


@pytest.fixture(scope="module")
def coverage() -> Coverage:
    return Coverage()


@pytest.fixture(scope="module")
def results(histories: Histories, coverage: Coverage) -> Results:
    with coverage.collecting():
        done = asyncio.run(
            replay(list(histories.values()), workflows=WORKFLOWS, converter=open_converter()),
        )
    return dict(zip(histories, done, strict=True))


@pytest.mark.parametrize(("release", "name"), KEPT)
def test_todays_code_does_what_was_recorded(results: Results, release: str, name: str) -> None:
    found = results[release, name]
    was = counted(SHELF.commands(release)[name])
    difference = "\n".join(difflib.unified_diff(was, found.counted, "recorded", "today", lineterm="", n=3))
    assert found.failure is None, f"{found.failure}\n{difference}"
    assert not difference, difference


def test_every_workflow_of_the_worker_and_every_path_has_a_recording() -> None:
    kept = {name for _, name in KEPT}

    assert {type_of(each) for each in WORKFLOWS} == {path.workflow for path in PATHS.values()}
    assert not [name for path in PATHS.values() for name in path.recordings if name not in kept]
    of_now = {name for release, name in KEPT if release == this_release()}
    assert of_now <= {name for path in PATHS.values() for name in path.recordings}


@pytest.mark.usefixtures("results")
def test_every_statement_of_a_workflow_is_gone_through_by_a_recording(coverage: Coverage) -> None:
    """A new branch wants a new path in `paths_*.py`; one that leads nowhere else is named in UNSEEN."""
    left = set(coverage.left_out())

    assert sorted(left - UNSEEN) == []
    assert sorted(UNSEEN - left) == [], "these are gone through by now, or are no more"


def test_nothing_recorded_was_changed_and_every_difference_has_its_reason() -> None:
    assert SHELF.faults() == []


def test_no_recording_tells_where_it_was_made(histories: Histories) -> None:
    stored = b"".join(event.SerializeToString() for history in histories.values() for event in history.events)
    assert b"person" in stored
    for name in (str(Path(__file__).parents[2]), f"@{socket.gethostname()}", "Traceback", 'File "'):
        assert name.encode() not in stored


# --- what running workflows wait for is still there

DEFINITION: Final = "__temporal_workflow_definition"
ACTIVITY: Final = "__temporal_activity_definition"


@pytest.fixture(scope="module")
async def activities(temporal_server: DevServer, key_ring: KeyRing) -> Mapping[str, Mapping[str, Any]]:
    """By task queue and name, what the worker's activities take."""

    class Writer:
        def __init__(self, host: str) -> None:
            self.host = host

    nothing = cast("Any", None)
    workers = build_workers(
        await temporal_server.connect(key_ring),
        settings=Settings.model_validate(
            {"inventory": "x", "database_url": "sqlite:///x", "smtp_url": "smtp+plain://127.0.0.1", "keys": "x"}
        ),
        inventory=inventory(),
        keys=key_ring,
        ledger=nothing,
        target=nothing,
        writers=cast("Any", [Writer(host) for host in (*HOSTS, *OTHER_HOSTS)]),
    )
    registered = {worker.task_queue: cast("list[Any]", worker.config().get("activities")) for worker in workers}  # pyright: ignore[reportUnknownMemberType] - the SDK's own
    definitions = {queue: [getattr(each, ACTIVITY) for each in some] for queue, some in registered.items()}
    return {queue: {each.name: each.arg_types for each in some} for queue, some in definitions.items()}


async def test_the_worker_has_every_activity_that_a_recorded_workflow_asks_for(
    activities: Mapping[str, Mapping[str, Any]],
) -> None:
    asked = {
        line
        for release in SHELF.releases
        for commands in SHELF.commands(release).values()
        for line in counted(commands)
    }

    assert {line for line in asked if not _answered(line, activities)} == set()


def _answered(line: str, activities: Mapping[str, Mapping[str, Any]]) -> bool:
    match line.split():
        case ["local", name] | ["activity", name]:
            return name in activities[ORDERS_QUEUE]
        case ["activity", name, "on", queue]:
            # A host may leave the inventory while it is looked at; what is asked of others is known all the same.
            known = activities[host_queue(OTHER_HOSTS[0])] if queue == host_queue(LEFT) else activities.get(queue, {})
            return name in known
        case _:
            return True


async def test_what_older_workflows_hand_on_is_understood(
    histories: Histories, activities: Mapping[str, Mapping[str, Any]]
) -> None:
    taken = {type_of(each): getattr(each, DEFINITION) for each in WORKFLOWS}
    understood = 0

    for history in histories.values():
        types = _handed_on(history, activities, taken)
        for payloads, hints in types:
            open_converter().payload_converter.from_payloads(payloads.payloads, list(hints))
            understood += 1

    assert understood > 2 * len(histories)


def _handed_on(
    history: WorkflowHistory, activities: Mapping[str, Mapping[str, Any]], workflows: Mapping[str, Any]
) -> Iterator[tuple[Payloads, Any]]:
    """What activities, children, next runs and callers are given by a workflow, with the types that they expect."""
    own = workflows[history.events[0].workflow_execution_started_event_attributes.workflow_type.name]
    for event in history.events:
        activity = event.activity_task_scheduled_event_attributes
        child = event.start_child_workflow_execution_initiated_event_attributes
        if event.HasField("activity_task_scheduled_event_attributes"):
            # A workflow's own queue is called otherwise in a recording than by the worker.
            by_name = {
                **activities[ORDERS_QUEUE],
                **dict(chain.from_iterable(some.items() for some in activities.values())),
            }
            yield activity.input, by_name[activity.activity_type.name]
        elif event.HasField("start_child_workflow_execution_initiated_event_attributes"):
            yield child.input, workflows[child.workflow_type.name].arg_types
        elif event.HasField("workflow_execution_continued_as_new_event_attributes"):
            yield event.workflow_execution_continued_as_new_event_attributes.input, own.arg_types
        elif event.HasField("workflow_execution_completed_event_attributes") and own.ret_type is not type(None):
            yield event.workflow_execution_completed_event_attributes.result, [own.ret_type]
