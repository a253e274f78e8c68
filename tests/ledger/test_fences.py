"""Beginning a new epoch after the ledger was restored from a backup."""

import json

import pytest

from tests.ledger.support import Desk, proof_of
from twinline.errors import Misconfigured
from twinline.ledger import fences, halves, models
from twinline.ledger.fences import FenceToken


@pytest.mark.parametrize(
    ("seen", "begun"),
    [
        (FenceToken(epoch=1, n=500), FenceToken(epoch=2, n=0)),
        (FenceToken(epoch=7, n=3), FenceToken(epoch=8, n=0)),
        (FenceToken(epoch=0, n=0), FenceToken(epoch=2, n=0)),
    ],
)
async def test_a_new_epoch_is_above_what_ledger_and_host_have_seen(
    desk: Desk, seen: FenceToken, begun: FenceToken
) -> None:
    for _ in range(3):
        await desk.open_batch("mc-eu1")
    async with desk.ledger.write() as tx:
        assert await fences.refence(tx, {"mc-eu1": seen}, who="cli", now=desk.now) == {"mc-eu1": begun}
    assert (await desk.open_batch("mc-eu1")).token > max(seen, FenceToken(epoch=1, n=3))
    assert (await desk.open_batch("os-eu1")).token == FenceToken(epoch=1, n=1)
    (event,) = [event for event in await desk.rows(models.Event) if event.what == "host.refenced"]
    assert (event.who, event.why, event.line_id) == ("cli", "mc-eu1", None)
    assert json.loads(event.before or "") == {"epoch": 1, "n": 3}
    assert json.loads(event.after or "") == {"epoch": begun.epoch, "n": 0}


async def test_a_batch_of_before_can_prove_nothing_afterwards(desk: Desk) -> None:
    await desk.trial()
    batch = await desk.open_batch("mc-eu1")
    async with desk.ledger.write() as tx:
        await fences.refence(tx, {"mc-eu1": batch.token}, who="cli", now=desk.now)
    async with desk.ledger.write() as tx:
        with pytest.raises(halves.StaleToken):
            await halves.close_batch(tx, "mc-eu1", batch.token, [proof_of(half) for half in batch.halves], now=desk.now)


async def test_either_all_hosts_begin_a_new_epoch_or_none(desk: Desk) -> None:
    seen = {host: FenceToken(epoch=4, n=4) for host in ("mc-eu1", "nowhere")}
    with pytest.raises(Misconfigured, match="nowhere"):
        async with desk.ledger.write() as tx:
            await fences.refence(tx, seen, who="cli", now=desk.now)
    assert (await desk.open_batch("mc-eu1")).token == FenceToken(epoch=1, n=1)
