"""Hosts are brought in step with the ledger, and stop where following it would be a fault: all real but the daemons."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import col, select, update
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, ScheduleActionExecutionStartWorkflow
from temporalio.service import RPCError

from tests.cli.test_hosts import put_back
from tests.ledger.support import lose_grants
from tests.reconcile.conftest import HOSTS, House
from twinline.hosts.factory import OSCAM_REINIT
from twinline.hosts.helper_program import StatusPages
from twinline.ledger import guard, mails, models
from twinline.ledger.rules import BLAST_FLOOR
from twinline.messages import (
    ORDERS_QUEUE,
    HalfState,
    MailKind,
    MailState,
    NameOf,
    Reconciled,
    ReconcileTask,
    RenewalOrder,
    TrialOrder,
    order_workflow_id,
    reconcile_workflow_id,
    term_workflow_id,
)
from twinline.sandbox.receiver import Receiver
from twinline.schedules import sync_schedules

AT_ONCE = timedelta(0)
SOON = timedelta(seconds=30)


async def all_there(sessions: list[Receiver]) -> None:
    for session in sessions:
        await session.ping()


async def test_three_hundred_trials_that_end_together_all_end_and_nothing_stops(house: House) -> None:
    trials = await house.served(300)
    watching, strangers = await house.sessions(trials[:2]), await house.strangers()
    house.desk.now = trials[0].ends_at
    await house.desk.end_all(trials)

    for host in HOSTS:
        done = await house.reconcile(host)
        assert done.found is not None
        assert (done.found.brought, done.found.behind, done.found.drift) == (300, {}, ())

    for session in watching:
        await session.closed.wait()
    await all_there(strangers)
    names = {trial.username.encode() for trial in trials}
    for host in HOSTS:
        assert not [name for name in names if name in house.world.read_accounts(host)]
    assert not [event for event in await house.desk.rows(models.Event) if event.what == guard.UNEXPLAINED]
    await asyncio.gather(*(session.leave() for session in strangers))


async def test_what_an_old_mail_said_is_forgotten_with_the_next_reconcile(house: House) -> None:
    (line,) = await house.served(1)
    long_ago = datetime.now(UTC) - mails.KEPT
    async with house.desk.ledger.write() as tx:
        stored = await mails.store_mail(
            tx, line.line_id, kind=MailKind.CREDENTIALS, ref="g", message_id="<1@x>", body=b"secret", now=long_ago
        )
        assert stored is not None
        await mails.record_handover(tx, stored.mail_id, state=MailState.ACCEPTED, now=long_ago)
    await house.reconcile(HOSTS[0])
    async with house.desk.ledger.read() as tx:
        assert (await mails.load_mail(tx, stored.mail_id)).body == b""


async def test_a_ledger_that_lost_its_grants_empties_no_host_and_goes_on_once_it_is_put_right(house: House) -> None:
    lines = await house.served(BLAST_FLOOR + 5)
    watching = await house.sessions([lines[0], lines[-1]])
    order = RenewalOrder(caller="shop", order="R-truncated", line=lines[0].username, days=3)
    for host in HOSTS:
        await house.world.box(host).refuse(on=True)
        house.world.box(host).drop_connections()
    await house.twinline.place(order, patience=AT_ONCE)
    await _until_failing(house, order)
    grants = [
        grant for grant in await house.desk.rows(models.Grant) if grant.line_id in {each.line_id for each in lines}
    ]
    await lose_grants(house.desk, lines)
    for host in HOSTS:
        await house.world.box(host).refuse(on=False)
    before = {host: house.world.read_accounts(host) for host in HOSTS}

    for host in HOSTS:
        done = await house.reconcile(host)
        assert done.found is not None
        assert (done.found.brought, done.found.behind) == (0, {"BlastGuard": len(lines)})
        assert {line.error for line in done.found.drift} == set()
        handle = house.client.get_workflow_handle(reconcile_workflow_id(host))
        assert await handle.query("progress", result_type=Reconciled) == done
        told = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        assert f"Host `{host}`." in told.current_details
        assert f"still behind: {len(lines)} with `BlastGuard`." in told.current_details

    assert {host: house.world.read_accounts(host) for host in HOSTS} == before
    await all_there(watching)
    told = await house.twinline.retry_now(order_workflow_id(order), patience=SOON)
    assert told is not None
    assert {(half.last_error, half.state) for half in told} == {("BlastGuard", HalfState.FAILING)}
    # A sale goes on, and so does a block: both are told by an event.
    fresh = await house.twinline.place(
        TrialOrder(caller="shop", order="T-meanwhile", email="new@example.org", region="eu"), patience=SOON
    )
    assert fresh.receipt is not None
    assert {half.state for half in fresh.receipt.halves} == {HalfState.APPLIED}

    await _put_right(house, grants)
    for host in HOSTS:
        done = await house.reconcile(host)
        assert done.found is not None
        assert (done.found.brought, done.found.behind) == (len(lines), {})
    await house.twinline.retry_now(order_workflow_id(order), patience=SOON)
    finished = await house.twinline.place(order, patience=SOON)
    assert finished.done
    await all_there(watching)
    await asyncio.gather(*(session.leave() for session in watching))


async def _until_failing(house: House, order: RenewalOrder) -> None:
    async with asyncio.timeout(SOON.total_seconds()):
        while True:
            status = await house.twinline.progress(order_workflow_id(order))
            halves = () if status is None or status.receipt is None else status.receipt.halves
            if halves and all(half.last_error == "HostUnreachable" for half in halves):
                return
            await asyncio.sleep(0.05)


async def _put_right(house: House, grants: list[models.Grant]) -> None:
    """Give the lines their grants back, as a person would with a copy of the database."""
    line, half = models.Line, models.Half
    async with house.desk.ledger.write() as tx:
        tx.session.add_all([models.Grant(**grant.model_dump()) for grant in grants])
        for line_id in {grant.line_id for grant in grants}:
            ends_at = max(grant.ends_at for grant in grants if grant.line_id == line_id)
            await tx.session.exec(
                update(line)
                .where(col(line.id) == line_id)
                .values(state="present", ends_at=ends_at, revision=line.revision + 1)
            )
            await tx.session.exec(
                update(half).where(col(half.line_id) == line_id).values(wanted=half.wanted + 1, attention=None)
            )


async def test_a_file_that_shrank_stops_its_host_until_it_is_back_or_the_loss_is_accepted(house: House) -> None:
    lines = await house.served(BLAST_FLOOR + 5)
    watching, (anna, *_) = await house.sessions([lines[0]]), await house.strangers()
    path = house.world.site("os-eu1").accounts_file
    whole = path.read_bytes()
    path.write_bytes(b"# restored from nowhere\n")

    for asked in (True, False):
        done = await house.reconcile("os-eu1", asked=asked)
        assert (done.found, done.error) == (None, "ShrunkenFile")
    said = await house.cli("drift", "repair", "os-eu1", "--yes")
    assert (said.code, "--accept-loss" in said.err) == (4, True)
    assert path.read_bytes() == b"# restored from nowhere\n"
    await all_there([*watching, anna])

    path.write_bytes(whole)
    assert (await house.reconcile("os-eu1")).error is None
    path.write_bytes(b"# restored from nowhere\n")
    said = await house.cli("drift", "repair", "os-eu1", "--accept-loss", "--yes", "--json")
    assert said.code == 0, said.out
    # Ours were written again before the daemon loaded the file; the others are gone from it, as accepted.
    await all_there(watching)
    assert (await house.cli("drift", "check", "os-eu1")).code == 0
    path.write_bytes(path.read_bytes() + house.world.site("os-eu1").accounts_text().encode())
    assert (await house.reconcile("os-eu1")).error is None
    await asyncio.gather(*(session.leave() for session in watching))


async def test_a_grant_whose_term_is_gone_is_ended_by_the_sweep_whether_or_not_the_host_answers(house: House) -> None:
    order = TrialOrder(caller="shop", order="T-lost-term", email="lost@example.org", region="eu")
    status = await house.twinline.place(order, patience=SOON)
    assert status.receipt is not None
    line_id = status.receipt.line
    async with house.desk.ledger.write() as tx:
        grant = (await tx.session.exec(select(models.Grant).where(models.Grant.line_id == line_id))).one()
        grant.ends_at = datetime.now(UTC) - timedelta(seconds=1)
    await house.client.get_workflow_handle(term_workflow_id(line_id, grant.id)).terminate("lost")
    password = await house.desk.password(status.receipt.username)
    watching = {host: await house.world.receiver(host, status.receipt.username, password) for host in HOSTS}
    box = house.world.box("mc-eu1")
    await box.refuse(on=True)
    box.drop_connections()
    try:
        away = await house.reconcile("mc-eu1")
    finally:
        await box.refuse(on=False)

    assert (away.ended, away.found, away.error) == (1, None, "HostUnreachable")
    await watching["mc-eu1"].ping()
    for host in HOSTS:
        done = await house.reconcile(host)
        assert (done.ended, done.error) == (0, None)
        await watching[host].closed.wait()
    event = next(
        each for each in await house.desk.rows(models.Event) if each.line_id == line_id and each.what == "grant.ended"
    )
    assert event.why == term_workflow_id(line_id, grant.id)


async def test_a_half_that_was_given_up_is_repaired_all_the_same(house: House) -> None:
    (line,) = await house.served(1)
    await house.desk.renew(line.username)
    await house.desk.abandon("mc-eu1", line.line_id)
    assert (await house.desk.view(line.username)).halves[0].state is HalfState.ABANDONED
    for host in HOSTS:
        assert (await house.reconcile(host, asked=False)).error is None
    assert {half.state for half in (await house.desk.view(line.username)).halves} == {HalfState.APPLIED}


@pytest.mark.parametrize("host", HOSTS)
async def test_a_daemon_that_holds_an_old_version_of_a_right_file_is_made_to_load_it(house: House, host: str) -> None:
    (line,) = await house.served(1)
    path = house.world.site(host).accounts_file
    right = path.read_bytes()
    found = re.search(rb"(?<=[ =])1-[0-9a-f]{8}", right[right.index(line.username.encode()) :])
    assert found is not None
    other = right.replace(found[0], b"1-00000000")
    await _load(house, host, other)
    # A rename is no reload for either daemon.
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(right)
    fresh.chmod(0o600)
    fresh.rename(path)

    said = await house.cli("drift", "check", host, "--json")
    assert said.code == 4
    (told,) = said.json[0]["drift"]["lines"]
    assert (told["username"], told["kinds"]) == (line.username, ["loaded_otherwise"])
    done = await house.reconcile(host, asked=False)
    assert done.found is not None
    assert [(each.username, each.error) for each in done.found.drift] == [(line.username, None)]
    assert (await house.cli("drift", "check", host)).code == 0


async def _load(house: House, host: str, content: bytes) -> None:
    """Have the daemon load this content, as its own operator would."""
    if host == "mc-eu1":
        await put_back(house.world.daemon(host), house.world.site(host).accounts_file, content)
        return
    site = house.world.site(host)
    site.accounts_file.write_bytes(content)
    pages = StatusPages(f"http://127.0.0.1:{site.status_port}", "digest", "admin", site.status_password)
    code, _ = await asyncio.to_thread(pages.get, OSCAM_REINIT)
    assert code == 200


async def test_the_schedule_starts_a_reconcile_and_those_of_hosts_that_left_are_gone(house: House) -> None:
    hosts = [host.name for host in house.world.inventory.hosts]
    client: Client = house.client
    left = client.get_schedule_handle(reconcile_workflow_id("us-left"))
    await sync_schedules(client, [*hosts, "us-left"])
    async with asyncio.timeout(SOON.total_seconds()):
        # The list of schedules lags behind, so that another start of a worker may be needed.
        while True:
            await sync_schedules(client, hosts)
            try:
                await left.describe()
            except RPCError:
                break
            await asyncio.sleep(0.1)

    schedule = client.get_schedule_handle(reconcile_workflow_id("mc-eu1"))
    await schedule.trigger()
    async with asyncio.timeout(SOON.total_seconds()):
        while True:
            actions = (await schedule.describe()).info.recent_actions
            if actions:
                break
            await asyncio.sleep(0.05)
    started = actions[-1].action
    assert isinstance(started, ScheduleActionExecutionStartWorkflow)
    done = await client.get_workflow_handle(started.workflow_id, result_type=Reconciled).result()
    assert (done.host, done.error) == ("mc-eu1", None)


async def test_two_who_ask_at_once_each_get_what_they_asked_for(house: House) -> None:
    running = await house.client.start_workflow(
        NameOf.RECONCILE,
        ReconcileTask(host="mc-eu1"),
        id=reconcile_workflow_id("mc-eu1"),
        task_queue=ORDERS_QUEUE,
    )
    said = await house.cli("drift", "repair", "mc-eu1", "--yes", "--json")
    assert said.code == 0, said.out
    await running.result()
