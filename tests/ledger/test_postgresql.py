"""What only PostgreSQL can have wrong, and writers that really work side by side there."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

import psycopg
import pytest
import pytest_asyncio
from psycopg.pq import TransactionStatus
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry, Pool
from sqlmodel import col, select, update

from tests.ledger.stores import PostgresShelf, PostgresStore
from tests.ledger.support import DAY, START, Desk, Pairing, an_inventory, proof_of
from tests.support.postgresql import GUARDED, PASSWORD, Cluster
from twinline.errors import Misconfigured, TwinlineError, Unavailable
from twinline.keys import KeyRing
from twinline.ledger import Ledger, halves, lines, migrate, models, orders, postgresql, sealing, setup, terms
from twinline.ledger.schema import is_current
from twinline.messages import BlockOrder, HalfState, PasswordOrder, Recorded, TermStart, order_workflow_id

HOSTS = ("mc-eu1", "os-eu1", "mc-eu2", "os-eu2")
MULTICS, OSCAM = HOSTS[:2]


@pytest.fixture
def store(cluster: Cluster) -> Iterator[PostgresStore]:
    shelf = PostgresShelf(cluster)
    yield shelf.new()
    shelf.clear()


@pytest_asyncio.fixture
async def desks(store: PostgresStore, keys: KeyRing) -> AsyncIterator[list[Desk]]:
    """One ledger, as four workers have it."""
    async with AsyncExitStack() as stack:
        found: list[Desk] = []
        for _ in range(4):
            ledger = await Ledger.open(store.url, keys=keys)
            stack.push_async_callback(ledger.close)
            found.append(Desk(ledger=ledger, keys=keys, store=store))
        await found[0].sync(Pairing(name="eu1"), Pairing(name="eu2"))
        yield found


async def somebody_waits(store: PostgresStore) -> None:
    """Until a transaction in this database waits for a lock."""
    waiting = b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with store.cluster.admin(store.name) as admin:
        while admin.execute(waiting).fetchone() == (0,):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


def deadlocks(store: PostgresStore) -> object:
    asked = b"SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    with store.cluster.admin(store.name) as admin:
        admin.execute(b"SELECT pg_stat_clear_snapshot()")
        row = admin.execute(asked).fetchone()
    assert row is not None
    return row[0]


# --- what can be wrong with it


@pytest.mark.parametrize(
    ("user", "password", "database", "said"),
    [
        (GUARDED, "hunter2-wrong", "postgres", "refuses our user or password"),
        (GUARDED, None, "postgres", "refuses our user or password"),
        ("nobody", None, "postgres", "does not know our user"),
        ("twinline", None, "nowhere", "has no database of that name"),
    ],
)
async def test_a_server_that_lets_us_not_in_says_why_and_no_password(
    cluster: Cluster, keys: KeyRing, user: str, password: str | None, database: str, said: str
) -> None:
    with pytest.raises(Unavailable, match=said) as refusal:
        await Ledger.open(cluster.url(database, user=user, password=password), keys=keys)
    assert "TWINLINE_DATABASE_URL" in refusal.value.hint
    assert "hunter2" not in "".join(traceback.format_exception(refusal.value))


async def test_a_password_with_signs_of_a_url_lets_us_in(cluster: Cluster, store: PostgresStore, keys: KeyRing) -> None:
    quoted = PASSWORD.replace("/", "%2F").replace(":", "%3A").replace("@", "%40")
    ledger = await Ledger.open(cluster.url(store.name, user=GUARDED, password=quoted), keys=keys)
    async with ledger.write() as tx:
        await setup.sync_inventory(tx, an_inventory(Pairing(name="eu1")), now=START)
    await ledger.close()


async def test_a_server_that_is_away_is_unavailable(keys: KeyRing) -> None:
    for url in ("postgresql://twinline:hunter2@127.0.0.1:1/x", "postgresql://twinline:hunter2@/x?host=/nowhere"):
        with pytest.raises(Unavailable, match="does not answer") as refusal:
            await Ledger.open(url, keys=keys)
        assert refusal.value.retryable
        assert "hunter2" not in "".join(traceback.format_exception(refusal.value))


async def test_an_old_server_is_refused(store: PostgresStore, keys: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "OLDEST", 99)
    with pytest.raises(Misconfigured, match=r"is version \d+, and twinline needs 99"):
        await Ledger.open(store.url, keys=keys)
    with pytest.raises(Misconfigured, match="needs 99"):
        await migrate(store.url)


async def test_a_database_in_another_encoding_is_refused(cluster: Cluster, keys: KeyRing) -> None:
    name = cluster.create(encoding="SQL_ASCII")
    with pytest.raises(Misconfigured, match="is encoded in SQL_ASCII"):
        await Ledger.open(cluster.url(name), keys=keys)
    cluster.drop(name)


async def test_workers_that_start_together_migrate_once(cluster: Cluster, keys: KeyRing) -> None:
    with cluster.database() as empty:
        ledger = await Ledger.open(empty, keys=keys)
        await asyncio.gather(*(migrate(empty) for _ in range(4)))
        assert await is_current(ledger)
        await ledger.close()


async def test_a_restarted_server_is_found_again_and_what_was_under_way_may_be_repeated(
    cluster: Cluster, desks: list[Desk]
) -> None:
    ann = await desks[0].trial()
    with pytest.raises(Unavailable) as refusal:
        async with desks[0].ledger.write() as tx:
            row = (await lines.line_by_id(tx, ann.line_id)).line
            cluster.stop()
            row.revision += 1
    assert refusal.value.retryable
    with pytest.raises(Unavailable, match="does not answer"):
        await desks[1].view(ann.username)
    cluster.start()
    for desk in desks:
        assert (await desk.view(ann.username)).revision == 1


async def test_a_connection_that_a_cancelled_task_left_in_the_middle_is_given_up(desks: list[Desk]) -> None:
    desk, left = desks[0], list[psycopg.AsyncConnection[Any]]()

    def leave_in_the_middle(_: object, record: ConnectionPoolEntry) -> None:
        if not left:
            # As when its task was cancelled while it waited for an answer.
            left.append(cast("Any", record).driver_connection)
            left[0].pgconn.send_query(b"SELECT 1")

    event.listen(Pool, "checkin", leave_in_the_middle)
    try:
        await desk.rows(models.Host)
    finally:
        event.remove(Pool, "checkin", leave_in_the_middle)
    assert [one.info.transaction_status for one in left] == [TransactionStatus.ACTIVE]

    assert len(await desk.rows(models.Host)) == len(HOSTS)


async def test_a_user_without_rights_is_told_so(desks: list[Desk], store: PostgresStore) -> None:
    ann = await desks[0].trial()
    with store.cluster.admin() as admin:
        admin.execute(b"CREATE ROLE stranger LOGIN")
    ledger = await Ledger.open(store.cluster.url(store.name, user="stranger"), keys=desks[0].keys)
    with pytest.raises(Unavailable, match="does not let our user do that"):
        await replace(desks[0], ledger=ledger).view(ann.username)
    await ledger.close()


async def test_who_waits_too_long_for_a_lock_is_told_and_may_come_again(
    desks: list[Desk], store: PostgresStore
) -> None:
    ann = await desks[0].trial()
    impatient = await Ledger.open(store.url, keys=desks[0].keys, patience=0.05)
    async with desks[0].ledger.write() as tx:
        await lines.line_by_id(tx, ann.line_id)
        with pytest.raises(Unavailable, match="locked by another process"):
            async with impatient.write() as other:
                await lines.line_by_id(other, ann.line_id)
        async with impatient.read() as other:
            await lines.line_by_id(other, ann.line_id)
    async with impatient.write() as tx:
        await lines.line_by_id(tx, ann.line_id)
    await impatient.close()


async def test_a_transaction_that_stands_still_is_undone_and_its_locks_are_free(
    desks: list[Desk], store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await desks[0].trial()
    monkeypatch.setattr(postgresql, "_IDLE_SECONDS", 1)
    hung = await Ledger.open(store.url, keys=desks[0].keys)
    with pytest.raises(Unavailable):
        async with hung.write() as tx:
            await lines.line_by_id(tx, ann.line_id)
            # Waits for the lock of the one that hangs.
            await desks[1].block(ann.username)
            await lines.line_by_id(tx, ann.line_id)
    await hung.close()


async def test_of_two_in_a_deadlock_one_may_come_again(desks: list[Desk], store: PostgresStore) -> None:
    ann, bob = await desks[0].trial("ann@example.com"), await desks[0].trial("bob@example.com")
    both_have_one = asyncio.Barrier(2)

    async def lock(ledger: Ledger, first: Recorded, second: Recorded) -> bool:
        try:
            async with ledger.write() as tx:
                await lines.line_by_id(tx, first.line_id)
                await both_have_one.wait()
                await lines.line_by_id(tx, second.line_id)
        except Unavailable as error:
            assert "at the same moment" in error.message
            return False
        return True

    outcomes = await asyncio.gather(lock(desks[0].ledger, ann, bob), lock(desks[1].ledger, bob, ann))
    assert sorted(outcomes) == [False, True]


async def test_no_error_quotes_a_row(desks: list[Desk]) -> None:
    ann = await desks[0].trial()
    with pytest.raises(Unavailable) as refusal:
        async with desks[0].ledger.write() as tx:
            line = await tx.session.get(models.Line, ann.line_id)
            assert line is not None
            tx.session.add(models.Line(**line.model_dump(exclude={"id"}), id="another"))
    assert ann.username not in "".join(traceback.format_exception(refusal.value))


async def test_the_clock_of_the_server_is_the_ledgers(desks: list[Desk]) -> None:
    before = datetime.now(UTC)
    shown = await desks[0].ledger.now()
    assert before - timedelta(milliseconds=1) <= shown <= datetime.now(UTC) + timedelta(milliseconds=1)


# --- side by side


async def test_workers_that_start_together_take_the_inventory_over_once(desks: list[Desk]) -> None:
    pairs = [Pairing(name=f"p{n}") for n in range(5)]
    await asyncio.gather(*(desk.sync(*pairs) for desk in desks))
    events = [event for event in await desks[0].rows(models.Event) if event.what == "pair.added"]
    assert sorted(event.why for event in events if event.why.startswith("p")) == [pair.name for pair in pairs]


async def test_a_proof_does_not_undo_the_block_that_came_meanwhile(desks: list[Desk], store: PostgresStore) -> None:
    ann = await desks[0].trial()
    batch = await desks[0].open_batch(MULTICS)
    order = BlockOrder(case="case-1", line=ann.username, reason="shared with others")
    async with desks[0].ledger.write() as tx:
        await orders.record_block(tx, order, now=START + DAY, workflow_id=order_workflow_id(order))
        await tx.session.flush()
        proving = asyncio.create_task(desks[1].close_batch(batch))
        await somebody_waits(store)
    await proving
    half = (await desks[0].view(ann.username)).halves[0]
    assert (half.state, half.wanted, half.proven, half.behind_since) == (HalfState.PENDING, 2, 1, START)


async def test_a_block_waits_for_a_proof_that_is_being_recorded(desks: list[Desk], store: PostgresStore) -> None:
    ann = await desks[0].trial()
    batch = await desks[0].open_batch(MULTICS)
    async with desks[0].ledger.write() as tx:
        results = [proof_of(half) for half in batch.halves]
        await halves.close_batch(tx, MULTICS, batch.token, results, now=START)
        await tx.session.flush()
        blocking = asyncio.create_task(desks[1].block(ann.username))
        await somebody_waits(store)
    await blocking
    half = (await desks[0].view(ann.username)).halves[0]
    assert (half.state, half.wanted, half.proven, half.proven_state) == (HalfState.PENDING, 2, 1, HalfState.APPLIED)


async def test_a_new_password_is_not_sealed_over_by_the_old_one(
    desks: list[Desk], store: PostgresStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ring = tmp_path_factory.mktemp("ring") / "keys.json"
    KeyRing.create(ring)
    ledger = await Ledger.open(store.url, keys=KeyRing.load(ring))
    desk = replace(desks[0], ledger=ledger)
    ann = await desk.trial()
    old = await desk.password(ann.username)
    rotated = await Ledger.open(store.url, keys=KeyRing.rotate(ring))
    order = PasswordOrder(order="p-1", line=ann.username)
    async with ledger.write() as tx:
        await orders.record_password(tx, order, now=START, workflow_id=order_workflow_id(order))
        await tx.session.flush()
        resealing = asyncio.create_task(sealing.reseal(rotated))
        await somebody_waits(store)
    assert (await resealing).rows == 1
    new = await replace(desk, ledger=rotated).password(ann.username)
    assert new != old
    assert await desk.password(ann.username) == new
    await ledger.close()
    await rotated.close()


class Traffic:
    """Everything that workers do to the same few lines at the same time, in an order that only the server decides."""

    def __init__(self, desks: list[Desk], taken: list[Recorded], seed: int) -> None:
        self._desks = desks
        self._taken = taken
        self._random = Random(seed)  # noqa: S311 - which of them is no secret
        self.refused = 0
        self.done = 0

    async def run(self, steps: int) -> None:
        """Let every worker do so much."""
        await asyncio.gather(*(self._work(desk, number, steps) for number, desk in enumerate(self._desks)))

    async def _work(self, desk: Desk, number: int, steps: int) -> None:
        worker = replace(desk, _count=1_000 * (number + 1))
        acts: list[Callable[[Desk, Recorded, str], Coroutine[None, None, object]]] = [
            lambda desk, line, _: desk.renew(line.username, days=1),
            lambda desk, line, _: desk.block(line.username),
            lambda desk, line, _: desk.unblock(line.username),
            lambda desk, line, _: desk.move(line.username, self._random.choice(["eu1", "eu2"])),
            lambda desk, _, __: desk.trial(f"{desk.ref()}@example.com"),
            lambda desk, line, _: desk.end(line),
            self._batch,
            self._batch,
            lambda desk, _, host: desk.fail(host, *sorted({one.line_id for one in self._taken})),
            lambda desk, line, host: desk.stop(host, line.line_id, revision=self._random.randint(1, 9)),
            lambda desk, line, host: desk.ask_again(host, line.line_id),
            lambda desk, line, _: self._retry(desk, line),
            lambda desk, _, host: self._sweep(desk, host),
            lambda desk, _, __: sealing.reseal(desk.ledger),
        ]
        for _ in range(steps):
            act = self._random.choice(acts)
            host = self._random.choice(HOSTS)
            try:
                await act(worker, self._random.choice(self._taken), host)
                self.done += 1
            except Unavailable:
                raise
            except (TwinlineError, halves.StaleToken):
                self.refused += 1

    async def _batch(self, desk: Desk, _: Recorded, host: str) -> None:
        batch = await desk.open_batch(host, limit=5)
        await desk.close_batch(batch)

    async def _retry(self, desk: Desk, line: Recorded) -> None:
        async with desk.ledger.write() as tx:
            await halves.retry_halves(tx, line.line_id, actor="cli", now=desk.now)

    async def _sweep(self, desk: Desk, host: str) -> None:
        now = desk.now + timedelta(days=3)
        async with desk.ledger.read() as tx:
            found = await terms.overdue(tx, host, now=now, limit=3)
        for term in found:
            async with desk.ledger.write() as tx:
                await terms.end_grant(tx, term, now=now, who="reconcile")


async def _traffic(desks: list[Desk], store: PostgresStore, *, steps: int, seed: int) -> None:
    taken = [await desks[0].trial(f"guest{n}@example.com") for n in range(6)]
    traffic = Traffic(desks, taken, seed)
    await traffic.run(steps)
    assert traffic.done > traffic.refused
    # Nobody waited in a circle, and the lines are as whole as if everybody had queued up.
    assert deadlocks(store) == 0
    for recorded in taken:
        async with desks[0].ledger.read() as tx:
            rows = await lines.line_by_id(tx, recorded.line_id)
        desired = rows.desired()
        assert (rows.line.state, rows.line.ends_at) == (desired.state, desired.ends_at)
        assert {half.wanted for half in rows.halves} == {rows.line.revision}
        for half in rows.halves:
            assert half.proven <= half.wanted
            assert (half.behind_since is None) is (half.proven == half.wanted)
            assert (half.state in {HalfState.APPLIED, HalfState.REMOVED}) is (half.proven == half.wanted)
        told = [event for event in await desks[0].rows(models.Event) if event.line_id == recorded.line_id]
        ended = [event.why for event in told if event.what in {"grant.ended", "grant.unserved", "grant.overtaken"}]
        assert len(ended) == len(set(ended)), "a grant ends once"
    async with desks[0].ledger.write() as tx:
        await tx.session.exec(update(models.Half).where(col(models.Half.attention).is_not(None)).values(attention=None))
    for host in HOSTS:
        await desks[0].prove(host)
    async with desks[0].ledger.read() as tx:
        behind = select(models.Half).where(models.Half.wanted > models.Half.proven)
        assert (await tx.session.exec(behind)).all() == []


async def test_workers_side_by_side_neither_block_each_other_nor_tear_a_line(
    desks: list[Desk], store: PostgresStore
) -> None:
    await _traffic(desks, store, steps=40, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 12))
async def test_many_workers_side_by_side(desks: list[Desk], store: PostgresStore, seed: int) -> None:
    await _traffic(desks, store, steps=200, seed=seed)


async def test_sweeps_of_both_hosts_of_a_pair_end_every_grant_once(desks: list[Desk]) -> None:
    taken = await desks[0].trials(10)
    now = START + timedelta(days=3)

    async def sweep(desk: Desk, host: str) -> list[str]:
        async with desk.ledger.read() as tx:
            found = await terms.overdue(tx, host, now=now, limit=100)
        return [decision.outcome for term in found if (decision := await end(desk, term))]

    async def end(desk: Desk, term: TermStart) -> terms.TermDecision:
        async with desk.ledger.write() as tx:
            return await terms.end_grant(tx, term, now=now, who="reconcile")

    sweeps: list[Awaitable[list[str]]] = [sweep(desk, host) for desk, host in zip(desks, HOSTS, strict=True)]
    await asyncio.gather(*sweeps)
    events = [event for event in await desks[0].rows(models.Event) if event.what == "grant.unserved"]
    assert sorted(str(event.line_id) for event in events) == sorted(line.line_id for line in taken)
    assert {line.revision for line in await desks[0].rows(models.Line)} == {2}
