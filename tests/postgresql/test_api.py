"""The HTTP API with its ledger on PostgreSQL, where its transactions run side by side with the workers'."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from starter.api.cursors import closed
from starter.client import Twinline
from starter.desk import Desk
from tests.api.conftest import EVERYTHING, Api, Reply, new_token, served
from tests.postgresql.conftest import LEDGER
from tests.support.postgresql import Cluster
from twinline.keys import KeyRing
from twinline.ledger import Ledger, tokens
from twinline.sandbox.world import World
from twinline.tokens import NewToken, Scope

MANY = 3
"""At once; each holds a thread, and the world needs some of the few that there are."""


async def test_orders_lists_events_and_the_trial_door(world: World, twinline: Twinline, cluster: Cluster) -> None:
    ledger = await Ledger.open(cluster.url(LEDGER), keys=KeyRing.load(Path(world.env["TWINLINE_KEYS"])))
    try:
        async with served(Desk(ledger, twinline)) as port:
            shop = Api(port, await new_token(ledger, NewToken(caller="pg-shop", scopes=EVERYTHING, reseller=True)))
            door_token = NewToken(caller="pg-door", scopes=frozenset({Scope.TRIALS_CREATE}))
            door = Api(port, await new_token(ledger, door_token))
            await _sells(shop)
            await _lets_one_in(door)
        async with ledger.read() as tx:
            listed = await tokens.list_tokens(tx, now=datetime.now(UTC))
        assert {token.caller for token in listed.tokens if token.last_used_at is not None} >= {"pg-shop", "pg-door"}
    finally:
        await ledger.close()


async def _sells(shop: Api) -> None:
    body: dict[str, object] = {"order": "PG-1", "email": "pg@example.com", "region": "eu", "days": 30}
    same = await asyncio.gather(*(_done(shop, "/v1/purchases", body) for _ in range(MANY)))
    assert len({reply.json["receipt"]["line"] for reply in same}) == 1
    line = same[0].json["receipt"]["username"]
    await _done(shop, "/v1/purchases", {**body, "order": "PG-2", "email": "pg2@example.com"})
    names = [each["username"] async for page in shop.pages("/v1/lines?limit=1") for each in page["lines"]]
    assert (len(names), line in names) == (2, True)
    await _done(shop, "/v1/orders/PG-1/cancel", {"reason": "Refunded."})
    events = (await shop.get(f"/v1/lines/{line}/events?limit=1")).json
    older = (await shop.get(f"/v1/lines/{line}/events?cursor={events['cursor']}")).json
    assert {"line.opened", "order.cancelled"} <= {each["what"] for each in events["events"] + older["events"]}
    # Neither bytes that PostgreSQL has no place for nor a number beyond its own reach it.
    for path in ("/v1/lines/%00", "/v1/orders/%00"):
        assert (await shop.get(path)).status == 404
    for number in (2**31, 2**63, 10**17):
        assert (await shop.get(f"/v1/lines/{line}/events?cursor={closed(str(number))}")).problem == "InvalidOrder"


async def _done(shop: Api, path: str, body: dict[str, object]) -> Reply:
    """Send the same until it is done, which on a busy machine takes its time."""
    while True:
        reply = await shop("POST", path, body, Prefer="wait=60")
        assert reply.status in (200, 201, 202), reply.body
        if reply.json["done"]:
            return reply


async def _lets_one_in(door: Api) -> None:
    """Of many neighbours that ask at once."""
    replies = await asyncio.gather(
        *(
            door.post(
                "trials", order=f"D-{n}", email=f"pg-door{n}@example.com", region="eu", client_address=f"203.0.113.{n}"
            )
            for n in range(MANY)
        )
    )
    assert sorted(reply.status for reply in replies) == [202] + [429] * (MANY - 1), [reply.body for reply in replies]
