"""Taking over the inventory: what may change under lines, and what may not."""

import pytest

from tests.ledger.support import Desk, Pairing, an_inventory
from twinline.errors import Misconfigured
from twinline.inventory import Inventory
from twinline.ledger import models, setup

EU = Pairing(name="eu1")


async def sync(desk: Desk, inventory: Inventory) -> None:
    async with desk.ledger.write() as tx:
        await setup.sync_inventory(tx, inventory, now=desk.now)


async def declared(desk: Desk) -> tuple[set[str], dict[str, tuple[str, str, str, int]]]:
    """Hosts, and pairs with what is known of them."""
    pairs = await desk.rows(models.Pair)
    hosts = {host.name for host in await desk.rows(models.Host)}
    return hosts, {pair.name: (pair.region, pair.multics, pair.oscam, pair.capacity) for pair in pairs}


async def test_the_ledger_follows_the_inventory(desk: Desk) -> None:
    await desk.sync(EU, Pairing(name="us1", region="us"))
    hosts, pairs = await declared(desk)
    assert hosts == {"mc-eu1", "os-eu1", "mc-us1", "os-us1"}
    assert pairs["us1"] == ("us", "mc-us1", "os-us1", 1000)
    await desk.sync(Pairing(name="us1", region="west", capacity=7))
    assert await declared(desk) == ({"mc-us1", "os-us1"}, {"us1": ("west", "mc-us1", "os-us1", 7)})


async def test_the_same_inventory_again_changes_nothing(desk: Desk) -> None:
    before = (await declared(desk), len(await desk.rows(models.Event)))
    await desk.sync(EU)
    assert (await declared(desk), len(await desk.rows(models.Event))) == before


async def test_what_changes_leaves_events(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1", capacity=7))
    await desk.sync(Pairing(name="us1", region="us"))
    whats = [event.what for event in await desk.rows(models.Event)]
    assert whats.count("host.added") == 4
    assert [what for what in whats if what.startswith("pair")] == [
        "pair.added",
        "pair.changed",
        "pair.removed",
        "pair.added",
    ]
    assert whats.count("host.removed") == 2


async def test_a_host_does_not_change_its_daemon(desk: Desk) -> None:
    inventory = an_inventory(EU)
    swapped = [
        host.model_copy(update={"protocol": "oscam" if host.protocol == "multics" else "multics"})
        for host in inventory.hosts
    ]
    with pytest.raises(Misconfigured, match=r'host "(mc|os)-eu1": protocol') as refusal:
        await sync(desk, inventory.model_copy(update={"hosts": tuple(swapped)}))
    assert "name of its own" in refusal.value.hint


async def test_a_pair_with_lines_does_not_disappear(desk: Desk) -> None:
    ann = await desk.trial()
    desk.now = ann.ends_at
    await desk.end(ann)
    before = await declared(desk)
    with pytest.raises(Misconfigured, match='pair "eu1" is missing') as refusal:
        await desk.sync(Pairing(name="us1", region="us"))
    assert "Put it back" in refusal.value.hint
    assert await declared(desk) == before


async def test_a_pair_with_lines_does_not_change_its_hosts_but_may_change_its_capacity(desk: Desk) -> None:
    await desk.trial()
    inventory = an_inventory(EU, Pairing(name="us1", region="us"))
    crossed = [
        pair.model_copy(update={"oscam": "os-us1" if pair.name == "eu1" else "os-eu1"}) for pair in inventory.pairs
    ]
    before = await declared(desk)
    with pytest.raises(Misconfigured, match='pair "eu1": its hosts are mc-eu1 and os-us1'):
        await sync(desk, inventory.model_copy(update={"pairs": tuple(crossed)}))
    assert await declared(desk) == before
    await desk.sync(Pairing(name="eu1", capacity=1))
    assert (await declared(desk))[1]["eu1"][3] == 1


async def test_a_pair_without_lines_may_change_its_hosts(desk: Desk) -> None:
    inventory = an_inventory(EU, Pairing(name="us1", region="us"))
    crossed = [
        pair.model_copy(update={"oscam": "os-us1" if pair.name == "eu1" else "os-eu1"}) for pair in inventory.pairs
    ]
    await sync(desk, inventory.model_copy(update={"pairs": tuple(crossed)}))
    assert (await declared(desk))[1]["eu1"][2] == "os-us1"


async def test_a_host_with_halves_does_not_disappear_even_without_its_pair(desk: Desk) -> None:
    ann = await desk.trial()
    await desk.sync(EU, Pairing(name="us1", region="us"))
    async with desk.ledger.write() as tx:
        line = await tx.session.get(models.Line, ann.line_id)
        assert line is not None
        line.pair = "us1"
        await tx.session.flush()
        await tx.session.delete(await tx.session.get_one(models.Pair, "eu1"))
    with pytest.raises(Misconfigured, match="lines live on them: mc-eu1, os-eu1"):
        await desk.sync(Pairing(name="us1", region="us"))
