"""Orders that wait for weeks: their history stays bounded, and nobody who waits for them notices."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowHistory
from temporalio.testing import TimeSkipper, TimeSkippingConfig
from temporalio.worker import Replayer

from tests.support.temporal import DevServer, dev_server
from tests.workflows.house import House, run_house
from tests.workflows.test_attention import OSCAM, SOON, alerts, fails_with, progress
from tests.workflows.test_orders import trial
from twinline.hosts.errors import RecordConflict
from twinline.keys import KeyRing
from twinline.messages import BlockOrder, HalfState, MailKind, order_workflow_id
from twinline.search_attributes import ATTENTION_REASON
from worker import WORKFLOWS

LONG = 40
"""Events after which this server calls a history long; 4,096 by default."""
ONE_ATTEMPT = 16
"""More events than one attempt of one half with its pause can make."""


@pytest_asyncio.fixture(scope="module")
async def forgetful_server() -> AsyncIterator[DevServer]:
    async with dev_server(flags={"limit.historyCount.suggestContinueAsNew": str(LONG)}) as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def house(
    tmp_path_factory: pytest.TempPathFactory, key_ring: KeyRing, forgetful_server: DevServer
) -> AsyncIterator[House]:
    client = await forgetful_server.connect(key_ring)
    skipper = TimeSkipper(client, config=TimeSkippingConfig(disable_propagation=True))
    async with run_house(
        tmp_path_factory.mktemp("forgetful"), key_ring, skipper.client, skipper=skipper, grace=0.5
    ) as running:
        yield running


async def runs_of(client: Client, workflow_id: str, first: str) -> list[WorkflowHistory]:
    """The history of every run of a workflow."""
    histories: list[WorkflowHistory] = []
    run_id: str | None = first
    while run_id:
        history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        histories.append(history)
        run_id = history.events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return histories


async def replay(house: House, *histories: WorkflowHistory) -> None:
    """Fails when our workflows would do anything else today than they did in these runs."""
    replayer = Replayer(workflows=WORKFLOWS, data_converter=house.client.data_converter)
    for history in histories:
        await replayer.replay_workflow(history)


async def first_run(client: Client, workflow_id: str) -> str:
    description = await client.get_workflow_handle(workflow_id).describe()
    return description.raw_description.workflow_execution_info.first_run_id


async def test_a_host_that_is_dead_for_days_keeps_every_history_short(house: House) -> None:
    username = (await house.order(trial())).username
    dead = house.hosts[OSCAM]
    dead.down_for_attempts = 20
    block = BlockOrder(caller="abuse", case="AB-1", line=username, reason="Shared")

    receipt = await house.order(block, seconds=60)

    assert [half.state for half in receipt.halves] == [HalfState.REMOVED, HalfState.REMOVED]
    assert receipt.halves[1].attempts == 21
    workflow_id = order_workflow_id(block)
    histories = await runs_of(house.client, workflow_id, await first_run(house.client, workflow_id))
    assert len(histories) > 3
    assert max(len(history.events) for history in histories) < LONG + ONE_ATTEMPT
    await replay(house, *histories)
    blocked = [mail for mail in house.mails.mails if "AB-1" in str(mail.message)]
    assert len(blocked) == 1


async def test_what_was_told_and_what_was_seen_survives_a_new_run(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    order = trial()
    house.hosts[OSCAM].trouble = RecordConflict("a record of that name is not ours")
    assert house.skipper is not None
    # The next run has no Term as its child, and would skip from look to look.
    with house.skipper.with_time_skipping_disabled():
        await house.start(order)
    waiting = asyncio.create_task(house.order(order, seconds=60))
    await house.mails.wait_for(lambda mail: order.email in str(mail.message["To"]))
    await progress(house, order, fails_with("RecordConflict"))
    workflow_id = order_workflow_id(order)
    first = await first_run(house.client, workflow_id)
    handle = house.client.get_workflow_handle(workflow_id)
    tries = 1
    while (await handle.describe()).run_id == first:
        await house.twinline.retry_now(workflow_id, patience=SOON)
        tries += 1

    status = await house.twinline.progress(workflow_id)
    assert status is not None
    assert status.receipt is not None
    assert status.fingerprint == order.fingerprint()
    # The skipping clock may have let a look of the workflow's own come between two of ours.
    assert status.receipt.halves[1].attempts >= tries > 1
    assert status.receipt.halves[1].last_error == "RecordConflict"
    assert (await handle.describe()).typed_search_attributes.get(ATTENTION_REASON) == "RecordConflict"

    house.hosts[OSCAM].heal()
    await house.twinline.retry_now(workflow_id, patience=SOON)

    receipt = await waiting
    await replay(house, *await runs_of(house.client, workflow_id, first))
    assert [half.state for half in receipt.halves] == [HalfState.APPLIED, HalfState.APPLIED]
    assert receipt.mail is not None
    assert receipt.mail.kind is MailKind.SECOND_HALF
    assert len(house.sent_to(order.email)) == 2
    assert [what for what, _, _ in alerts(caplog)] == [
        "a half waits for a person",
        "a half waits for a person no longer",
    ]
