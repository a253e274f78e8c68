"""Temporal is down while a grant ends: the end comes late, once, and by whichever of Term and sweep is first."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

from sqlmodel import col, update

from tests.reconcile.conftest import HOSTS, House
from twinline.ledger import models
from twinline.messages import (
    ORDERS_QUEUE,
    HalfState,
    NameOf,
    TermDecision,
    TermStart,
    term_workflow_id,
)

SHORT = timedelta(seconds=4)


async def test_an_end_that_comes_while_temporal_is_down_is_carried_out_once_as_soon_as_it_is_back(
    house: House,
) -> None:
    lines = await house.served(4)
    watching = await house.sessions(lines)
    ends_at = datetime.now(UTC) + SHORT
    ours = {line.grant_id for line in lines}
    async with house.desk.ledger.write() as tx:
        await tx.session.exec(update(models.Grant).where(col(models.Grant.id).in_(ours)).values(ends_at=ends_at))
    for line in lines[2:]:
        # The others have nobody but the sweep.
        await house.client.start_workflow(
            NameOf.TERM,
            TermStart(line_id=line.line_id, grant_id=line.grant_id or "", ends_at=ends_at),
            id=term_workflow_id(line.line_id, line.grant_id or ""),
            task_queue=ORDERS_QUEUE,
        )

    await house.world.temporal.kill()
    await asyncio.sleep(max((ends_at - datetime.now(UTC)).total_seconds(), 0.0))
    # Nothing of ours moves, and the daemons' own dates are later: nobody is early.
    await asyncio.gather(*(session.ping() for session in watching))
    assert {row.ending for row in await house.desk.rows(models.Grant) if row.id in ours} == {None}
    await house.world.temporal.start()

    terms = [
        house.client.get_workflow_handle(
            term_workflow_id(line.line_id, line.grant_id or ""), result_type=TermDecision
        ).result()
        for line in lines[2:]
    ]
    _, decisions = await asyncio.gather(
        asyncio.gather(*(house.reconcile(host) for host in HOSTS)), asyncio.gather(*terms)
    )

    assert [decision.outcome for decision in decisions] == ["ended", "ended"]
    async with asyncio.timeout(30):
        await asyncio.gather(*(session.closed.wait() for session in watching))
    ids = {line.line_id for line in lines}
    events = [event for event in await house.desk.rows(models.Event) if event.line_id in ids]
    assert Counter(
        event.line_id for event in events if event.what in ("grant.ended", "grant.unserved")
    ) == dict.fromkeys(ids, 1)
    for line in lines:
        view = await house.desk.view(line.username)
        assert (view.state, view.revision) == ("absent", line.revision + 1)
        assert [half.state for half in view.halves] == [HalfState.REMOVED, HalfState.REMOVED]
