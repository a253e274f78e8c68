"""The blast guard: recorded removals pass however many there are, others stop above the limit."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import insert

from tests.ledger.support import HOUR, Desk, lose_grants
from twinline.ledger import guard, models
from twinline.ledger.rules import BLAST_FLOOR, LineState, Told, blast, explained
from twinline.messages import BlockOwner, HalfState, Recorded

HOSTS = ("mc-eu1", "os-eu1")
STATES: Sequence[LineState] = ("present", "blocked", "absent")
told = st.builds(
    Told,
    revision=st.integers(1, 4),
    state=st.sampled_from(STATES),
    left=st.frozensets(st.sampled_from(HOSTS)),
)


@given(events=st.lists(told, max_size=5), revision=st.integers(1, 4), state=st.sampled_from(STATES))
def test_only_an_event_of_this_very_revision_and_state_explains(
    events: list[Told], revision: int, state: LineState
) -> None:
    here = [(each.revision, "absent" if "mc-eu1" in each.left else each.state) for each in events]
    assert explained(host="mc-eu1", revision=revision, state=state, told=events) is ((revision, state) in here)


@pytest.mark.parametrize(
    ("served", "allowed"), [(0, 20), (100, 20), (400, 20), (419, 20), (420, 21), (1_000, 50), (5_000, 250)]
)
def test_the_guard_lets_through_twenty_or_one_in_twenty(served: int, allowed: int) -> None:
    assert not blast(unexplained=allowed, served=served)
    assert blast(unexplained=allowed + 1, served=served)


async def served_lines(desk: Desk, count: int) -> list[Recorded]:
    """Trials that both hosts were seen to hold."""
    trials = await desk.trials(count)
    for host in HOSTS:
        await desk.prove(host)
    return trials


async def crowd(desk: Desk, host: str, count: int) -> None:
    """Further lines that a host serves; quicker than as many orders, and nothing of them is looked at."""
    names = [f"crowd{number:04}" for number in range(count)]
    line = {"password_sealed": b"", "email_sealed": b"", "person_hash": b"", "pair": "eu1", "created_at": desk.now}
    half = {"host": host, "protocol": "multics", "wanted": 1, "proven": 1, "proven_state": HalfState.APPLIED}
    async with desk.ledger.write() as tx:
        rows = [{"id": name, "username": name, "username_casefold": name, "revision": 1, **line} for name in names]
        await tx.session.exec(insert(models.Line).values(rows))
        await tx.session.exec(insert(models.Half).values([{"line_id": name, **half} for name in names]))


async def noted(desk: Desk) -> list[str | None]:
    """Lines whose unexplained removal was let through, in order."""
    return [event.line_id for event in await desk.rows(models.Event) if event.what == guard.UNEXPLAINED]


async def test_trials_that_end_together_all_end(sqlite_desk: Desk) -> None:
    # Many lines are what matters here, and a file is twice as fast with them.
    trials = await served_lines(sqlite_desk, 3 * BLAST_FLOOR)
    sqlite_desk.now = trials[0].ends_at
    await sqlite_desk.end_all(trials)
    for host in HOSTS:
        batch = await sqlite_desk.prove(host)
        assert (len(batch.halves), batch.withheld) == (3 * BLAST_FLOOR, {})
    assert await noted(sqlite_desk) == []


async def test_whatever_takes_access_away_by_the_rules_is_explained(desk: Desk) -> None:
    lines = await served_lines(desk, BLAST_FLOOR + 1)
    blocked, ended, late = lines[:7], lines[7:14], lines[14:]
    for line in blocked:
        await desk.block(line.username)
        await desk.block(line.username, case="second", owner=BlockOwner.PAYMENT)
        await desk.renew(line.username)
        await desk.unblock(line.username)
    for line in late:
        await desk.start_late(line)
        await desk.block(line.username)
        desk.now += timedelta(seconds=1)
    desk.now = ended[0].ends_at
    for line in ended:
        await desk.renew(line.username, days=1)
        await desk.block(line.username)
    batch = await desk.open_batch("mc-eu1")
    assert {half.line_id for half in batch.halves} == {line.line_id for line in lines}
    assert batch.withheld == {}
    assert await noted(desk) == []


async def test_nothing_of_the_unexplained_is_handed_out_above_the_limit_and_everything_else_is(desk: Desk) -> None:
    lines = await served_lines(desk, BLAST_FLOOR + 5)
    lost, ended, kept = lines[: BLAST_FLOOR + 1], lines[-2], lines[-1]
    await lose_grants(desk, lost)
    desk.now = ended.ends_at
    await desk.end(ended)
    await desk.renew(kept.username)
    fresh = await desk.trial("fresh@example.com")
    for _ in range(2):
        batch = await desk.open_batch("mc-eu1")
        assert batch.withheld.keys() == {line.line_id for line in lost}
        assert {half.line_id for half in batch.halves} == {ended.line_id, kept.line_id, fresh.line_id}
    assert len((await desk.open_batch("mc-eu1", limit=2)).halves) == 2
    assert await noted(desk) == []


async def test_a_few_unexplained_removals_pass_and_are_counted_for_an_hour(desk: Desk) -> None:
    lines = await served_lines(desk, BLAST_FLOOR + 4)
    await lose_grants(desk, lines[: BLAST_FLOOR - 1])
    batch = await desk.open_batch("mc-eu1")
    assert len(batch.halves) == BLAST_FLOOR - 1
    # Handed out again because nothing was proven: still the same removals.
    assert len((await desk.open_batch("mc-eu1")).halves) == BLAST_FLOOR - 1
    assert len(await noted(desk)) == BLAST_FLOOR - 1
    await desk.prove("mc-eu1")

    desk.now += HOUR / 2
    await lose_grants(desk, lines[BLAST_FLOOR - 1 : BLAST_FLOOR + 1])
    batch = await desk.open_batch("mc-eu1")
    assert (batch.halves, len(batch.withheld)) == ((), 2)
    # The other host counts for itself.
    assert (await desk.open_batch("os-eu1")).withheld.keys() == {line.line_id for line in lines[: BLAST_FLOOR + 1]}

    desk.now += HOUR
    assert len((await desk.prove("mc-eu1")).halves) == 2
    assert len(await noted(desk)) == BLAST_FLOOR + 1


async def test_a_large_host_may_lose_one_in_twenty(desk: Desk) -> None:
    lines = await served_lines(desk, 23)
    await crowd(desk, "mc-eu1", 440 - len(lines))
    await lose_grants(desk, lines[:22])
    assert len((await desk.open_batch("mc-eu1")).halves) == 22
    await lose_grants(desk, lines[22:])
    assert len((await desk.open_batch("mc-eu1")).withheld) == 23


async def test_whom_the_host_no_longer_serves_nobody_counts(desk: Desk) -> None:
    lines = await served_lines(desk, BLAST_FLOOR + 1)
    for line in lines:
        await desk.block(line.username)
    await desk.prove("mc-eu1")
    await lose_grants(desk, lines)
    batch = await desk.open_batch("mc-eu1")
    assert (len(batch.halves), batch.withheld) == (BLAST_FLOOR + 1, {})


async def test_a_ledger_that_is_put_right_goes_on(desk: Desk) -> None:
    lines = await served_lines(desk, BLAST_FLOOR + 1)
    await lose_grants(desk, lines)
    assert len((await desk.open_batch("mc-eu1")).withheld) == BLAST_FLOOR + 1
    for line in lines:
        await desk.renew(line.username)
    batch = await desk.prove("mc-eu1")
    assert {half.state for half in batch.halves} == {"present"}
    assert batch.withheld == {}


async def test_a_line_that_its_host_lost_is_handed_out_again_at_the_same_revision(desk: Desk) -> None:
    lost, ended, gone, other = await served_lines(desk, 4)
    desk.now = ended.ends_at
    await desk.end(ended)
    await lose_grants(desk, [gone])
    for host in HOSTS:
        await desk.prove(host)
    assert await noted(desk) == [gone.line_id] * 2
    also = frozenset({lost.line_id, ended.line_id, gone.line_id, "nobody"})
    batch = await desk.open_batch("mc-eu1", also=also)
    assert {(half.line_id, half.state, half.revision) for half in batch.halves} == {
        (lost.line_id, "present", 1),
        (ended.line_id, "absent", 2),
        (gone.line_id, "absent", 2),
    }
    before = await desk.view(lost.username)
    await desk.close_batch(batch)
    assert await desk.view(lost.username) == before
    assert (await desk.view(other.username)).halves[0].state is HalfState.APPLIED
