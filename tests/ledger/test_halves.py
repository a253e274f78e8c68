"""Batches for hosts: what is in them, what proofs and failures change, and who is too late."""

from datetime import timedelta

import pytest

from tests.ledger.support import DAY, HOUR, START, Desk, Pairing, proof_of
from twinline.errors import Misconfigured
from twinline.ledger import halves, models
from twinline.ledger.fences import FenceToken
from twinline.ledger.halves import HalfProgress, ProvenHalf, StaleToken
from twinline.messages import HalfReceipt, HalfState, Recorded


async def half(desk: Desk, line_id: str, host: str = "mc-eu1") -> HalfProgress:
    async with desk.ledger.read() as tx:
        return (await halves.host_progress(tx, host, [line_id]))[line_id]


async def test_a_batch_holds_every_half_that_is_behind_on_its_host(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1"), Pairing(name="us1", region="us"))
    ann = await desk.trial("ann@example.com")
    bob = await desk.trial("bob@example.com")
    await desk.trial("cid@example.com", region="us")
    batch = await desk.open_batch("mc-eu1")
    assert {item.line_id for item in batch.halves} == {ann.line_id, bob.line_id}
    item = next(item for item in batch.halves if item.line_id == ann.line_id)
    assert (item.username, item.state, item.ends_at, item.revision) == (ann.username, "present", ann.ends_at, 1)
    password = await desk.password(ann.username)
    assert item.password.get_secret_value() == password
    assert password not in repr(batch)
    await desk.close_batch(batch)
    assert (await desk.open_batch("mc-eu1")).halves == ()
    assert len((await desk.open_batch("os-eu1")).halves) == 2


async def test_who_must_lose_access_comes_first_then_the_oldest(desk: Desk) -> None:
    names = ["ann", "bob", "cid", "dot", "eve"]
    lines: dict[str, Recorded] = {}
    for name in names:
        lines[name] = await desk.trial(f"{name}@example.com")
        desk.now += timedelta(seconds=1)
    await desk.prove("mc-eu1")
    for name in reversed(names[:3]):
        await desk.renew(lines[name].username)
        desk.now += timedelta(seconds=1)
    await desk.block(lines["dot"].username)
    desk.now = lines["eve"].ends_at
    await desk.end(lines["eve"])
    batch = await desk.open_batch("mc-eu1")
    by_name = {lines[name].line_id: name for name in names}
    assert [by_name[item.line_id] for item in batch.halves] == ["dot", "eve", "cid", "bob", "ann"]
    few = await desk.open_batch("mc-eu1", limit=2)
    assert [by_name[item.line_id] for item in few.halves] == ["dot", "eve"]


async def test_a_block_waits_for_no_more_than_the_batch_that_is_under_way(desk: Desk) -> None:
    lines = await desk.trials(110)
    # Everything is behind; the first hundred are being written when the block comes.
    under_way = await desk.open_batch("mc-eu1", limit=100)
    waiting = {line.line_id for line in lines} - {item.line_id for item in under_way.halves}
    late = next(line for line in reversed(lines) if line.line_id in waiting)
    await desk.block(late.username)

    following = await desk.open_batch("mc-eu1", limit=100)

    assert (len(under_way.halves), len(waiting)) == (100, 10)
    assert following.halves[0].line_id == late.line_id
    assert [item.state for item in following.halves[:2]] == ["blocked", "present"]


async def test_what_keeps_failing_waits_behind_what_is_due(desk: Desk) -> None:
    ann = await desk.trial("ann@example.com")
    desk.now += timedelta(seconds=1)
    bob = await desk.trial("bob@example.com")
    await desk.fail("mc-eu1", ann.line_id)
    batch = await desk.open_batch("mc-eu1")
    assert [item.line_id for item in batch.halves] == [bob.line_id, ann.line_id]
    desk.now += timedelta(minutes=1)
    batch = await desk.open_batch("mc-eu1")
    assert [item.line_id for item in batch.halves] == [ann.line_id, bob.line_id]


async def test_a_proof_brings_a_half_in_step_and_the_other_half_stays_as_it_is(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.prove("mc-eu1")
    proven = await half(desk, ann.line_id)
    assert (proven.state, proven.proven, proven.attempts, proven.behind_since) == (HalfState.APPLIED, 1, 1, None)
    proof = proven.proof()
    assert proof is not None
    assert (proof.revision, proof.state, proof.proven_at) == (1, HalfState.APPLIED, START)
    other = await half(desk, ann.line_id, "os-eu1")
    assert (other.state, other.proven, other.proof()) == (HalfState.PENDING, 0, None)


async def test_a_half_without_access_is_removed_whether_blocked_or_ended(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.prove("mc-eu1")
    await desk.block(ann.username)
    behind = await half(desk, ann.line_id)
    assert (behind.state, behind.proven_state, behind.wanted, behind.proven) == (
        HalfState.PENDING,
        HalfState.APPLIED,
        2,
        1,
    )
    await desk.prove("mc-eu1")
    assert (await half(desk, ann.line_id)).state is HalfState.REMOVED
    desk.now = ann.ends_at
    await desk.end(ann)
    await desk.prove("mc-eu1")
    assert (await half(desk, ann.line_id)).state is HalfState.REMOVED


async def test_a_proof_of_an_older_revision_counts_but_leaves_the_half_behind(desk: Desk) -> None:
    ann = await desk.trial()
    batch = await desk.open_batch("mc-eu1")
    await desk.block(ann.username)
    await desk.close_batch(batch)
    behind = await half(desk, ann.line_id)
    assert (behind.state, behind.wanted, behind.proven) == (HalfState.PENDING, 2, 1)
    (item,) = (await desk.open_batch("mc-eu1")).halves
    assert (item.revision, item.state) == (2, "blocked")


async def test_what_was_proven_never_goes_back(desk: Desk) -> None:
    ann = await desk.trial()
    first = await desk.prove("mc-eu1")
    await desk.block(ann.username)
    await desk.prove("mc-eu1")
    before = await half(desk, ann.line_id)
    batch = await desk.open_batch("mc-eu1")
    async with desk.ledger.write() as tx:
        old = [proof_of(item) for item in first.halves]
        await halves.close_batch(tx, "mc-eu1", batch.token, old, now=desk.now + HOUR)
    assert await half(desk, ann.line_id) == before


async def test_tokens_grow_and_each_host_has_its_own(desk: Desk) -> None:
    tokens = [(await desk.open_batch("mc-eu1")).token for _ in range(3)]
    assert tokens == [FenceToken(epoch=1, n=1), FenceToken(epoch=1, n=2), FenceToken(epoch=1, n=3)]
    assert (await desk.open_batch("os-eu1")).token == FenceToken(epoch=1, n=1)
    assert FenceToken(epoch=2, n=1) > FenceToken(epoch=1, n=9)


async def test_a_worker_whose_batch_was_followed_by_another_records_nothing(desk: Desk) -> None:
    ann = await desk.trial()
    slow, fast = await desk.open_batch("mc-eu1"), await desk.open_batch("mc-eu1")
    assert slow.halves == fast.halves
    with pytest.raises(StaleToken):
        await desk.close_batch(slow)
    assert (await half(desk, ann.line_id)).proven == 0
    await desk.close_batch(fast)
    assert (await half(desk, ann.line_id)).proven == 1


async def test_a_host_that_is_removed_and_comes_back_goes_on_with_its_tokens(desk: Desk) -> None:
    await desk.open_batch("mc-eu1")
    await desk.sync(Pairing(name="us1", region="us"))
    await desk.sync(Pairing(name="eu1"))
    assert (await desk.open_batch("mc-eu1")).token == FenceToken(epoch=1, n=2)


async def test_a_failure_is_told_and_forgotten_with_the_next_proof(desk: Desk) -> None:
    ann = await desk.trial()
    for _ in range(2):
        await desk.fail("mc-eu1", ann.line_id)
    failing = await half(desk, ann.line_id)
    assert failing.receipt() == HalfReceipt(
        host="mc-eu1",
        protocol="multics",
        state=HalfState.FAILING,
        revision=0,
        attempts=2,
        last_error="ConnectionLost",
        next_attempt=START + timedelta(seconds=30),
    )
    await desk.prove("mc-eu1")
    receipt = (await half(desk, ann.line_id)).receipt()
    assert (receipt.state, receipt.attempts) == (HalfState.APPLIED, 3)
    assert (receipt.last_error, receipt.next_attempt) == (None, None)


async def test_a_failure_of_what_was_proven_meanwhile_says_nothing(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.prove("mc-eu1")
    before = await half(desk, ann.line_id)
    await desk.fail("mc-eu1", ann.line_id)
    assert await half(desk, ann.line_id) == before


async def test_a_new_revision_does_not_hide_that_the_host_is_failing(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.fail("mc-eu1", ann.line_id)
    await desk.renew(ann.username)
    failing = await half(desk, ann.line_id)
    assert (failing.state, failing.last_error, failing.attempts) == (HalfState.FAILING, "ConnectionLost", 0)


async def test_a_half_that_was_given_up_stays_so_until_it_is_proven(desk: Desk) -> None:
    ann = await desk.trial()
    async with desk.ledger.write() as tx:
        row = await tx.session.get(models.Half, (ann.line_id, "mc-eu1"))
        assert row is not None
        row.state = HalfState.ABANDONED
    await desk.fail("mc-eu1", ann.line_id)
    assert (await half(desk, ann.line_id)).state is HalfState.ABANDONED
    await desk.prove("mc-eu1")
    assert (await half(desk, ann.line_id)).state is HalfState.APPLIED


async def test_a_host_is_down_from_its_first_failure_to_its_next_batch(desk: Desk) -> None:
    async def down_since() -> object:
        return next(host.down_since for host in await desk.rows(models.Host) if host.name == "mc-eu1")

    ann = await desk.trial()
    await desk.fail("mc-eu1", ann.line_id, host_down=False)
    assert await down_since() is None
    await desk.fail("mc-eu1", ann.line_id)
    desk.now += HOUR
    await desk.fail("mc-eu1", ann.line_id)
    assert await down_since() == START
    await desk.prove("mc-eu1")
    assert await down_since() is None


async def test_a_host_that_answers_is_up_again_unless_a_half_waits_for_it(desk: Desk) -> None:
    async def stands() -> tuple[object, object]:
        (row,) = [host for host in await desk.rows(models.Host) if host.name == "mc-eu1"]
        return row.down_since, row.attention

    async def answers() -> None:
        async with desk.ledger.write() as tx:
            await halves.note_well(tx, "mc-eu1")

    ann = await desk.trial()
    await desk.prove("mc-eu1")
    # A Reconcile found it away, and nothing is left to be tried there.
    await desk.fail("mc-eu1", code="HostKeyMismatch", host_asks=True)
    assert await stands() == (START, "HostKeyMismatch")
    await answers()
    assert await stands() == (None, None)
    await desk.renew(ann.username)
    await desk.fail("mc-eu1", ann.line_id)
    await answers()
    assert await stands() == (START, None)
    # One that waits for a person is in no batch.
    async with desk.ledger.write() as tx:
        await halves.stop_half(tx, "mc-eu1", ann.line_id, revision=2, code="RecordConflict")
    await answers()
    assert await stands() == (None, None)


async def test_an_error_code_is_no_sentence(desk: Desk) -> None:
    async with desk.ledger.write() as tx:
        with pytest.raises(ValueError, match="not an error code") as refusal:
            await halves.report_failure(
                tx, "mc-eu1", [], code="550 no such user ann@", now=START, next_attempt=None, host_down=False
            )
    assert "ann" not in str(refusal.value)


async def test_a_batch_larger_than_a_statement_may_be_is_recorded_whole(desk: Desk) -> None:
    for number in range(3):
        await desk.trial(f"{number}@example.com")
    batch = await desk.open_batch("mc-eu1")
    others = [ProvenHalf(line_id=f"unknown-{n}", revision=1, state=HalfState.APPLIED) for n in range(1200)]
    proofs = [proof_of(item) for item in batch.halves]
    results = [proofs[0], *others[:600], proofs[1], *others[600:], proofs[2]]
    async with desk.ledger.write() as tx:
        await halves.close_batch(tx, "mc-eu1", batch.token, results, now=desk.now)
    assert (await desk.open_batch("mc-eu1")).halves == ()


async def test_no_proof_is_taken_of_what_was_never_wanted(desk: Desk) -> None:
    ann = await desk.trial()
    batch = await desk.open_batch("mc-eu1")
    never = ProvenHalf(line_id=ann.line_id, revision=2, state=HalfState.APPLIED)
    with pytest.raises(ValueError, match="was ever wanted"):
        async with desk.ledger.write() as tx:
            await halves.close_batch(tx, "mc-eu1", batch.token, [never], now=desk.now)
    with pytest.raises(ValueError, match="failing"):
        ProvenHalf(line_id=ann.line_id, revision=1, state=HalfState.FAILING)


async def test_the_names_of_a_host_are_all_that_were_ever_ours_there(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1"), Pairing(name="us1", region="us"))
    ann = await desk.trial("ann@example.com")
    bob = await desk.trial("bob@example.com", region="us")
    desk.now = ann.ends_at + DAY
    await desk.end(ann)
    async with desk.ledger.read() as tx:
        assert await halves.managed_usernames(tx, "mc-eu1") == {ann.username}
        assert await halves.managed_usernames(tx, "os-us1") == {bob.username}


async def test_a_host_that_the_ledger_does_not_know_is_refused_and_its_halves_are_left_out(desk: Desk) -> None:
    ann = await desk.trial()
    with pytest.raises(Misconfigured, match='host "mars"'):
        await desk.open_batch("mars")
    async with desk.ledger.read() as tx:
        assert await halves.host_progress(tx, "mars", [ann.line_id]) == {}
        assert set(await halves.host_progress(tx, "mc-eu1", [ann.line_id, "unknown"])) == {ann.line_id}
        both = await halves.line_progress(tx, ann.line_id)
    assert [item.protocol for item in both] == ["multics", "oscam"]


async def test_a_name_is_absent_from_a_host_once_that_is_wanted_and_proven(desk: Desk) -> None:
    lines = [await desk.trial(f"{name}@example.com") for name in ("ann", "bob", "cid")]
    ann, bob, cid = lines
    desk.now = ann.ends_at
    await desk.end(ann)
    await desk.block(bob.username)

    async def absent() -> frozenset[str]:
        names = [line.username for line in lines] + ["foreign"] * 600
        async with desk.ledger.read() as tx:
            return await halves.absent_usernames(tx, "mc-eu1", names)

    assert await absent() == set()
    await desk.prove("mc-eu1")
    assert await absent() == {ann.username}
    desk.now = cid.ends_at
    await desk.end(cid)
    assert await absent() == {ann.username}
