"""Taking an order back over HTTP: an order of its own, by whoever may place such an order."""

from typing import Any

from tests.api.conftest import Api, Shop
from twinline.messages import Receipt
from twinline.tokens import Scope

REASON = {"reason": "Refunded."}


async def cancel(api: Api, order: str, body: dict[str, Any] | None = None) -> Any:
    return await api("POST", f"/v1/orders/{order}/cancel", REASON if body is None else body, Prefer="wait=30")


async def test_an_order_is_taken_back_once_and_both_orders_tell_so(shop: Shop) -> None:
    seller = await shop.token("seller", frozenset({Scope.PURCHASES_CREATE}))
    bought = await seller.post("purchases", order="P-1", email="refund@example.com", region="eu", days=30)
    line = bought.json["receipt"]["username"]
    assert shop.house.serves(line) == (True, True)
    taken = await cancel(seller, "P-1")
    assert (taken.status, taken.json["id"], taken.json["done"]) == (201, "cancel~P-1~purchase", True)
    assert (taken.headers["location"], taken.headers["preference-applied"]) == (
        "/v1/orders/" + taken.json["id"],
        "wait=30",
    )
    receipt = Receipt.model_validate(taken.json["receipt"])
    assert receipt.cancelled is not None
    assert (receipt.kind, receipt.cancelled.actor, receipt.cancelled.reason) == ("cancel", "seller", "Refunded.")
    assert shop.house.serves(line) == (False, False)
    assert (await seller.get(taken.headers["location"])).json == taken.json
    shown = (await seller.get("/v1/orders/P-1")).json
    assert (shown["kind"], shown["receipt"]["cancelled"]["reason"]) == ("purchase", "Refunded.")
    for order in ("P-1", "purchase~P-1"):
        again = await cancel(seller, order, {"reason": "Another reason."})
        assert (again.status, again.json) == (200, taken.json)
    repeated = await seller.post("purchases", order="P-1", email="refund@example.com", region="eu", days=30)
    assert (repeated.status, repeated.problem) == (409, "OrderCancelled")


async def test_what_can_not_be_taken_back_says_what_to_do_instead(api: Api) -> None:
    bought = await api.post("purchases", order="CC-1", email="cc@example.com", region="eu", days=30)
    line = bought.json["receipt"]["username"]
    blocked = await api.post("blocks", case="CC-2", line=line, reason="Shared.")
    await api.post("passwords", order="CC-3", line=line)
    before = (await api.get(f"/v1/lines/{line}")).json
    for order, instead in (
        ("CC-2", "POST /v1/unblocks"),
        (blocked.json["id"], "POST /v1/unblocks"),
        ("CC-3", "POST /v1/passwords"),
    ):
        refused = await cancel(api, order)
        assert (refused.status, refused.problem) == (409, "CannotCancel")
        assert instead in refused.json["hint"]
    taken = await cancel(api, "CC-1")
    refused = await cancel(api, taken.json["id"])
    assert (refused.status, refused.problem) == (409, "CannotCancel")
    for order in ("CC-9", "trial~CC-1", "~", "a" * 300):
        unknown = await cancel(api, order)
        assert (unknown.status, unknown.problem) == (404, "UnknownOrder")
    assert before["state"] == "blocked"


async def test_who_may_not_place_an_order_may_not_take_it_back(shop: Shop, api: Api) -> None:
    bought = await api.post("purchases", order="WHO-1", email="who@example.com", region="eu", days=30)
    before = await api.get(f"/v1/lines/{bought.json['receipt']['username']}")
    for scopes in ({Scope.LINES_READ}, {Scope.TRIALS_CREATE}, {Scope.RENEWALS_CREATE, Scope.LINES_READ}):
        other = await shop.token("shop", frozenset(scopes))
        refused = await cancel(other, "WHO-1")
        assert (refused.status, refused.problem) == (403, "ScopeMissing")
    stranger = await shop.token("stranger")
    assert (await cancel(stranger, "WHO-1")).problem == "UnknownOrder"
    for reason in ("", "two\nlines", "jane@example.com", "a" * 201, None, 7):
        refused = await cancel(api, "WHO-1", {"reason": reason})
        assert (refused.status, refused.problem, refused.json["errors"][0]["field"]) == (422, "InvalidOrder", "reason")
        assert "jane@example.com" not in refused.body.decode()
    for body in ({}, {**REASON, "actor": "boss"}):
        assert (await cancel(api, "WHO-1", body)).problem == "InvalidOrder"
    assert (await api.get(f"/v1/lines/{bought.json['receipt']['username']}")).json == before.json
