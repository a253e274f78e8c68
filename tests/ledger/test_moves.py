"""Moves: the new pair first, the old one untouched until the break, and everything else reaching all four halves."""

import pytest
import pytest_asyncio
from sqlmodel import update

from tests.ledger.support import DAY, HOUR, Desk, Pairing, proof_of
from twinline.errors import (
    LineClosed,
    LineEnded,
    Misconfigured,
    MoveRunning,
    OrderConflict,
    PairFull,
    SamePair,
    TwinlineError,
    UnknownPair,
)
from twinline.ledger import guard, halves, mails, models
from twinline.ledger.queries import holdings
from twinline.messages import (
    GRACE,
    TRIAL_LENGTH,
    CloseOrder,
    HalfState,
    MoveOrder,
    PasswordOrder,
    Recorded,
    TrialOrder,
)

OLD = ("mc-eu1", "os-eu1")
NEW = ("mc-us1", "os-us1")
ALL = ("mc-eu1", "mc-us1", "os-eu1", "os-us1")
EU, US = Pairing(name="eu1"), Pairing(name="us1", region="us")


@pytest_asyncio.fixture
async def line(desk: Desk) -> Recorded:
    """A line that is served by `eu1`; there is a pair `us1` too."""
    await desk.sync(EU, US)
    trial = await desk.trial()
    for host in OLD:
        await desk.prove(host)
    return trial


async def states(desk: Desk, username: str) -> dict[str, str]:
    """What each host must hold by the next batch, and "-" for hosts that are in step."""
    wanted = {half.host: "-" for half in (await desk.view(username)).halves}
    for host in wanted:
        for half in (await desk.open_batch(host)).halves:
            wanted[host] = half.state
    return wanted


async def ready(desk: Desk, username: str) -> Recorded:
    """A move whose new pair is proven, with the old one kept for a day."""
    moved = await desk.move(username, "us1")
    for host in NEW:
        await desk.prove(host)
    await desk.keep_old_pair(moved)
    return moved


async def gone(desk: Desk, username: str) -> Recorded:
    """A move that is over."""
    moved = await ready(desk, username)
    assert (await desk.break_move(moved)).outcome == "broken"
    for host in ALL:
        await desk.prove(host)
    return moved


async def refused(desk: Desk, username: str, pair: str, condition: type[TwinlineError]) -> TwinlineError:
    before = (len(await desk.rows(models.Event)), await desk.rows(models.Half))
    with pytest.raises(condition) as refusal:
        await desk.move(username, pair)
    assert (len(await desk.rows(models.Event)), await desk.rows(models.Half)) == before
    return refusal.value


async def test_a_trial_that_the_old_pair_never_served_begins_with_the_new_one(desk: Desk) -> None:
    await desk.sync(EU, US)
    trial = await desk.trial()
    desk.now += 5 * HOUR
    moved = await desk.move(trial.username, "us1")
    for host in NEW:
        await desk.prove(host)
    ready_at = desk.now
    await desk.keep_old_pair(moved)
    assert (await desk.view(trial.username)).ends_at == ready_at + TRIAL_LENGTH

    desk.now += HOUR
    # The old pair comes back and proves that it does not hold the line: that begins nothing.
    assert (await desk.start_late(trial)).ends_at == ready_at + TRIAL_LENGTH
    await desk.keep_old_pair(moved)
    assert (await desk.view(trial.username)).ends_at == ready_at + TRIAL_LENGTH


async def test_a_trial_that_was_served_before_or_moves_within_the_grace_keeps_its_end(
    desk: Desk, line: Recorded
) -> None:
    desk.now += 5 * HOUR
    await ready(desk, line.username)
    assert (await desk.view(line.username)).ends_at == line.ends_at

    soon = await desk.trial("bob@example.com")
    desk.now += GRACE / 2
    await ready(desk, soon.username)
    assert (await desk.view(soon.username)).ends_at == soon.ends_at


async def test_a_move_asks_the_new_hosts_only(desk: Desk, line: Recorded) -> None:
    moved = await desk.move(line.username, "us1")
    assert moved.revision == line.revision
    assert [(half.host, half.leaving) for half in moved.halves] == [(host, host in OLD) for host in ALL]
    view = await desk.view(line.username)
    assert (view.pair, view.region) == ("us1", "us")
    assert await states(desk, line.username) == {**dict.fromkeys(OLD, "-"), **dict.fromkeys(NEW, "present")}


async def test_after_the_break_the_old_hosts_must_hold_nothing(desk: Desk, line: Recorded) -> None:
    moved = await ready(desk, line.username)
    assert set((await states(desk, line.username)).values()) == {"-"}
    broken = await desk.break_move(moved)
    assert (broken.outcome, broken.revision) == ("broken", moved.revision + 1)
    assert await states(desk, line.username) == {**dict.fromkeys(OLD, "absent"), **dict.fromkeys(NEW, "present")}
    async with desk.ledger.read() as tx:
        for host, state in [("mc-eu1", "absent"), ("os-us1", "present")]:
            (held,) = await halves.held_on(tx, host)
            (holding,) = await holdings(tx, host)
            assert (held.half.state, held.half.ends_at) == (state, line.ends_at if state == "present" else None)
            assert (holding.state, holding.mark) == (state, held.half.mark)
            assert (await halves.lines_named(tx, host, [line.username]))[line.username].state == state
            assert await halves.managed_usernames(tx, host) == {line.username}


async def test_what_the_break_takes_away_has_its_reason_in_the_events(desk: Desk, line: Recorded) -> None:
    moved = await ready(desk, line.username)
    await desk.break_move(moved)
    await desk.renew(line.username)
    for host in ALL:
        assert len((await desk.prove(host)).halves) == 1
    # A record that somebody puts back on an old host is taken off for the same reason.
    again = await desk.open_batch("mc-eu1", also=frozenset({line.line_id}))
    assert [half.state for half in again.halves] == ["absent"]
    assert guard.UNEXPLAINED not in {event.what for event in await desk.rows(models.Event)}


async def test_a_half_that_somebody_marks_as_left_without_an_event_is_unexplained(desk: Desk, line: Recorded) -> None:
    await ready(desk, line.username)
    async with desk.ledger.write() as tx:
        await tx.session.exec(update(models.Half).values(left_at=desk.now, wanted=models.Half.wanted + 1))
        await tx.session.exec(update(models.Line).values(revision=models.Line.revision + 1))
    await desk.open_batch("mc-eu1")
    assert guard.UNEXPLAINED in {event.what for event in await desk.rows(models.Event)}


async def test_a_proof_of_before_the_break_does_not_count_after_it(desk: Desk, line: Recorded) -> None:
    moved = await ready(desk, line.username)
    await desk.renew(line.username)
    batch = await desk.open_batch("mc-eu1")
    await desk.break_move(moved)
    await desk.close_batch(batch)
    half = next(half for half in (await desk.view(line.username)).halves if half.host == "mc-eu1")
    assert (half.state, half.proven_state, half.proven) == (HalfState.PENDING, HalfState.APPLIED, half.wanted - 1)


async def test_the_name_of_a_moved_line_is_scrubbed_once_its_absence_is_proven(desk: Desk, line: Recorded) -> None:
    async def scrubbed(host: str) -> frozenset[str]:
        async with desk.ledger.read() as tx:
            return await halves.absent_usernames(tx, host, [line.username])

    await desk.break_move(await ready(desk, line.username))
    assert await scrubbed("mc-eu1") == frozenset()
    for host in ALL:
        await desk.prove(host)
    assert [bool(await scrubbed(host)) for host in ALL] == [True, False, True, False]


async def test_a_break_that_comes_again_answers_the_same_and_changes_nothing(desk: Desk, line: Recorded) -> None:
    moved = await ready(desk, line.username)
    first = await desk.break_move(moved)
    before = await desk.rows(models.Half)
    desk.now += HOUR
    assert await desk.break_move(moved) == first
    assert await desk.call_off_move(moved) == first
    assert await desk.rows(models.Half) == before


async def test_until_when_the_old_pair_is_kept_is_said_once(desk: Desk, line: Recorded) -> None:
    moved = await desk.move(line.username, "us1")
    until = await desk.keep_old_pair(moved)
    assert until == desk.now + DAY
    desk.now += HOUR
    assert await desk.keep_old_pair(moved) == until


async def test_nothing_is_broken_while_no_new_host_serves(desk: Desk, line: Recorded) -> None:
    moved = await desk.move(line.username, "us1")
    assert (await desk.break_move(moved)).outcome == "later"
    await desk.prove("os-us1")
    await desk.fail("os-us1", line.line_id)
    assert (await desk.break_move(moved)).outcome == "later"
    assert (await desk.view(line.username)).revision == moved.revision
    await desk.prove("os-us1")
    assert (await desk.break_move(moved)).outcome == "broken"


async def test_a_block_in_the_overlap_reaches_all_four_and_stays_after_the_break(desk: Desk, line: Recorded) -> None:
    moved = await ready(desk, line.username)
    blocked = await desk.block(line.username)
    assert [half.host for half in blocked.halves] == list(ALL)
    assert set((await states(desk, line.username)).values()) == {"blocked"}
    for host in ALL:
        await desk.prove(host)
    await desk.break_move(moved)
    # "Refused" is not "gone": what was proven as blocked is asked for again.
    assert await states(desk, line.username) == {**dict.fromkeys(OLD, "absent"), **dict.fromkeys(NEW, "blocked")}
    await desk.unblock(line.username)
    assert await states(desk, line.username) == {**dict.fromkeys(OLD, "absent"), **dict.fromkeys(NEW, "present")}


@pytest.mark.parametrize("how", ["the end", "close"])
async def test_a_line_that_is_over_in_the_overlap_is_gone_from_all_four(desk: Desk, line: Recorded, how: str) -> None:
    moved = await ready(desk, line.username)
    if how == "close":
        over = await desk.take(CloseOrder(order="close", line=line.username))
    else:
        desk.now = line.ends_at
        over = await desk.end(line)
    assert [half.host for half in over.halves] == list(ALL)
    for host in ALL:
        assert [half.state for half in (await desk.prove(host)).halves] == ["absent"]
    broken = await desk.break_move(moved)
    assert (broken.outcome, broken.revision) == ("broken", over.revision), "the hosts hold the same as before"
    assert set((await states(desk, line.username)).values()) == {"-"}


async def test_a_renewal_after_the_break_leaves_the_old_pair_alone(desk: Desk, line: Recorded) -> None:
    await gone(desk, line.username)
    renewed = await desk.renew(line.username)
    assert [half.host for half in renewed.halves] == list(NEW)
    assert await states(desk, line.username) == {**dict.fromkeys(OLD, "-"), **dict.fromkeys(NEW, "present")}
    view = await desk.view(line.username)
    assert {half.host: half.state for half in view.halves if half.host in OLD} == dict.fromkeys(OLD, HalfState.REMOVED)
    assert {half.wanted for half in view.halves} == {view.revision}


async def test_an_old_half_that_is_not_proven_gone_is_part_of_later_orders(desk: Desk, line: Recorded) -> None:
    await desk.break_move(await ready(desk, line.username))
    for host in ("os-eu1", *NEW):
        await desk.prove(host)
    blocked = await desk.block(line.username)
    assert [half.host for half in blocked.halves] == ["mc-eu1", *NEW]
    assert [half.state for half in (await desk.prove("mc-eu1")).halves] == ["absent"]


async def test_an_old_half_that_was_given_up_holds_up_no_later_order(desk: Desk, line: Recorded) -> None:
    await desk.break_move(await ready(desk, line.username))
    await desk.fail("mc-eu1", line.line_id)
    await desk.abandon("mc-eu1", line.line_id)
    renewed = await desk.renew(line.username)
    assert [half.host for half in renewed.halves] == ["mc-us1", "os-eu1", "os-us1"]
    half = next(half for half in (await desk.view(line.username)).halves if half.host == "mc-eu1")
    assert (half.state, half.proven < half.wanted) == (HalfState.ABANDONED, True)
    # It is repaired all the same as soon as its host takes a batch.
    assert [half.state for half in (await desk.prove("mc-eu1")).halves] == ["absent"]
    view = await desk.view(line.username)
    assert next(half.state for half in view.halves if half.host == "mc-eu1") is HalfState.REMOVED


async def test_a_late_start_after_the_break_is_reached_by_the_old_halves_too(desk: Desk) -> None:
    await desk.sync(EU, US)
    trial = await desk.trial()
    await gone(desk, trial.username)
    desk.now += HOUR
    late = await desk.start_late(trial)
    async with desk.ledger.read() as tx:
        for host in OLD:
            known = await halves.host_progress(tx, host, [trial.line_id])
            assert known[trial.line_id].proven == late.revision, "who drives the old halves must not wait for ever"


async def test_a_line_moves_back_and_its_hosts_are_asked_anew(desk: Desk, line: Recorded) -> None:
    moved = await gone(desk, line.username)
    before = (await desk.view(line.username)).revision
    back = await desk.move(line.username, "eu1")
    assert back.revision == before + 1 > moved.revision
    assert [(half.host, half.leaving) for half in back.halves] == [(host, host in NEW) for host in ALL]
    assert set((await states(desk, line.username)).values()) == {"present"}
    assert (await desk.break_move(moved)).outcome == "broken", "a late repeat of the first move breaks nothing"
    assert set((await states(desk, line.username)).values()) == {"present"}
    for host in ALL:
        await desk.prove(host)
    await desk.break_move(back)
    assert await states(desk, line.username) == {**dict.fromkeys(OLD, "present"), **dict.fromkeys(NEW, "absent")}


async def test_no_move_back_onto_a_host_that_is_not_proven_to_have_dropped_the_line(desk: Desk, line: Recorded) -> None:
    await desk.break_move(await ready(desk, line.username))
    for host in ("os-eu1", *NEW):
        await desk.prove(host)
    error = await refused(desk, line.username, "eu1", MoveRunning)
    assert "mc-eu1" in error.message


async def test_a_move_that_was_called_off_leaves_the_line_where_it_was(desk: Desk, line: Recorded) -> None:
    moved = await desk.move(line.username, "us1")
    for host in NEW:
        await desk.fail(host, line.line_id)
        await desk.abandon(host, line.line_id)
    off = await desk.call_off_move(moved)
    assert (off.outcome, off.revision) == ("called_off", moved.revision + 1)
    assert await desk.break_move(moved) == off
    assert (await desk.view(line.username)).pair == "eu1"
    assert await states(desk, line.username) == {**dict.fromkeys(OLD, "present"), **dict.fromkeys(NEW, "absent")}
    renewed = await desk.renew(line.username)
    assert [(half.host, half.leaving) for half in renewed.halves] == [(host, False) for host in OLD]


async def test_two_moves_at_once(desk: Desk, line: Recorded) -> None:
    await desk.sync(EU, US, Pairing(name="eu2"))
    moved = await desk.move(line.username, "us1")
    error = await refused(desk, line.username, "eu2", MoveRunning)
    assert error.retryable
    assert '"o-2" of caller "cli"' in error.message
    for host in NEW:
        await desk.prove(host)
    await desk.break_move(moved)
    further = await desk.move(line.username, "eu2")
    assert [half.host for half in further.halves if half.leaving] == ["mc-eu1", *NEW[:1], "os-eu1", *NEW[1:]]


async def test_the_same_move_twice_is_one(desk: Desk, line: Recorded) -> None:
    order = MoveOrder(order="m", line=line.username, pair="us1")
    assert await desk.take(order) == await desk.take(order)
    with pytest.raises(OrderConflict):
        await desk.take(order.model_copy(update={"overlap_hours": 1.0}))


async def test_moves_that_can_not_be(desk: Desk, line: Recorded) -> None:
    error = await refused(desk, line.username, "us9", UnknownPair)
    assert "eu1, us1" in error.hint
    await refused(desk, line.username, "eu1", SamePair)
    await desk.sync(EU, Pairing(name="us1", region="us", capacity=1))
    await desk.trial("cid@example.com", region="us")
    assert (await refused(desk, line.username, "us1", PairFull)).retryable
    desk.now = line.ends_at
    await desk.end(line)
    await refused(desk, line.username, "us1", LineEnded)
    await desk.take(CloseOrder(order="close", line=line.username))
    await refused(desk, line.username, "us1", LineClosed)


async def test_a_line_that_moves_takes_room_on_both_pairs_until_the_break(desk: Desk, line: Recorded) -> None:
    await desk.sync(Pairing(name="eu1", capacity=1), Pairing(name="us1", region="us", capacity=1))
    moved = await ready(desk, line.username)
    for region in ("eu", "us"):
        with pytest.raises(TwinlineError, match="is full"):
            await desk.take(TrialOrder(order=desk.ref(), email="cid@example.com", region=region))
    await desk.break_move(moved)
    await desk.trial("cid@example.com", region="eu")


async def test_the_inventory_keeps_the_old_pair_until_the_line_is_gone_from_it(desk: Desk, line: Recorded) -> None:
    moved = await ready(desk, line.username)
    for _ in range(2):
        with pytest.raises(Misconfigured, match='pair "eu1" is missing'):
            await desk.sync(US)
        await desk.break_move(moved)
    for host in ALL:
        await desk.prove(host)
    await desk.sync(US)
    assert {half.host for half in (await desk.view(line.username)).halves} == set(NEW)


async def test_mails_tell_of_the_pair_that_the_customer_knows(desk: Desk, line: Recorded) -> None:
    async def told() -> tuple[list[str], bool, bool]:
        async with desk.ledger.read() as tx:
            facts = await mails.mail_facts(tx, line.line_id, ref="x")
        return [half.host for half in facts.halves], facts.old_until is not None, facts.old_serves

    moved = await desk.move(line.username, "us1")
    await desk.take(PasswordOrder(order="pw", line=line.username))
    assert await told() == (list(OLD), False, True)
    for host in NEW:
        await desk.prove(host)
    await desk.keep_old_pair(moved)
    assert await told() == (list(NEW), True, True)
    await desk.break_move(moved)
    assert await told() == (list(NEW), False, False)
    assert proof_of((await desk.open_batch("mc-eu1")).halves[0]).state is HalfState.REMOVED
