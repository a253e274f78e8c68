"""What waits for a person: at its half or at its host, until when, and what it costs others meanwhile."""

from datetime import timedelta

import pytest

from tests.ledger.support import HOUR, Desk, Pairing, proof_of
from twinline.errors import UnknownLine
from twinline.ledger import halves, models
from twinline.ledger.halves import HalfProgress
from twinline.ledger.stuck import AskingHost, asking_hosts
from twinline.messages import HalfState

MULTICS, OSCAM = "mc-eu1", "os-eu1"


async def half(desk: Desk, line_id: str, host: str = MULTICS) -> HalfProgress:
    async with desk.ledger.read() as tx:
        return (await halves.host_progress(tx, host, [line_id]))[line_id]


async def behind(desk: Desk, host: str = MULTICS) -> set[str]:
    """Whom a batch would take."""
    return {item.line_id for item in (await desk.open_batch(host)).halves}


async def host_row(desk: Desk, name: str = MULTICS) -> models.Host:
    (row,) = [row for row in await desk.rows(models.Host) if row.name == name]
    return row


async def test_a_half_that_waits_for_a_person_is_in_no_batch_of_its_host(desk: Desk) -> None:
    ann, bob = await desk.trial("ann@example.com"), await desk.trial("bob@example.com")
    await desk.stop(MULTICS, ann.line_id)
    assert await behind(desk) == {bob.line_id}
    assert await behind(desk, OSCAM) == {ann.line_id, bob.line_id}
    assert (await half(desk, ann.line_id)).attention == "RecordConflict"
    assert (await half(desk, ann.line_id, OSCAM)).attention is None


async def test_asked_for_again_it_is_in_the_next_batch(desk: Desk) -> None:
    ann, bob = await desk.trial("ann@example.com"), await desk.trial("bob@example.com")
    await desk.stop(MULTICS, ann.line_id)
    await desk.stop(MULTICS, bob.line_id)
    assert await desk.ask_again(MULTICS, ann.line_id)
    assert await behind(desk) == {ann.line_id}


async def test_a_look_before_its_time_changes_nothing_and_at_its_time_all_on_the_host_go_along(desk: Desk) -> None:
    ann, bob, cid = [await desk.trial(f"{name}@example.com") for name in ("ann", "bob", "cid")]
    for line in (ann, bob):
        await desk.stop(MULTICS, line.line_id)
    desk.now += timedelta(minutes=5)
    await desk.stop(MULTICS, cid.line_id)
    assert not await desk.ask_again(MULTICS, ann.line_id, due_only=True)
    assert await behind(desk) == set()
    desk.now += timedelta(minutes=5)
    assert await desk.ask_again(MULTICS, ann.line_id, due_only=True)
    assert await behind(desk) == {ann.line_id, bob.line_id, cid.line_id}


async def test_a_newer_revision_is_tried_at_once(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.prove(MULTICS)
    await desk.renew(ann.username)
    await desk.stop(MULTICS, ann.line_id, revision=2)
    assert await behind(desk) == set()
    await desk.block(ann.username)
    assert await behind(desk) == {ann.line_id}
    assert (await half(desk, ann.line_id)).attention is None


async def test_a_failure_of_an_older_revision_stops_no_newer_one(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.open_batch(MULTICS)
    await desk.block(ann.username)
    await desk.stop(MULTICS, ann.line_id, revision=1)
    assert await behind(desk) == {ann.line_id}


async def test_a_proof_ends_the_waiting(desk: Desk) -> None:
    ann = await desk.trial()
    batch = await desk.open_batch(MULTICS)
    await desk.stop(MULTICS, ann.line_id)
    await desk.close_batch(batch)
    proven = await half(desk, ann.line_id)
    assert (proven.state, proven.attention, proven.next_attempt) == (HalfState.APPLIED, None, None)
    await desk.stop(MULTICS, ann.line_id)
    assert (await half(desk, ann.line_id)).attention is None


async def test_a_host_that_needs_a_person_marks_no_line_and_is_well_again_with_the_first_batch(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.fail(MULTICS, ann.line_id, code="HostKeyMismatch", host_asks=True)
    assert (await host_row(desk)).attention == "HostKeyMismatch"
    assert (await half(desk, ann.line_id)).attention is None
    batch = await desk.open_batch(MULTICS)
    assert [item.line_id for item in batch.halves] == [ann.line_id]
    await desk.close_batch(batch, only=())
    row = await host_row(desk)
    assert (row.attention, row.down_since) == (None, None)


async def test_the_last_word_about_a_host_counts_and_it_is_down_since_the_first(desk: Desk) -> None:
    ann = await desk.trial()
    since = desk.now
    await desk.fail(MULTICS, ann.line_id, code="HostKeyMismatch", host_asks=True)
    desk.now += HOUR
    await desk.fail(MULTICS, ann.line_id, code="HostUnreachable")
    row = await host_row(desk)
    assert (row.attention, row.down_since) == (None, since)


async def test_what_a_person_asks_for_is_due_at_once_and_that_is_kept(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.stop(MULTICS, ann.line_id)
    await desk.stop(OSCAM, ann.line_id)
    async with desk.ledger.write() as tx:
        await halves.retry_halves(tx, ann.line_id, actor="olga", now=desk.now)
    for host in (MULTICS, OSCAM):
        assert await desk.ask_again(host, ann.line_id, due_only=True)
    assert await behind(desk) == await behind(desk, OSCAM) == {ann.line_id}
    event = (await desk.rows(models.Event))[-1]
    assert (event.who, event.what, event.line_id) == ("olga", "half.retried", ann.line_id)


async def test_an_abandoned_half_stays_so_through_failures_and_the_event_keeps_who_and_why(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.fail(MULTICS, ann.line_id)
    for _ in range(2):
        await desk.abandon(MULTICS, ann.line_id, actor="olga", reason="the box was sold")
    await desk.fail(MULTICS, ann.line_id)
    given_up = await half(desk, ann.line_id)
    assert (given_up.state, given_up.last_error) == (HalfState.ABANDONED, "ConnectionLost")
    (event,) = [event for event in await desk.rows(models.Event) if event.what == "half.abandoned"]
    assert (event.who, event.why, event.line_id) == ("olga", "the box was sold", ann.line_id)
    assert event.before is not None
    assert '"failing"' in event.before


async def test_an_abandoned_half_is_repaired_by_a_later_batch_unless_it_waits_for_a_person(desk: Desk) -> None:
    ann, bob = await desk.trial("ann@example.com"), await desk.trial("bob@example.com")
    await desk.stop(MULTICS, bob.line_id)
    for line in (ann, bob):
        await desk.abandon(MULTICS, line.line_id)
    batch = await desk.prove(MULTICS)
    assert [item.line_id for item in batch.halves] == [ann.line_id]
    assert (await half(desk, ann.line_id)).state is HalfState.APPLIED
    assert (await half(desk, bob.line_id)).state is HalfState.ABANDONED
    await desk.ask_again(MULTICS, bob.line_id)
    await desk.prove(MULTICS)
    assert (await half(desk, bob.line_id)).state is HalfState.APPLIED


async def test_a_half_in_step_cannot_be_abandoned(desk: Desk) -> None:
    ann = await desk.trial()
    batch = await desk.prove(MULTICS)
    assert [proof_of(item).state for item in batch.halves] == [HalfState.APPLIED]
    await desk.abandon(MULTICS, ann.line_id)
    assert (await half(desk, ann.line_id)).state is HalfState.APPLIED


async def test_a_line_or_half_that_there_is_not_is_refused(desk: Desk) -> None:
    ann = await desk.trial()
    with pytest.raises(UnknownLine):
        await desk.abandon("mars", ann.line_id)
    with pytest.raises(UnknownLine):
        await desk.ask_again("mars", ann.line_id)


async def test_what_is_no_code_is_not_kept(desk: Desk) -> None:
    ann = await desk.trial()
    with pytest.raises(ValueError, match="not an error code"):
        await desk.stop(MULTICS, ann.line_id, code="ann@example.com is odd")


async def note_clock(desk: Desk, *, wrong: bool, host: str = MULTICS) -> None:
    async with desk.ledger.write() as tx:
        await halves.note_host(tx, host, code="ClocksApart", wrong=wrong, now=desk.now)


async def test_a_host_whose_clock_is_off_gets_no_new_lines_until_it_is_right(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1"), Pairing(name="eu2", capacity=500))
    await note_clock(desk, wrong=True)
    assert {(await desk.view((await desk.purchase(f"{n}@example.com")).username)).pair for n in range(3)} == {"eu2"}
    (one,) = await asking(desk)
    assert (one.host, one.reason, one.since) == (MULTICS, "ClocksApart", desk.now)
    await note_clock(desk, wrong=False)
    assert (await host_row(desk)).down_since is None
    assert await asking(desk) == ()


async def test_a_right_clock_ends_no_other_trouble_of_the_host(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.fail(MULTICS, ann.line_id, code="HostKeyMismatch", host_asks=True)
    await note_clock(desk, wrong=False)
    row = await host_row(desk)
    assert (row.attention, row.down_since) == ("HostKeyMismatch", desk.now)
    # Somebody waits for this one, so it is told with him.
    assert await asking(desk) == ()


async def asking(desk: Desk) -> tuple[AskingHost, ...]:
    async with desk.ledger.read() as tx:
        return await asking_hosts(tx)
