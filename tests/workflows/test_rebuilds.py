"""A rebuild waits as long as it must, tells what for, and asks nobody more often than is good."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
import pytest_asyncio
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import TimeSkipper, TimeSkippingConfig

from starter.explain import meaning
from starter.rebuilds import Rebuilds, waits_for_a_person
from tests.replay.studio import PatientHost
from tests.support.temporal import dev_server
from tests.workflows.house import HOSTS, House, run_house
from tests.workflows.test_orders import trial
from twinline.hosts.drift import MEANINGS, Kind
from twinline.hosts.errors import ShrunkenFile
from twinline.keys import KeyRing
from twinline.messages import NameOf, RetryNow
from twinline.priorities import BULK
from twinline.rebuild import ACCOUNT_SHUT, RebuildStatus, RebuildStep, RebuildTask, rebuild_workflow_id
from twinline.search_attributes import ATTENTION_REASON
from twinline.search_attributes import HOSTS as HOSTS_ATTRIBUTE
from workflows.halves import LONG_CAP, LOOK_AGAIN, pause_after

OSCAM = HOSTS[1]
Handle = WorkflowHandle[object, RebuildStatus]


@dataclass(frozen=True)
class Site:
    """A house whose hosts keep a file, and a client whose workflows skip what they wait for."""

    house: House
    skipping: Client
    line: str

    @property
    def host(self) -> PatientHost:
        host = self.house.hosts[OSCAM]
        assert isinstance(host, PatientHost)
        return host


@pytest_asyncio.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, key_ring: KeyRing) -> AsyncIterator[Site]:
    async with dev_server() as server:
        client = await server.connect(key_ring)
        skipper = TimeSkipper(client, config=TimeSkippingConfig(disable_propagation=True))
        folder = tmp_path_factory.mktemp("rebuilds")
        async with run_house(folder, key_ring, client, host=PatientHost) as house:
            line = (await house.order(trial())).username
            yield Site(house, skipper.client, line)


def handle_of(client: Client) -> Handle:
    return client.get_workflow_handle(rebuild_workflow_id(OSCAM), result_type=RebuildStatus)


async def known(client: Client, reached: Callable[[RebuildStatus], bool]) -> RebuildStatus:
    """How far it is once that is reached."""
    async with asyncio.timeout(30):
        while True:
            status = await Rebuilds(client).status(OSCAM)
            if status is not None and reached(status):
                return status
            await asyncio.sleep(0.02)


async def pauses_of(client: Client) -> list[timedelta]:
    """For how long it meant to wait, each time that it did."""
    history = await handle_of(client).fetch_history()
    return [
        event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
        for event in history.events
        if event.HasField("timer_started_event_attributes")
    ]


async def retried(client: Client) -> RebuildStatus:
    return await handle_of(client).execute_update(  # pyright: ignore[reportUnknownMemberType] - the SDK's own
        NameOf.UPDATE_RETRY, RetryNow(actor="olga"), result_type=RebuildStatus
    )


async def test_an_outage_is_waited_for_with_pauses_that_grow_to_five_minutes(site: Site) -> None:
    site.host.missing = {site.line}
    site.host.down_for_attempts = 33
    await Rebuilds(site.skipping).ask(RebuildTask(host=OSCAM))
    status = await handle_of(site.skipping).result()
    assert (status.done, status.held, status.should_hold, status.changed) == (True, 1, 1, 1)
    pauses = await pauses_of(site.skipping)
    assert [round(each.total_seconds()) for each in pauses] == [
        pause_after(tries).total_seconds() for tries in range(1, 34)
    ]
    assert pauses[-1] > LONG_CAP - timedelta(seconds=1)


async def test_what_a_person_has_to_do_stands_in_temporal_until_it_is_done(site: Site) -> None:
    client = site.house.client
    site.host.taken = {site.line}
    await Rebuilds(client).ask(RebuildTask(host=OSCAM, actor="olga", reason="new disk"))
    status = await known(client, waits_for_a_person)
    handle = handle_of(client)
    described = await handle.describe()
    assert described.typed_search_attributes.get(ATTENTION_REASON) == status.asks == "RecordConflict"
    assert described.typed_search_attributes.get(HOSTS_ATTRIBUTE) == [OSCAM]
    history = await handle.fetch_history()
    priority = history.events[0].workflow_execution_started_event_attributes.priority
    assert priority.priority_key == BULK.priority_key
    told = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert f"Host `{OSCAM}`, asked for by **olga**: new disk" in told.current_details
    assert "seen to hold 0 of 1 lines" in told.current_details
    assert "1 line with `RecordConflict`. To do: remove or rename that record on the host." in told.current_details
    assert "It **waits for a person**, and looks again at" in told.current_details

    site.host.taken.clear()
    done = await retried(client)

    assert (done.done, done.held) == (True, 1)
    assert await handle.result() == done
    assert (await handle.describe()).typed_search_attributes.get(ATTENTION_REASON) is None


async def test_somebody_who_undoes_it_again_and_again_is_not_followed_at_full_speed(site: Site) -> None:
    site.host.missing = {site.line}
    site.host.lost_again = 4
    await Rebuilds(site.skipping).ask(RebuildTask(host=OSCAM))
    assert (await handle_of(site.skipping).result()).done
    pauses = await pauses_of(site.skipping)
    assert [round(each.total_seconds()) for each in pauses] == [1, 2, 4, 8]


async def test_after_a_repair_the_next_look_does_not_wait_as_if_nothing_had_happened(site: Site) -> None:
    client = site.house.client
    site.host.taken = {site.line}
    await Rebuilds(client).ask(RebuildTask(host=OSCAM))
    await known(client, waits_for_a_person)
    for _ in range(3):
        assert waits_for_a_person(await retried(client))
    site.host.taken, site.host.missing = set(), {site.line}
    await retried(client)
    assert (await handle_of(client).result()).done
    assert {round(each.total_seconds()) for each in await pauses_of(client)} == {LOOK_AGAIN.total_seconds()}


async def test_a_loss_that_was_accepted_is_accepted_until_the_file_is_written_and_no_longer(site: Site) -> None:
    client = site.house.client
    site.host.missing = {site.line}
    site.host.trouble = ShrunkenFile("the accounts file lacks 30 of the 40 accounts")
    await Rebuilds(client).ask(RebuildTask(host=OSCAM, accept_loss=True))
    await known(client, waits_for_a_person)
    site.host.trouble = None
    await Rebuilds(client).ask(RebuildTask(host=OSCAM))
    assert (await handle_of(client).result()).done
    history = await handle_of(client).fetch_history()
    steps = [
        (await client.data_converter.decode(scheduled.input.payloads, [RebuildStep]))[0].accept_loss
        for event in history.events
        if (scheduled := event.activity_task_scheduled_event_attributes).activity_type.name == NameOf.REBUILD_STEP
    ]
    assert steps == [True, True, False]


def test_an_account_that_is_shut_is_explained_as_drift_explains_it() -> None:
    known, shut = meaning(ACCOUNT_SHUT), MEANINGS[Kind.SHUT]
    assert (known.sentence, known.hint, known.attention) == (shut.sentence, shut.hint, True)
