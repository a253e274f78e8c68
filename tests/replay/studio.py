"""Where histories are recorded: Temporal, worker, ledger and SMTP are the real ones, and the hosts take turns.

Payloads are left open, so that a recording can be read and needs no key that would have to stand beside it. All that
is in them was made for the recording; passwords never are in a payload (tests/secrets searches for them).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from temporalio import activity
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import TimeSkipper, TimeSkippingConfig

from tests.support.temporal import dev_server
from tests.workflows.house import House, ObedientHost, inventory, run_house
from twinline.codec import data_converter
from twinline.hosts.daemon import Daemon
from twinline.hosts.errors import HostError, HostUnreachable
from twinline.hosts.factory import daemon_for
from twinline.hosts.image import Image
from twinline.hosts.looking import Access, Look
from twinline.hosts.ports import Half, Proven, Wanted
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.messages import NameOf, Receipt, TermDecision, term_workflow_id

TURN: Final = 0.01
"""Seconds between two looks whether it is a host's turn."""


class PatientHost(ObedientHost):
    """Answers a workflow only when the half before it is through, so that two recordings go the same way."""

    def __init__(self, host: str, ledger: Ledger) -> None:
        super().__init__(host, ledger)
        known = next(each for each in inventory().hosts if each.name == host)
        self.daemon: Daemon = daemon_for(known)
        self.free = asyncio.Event()
        """Unset while every attempt is to hang."""
        self.free.set()
        self.missing: set[str] = set()
        """Names of lines that its file has lost."""
        self.taken: set[str] = set()
        """Names of lines under which somebody else's record stands in its file."""
        self.lost_again = 0
        """How often what was written again is lost again."""

    def heal(self) -> None:
        super().heal()
        self.free.set()
        self.missing.clear()
        self.taken.clear()
        self.lost_again = 0

    async def bring(self, line_id: str, revision: int, *, recheck: bool = False) -> Proven:
        if self.down_for_attempts == 0:
            await self.free.wait()
        if activity.info().activity_type == NameOf.BRING_HALF:
            await _turn()
        return await super().bring(line_id, revision, recheck=recheck)

    async def look(self, closely: Collection[Half] = ()) -> Look:
        await self.free.wait()
        if self.down_for_attempts > 0:
            self.down_for_attempts -= 1
            raise HostUnreachable("no SSH connection")
        if self.trouble is not None:
            raise self.trouble
        expected = [each.half for each in await self._ledger.expected(self.host)]
        theirs = "".join(f"[account]\nuser = {name}\npwd = other\n" for name in sorted(self.taken)).encode()
        image = Image(self.daemon, theirs, [], recover=False)
        image.plan([half for half in expected if half.username not in self.missing], ())
        served = {half.username: Access.OPEN for half in expected if half.wanted is Wanted.PRESENT}
        return Look(bytes(image.data), served, {})

    async def probe(self) -> None:
        await self.free.wait()
        await super().probe()

    async def restore(self, line_ids: Collection[str]) -> dict[str, HostError | None]:
        lines = {each.half.line_id: each.half.username for each in await self._ledger.expected(self.host)}
        if self.lost_again == 0:
            self.missing -= {lines[line_id] for line_id in line_ids}
        self.lost_again = max(0, self.lost_again - bool(line_ids))
        return dict.fromkeys(line_ids)

    async def vacate(self, half: Half) -> None:
        await self.free.wait()

    def accepting_losses(self) -> nullcontext[None]:
        return nullcontext()


async def _turn() -> None:
    """Wait until the workflow has heard of the halves that it began before this one."""
    info = activity.info()
    handle = activity.client().get_workflow_handle(str(info.workflow_id), run_id=info.workflow_run_id)
    while True:
        seen = (await handle.describe()).raw_description
        before = [
            each
            for each in seen.pending_activities
            if each.activity_type.name == NameOf.BRING_HALF and int(each.activity_id) < int(info.activity_id)
        ]
        if not before and not seen.HasField("pending_workflow_task"):
            return
        await asyncio.sleep(TURN)


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that nobody tells of; TimeoutError when it does not come."""
    async with asyncio.timeout(60):
        while True:
            if await reached():
                return
            await asyncio.sleep(TURN)


@dataclass(frozen=True)
class Studio:
    """One house with what the recordings need beside it."""

    house: House
    folder: Path

    @property
    def client(self) -> Client:
        """Temporal, with open payloads."""
        return self.house.client

    def host(self, name: str) -> PatientHost:
        """A host that does as the recording says."""
        host = self.house.hosts[name]
        assert isinstance(host, PatientHost)
        return host

    def heal(self) -> None:
        """Everything is well again."""
        self.house.mails.heal()
        for host in self.house.hosts.values():
            host.heal()

    async def term_of(self, receipt: Receipt) -> WorkflowHandle[object, TermDecision]:
        """The Term of a line's latest grant."""
        line = await self.house.line(receipt.username)
        latest = max(line.grants, key=lambda grant: grant.ends_at)
        return self.client.get_workflow_handle(
            term_workflow_id(receipt.line, latest.grant_id), result_type=TermDecision
        )

    async def pass_time(self, handle: WorkflowHandle[object, object], span: timedelta | None = None) -> None:
        """Let a workflow's own time pass: all that it waits for, or a span of it."""
        assert self.house.skipper is not None
        try:
            await self.house.skipper.fast_forward(handle, span)
        except RPCError as error:
            # It has ended meanwhile, without waiting for anything.
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def forget(self, workflow_id: str) -> None:
        """What Temporal's retention does."""
        handle = self.client.get_workflow_handle(workflow_id)
        request = DeleteWorkflowExecutionRequest(namespace=self.client.namespace)
        request.workflow_execution.workflow_id = workflow_id
        await self.client.workflow_service.delete_workflow_execution(request)
        while True:
            try:
                await handle.describe()
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return
                raise
            await asyncio.sleep(TURN)

    async def happened(self, workflow_id: str, what: str) -> bool:
        """Whether a workflow's history has an event of this kind (`timer_fired`)."""
        history = await self.client.get_workflow_handle(workflow_id).fetch_history()
        return any(event.HasField(f"{what}_event_attributes") for event in history.events)  # pyright: ignore[reportArgumentType] - one of its fields

    async def runs(self, workflow_id: str) -> list[WorkflowHistory]:
        """The history of every run of a workflow, the first one first."""
        known = await self.client.get_workflow_handle(workflow_id).describe()
        run_id = known.raw_description.workflow_execution_info.first_run_id
        runs: list[WorkflowHistory] = []
        while run_id:
            history = await self.client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
            runs.append(history)
            run_id = history.events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        return runs


@dataclass(frozen=True)
class Setting:
    """What kind of house a recording wants."""

    grace: float = 90.0
    delay_notice: float = 900.0
    skipping: bool = True
    """Whether a workflow that waits skips its time."""
    long_history: int | None = None
    """After how many events Temporal calls a history long; None for its own 4,096."""


CALM: Final = Setting()
HASTY: Final = Setting(grace=3, delay_notice=5, skipping=False)
BRISK: Final = Setting(grace=3)
FORGETFUL: Final = Setting(grace=3, long_history=40)
FORGETFUL_IN_TRUE_TIME: Final = Setting(skipping=False, long_history=40)
"""For what never ends, and would skip for ever."""


@asynccontextmanager
async def open_studio(folder: Path, keys: KeyRing, setting: Setting) -> AsyncGenerator[Studio]:
    """A server and a house of their own until the block ends."""
    flags = {"limit.historyCount.suggestContinueAsNew": str(setting.long_history)} if setting.long_history else {}
    async with dev_server(flags=flags) as server:
        converter = replace(data_converter(keys), payload_codec=None)
        client = await Client.connect(server.address, data_converter=converter, identity="recorder")
        skipper = None
        if setting.skipping:
            # A Term that skipped its own 48 hours would end the line before its order is through.
            skipper = TimeSkipper(client, config=TimeSkippingConfig(disable_propagation=True))
            client = skipper.client
        async with run_house(
            folder,
            keys,
            client,
            skipper=skipper,
            grace=setting.grace,
            delay_notice=setting.delay_notice,
            host=PatientHost,
        ) as house:
            yield Studio(house, folder)
