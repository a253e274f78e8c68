"""When a grant's time begins late, and when it ends."""

from datetime import timedelta

import pytest

from tests.ledger.support import DAY, HOUR, START, Desk, Pairing
from twinline.errors import UnknownLine
from twinline.ledger import models, terms

INSTANT = timedelta(microseconds=1)


async def test_a_grant_does_not_end_before_its_time(desk: Desk) -> None:
    trial = await desk.trial()
    desk.now = trial.ends_at - INSTANT
    decision = await desk.end(trial)
    assert (decision.outcome, decision.ends_at) == ("later", trial.ends_at)
    assert (await desk.view(trial.username)).state == "present"


async def test_the_last_grant_ends_the_line_and_the_answer_stays(desk: Desk) -> None:
    trial = await desk.trial()
    desk.now = trial.ends_at
    decision = await desk.end(trial)
    assert (decision.outcome, decision.revision, decision.halves) == ("ended", 2, trial.halves)
    view = await desk.view(trial.username)
    assert (view.state, view.revision, view.ends_at) == ("absent", 2, trial.ends_at)
    assert view.grants[0].ended_at == desk.now

    events = len(await desk.rows(models.Event))
    desk.now += DAY
    await desk.renew(trial.username)
    assert await desk.end(trial) == decision
    assert (await desk.view(trial.username)).state == "present"
    assert len(await desk.rows(models.Event)) == events + 1


async def test_a_grant_that_another_outlives_ends_silently(desk: Desk) -> None:
    trial = await desk.trial()
    bought = await desk.renew(trial.username, days=1)
    desk.now = trial.ends_at
    for _ in range(2):
        decision = await desk.end(trial)
        assert (decision.outcome, decision.revision, decision.halves) == ("overtaken", 0, ())
        view = await desk.view(trial.username)
        assert (view.state, view.revision, view.plan) == ("present", bought.revision, "paid")
    desk.now = bought.ends_at
    assert (await desk.end(bought)).outcome == "ended"


@pytest.mark.parametrize("before", [HOUR, INSTANT, timedelta(0)])
async def test_a_renewal_that_was_placed_before_an_end_and_recorded_after_it_loses_no_time(
    desk: Desk, before: timedelta
) -> None:
    trial = await desk.trial()
    desk.now = trial.ends_at
    await desk.end(trial)
    desk.now = trial.ends_at - before
    renewed = await desk.renew(trial.username, days=1)
    assert renewed.ends_at == trial.ends_at + DAY
    assert (await desk.view(trial.username)).state == "present"


async def test_a_late_term_of_an_earlier_grant_does_not_bring_an_ended_line_back(desk: Desk) -> None:
    trial = await desk.trial()
    bought = await desk.renew(trial.username, days=1)
    desk.now = bought.ends_at
    assert (await desk.end(bought)).outcome == "ended"
    assert (await desk.view(trial.username)).state == "absent"
    assert (await desk.end(trial)).outcome == "overtaken"
    view = await desk.view(trial.username)
    assert (view.state, [grant.ending for grant in view.grants]) == ("absent", ["overtaken", "unserved"])


async def test_the_end_of_a_blocked_line_removes_it(desk: Desk) -> None:
    trial = await desk.trial()
    await desk.block(trial.username)
    desk.now = trial.ends_at
    assert (await desk.end(trial)).revision == 3
    assert (await desk.view(trial.username)).state == "absent"


async def test_a_trial_starts_at_its_first_proof_once(desk: Desk) -> None:
    trial = await desk.trial()
    desk.now = START + 5 * HOUR
    late = await desk.start_late(trial)
    assert (late.moved, late.ends_at, late.revision) == (True, START + 53 * HOUR, 2)
    desk.now = START + 7 * HOUR
    assert await desk.start_late(trial) == late
    view = await desk.view(trial.username)
    assert (view.ends_at, view.revision) == (START + 53 * HOUR, 2)

    desk.now = trial.ends_at
    decision = await desk.end(trial)
    assert (decision.outcome, decision.ends_at) == ("later", START + 53 * HOUR)
    desk.now = decision.ends_at
    assert (await desk.end(trial)).outcome == "ended"


async def test_a_trial_that_was_bought_or_has_ended_or_is_no_trial_is_not_moved(desk: Desk) -> None:
    bought = await desk.trial("ann@example.com")
    await desk.renew(bought.username)
    ended = await desk.trial("bob@example.com")
    paid = await desk.purchase("cid@example.com", days=1)
    desk.now = ended.ends_at
    await desk.end(ended)
    for recorded in (bought, ended, paid):
        before = await desk.view(recorded.username)
        late = await desk.start_late(recorded)
        assert (late.moved, late.ends_at) == (False, recorded.ends_at)
        assert await desk.view(recorded.username) == before


async def test_a_trial_never_gets_shorter(desk: Desk) -> None:
    trial = await desk.trial()
    desk.now = START - HOUR
    late = await desk.start_late(trial)
    assert (late.moved, late.ends_at) == (False, trial.ends_at)


async def test_a_grant_or_line_that_the_ledger_does_not_know_is_refused(desk: Desk) -> None:
    trial = await desk.trial()
    for unknown in (trial.model_copy(update={"grant_id": "none"}), trial.model_copy(update={"line_id": "none"})):
        with pytest.raises(UnknownLine):
            await desk.end(unknown)
        with pytest.raises(UnknownLine):
            await desk.start_late(unknown)


async def test_grants_past_their_end_are_found_host_by_host_until_somebody_ends_them(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1"), Pairing(name="us1", region="us"))
    first = await desk.trial("ann@example.com")
    desk.now += HOUR
    second, elsewhere = await desk.trial("bob@example.com"), await desk.trial("cid@example.com", region="us")

    async def overdue(host: str, limit: int = 10) -> list[str]:
        async with desk.ledger.read() as tx:
            return [term.grant_id for term in await terms.overdue(tx, host, now=desk.now, limit=limit)]

    desk.now = first.ends_at - INSTANT
    assert await overdue("mc-eu1") == []
    desk.now = first.ends_at
    assert await overdue("mc-eu1") == await overdue("os-eu1") == [first.grant_id]
    desk.now = second.ends_at
    assert await overdue("mc-eu1") == [first.grant_id, second.grant_id]
    assert await overdue("mc-eu1", limit=1) == [first.grant_id]
    assert await overdue("os-us1") == [elsewhere.grant_id]
    await desk.end(first)
    assert await overdue("mc-eu1") == [second.grant_id]
