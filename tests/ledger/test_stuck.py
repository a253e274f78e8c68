"""Which halves wait for a person, and who waits for them."""

from datetime import timedelta

from sqlalchemy import event

from tests.ledger.support import HOUR, Desk, Pairing
from twinline.ledger import models
from twinline.ledger.stuck import LateHost, StuckHalf, late_hosts, stuck_halves, waiting_workflows
from twinline.messages import HalfState, Recorded, term_workflow_id

MULTICS, OSCAM = "mc-eu1", "os-eu1"


async def stuck(desk: Desk, *, host: str | None = None, username: str | None = None) -> tuple[StuckHalf, ...]:
    async with desk.ledger.read() as tx:
        return await stuck_halves(tx, host=host, username=username)


async def waiting(desk: Desk, line_id: str) -> tuple[str, ...]:
    async with desk.ledger.read() as tx:
        return await waiting_workflows(tx, line_id)


async def test_only_halves_that_wait_for_a_person_are_stuck(desk: Desk) -> None:
    ann, bob = await desk.trial("ann@example.com"), await desk.trial("bob@example.com")
    assert await stuck(desk) == ()
    await desk.fail(MULTICS, bob.line_id)
    await desk.stop(MULTICS, ann.line_id)
    (one,) = await stuck(desk)
    assert (one.username, one.host, one.reason, one.of_the_host) == (ann.username, MULTICS, "RecordConflict", False)
    assert one.since == desk.now
    assert [(order.order, order.kind, order.workflow_id) for order in one.orders] == [("o-1", "trial", "trial/cli/o-1")]
    assert await stuck(desk, host=OSCAM) == await stuck(desk, username=bob.username) == ()
    assert await stuck(desk, host=MULTICS, username=ann.username.upper()) == (one,)


async def test_a_host_that_needs_a_person_stops_all_that_is_behind_there_until_a_batch_gets_through(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1"), Pairing(name="us1", region="us"))
    ann, bob = await desk.trial("ann@example.com"), await desk.trial("bob@example.com")
    await desk.trial("cid@example.com", region="us")
    await desk.fail(MULTICS, ann.line_id, code="HostKeyMismatch", host_asks=True)
    found = await stuck(desk)
    assert {(one.username, one.reason, one.of_the_host) for one in found} == {
        (ann.username, "HostKeyMismatch", True),
        (bob.username, "HostKeyMismatch", True),
    }
    await desk.prove(MULTICS)
    assert await stuck(desk) == ()


async def test_what_was_given_up_stays_on_the_list_until_it_is_repaired(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.fail(OSCAM, ann.line_id)
    await desk.abandon(OSCAM, ann.line_id)
    (one,) = await stuck(desk)
    assert (one.state, one.reason) == (HalfState.ABANDONED, "ConnectionLost")
    await desk.prove(OSCAM)
    assert await stuck(desk) == ()


async def test_only_who_waits_for_that_half_is_named(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.prove(MULTICS)
    desk.now += HOUR
    await desk.renew(ann.username)
    await desk.stop(MULTICS, ann.line_id, revision=2)
    await desk.stop(OSCAM, ann.line_id, revision=2)
    multics, oscam = sorted(await stuck(desk), key=lambda one: one.host)
    assert [order.order for order in multics.orders] == ["o-2"]
    assert [order.order for order in oscam.orders] == ["o-1", "o-2"]
    assert await waiting(desk, ann.line_id) == ("renewal/cli/o-2", "trial/cli/o-1")


async def test_a_trial_that_starts_late_waits_for_its_later_revision(desk: Desk) -> None:
    ann = await desk.trial()
    desk.now += HOUR
    await desk.prove(MULTICS)
    await desk.start_late(ann)
    await desk.stop(MULTICS, ann.line_id, revision=2)
    (one,) = await stuck(desk)
    assert [order.order for order in one.orders] == ["o-1"]


async def test_an_end_is_carried_out_by_its_term(desk: Desk) -> None:
    ann = await desk.trial()
    for host in (MULTICS, OSCAM):
        await desk.prove(host)
    desk.now = ann.ends_at + timedelta(seconds=1)
    await desk.end(ann)
    await desk.stop(OSCAM, ann.line_id, revision=2)
    (one,) = await stuck(desk)
    assert ann.grant_id is not None
    assert (one.orders, one.terms) == ((), (term_workflow_id(ann.line_id, ann.grant_id),))
    assert await waiting(desk, ann.line_id) == one.terms


async def late(desk: Desk, *, after: timedelta = timedelta(0), host: str | None = None) -> tuple[LateHost, ...]:
    async with desk.ledger.read() as tx:
        return await late_hosts(tx, before=desk.now - after, host=host)


async def test_what_waits_for_a_host_that_is_down_is_late_at_once_and_the_rest_after_a_while(desk: Desk) -> None:
    ann, bob = await desk.trial("ann@example.com"), await desk.trial("bob@example.com")
    assert await late(desk, after=HOUR) == ()
    began = desk.now
    await desk.fail(MULTICS, ann.line_id, code="HostUnreachable", host_down=True)
    (down,) = await late(desk, after=HOUR)
    assert (down.host, down.protocol, down.down_since, down.reason) == (MULTICS, "multics", began, "HostUnreachable")
    assert (down.halves, down.since, {order.order for order in down.orders}) == (2, began, {"o-1", "o-2"})
    assert await late(desk, after=HOUR, host=OSCAM) == ()

    desk.now += HOUR
    multics, oscam = await late(desk, after=HOUR)
    assert multics == down
    assert (oscam.host, oscam.down_since, oscam.reason, oscam.halves) == (OSCAM, None, None, 2)
    # Who waits for a person, or was given up, is told elsewhere.
    await desk.stop(OSCAM, ann.line_id)
    await desk.fail(OSCAM, bob.line_id, host_down=False)
    await desk.abandon(OSCAM, bob.line_id)
    assert await late(desk) == (down,)
    await desk.prove(MULTICS)
    assert await late(desk) == ()


async def test_all_that_are_late_are_counted_and_no_more_are_read_than_are_told(desk: Desk) -> None:
    began = desk.now
    trials: list[Recorded] = []
    for number in range(4):
        trials.append(await desk.trial(f"{number}@example.com"))
        desk.now += HOUR
    await desk.fail(MULTICS, *(trial.line_id for trial in trials))
    loaded: list[object] = []

    def note_half(half: object, _: object) -> None:
        loaded.append(half)

    async with desk.ledger.read() as tx:
        event.listen(models.Half, "load", note_half)
        try:
            found = await late_hosts(tx, before=desk.now, limit=2)
        finally:
            event.remove(models.Half, "load", note_half)

    assert [(each.host, each.halves, each.since) for each in found] == [(MULTICS, 4, began), (OSCAM, 4, began)]
    # The first two of each host.
    assert {order.order for each in found for order in each.orders} == {"o-1", "o-2"}
    assert len(loaded) == 4


async def test_a_host_that_is_down_is_told_though_nothing_waits_for_it(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.fail(MULTICS, ann.line_id, host_down=True)
    await desk.abandon(MULTICS, ann.line_id)
    (down,) = await late(desk, after=HOUR)
    assert (down.host, down.halves, down.orders, down.since) == (MULTICS, 0, (), None)
    await desk.fail(MULTICS, ann.line_id, code="HostKeyMismatch", host_asks=True)
    assert await late(desk, after=HOUR) == ()


async def test_ends_of_lines_that_are_late_are_told_too(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.prove(MULTICS)
    await desk.prove(OSCAM)
    desk.now = ann.ends_at
    await desk.end(ann)
    assert ann.grant_id is not None
    assert [each.terms for each in await late(desk)] == [(term_workflow_id(ann.line_id, ann.grant_id),)] * 2
