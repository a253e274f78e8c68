"""What short looks at hosts leave in the ledger, and what they may say about a host that others know better."""

from datetime import timedelta

import pytest
from sqlmodel import select

from tests.ledger.support import START, Desk
from tests.ledger.test_attention import MULTICS, OSCAM, host_row
from twinline.ledger import halves, looks, models
from twinline.ledger.looks import FORGOTTEN_AT_ONCE, KEPT

OF = ("HostUnreachable", "StatusTrouble", "HostKeyMismatch")
"""What a look can tell about."""
MINUTE = timedelta(minutes=1)


async def stands(desk: Desk) -> tuple[object, ...]:
    row = await host_row(desk)
    return row.down_since, row.down_code, row.attention


async def away(desk: Desk, code: str = "HostUnreachable", *, asks: bool = False) -> None:
    async with desk.ledger.write() as tx:
        since = desk.now - MINUTE
        await halves.note_away(tx, MULTICS, code=code, since=since, host_asks=asks, of=OF)


async def well(desk: Desk) -> None:
    async with desk.ledger.write() as tx:
        await halves.note_well(tx, MULTICS, of=OF)


async def test_a_host_is_down_since_it_was_first_seen_away_and_until_it_is_seen_well(desk: Desk) -> None:
    await away(desk)
    desk.now += timedelta(hours=1)
    await away(desk, "HostKeyMismatch", asks=True)
    assert await stands(desk) == (START - MINUTE, "HostKeyMismatch", "HostKeyMismatch")
    await away(desk, "StatusTrouble")
    assert await stands(desk) == (START - MINUTE, "StatusTrouble", None)
    await well(desk)
    assert await stands(desk) == (None, None, None)


async def test_what_only_a_batch_can_see_is_not_said_to_be_over(desk: Desk) -> None:
    async with desk.ledger.write() as tx:
        await halves.report_failure(
            tx, MULTICS, [], code="ShrunkenFile", now=desk.now, next_attempt=None, host_down=True, host_asks=True
        )
    await away(desk)
    await well(desk)
    assert await stands(desk) == (START, "ShrunkenFile", "ShrunkenFile")
    async with desk.ledger.write() as tx:
        await halves.note_host(tx, MULTICS, code="ClocksApart", wrong=True, now=desk.now)
    await well(desk)
    assert await stands(desk) == (START, "ClocksApart", "ClocksApart")


async def test_while_a_half_waits_only_a_batch_says_that_its_host_is_well(desk: Desk) -> None:
    line = await desk.trial()
    await desk.fail(MULTICS, line.line_id)
    await well(desk)
    assert (await stands(desk))[0] == desk.now
    await desk.prove(MULTICS)
    assert await stands(desk) == (None, None, None)


async def look(desk: Desk, code: str | None = None, host: str = MULTICS) -> bool:
    async with desk.ledger.write() as tx:
        return await looks.keep_look(tx, host, at=desk.now, code=code, seconds=0.25)


async def test_looks_are_kept_for_a_month_and_forgotten_a_few_at_a_time(desk: Desk) -> None:
    async with desk.ledger.write() as tx:
        for number in range(FORGOTTEN_AT_ONCE + 2):
            old = START - KEPT - timedelta(seconds=number + 1)
            tx.session.add(models.HealthSample(host=MULTICS, at=old, seconds=0.1))
        tx.session.add(models.HealthSample(host=OSCAM, at=START - 2 * KEPT, seconds=0.1))
        tx.session.add(models.HealthSample(host=MULTICS, at=START - KEPT + MINUTE, seconds=0.1))
    for left in (5, 4):
        assert await look(desk)
        async with desk.ledger.read() as tx:
            kept = (await tx.session.exec(select(models.HealthSample.at))).all()
        assert len(kept) == left
        assert START - KEPT + MINUTE in kept
        desk.now += timedelta(microseconds=1)


async def test_since_when_a_host_answers_and_since_when_not(desk: Desk) -> None:
    for code in (None, "StatusTrouble", "HostUnreachable", None, None):
        await look(desk, code)
        desk.now += MINUTE
    await look(desk, "StatusTrouble", OSCAM)
    async with desk.ledger.read() as tx:
        found = await looks.last_looks(tx, [MULTICS, OSCAM, "us-none"])
        lately = await looks.looks_at(tx, MULTICS, since=START + 2 * MINUTE)
    assert {host: (each.last.code, each.since) for host, each in found.items()} == {
        MULTICS: (None, START + 3 * MINUTE),
        OSCAM: ("StatusTrouble", START + 5 * MINUTE),
    }
    assert found[MULTICS].last.at == START + 4 * MINUTE
    assert [each.code for each in lately] == ["HostUnreachable", None, None]


async def test_a_look_at_a_host_that_left_the_inventory_is_not_kept(desk: Desk) -> None:
    assert not await look(desk, host="us-left")
    assert await desk.rows(models.HealthSample) == []


async def test_a_sentence_is_not_kept_as_a_code(desk: Desk) -> None:
    with pytest.raises(ValueError, match="not an error code"):
        await look(desk, "password is hunter2")
