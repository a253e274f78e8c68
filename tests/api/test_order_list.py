"""Orders in a list, and what waits, over HTTP: to each caller its own, to who runs the house all of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Api, Shop
from twinline.hosts.errors import HostKeyMismatch
from twinline.tokens import Scope


async def all_of(api: Api, query: str) -> list[dict[str, Any]]:
    """The whole list, page by page."""
    found: list[dict[str, Any]] = []
    async for page in api.pages(f"/v1/orders?limit=2&{query}"):
        found += page["orders"]
        assert page["cursor"] is None or page["orders"][-1]["taken_at"] not in page["cursor"]
    return found


async def test_orders_are_listed_newest_first_by_pages_and_by_what_they_are(shop: Shop) -> None:
    lister = await shop.token("order-lister", frozenset(Scope) - {Scope.ADMIN})
    bought = await lister.post("purchases", order="L-1", email="listed@example.com", region="eu", days=30)
    line = bought.json["receipt"]["username"]
    shop.house.hosts["os-eu1"].down_for_attempts = 100
    await lister.post("renewals", wait=0, order="L-2", line=line, days=1)
    blocked = await lister.post("blocks", wait=0, case="L-3", line=line, reason="Shared.")
    shop.house.hosts["os-eu1"].heal()
    await lister.post("renewals", order="L-2", line=line, days=1)
    await lister.post("blocks", case="L-3", line=line, reason="Shared.")

    listed = await all_of(lister, "")
    assert [(each["order"], each["kind"]) for each in listed] == [
        *(("L-3", "block"), ("L-2", "renewal"), ("L-1", "purchase")),
    ]
    assert {(each["caller"], each["line"]) for each in listed} == {("order-lister", line)}
    assert listed[0]["id"] == blocked.json["id"]
    for each in listed:
        shown = (await lister.get(f"/v1/orders/{each['id']}")).json
        assert (shown["id"], shown["kind"], shown["done"]) == (each["id"], each["kind"], each["done"])
        assert "temporal_ui" not in each.keys() | shown.keys()
    assert [each["order"] for each in await all_of(lister, "kind=renewal")] == ["L-2"]
    assert await all_of(lister, "line=nobody99") == []
    assert len(await all_of(lister, f"line={line}&settled=true")) == len([each for each in listed if each["done"]])
    assert await all_of(lister, "settled=false") == [each for each in listed if not each["done"]]
    # By what it asks for itself it may name itself, and nobody else.
    assert await all_of(lister, "caller=order-lister") == listed
    for path in ("/v1/orders?caller=shop", "/v1/orders/the-line?caller=shop", "/v1/attention"):
        refused = await lister.get(path)
        assert (refused.status, refused.problem) == (403, "ScopeMissing")
    blind = await shop.token("order-lister", frozenset(Scope) - {Scope.ADMIN, Scope.LINES_READ})
    assert (await blind.get("/v1/orders")).problem == "ScopeMissing"


async def test_a_reseller_lists_its_orders_about_its_own_lines_only(shop: Shop) -> None:
    everything = frozenset(Scope)
    ada, ben = [await shop.token(name, everything, reseller=True) for name in ("ada", "ben")]
    opened = await ada.post("purchases", order="A-1", email="of-ada@example.com", region="eu", days=30)
    other = await ben.post("purchases", order="B-1", email="of-ben@example.com", region="eu", days=30)
    # The house orders in her name for his line: that is none of hers.
    house = await shop.token("ada")
    await house.post("renewals", order="A-2", line=other.json["receipt"]["username"], days=1)
    assert [each["order"] for each in await all_of(ada, "")] == ["A-1"]
    assert [each["order"] for each in await all_of(ben, "")] == ["B-1"]
    assert await all_of(ben, f"line={opened.json['receipt']['username']}") == []
    # Admin or not, a token that is bound to lines sees nothing of the house.
    for path in ("/v1/orders?caller=ada", "/v1/orders/A-1?caller=ada", "/v1/attention", "/v1/attention?host=os-eu1"):
        refused = await ben.get(path)
        assert (refused.status, refused.problem) == (403, "ScopeMissing"), path
    assert "workflows" not in (await ada.get(f"/v1/lines/{opened.json['receipt']['username']}")).json


async def test_who_runs_the_house_sees_the_orders_of_all_callers_and_where_they_run(shop: Shop) -> None:
    seller, admin = await shop.token("seller-2"), await shop.token("boss", frozenset({Scope.ADMIN}))
    bought = await seller.post("purchases", order="S-1", email="of-seller@example.com", region="eu", days=30)
    assert bought.json["id"] in [each["id"] for each in (await admin.get("/v1/orders?limit=1000")).json["orders"]]
    (listed,) = (await admin.get("/v1/orders?caller=seller-2")).json["orders"]
    assert listed["temporal_ui"] == f"{shop.temporal_ui}/namespaces/default/workflows/purchase%2Fseller-2%2FS-1"
    shown = (await admin.get("/v1/orders/S-1?caller=seller-2")).json
    assert (shown["temporal_ui"], shown["receipt"]) == (listed["temporal_ui"], bought.json["receipt"])
    assert (await admin.get("/v1/orders/S-1")).problem == "UnknownOrder"
    view = (await admin.get(f"/v1/lines/{listed['line']}")).json
    (term,) = view["workflows"]
    assert term["workflow_id"] == f"term/{view['line_id']}/{view['grants'][0]['grant_id']}"
    assert term["temporal_ui"].startswith(f"{shop.temporal_ui}/namespaces/default/workflows/term%2F")


@pytest.fixture
def oscam(shop: Shop) -> Iterator[Any]:
    """The OSCam host, healed whatever a test did."""
    host = shop.house.hosts["os-eu1"]
    yield host
    host.heal()


async def test_what_waits_for_a_person_and_what_is_late_is_told_to_who_runs_the_house(
    shop: Shop, api: Api, oscam: Any
) -> None:
    admin = await shop.token("boss", frozenset({Scope.ADMIN}))
    bought = await api.post("purchases", order="W-1", email="waits@example.com", region="eu", days=30)
    line = bought.json["receipt"]["username"]
    oscam.down_for_attempts = 1_000_000
    await api.post("renewals", wait=0, order="W-2", line=line, days=1)
    while not (found := (await admin.get(f"/v1/attention?line={line}")).json)["late"]:
        pass
    (late,) = found["late"]
    assert (late["host"], late["reason"], late["halves"]) == ("os-eu1", "HostUnreachable", 1)
    assert [order["order"] for order in late["orders"]] == ["W-2"]
    assert [each["code"] for each in found["explained"]] == ["HostUnreachable"]
    assert found["links"]["renewal/shop/W-2"].endswith("/workflows/renewal%2Fshop%2FW-2")
    assert late in (await admin.get("/v1/attention")).json["late"]
    assert (await admin.get("/v1/attention?host=mc-eu1")).json["late"] == []

    oscam.down_for_attempts, oscam.trouble = 0, HostKeyMismatch("another key")
    await shop.house.twinline.retry_now("renewal/shop/W-2")
    found = (await admin.get("/v1/attention?host=os-eu1")).json
    assert [(half["username"], half["reason"]) for half in found["halves"]] == [(line, "HostKeyMismatch")]
    assert found["late"] == []
    oscam.heal()
    await shop.house.twinline.retry_now("renewal/shop/W-2")
    assert (await api.post("renewals", order="W-2", line=line, days=1)).json["done"]
    empty = (await admin.get("/v1/attention")).json
    assert (empty["halves"], empty["late"], empty["untaken"], "links" in empty) == ([], [], None, False)
