"""The trial door: once per person, a few per range of addresses, and no answer that tells who is a customer."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from starter.desk import Desk
from starter.trial_door import ACCEPTED, TrialRules
from tests.api.conftest import Api, Reply, Shop, new_token, served
from twinline.errors import TrialAlreadyUsed
from twinline.ledger import models
from twinline.mail import DisposableDomains
from twinline.tokens import NewToken, Scope

DOOR = frozenset({Scope.TRIALS_CREATE, Scope.PURCHASES_CREATE})
ADDRESSES = (f"198.18.{number}.7" for number in range(256))
"""Each in a range of its own."""


@pytest_asyncio.fixture(scope="module")
async def door(shop: Shop) -> Api:
    """A storefront that may not read lines."""
    return await shop.token("door", DOOR)


async def ask(api: Api, order: str, email: str, **fields: Any) -> Reply:
    body = {"order": order, "email": email, "region": "eu", "client_address": next(ADDRESSES), **fields}
    return await api("POST", "/v1/trials", body, Prefer="wait=30")


async def ended(shop: Shop, order: str, caller: str = "door") -> None:
    """Wait until a trial's workflow is over, one way or the other."""
    with suppress(TrialAlreadyUsed):
        await shop.house.twinline.outcome(f"trial/{caller}/{order}", patience=timedelta(seconds=30))


def told(reply: Reply, order: str) -> tuple[int, dict[str, str], str]:
    """All that an answer tells but for the order's own id and how much of the rate is left."""
    headers = {name: value for name, value in reply.headers.items() if name not in ("date", "ratelimit")}
    text = reply.body.decode().replace(order, "ORDER")
    return reply.status, {name: value.replace(order, "ORDER") for name, value in headers.items()}, text


async def test_a_second_trial_of_a_person_looks_like_a_first_one(shop: Shop, door: Api) -> None:
    first = await ask(door, "D-1", "jo.door@example.com")
    await ended(shop, "D-1")
    second = await ask(door, "D-2", "JO.Door+again@example.com")
    await ended(shop, "D-2")
    assert (first.status, first.json["note"], first.json["done"]) == (202, ACCEPTED, False)
    assert "preference-applied" not in first.headers
    assert told(second, "D-2") == told(first, "D-1")
    for path in ("/v1/orders/{}", "/v1/orders/trial~{}", "/v1/orders/cancel~{}~trial", "/v1/orders/purchase~{}"):
        one, other = await door.get(path.format("D-1")), await door.get(path.format("D-2"))
        assert told(other, "D-2") == told(one, "D-1"), path
    assert (await door.get("/v1/orders/D-2")).json == second.json
    # The same again, another body, another kind of order of that id, and taking it back.
    for order, email in (("D-1", "jo.door@example.com"), ("D-2", "JO.Door+again@example.com")):
        again = await ask(door, order, email)
        assert told(again, order) == told(first, "D-1")
        await ended(shop, order)
        other = await ask(door, order, "somebody.else@example.com")
        assert (other.status, other.problem) == (422, "OrderConflict")
        bought = await door.post("purchases", order=order, email=email, region="eu", days=1)
        assert (bought.status, bought.problem) == (422, "OrderConflict")
        back = await door("POST", f"/v1/orders/{order}/cancel", {"reason": "Changed my mind."})
        assert (back.status, back.problem) == (403, "ScopeMissing")
    # The mail goes to the customer, and tells.
    assert [message["Subject"] for message in shop.house.sent_to("jo.door@example.com")] != []
    assert shop.house.sent_to("JO.Door+again@example.com") == []


async def test_what_is_wrong_with_the_request_itself_is_told_whoever_the_person_is(shop: Shop, door: Api) -> None:
    await ask(door, "W-1", "wrong.door@example.com")
    await ended(shop, "W-1")
    for email in ("wrong.door@example.com", "new.door@example.com"):
        nowhere = await ask(door, "W-2", email, region="nowhere")
        assert (nowhere.status, nowhere.problem) == (404, "UnknownRegion")
        for address in (None, "", "203.0.113", "203.0.113.7%eth0", "fe80::1%1", "2001:db8::/32", 7, "a" * 60):
            reply = await ask(door, "W-2", email, client_address=address)
            assert (reply.status, reply.problem) == (422, "InvalidOrder")
            assert "203.0.113" not in reply.body.decode()
    assert (await door.get("/v1/orders/W-2")).problem == "UnknownOrder"


async def test_who_may_read_lines_is_told_what_became_of_it(shop: Shop, api: Api) -> None:
    placed = await ask(api, "R-1", "told.door@example.com")
    assert (placed.status, placed.json["note"]) == (201, None)
    again = await ask(api, "R-2", "told.door@example.com")
    assert (again.status, again.problem) == (409, "TrialAlreadyUsed")
    # Its id is free again, corrected; and an address in other letters is the same body.
    for status in (201, 200):
        corrected = await ask(api, "R-2", "other.door@EXAMPLE.com")
        assert corrected.status == status, corrected.body


async def test_so_many_trials_a_day_come_from_a_range_of_addresses(shop: Shop, door: Api, api: Api) -> None:
    for caller, (mine, neighbour, far) in (
        # Not that of the examples, which other tests send.
        (door, ("100.64.1.7", "100.64.1.200", "100.64.2.7")),
        (api, ("2001:db8:1:100::1", "2001:db8:1:1ff::1", "2001:db8:1:200::1")),
    ):
        name = mine.replace(":", "-")
        first = await ask(caller, f"{name}-1", f"a{name}@example.com", client_address=mine)
        assert first.status in (201, 202), first.body
        refused = await ask(caller, f"{name}-2", f"b{name}@example.com", client_address=neighbour)
        assert (refused.status, refused.problem, refused.json["retryable"]) == (429, "TrialRangeUsed", True)
        assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
        again = await ask(caller, f"{name}-1", f"a{name}@example.com", client_address=neighbour)
        assert again.status in (200, 202)
        assert (await ask(caller, f"{name}-3", f"c{name}@example.com", client_address=far)).status in (201, 202)
    mapped = await ask(door, "M-1", "mapped.door@example.com", client_address="::ffff:100.64.1.9")
    assert mapped.problem == "TrialRangeUsed"


async def test_of_an_address_only_a_keyed_hash_is_kept(shop: Shop, door: Api, caplog: pytest.LogCaptureFixture) -> None:
    await ask(door, "K-1", "kept.door@example.com", client_address="192.0.2.77")
    await ended(shop, "K-1")
    async with shop.house.ledger.read() as tx:
        row = await tx.session.get_one(models.TrialRequest, "order/door/K-1")
        assert row.range_hash is not None
        for place in ("192.0.2.77", "192.0.2.0/24"):
            assert place not in repr(row)
            assert tx.keys.mac("client-range", place) != tx.keys.mac("person", place)
    handle = shop.house.client.get_workflow_handle("trial/door/K-1")
    async for event in handle.fetch_history_events():
        assert "192.0.2" not in str(await _opened(shop, event))
    assert "192.0.2" not in caplog.text


async def _opened(shop: Shop, event: Any) -> list[Any]:
    payloads = event.workflow_execution_started_event_attributes.input.payloads
    return await shop.house.client.data_converter.decode(payloads)


@pytest_asyncio.fixture(scope="module")
async def choosy(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Api, Path]]:
    """Another API before the same house, which gives no trials to some domains, and asks for no address."""
    path = tmp_path_factory.mktemp("lists") / "domains.txt"
    path.write_text("# throw-away\nmailinator.example\n\n")
    rules = TrialRules(disposable=DisposableDomains(path), per_range=0)
    async with served(Desk(shop.house.ledger, shop.house.twinline, trials=rules)) as port:
        yield Api(port, await new_token(shop.house.ledger, NewToken(caller="choosy", scopes=DOOR))), path


async def test_throw_away_addresses_get_no_trial(shop: Shop, choosy: tuple[Api, Path]) -> None:
    api, path = choosy
    reader = Api(api.port, (await shop.token("choosy-reader")).token)
    for caller in (api, reader):
        for domain in ("mailinator.example", "eu.Mailinator.example"):
            refused = await ask(caller, "C-1", f"jo@{domain}")
            assert (refused.status, refused.problem) == (409, "DisposableAddress")
            assert "jo@" not in refused.body.decode()
        bought = await caller.post("purchases", order="C-1", email="jo@mailinator.example", region="eu", days=1)
        assert bought.status in (200, 201)
    body = {"order": "C-2", "email": "jo@later.example", "region": "eu"}
    assert (await api("POST", "/v1/trials", body)).status == 202
    await ended(shop, "C-2", caller="choosy")
    path.write_text("later.example\n")
    # What was taken stays taken; what comes now is refused.
    assert (await api("POST", "/v1/trials", body)).status == 202
    assert (await api("POST", "/v1/trials", {**body, "order": "C-3"})).problem == "DisposableAddress"
