"""Stop and ask: what only a person can repair stops one half, is told once, and goes on when it is asked for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowUpdateInput,
    WorkflowHandle,
    WorkflowUpdateHandle,
)
from temporalio.service import RPCError, RPCStatusCode

from starter.client import Twinline
from tests.workflows.house import HOSTS, House, text_of
from tests.workflows.test_orders import order_id, trial
from twinline.errors import NothingToRetry, UnknownHalf, UnknownOrder
from twinline.hosts.errors import HostError, HostKeyMismatch, NotProven, RecordConflict
from twinline.messages import (
    AnyOrder,
    BlockOrder,
    HalfState,
    MailKind,
    Receipt,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
    order_workflow_id,
    term_workflow_id,
)
from twinline.search_attributes import ATTENTION_REASON

MULTICS, OSCAM = "mc-eu1", "os-eu1"
FOREIGN = RecordConflict("a record of that name is not ours")
LOST = NotProven("the daemon does not show it")
SOON = timedelta(seconds=20)


@pytest_asyncio.fixture
async def real_house(impatient_house: House) -> AsyncIterator[House]:
    """A house in real time, whose hosts are well before and after."""
    yield impatient_house
    for host in impatient_house.hosts.values():
        host.heal()


async def progress(house: House, order: AnyOrder, reached: Callable[[Receipt], bool]) -> Receipt:
    """How far the order is once that is reached."""
    async with asyncio.timeout(30):
        while True:
            status = await house.twinline.progress(order_workflow_id(order))
            receipt = status.receipt if status is not None else None
            # In between the order is recorded and its halves are not driven yet.
            if receipt is not None and receipt.halves and reached(receipt):
                return receipt


def fails_with(code: str) -> Callable[[Receipt], bool]:
    return lambda receipt: any(half.last_error == code for half in receipt.halves)


async def stuck_trial(house: House) -> tuple[TrialOrder, Receipt]:
    """A trial whose OSCam half waits for a person, and whose customer was told of the other."""
    order = trial()
    house.hosts[OSCAM].trouble = FOREIGN
    await house.start(order)
    await house.mails.wait_for(lambda mail: order.email in str(mail.message["To"]))
    return order, await progress(house, order, fails_with("RecordConflict"))


async def stuck_unblock(house: House, error: HostError) -> tuple[str, UnblockOrder]:
    """A line, and the lifting of its block, which is stuck on the OSCam host.

    An order without a Term: while a child runs, Temporal skips no time.
    """
    username = (await house.order(trial())).username
    case = order_id()
    await house.order(BlockOrder(caller="abuse", case=case, line=username, reason="Shared"))
    if error.of_one_line:
        house.hosts[OSCAM].refuses[username] = error
    else:
        house.hosts[OSCAM].trouble = error
    lifting = UnblockOrder(caller="abuse", case=case, line=username)
    await house.start(lifting)
    await progress(house, lifting, fails_with(error.code))
    return username, lifting


async def line_in_trouble(house: House, error: HostError) -> tuple[str, RenewalOrder]:
    """A line, and a renewal of it that is stuck on the OSCam host."""
    username = (await house.order(trial())).username
    house.hosts[OSCAM].refuses[username] = error
    renewal = RenewalOrder(caller="shop", order=order_id(), line=username, days=30)
    await house.start(renewal)
    await progress(house, renewal, fails_with(error.code))
    return username, renewal


async def reason_of(handle: WorkflowHandle[object, object]) -> str | None:
    return (await handle.describe()).typed_search_attributes.get(ATTENTION_REASON)


def alerts(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """What was told, of which host and why."""
    return [
        (record.getMessage().split(":")[0], record.__dict__["host"], record.__dict__["code"])
        for record in caplog.records
        if record.name == "twinline.attention"
    ]


async def test_a_stuck_half_stops_nothing_else_and_goes_on_when_it_is_asked_for(
    real_house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house = real_house
    order, stuck = await stuck_trial(house)
    workflow = house.client.get_workflow_handle(order_workflow_id(order))

    multics, oscam = stuck.halves
    assert (multics.state, oscam.state) == (HalfState.APPLIED, HalfState.FAILING)
    assert await reason_of(workflow) == "RecordConflict"
    tries = house.hosts[OSCAM].attempts

    house.hosts[OSCAM].heal()
    halves = await house.twinline.retry_now(workflow.id, actor="olga", patience=SOON)

    assert halves is not None
    assert [half.state for half in halves] == [HalfState.APPLIED, HalfState.APPLIED]
    receipt = await house.order(order)
    assert receipt.mail is not None
    assert receipt.mail.kind is MailKind.SECOND_HALF
    assert len(house.sent_to(order.email)) == 2
    # It was left alone until then.
    assert house.hosts[OSCAM].attempts == tries + 1
    assert await reason_of(workflow) is None
    assert alerts(caplog) == [
        ("a half waits for a person", OSCAM, "RecordConflict"),
        ("a half waits for a person no longer", OSCAM, "RecordConflict"),
    ]
    text = " ".join(str(record.__dict__) for record in caplog.records if record.name == "twinline.attention")
    assert workflow.id in text
    assert receipt.line in text
    assert receipt.username not in text
    assert order.email not in text


async def test_a_host_that_needs_a_person_goes_on_by_itself_once_it_is_well(house: House) -> None:
    username, lifting = await stuck_unblock(house, HostKeyMismatch("another key"))
    assert [half.attention for half in (await house.line(username)).halves] == [None, None]

    house.hosts[OSCAM].heal()

    receipt = await house.order(lifting)
    assert [half.state for half in receipt.halves] == [HalfState.APPLIED, HalfState.APPLIED]


async def test_a_repaired_record_is_noticed_without_a_word_when_it_is_due_to_be_looked_at(house: House) -> None:
    username, lifting = await stuck_unblock(house, FOREIGN)
    oscam = house.hosts[OSCAM]
    oscam.heal()
    tries = oscam.attempts
    # Hours pass on the workflow's own clock; on the ledger's, which counts here, the ten minutes are not over.
    await progress(house, lifting, lambda receipt: receipt.halves[1].attempts > 6)
    assert oscam.attempts == tries
    assert (await house.line(username)).halves[1].attention == "RecordConflict"

    oscam.later += timedelta(minutes=11)

    receipt = await house.order(lifting)
    assert receipt.halves[1].state is HalfState.APPLIED
    assert oscam.attempts == tries + 1


async def test_a_block_gets_through_where_a_renewal_is_stuck_and_others_pay_nothing_for_it(real_house: House) -> None:
    house = real_house
    username, renewal = await line_in_trouble(house, LOST)
    oscam = house.hosts[OSCAM]
    oscam.batches.clear()
    other = (await house.order(trial())).username
    assert oscam.batches == [{other}]

    blocked = await house.order(BlockOrder(caller="abuse", case="AB-70", line=username, reason="Shared"))

    assert [half.state for half in blocked.halves] == [HalfState.REMOVED, HalfState.REMOVED]
    assert house.serves(username) == (False, False)
    # The renewal learns of it as soon as it looks; nothing is left of what stopped it.
    tries = oscam.attempts
    await house.twinline.retry_now(order_workflow_id(renewal), patience=SOON)
    assert (await house.order(renewal)).halves[1].state is HalfState.REMOVED
    assert oscam.attempts == tries


async def test_a_retry_that_changes_nothing_says_so_and_the_half_waits_on(real_house: House) -> None:
    house = real_house
    order, stuck = await stuck_trial(house)

    halves = await house.twinline.retry_now(order_workflow_id(order), patience=SOON)

    assert halves is not None
    assert [half.last_error for half in halves] == [None, "RecordConflict"]
    assert halves[1].attempts == stuck.halves[1].attempts + 1
    assert halves[1].next_attempt is not None
    house.hosts[OSCAM].heal()
    await house.twinline.retry_now(order_workflow_id(order), patience=SOON)
    await house.order(order)


async def test_an_abandoned_half_ends_the_order_and_is_repaired_by_a_later_batch(
    real_house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house = real_house
    order = trial()
    oscam = house.hosts[OSCAM]
    oscam.down_for_attempts = 10_000
    await house.start(order)
    workflow_id = order_workflow_id(order)
    await progress(house, order, fails_with("HostUnreachable"))

    halves = await house.twinline.abandon_half(workflow_id, host=OSCAM, reason="the box was sold", actor="olga")

    assert halves is not None
    assert halves[1].state is HalfState.ABANDONED
    receipt = await house.order(order)
    assert [half.state for half in receipt.halves] == [HalfState.APPLIED, HalfState.ABANDONED]
    assert len(house.sent_to(order.email)) == 1
    assert (await house.line(receipt.username)).halves[1].state is HalfState.ABANDONED
    assert alerts(caplog) == [("a half was given up", OSCAM, "HostUnreachable")]

    oscam.heal()
    await house.order(trial())

    assert (await house.line(receipt.username)).halves[1].state is HalfState.APPLIED
    assert house.serves(receipt.username) == (True, True)


async def test_with_all_halves_given_up_the_order_ends_without_credentials(real_house: House) -> None:
    house = real_house
    order = trial()
    for host in house.hosts.values():
        host.down_for_attempts = 10_000
    await house.start(order)
    waiting = await progress(house, order, lambda found: len([half for half in found.halves if half.last_error]) == 2)
    for host in HOSTS:
        await house.twinline.abandon_half(order_workflow_id(order), host=host, reason="fire")

    receipt = await house.order(order)

    assert {half.state for half in receipt.halves} == {HalfState.ABANDONED}
    assert receipt.ends_at == waiting.ends_at
    assert all(receipt.username not in text_of(mail) for mail in house.sent_to(order.email))


async def test_what_can_not_be_asked_is_refused_and_leaves_no_trace(real_house: House) -> None:
    house = real_house
    order, _ = await stuck_trial(house)
    workflow_id = order_workflow_id(order)
    with pytest.raises(UnknownHalf, match="mars"):
        await house.twinline.abandon_half(workflow_id, host="mars", reason="a slip")
    with pytest.raises(NothingToRetry, match="proven"):
        await house.twinline.abandon_half(workflow_id, host=MULTICS, reason="a slip")
    history = await house.client.get_workflow_handle(workflow_id).fetch_history()
    assert not [
        event for event in history.events if event.HasField("workflow_execution_update_accepted_event_attributes")
    ]

    house.hosts[OSCAM].heal()
    await house.twinline.retry_now(workflow_id, patience=SOON)
    await house.order(order)
    with pytest.raises(UnknownOrder):
        await house.twinline.retry_now(workflow_id)


async def test_the_end_of_a_line_waits_for_a_person_too_and_goes_on_when_asked(house: House) -> None:
    receipt = await house.order(trial())
    grant_id = (await house.line(receipt.username)).grants[0].grant_id
    end = house.client.get_workflow_handle(term_workflow_id(receipt.line, grant_id))
    house.hosts[OSCAM].refuses[receipt.username] = FOREIGN
    assert house.skipper is not None
    await house.skipper.fast_forward(end, timedelta(hours=48, seconds=1))
    async with asyncio.timeout(30):
        while await reason_of(end) != "RecordConflict":
            pass
    assert house.serves(receipt.username) == (False, True)

    house.hosts[OSCAM].heal()
    halves = await house.twinline.retry_now(end.id, patience=SOON)

    assert halves is not None
    assert [half.state for half in halves] == [HalfState.REMOVED, HalfState.REMOVED]
    await end.result()
    assert house.serves(receipt.username) == (False, False)


class Unlucky(Interceptor):
    """Lets the first update of a workflow come to nothing, or happen and its answer be lost with the workflow's end."""

    def __init__(self, status: RPCStatusCode, ended: WorkflowHandle[Any, Any] | None = None) -> None:
        self.status: RPCStatusCode | None = status
        self.ended = ended

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Losing(next, self)


class _Losing(OutboundInterceptor):
    def __init__(self, following: OutboundInterceptor, unlucky: Unlucky) -> None:
        super().__init__(following)
        self._unlucky = unlucky

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        status, self._unlucky.status = self._unlucky.status, None
        if status is None:
            return await super().start_workflow_update(input)
        if self._unlucky.ended is not None:
            await super().start_workflow_update(input)
            await self._unlucky.ended.result()
        raise RPCError("as a server says it now and then", status, b"")


def unlucky(house: House, interceptor: Unlucky) -> Twinline:
    config = house.client.config()
    config["interceptors"] = [interceptor]
    return Twinline(Client(**config))


async def test_a_half_is_given_up_although_the_first_try_fell_to_a_race(real_house: House) -> None:
    order, _ = await stuck_trial(real_house)
    twinline = unlucky(real_house, Unlucky(RPCStatusCode.FAILED_PRECONDITION))

    halves = await twinline.abandon_half(order_workflow_id(order), host=OSCAM, reason="fire", patience=SOON)

    assert halves is not None
    assert [half.state for half in halves] == [HalfState.APPLIED, HalfState.ABANDONED]
    await real_house.order(order)


async def test_a_half_whose_end_was_the_order_s_end_is_told_as_given_up(real_house: House) -> None:
    order, _ = await stuck_trial(real_house)
    handle = real_house.client.get_workflow_handle(order_workflow_id(order))
    twinline = unlucky(real_house, Unlucky(RPCStatusCode.NOT_FOUND, ended=handle))

    halves = await twinline.abandon_half(handle.id, host=OSCAM, reason="fire", patience=SOON)

    assert halves is not None
    assert [half.state for half in halves] == [HalfState.APPLIED, HalfState.ABANDONED]
    # Of any other half there is nothing to be told but that the order has ended.
    with pytest.raises(UnknownOrder):
        await twinline.abandon_half(handle.id, host=MULTICS, reason="fire", patience=SOON)
    with pytest.raises(UnknownOrder):
        await twinline.retry_now(handle.id, patience=SOON)
