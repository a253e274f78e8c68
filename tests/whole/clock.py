"""One clock for everything: Temporal's own test server, whose time stands for all workflows and skips what is idle.

The full server of the other tests gives each workflow a clock of its own; here orders, Terms, reminders and retries
have to meet on one.
"""

import asyncio
import contextlib
import sysconfig
from asyncio.subprocess import DEVNULL
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import temporalio.client
import temporalio.worker
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.testservice.v1 import LockTimeSkippingRequest, SleepRequest, UnlockTimeSkippingRequest
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    ListClosedWorkflowExecutionsRequest,
    ListOpenWorkflowExecutionsRequest,
)
from temporalio.client import Client
from temporalio.service import GrpcCompression, RPCError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from tests.support.temporal import launched
from tests.whole.sticky import Wire
from twinline.codec import data_converter
from twinline.keys import KeyRing
from twinline.sandbox.processes import free_port

LOOK_EVERY: Final = 0.02
PATIENCE: Final = 3.0
"""Seconds between two looks at what a clock that does not go on waits for."""
LOOKS: Final = 5
"""How often a task is seen that somebody has taken until it counts as lost; after 10 s it is given out again."""
STANDS_STILL: Final = 100.0
"""Seconds of real time after which something is said to hang; not a measure of speed."""
MOMENT: Final = timedelta(seconds=2)
CHILDREN: Final = ("term/", "until/", "cancel/")
"""What the ids of workflows begin with that may outlive who started them."""
ASTRAY: Final = timedelta(minutes=10)
"""By which a clock may be ahead of what it was told and still be right: every retry of a host takes it further."""
TASK_EVENTS: Final = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
)
TASK_OPEN: Final = (
    [EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED],
    [EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED],
)
TAKEN: Final = (
    PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
    PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED,
)
NAMESPACES: Final = ("default", "forgetful")
"""The second one knows nothing of what was ordered in the first: a Temporal that has forgotten."""


@dataclass(frozen=True)
class Stuck:
    """What a clock that does not go on waits for."""

    tasks: Mapping[str, int]
    """How long the history of each workflow is that has a task nobody has finished."""
    activities: int
    """How many run here."""
    given_out: int
    """How many are with somebody, be it one who has ended: they are tried again when their time is over."""
    ahead: int
    """How many seconds were skipped by then."""

    @property
    def held(self) -> bool:
        """Whether somebody keeps the clock by right, and gives it back by himself."""
        return bool(self.tasks or self.activities or self.given_out)


class ServerHangs(Exception):
    """The test server has lost a workflow task: temporalio/sdk-java issue 3088, a timer cancelled as it fires.

    What it serves can't be judged any more, and nothing is known to be wrong with it. `how` it was noticed is counted.
    """

    def __init__(self, how: str, *about: object) -> None:
        super().__init__(how, *about)
        self.how = how


@dataclass
class Clock:
    """The time of one server, told to whoever asks for it."""

    services: Client
    under_way: int = 0
    """Activities that run just now."""
    helped: int = 0
    """How often it was let go on because the server held it for nobody."""
    _ahead: timedelta = timedelta(0)
    """Of this machine's clock; it never gets less."""
    _given_back: int = 0
    _orphans: dict[str, bool] = field(default_factory=dict[str, bool])

    def now(self) -> datetime:
        """The time, as far as this process knows it."""
        return datetime.now(UTC) + self._ahead

    def see(self, moment: datetime) -> None:
        """Learn from something that happened how late it is at least."""
        self._ahead = max(self._ahead, moment - datetime.now(UTC))

    async def ask(self) -> datetime:
        """The time, as the server has it."""
        answer = await self.services.test_service.get_current_time(Empty())
        moment = answer.time.ToDatetime().replace(tzinfo=UTC)
        self.see(moment)
        return moment

    async def settle(self) -> None:
        """Let everything that is under way come to an end; what waits for a later time waits on."""
        await self.pass_time(MOMENT)

    async def pass_to(self, moment: datetime) -> None:
        """Let time pass until then."""
        left = moment - await self.ask()
        if left > timedelta(0):
            await self.pass_time(left)

    async def pass_time(self, span: timedelta) -> None:
        """Let so much time pass, everything that it brings included."""
        begun = await self.ask()
        await self._pass(span)
        if await self.ask() > begun + span + ASTRAY:
            raise ServerHangs("its clock runs by itself", self.now())

    async def _pass(self, span: timedelta) -> None:
        request = SleepRequest(duration=Duration())
        request.duration.FromTimedelta(span)
        waiting = timedelta(seconds=STANDS_STILL)
        passing = asyncio.create_task(
            self.services.test_service.unlock_time_skipping_with_sleep(request, timeout=waiting)
        )
        looked = asyncio.get_running_loop().time()
        stuck, looks = None, 0
        while not (await asyncio.wait((passing,), timeout=LOOK_EVERY))[0]:
            await self._give_back()
            if asyncio.get_running_loop().time() > looked + PATIENCE:
                looked, before, stuck = asyncio.get_running_loop().time(), stuck, await self.stuck()
                looks = looks + 1 if stuck == before and not stuck.activities else 1
                if stuck.tasks and looks == LOOKS:
                    passing.cancel()
                    raise ServerHangs("it waits for a task", stuck)
                if looks > 1 and not stuck.held:
                    self.helped += 1
                    await self._unlock()
        try:
            await passing
        except RPCError as error:
            raise AssertionError(f"time stands still at {await self.ask()}: something never ends") from error

    async def stuck(self) -> Stuck:
        """What the server waits for: tasks of workflows, and activities that were given out."""
        tasks: dict[str, int] = {}
        given_out = 0
        for namespace in NAMESPACES:
            request = ListOpenWorkflowExecutionsRequest(namespace=namespace)
            found = await self.services.workflow_service.list_open_workflow_executions(request)
            for each in found.executions:
                events = await self._events(namespace, each.execution)
                if [event for event in events if event in TASK_EVENTS][-1:] in TASK_OPEN:
                    tasks[each.execution.run_id] = len(events)
                given_out += await self._given_out(namespace, each.execution)
        await self.ask()
        return Stuck(tasks, self.under_way, given_out, round(self._ahead.total_seconds()))

    async def _events(self, namespace: str, workflow: WorkflowExecution) -> "list[EventType.ValueType]":
        config: dict[str, Any] = {**self.services.config(), "namespace": namespace}
        handle = Client(**config).get_workflow_handle(workflow.workflow_id, run_id=workflow.run_id)
        with contextlib.suppress(RPCError):
            return [event.event_type for event in (await handle.fetch_history()).events]
        return []

    async def _given_out(self, namespace: str, workflow: WorkflowExecution) -> int:
        """How many activities of a workflow somebody has taken."""
        request = DescribeWorkflowExecutionRequest(namespace=namespace, execution=workflow)
        with contextlib.suppress(RPCError):
            described = await self.services.workflow_service.describe_workflow_execution(request)
            return sum(each.state in TAKEN for each in described.pending_activities)
        return 0

    async def _give_back(self) -> None:
        """Undo a mistake of the server: a child that outlives its parent holds the clock for ever when it ends."""
        # Of all namespaces, whatever the request says.
        request = ListClosedWorkflowExecutionsRequest(namespace=NAMESPACES[0])
        try:
            closed = await self.services.workflow_service.list_closed_workflow_executions(request)
        except RPCError:
            # It can't list what changes meanwhile, and is asked again.
            return
        ended = {each.execution.run_id: each.close_time.ToDatetime() for each in closed.executions}
        for each in closed.executions:
            workflow_id, run_id = each.execution.workflow_id, each.execution.run_id
            if run_id not in self._orphans and workflow_id.startswith(CHILDREN):
                parent = await self._parent(workflow_id, run_id)
                outlived = parent.run_id in ended and ended[parent.run_id] <= ended[run_id]
                self._orphans[run_id] = outlived and not await self._knew(parent, run_id)
        while self._given_back < sum(self._orphans.values()):
            self._given_back += 1
            await self._unlock()

    async def _unlock(self) -> None:
        with contextlib.suppress(RPCError):
            await self.services.test_service.unlock_time_skipping(UnlockTimeSkippingRequest())

    async def _parent(self, workflow_id: str, run_id: str) -> WorkflowExecution:
        async for event in self._history(workflow_id, run_id):
            return event.workflow_execution_started_event_attributes.parent_workflow_execution
        return WorkflowExecution()

    async def _knew(self, parent: WorkflowExecution, run_id: str) -> bool:
        """Whether a parent heard of its child's end: both may have ended in the same millisecond."""
        async for event in self._history(parent.workflow_id, parent.run_id):
            heard = event.child_workflow_execution_completed_event_attributes.workflow_execution.run_id
            if run_id in (heard, event.child_workflow_execution_failed_event_attributes.workflow_execution.run_id):
                return True
        return False

    async def _history(self, workflow_id: str, run_id: str) -> AsyncGenerator[HistoryEvent]:
        for namespace in NAMESPACES:
            config: dict[str, Any] = {**self.services.config(), "namespace": namespace}
            handle = Client(**config).get_workflow_handle(workflow_id, run_id=run_id)
            with contextlib.suppress(RPCError):
                async for event in handle.fetch_history_events():
                    yield event
                return


class Watch(temporalio.client.Interceptor, temporalio.worker.Interceptor):
    """Tells the clock what time the server had when it gave an activity out, and lets tests step in before one."""

    def __init__(self) -> None:
        self.clock: Clock | None = None
        self.before: dict[str, Callable[[Any], Awaitable[Any]]] = {}
        """By the name of an activity: what is awaited first, and gives the argument that it then gets."""
        self.cut_off: Counter[str] = Counter()
        """By the name of an activity: how often its worker ended before it knew what came of it."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Telling(next, self)


class _Telling(ActivityInboundInterceptor):
    def __init__(self, following: ActivityInboundInterceptor, watch: Watch) -> None:
        super().__init__(following)
        self._watch = watch

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        if not info.is_local and self._watch.clock is not None:
            self._watch.clock.see(info.current_attempt_scheduled_time)
        if (step_in := self._watch.before.get(info.activity_type)) is not None:
            input.args = [await step_in(input.args[0])]
        if (clock := self._watch.clock) is None:
            return await super().execute_activity(input)
        clock.under_way += 1
        try:
            return await super().execute_activity(input)
        except asyncio.CancelledError:
            self._watch.cut_off[info.activity_type] += 1
            raise
        finally:
            clock.under_way -= 1


@dataclass(frozen=True)
class Times:
    """A running test server: its clock, and a client for each namespace."""

    clock: Clock
    clients: Mapping[str, Client]
    port: int
    connect: Callable[[str, Wire | None], Awaitable[Client]]
    """Another connection, to a namespace, through a wire or on its own."""
    watch: Watch


@asynccontextmanager
async def test_server(keys: KeyRing) -> AsyncGenerator[Times]:
    """Run a server whose time stands until somebody lets it pass."""
    port = free_port()
    program = Path(sysconfig.get_path("scripts")) / "temporal-test-server"
    process = await launched(program, str(port), "--enable-time-skipping", output=DEVNULL)
    watch = Watch()
    try:

        async def connect(namespace: str, wire: Wire | None = None) -> Client:
            address = f"127.0.0.1:{port}" if wire is None else wire.address
            return await _client(address, namespace, keys, watch)

        clients = {name: await connect(name) for name in NAMESPACES}
        clock = watch.clock = Clock(clients["default"])
        await clock.services.test_service.lock_time_skipping(LockTimeSkippingRequest())
        await clock.ask()
        yield Times(clock, clients, port, connect, watch)
    finally:
        process.kill()
        await process.wait()


async def _client(address: str, namespace: str, keys: KeyRing, watch: Watch) -> Client:
    async with asyncio.timeout(20):
        while True:
            try:
                return await Client.connect(
                    address,
                    namespace=namespace,
                    data_converter=data_converter(keys),
                    interceptors=[watch],
                    grpc_compression=GrpcCompression.NONE,
                )
            except RuntimeError:
                # Its port can't be waited for.
                await asyncio.sleep(0.01)
