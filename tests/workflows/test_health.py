"""A host is watched: it is away after two failures and well after one success, and everybody is told what is known."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError

from starter.attention import what_waits, with_temporal
from tests.workflows.house import HOSTS, House
from twinline.errors import Unavailable
from twinline.hosts.errors import HostKeyMismatch, StatusTrouble
from twinline.ledger import looks, models
from twinline.messages import (
    HealthSoFar,
    HealthStanding,
    HealthStatus,
    NameOf,
    RetryNow,
    health_workflow_id,
)
from twinline.priorities import BULK
from twinline.search_attributes import ATTENTION_REASON
from twinline.search_attributes import HOSTS as HOSTS_ATTRIBUTE
from twinline.watched import sync_watched
from workflows import health

MULTICS, OSCAM = HOSTS
NOWHERE = "us-none"
"""A host that no worker has."""
QUIET = StatusTrouble("the daemon's pages do not answer")
SOON = timedelta(milliseconds=200)
WELL, AWAY, UNKNOWN = HealthStanding.WELL, HealthStanding.AWAY, HealthStanding.UNKNOWN
Handle = WorkflowHandle[object, HealthStatus]


@pytest_asyncio.fixture
async def house(impatient_house: House) -> AsyncIterator[House]:
    """A house whose hosts are well before and after, and that watches none of them."""
    yield impatient_house
    for host in impatient_house.hosts.values():
        host.heal()
    for name in (*HOSTS, NOWHERE):
        # Not by `sync_watched`: the list by which that goes lags behind.
        with contextlib.suppress(RPCError):
            handle = watcher(impatient_house.client, name)
            await handle.cancel()
            await handle.result()


def watcher(client: Client, host: str) -> Handle:
    return client.get_workflow_handle(health_workflow_id(host), result_type=HealthStatus)


async def known(handle: Handle, reached: Callable[[HealthStatus], bool]) -> HealthStatus:
    """What is known of a host once that is reached."""
    async with asyncio.timeout(30):
        while True:
            status = await handle.query("progress", result_type=HealthStatus)
            if reached(status):
                return status
            await asyncio.sleep(0.02)


async def details(handle: Handle) -> str:
    told = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return told.current_details


async def row(house: House, host: str) -> models.Host:
    async with house.ledger.read() as tx:
        return await tx.session.get_one(models.Host, host)


async def test_a_host_is_away_from_its_second_failure_and_well_from_its_next_answer(house: House) -> None:
    await sync_watched(house.client, [OSCAM], every=SOON)
    handle = watcher(house.client, OSCAM)
    well = await known(handle, lambda status: status.standing is WELL)
    assert (well.host, well.so_far.code, well.missed) == (OSCAM, None, None)
    house.hosts[OSCAM].trouble = QUIET
    away = await known(handle, lambda status: status.standing is AWAY)
    assert (away.so_far.code, away.so_far.attention) == ("StatusTrouble", None)
    assert away.so_far.since is not None
    down = await row(house, OSCAM)
    assert (down.down_since, down.down_code, down.attention) == (away.so_far.since, "StatusTrouble", None)
    said = await details(handle)
    assert f"**{OSCAM}** **does not answer** since" in said
    assert "`StatusTrouble`. To do: check that the daemon runs" in said
    async with house.ledger.read() as tx:
        seen = await looks.looks_at(tx, OSCAM, since=away.so_far.since)
    assert {each.code for each in seen} == {"StatusTrouble"}
    assert len(seen) >= 2

    house.hosts[OSCAM].heal()
    back = await known(handle, lambda status: status.standing is WELL)
    assert back.so_far.since is not None and back.so_far.since > away.so_far.since
    assert (await row(house, OSCAM)).down_since is None
    assert f"**{OSCAM}** answers since" in await details(handle)


async def test_a_person_is_called_where_one_has_to_look(house: House) -> None:
    house.hosts[MULTICS].trouble = HostKeyMismatch("another key")
    await sync_watched(house.client, [MULTICS], every=SOON)
    handle = watcher(house.client, MULTICS)
    await known(handle, lambda status: status.so_far.attention == "HostKeyMismatch")
    described = await handle.describe()
    assert described.typed_search_attributes.get(ATTENTION_REASON) == "HostKeyMismatch"
    assert (await row(house, MULTICS)).attention == "HostKeyMismatch"
    assert "find out why the host key changed" in await details(handle)
    async with asyncio.timeout(30):
        # The list by which people are told lags behind.
        while True:
            if health_workflow_id(MULTICS) in dict(await house.twinline.waiting_for_a_person()):
                break
            await asyncio.sleep(0.05)
    now, grace = datetime.now(UTC), timedelta(seconds=90)
    stuck = await what_waits(house.ledger, now=now, grace=grace, limit=10)
    told = await with_temporal(stuck, house.twinline, now=now, grace=grace)
    assert MULTICS in {each.host for each in (*told.hosts, *told.halves)}
    assert health_workflow_id(MULTICS) not in {other.workflow_id for other in told.others}
    house.hosts[MULTICS].heal()
    await known(handle, lambda status: status.standing is WELL)
    assert (await handle.describe()).typed_search_attributes.get(ATTENTION_REASON) is None


async def retried(handle: Handle) -> HealthStatus:
    return await handle.execute_update(NameOf.UPDATE_RETRY, RetryNow(actor="olga"), result_type=HealthStatus)  # pyright: ignore[reportUnknownMemberType] - the SDK's own


async def test_who_asks_has_the_host_looked_at_now(house: House) -> None:
    await sync_watched(house.client, [MULTICS], every=timedelta(days=1))
    handle = watcher(house.client, MULTICS)
    before = await known(handle, lambda status: status.next_look is not None)
    assert (before.standing, before.so_far) == (UNKNOWN, HealthSoFar())
    assert f"Nobody knows how **{MULTICS}** is." in await details(handle)
    answers = await asyncio.gather(retried(handle), retried(handle))
    assert {answer.standing for answer in answers} == {WELL}
    house.hosts[MULTICS].trouble = QUIET
    doubted = await retried(handle)
    assert (doubted.standing, doubted.so_far.code) == (WELL, "StatusTrouble")


async def test_a_host_that_no_worker_can_look_at_is_not_away_but_unknown(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "TAKEN_WITHIN", SOON)
    monkeypatch.setattr(health, "AGAIN_AFTER_MISSED", SOON)
    await sync_watched(house.client, [NOWHERE], every=SOON)
    handle = watcher(house.client, NOWHERE)
    missed = await known(handle, lambda status: status.missed is not None)
    assert (missed.missed, missed.standing, missed.so_far.looked_at) == ("NoWorker", UNKNOWN, None)
    assert "Nobody looked when it was due: `NoWorker`." in await details(handle)


async def test_while_the_ledger_is_away_nothing_is_said_of_a_host(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def probe() -> None:
        raise Unavailable("the ledger was away", hint="Try again.")

    await sync_watched(house.client, [MULTICS], every=timedelta(days=1))
    handle = watcher(house.client, MULTICS)
    seen = await retried(handle)
    monkeypatch.setattr(house.hosts[MULTICS], "probe", probe)
    missed = await retried(handle)
    assert (missed.missed, missed.standing, missed.so_far) == ("Unavailable", UNKNOWN, seen.so_far)
    monkeypatch.undo()
    assert (await retried(handle)).standing is WELL


async def test_each_host_of_the_inventory_is_watched_once_and_no_other_one(house: House) -> None:
    await asyncio.gather(*(sync_watched(house.client, HOSTS, every=timedelta(days=1)) for _ in range(3)))
    handles = [watcher(house.client, host) for host in HOSTS]
    first = [(await handle.describe()).run_id for handle in handles]

    async def ended() -> None:
        """The list of what runs may lag behind, so that another start of a worker may be needed."""
        async with asyncio.timeout(30):
            while (await handles[1].describe()).status is WorkflowExecutionStatus.RUNNING:
                await sync_watched(house.client, [MULTICS], every=timedelta(days=1))
                await asyncio.sleep(0.05)

    await ended()
    gone = await handles[1].describe()
    assert (gone.status, gone.run_id) == (WorkflowExecutionStatus.COMPLETED, first[1])
    assert "It is watched no longer" in await details(handles[1])
    await sync_watched(house.client, HOSTS, every=timedelta(days=1))
    again = [await handle.describe() for handle in handles]
    assert {each.status for each in again} == {WorkflowExecutionStatus.RUNNING}
    assert again[0].run_id == first[0]
    assert again[1].run_id != first[1]


async def test_a_run_is_short_and_the_next_one_knows_since_when(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LOOKS_PER_RUN", 2)
    house.hosts[OSCAM].trouble = HostKeyMismatch("another key")
    await sync_watched(house.client, [OSCAM], every=SOON)
    handle = watcher(house.client, OSCAM)
    first = await known(handle, lambda status: status.standing is AWAY)
    begun = (await handle.describe()).run_id
    async with asyncio.timeout(30):
        while True:
            later = await handle.describe()
            if later.run_id != begun:
                break
            await asyncio.sleep(0.02)
    later_status = await known(handle, lambda status: status.host == OSCAM)
    assert (later_status.standing, later_status.so_far.since) == (AWAY, first.so_far.since)
    attributes = later.typed_search_attributes
    assert (attributes.get(HOSTS_ATTRIBUTE), attributes.get(ATTENTION_REASON)) == ([OSCAM], "HostKeyMismatch")
    assert later.raw_description.workflow_execution_info.priority.priority_key == BULK.priority_key
