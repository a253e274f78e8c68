"""Who may do what: tokens, scopes, and two resellers that try to get at each other's lines."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from starter.api.orders import EXAMPLES
from tests.api.conftest import Api, Reply, Shop
from tests.api.described import OF_TOKENS
from twinline.ledger import tokens
from twinline.tokens import Scope, allows

NEEDED = {
    "trials": Scope.TRIALS_CREATE,
    "purchases": Scope.PURCHASES_CREATE,
    "renewals": Scope.RENEWALS_CREATE,
    "blocks": Scope.BLOCKS_WRITE,
    "unblocks": Scope.BLOCKS_WRITE,
    "passwords": Scope.ADMIN,
    "moves": Scope.ADMIN,
    "closes": Scope.ADMIN,
}


async def test_without_a_token_that_counts_nothing_is_told(shop: Shop, api: Api, line: str) -> None:
    revoked = await shop.token()
    assert revoked.token is not None
    async with shop.house.ledger.write() as tx:
        token_id = revoked.token.split("_")[1]
        await tokens.revoke_token(tx, token_id, actor="test", now=datetime.now(UTC))
    assert api.token is not None
    wrong = f"{api.token[:-1]}{'0' if api.token[-1] != '0' else '1'}"
    for shown in (None, "", "twl_", wrong, revoked.token, "'; DROP TABLE api_token; --"):
        for method, path in (("GET", f"/v1/lines/{line}"), ("GET", "/v1/lines"), ("GET", "/v1/orders/the-line")):
            reply = await replace(api, token=shown)(method, path)
            assert (reply.status, reply.problem) == (401, "InvalidToken")
            assert reply.headers["www-authenticate"].startswith("Bearer")
            assert line not in reply.body.decode() or line in path
        reply = await replace(api, token=shown)("POST", "/v1/trials", {"order": "x"})
        assert (reply.status, reply.problem) == (401, "InvalidToken")
    basic = await replace(api, token=None)("GET", "/v1/lines", Authorization="Basic c2hvcDpzaG9w")
    assert basic.status == 401


@pytest.mark.parametrize("scope", Scope)
async def test_a_scope_allows_its_own_orders_only(shop: Shop, scope: Scope) -> None:
    api = await shop.token(f"only-{scope.replace(':', '-')}", frozenset({scope}))
    for kind, needed in NEEDED.items():
        # Of a line and in a region that there are not: who may order is told that instead.
        body = {**EXAMPLES[kind], **({"region": "nowhere"} if "region" in EXAMPLES[kind] else {})}
        reply = await api("POST", f"/v1/{kind}", body, Prefer="wait=30")
        if allows({scope}, needed):
            assert (reply.status, reply.problem) in ((404, "UnknownRegion"), (404, "UnknownLine")), (kind, reply.body)
        else:
            assert (reply.status, reply.problem) == (403, "ScopeMissing")
    lines = await api.get("/v1/lines")
    assert lines.status == (200 if allows({scope}, Scope.LINES_READ) else 403)


async def test_two_resellers_see_and_touch_their_own_lines_only(shop: Shop) -> None:
    ann, bob = [await shop.token(name, reseller=True) for name in ("ann", "bob")]
    opened = await ann.post("purchases", order="A-1", email="of-ann@example.com", region="eu", days=30)
    his = await bob.post("trials", order="B-1", email="of-bob@example.com", region="eu")
    line, order_id = opened.json["receipt"]["username"], opened.json["id"]
    before = await shop.house.line(line)
    events = (await ann.get(f"/v1/lines/{line}/events")).json
    assert events["events"]
    assert (await ann.get(f"/v1/lines/{line}")).status == 200
    assert [each["username"] for each in (await ann.get("/v1/lines")).json["lines"]] == [line]
    assert [each["username"] for each in (await bob.get("/v1/lines")).json["lines"]] == [
        his.json["receipt"]["username"]
    ]

    # Whatever names a line or an order, in the address or in the body, is for him as if there were none.
    for operation in OF_TOKENS:
        replies: list[Reply] = []
        for name, order in ((line, order_id), ("nobody99", "purchase~A-9")):
            body = None if operation.body is None else {**operation.body["example"]}
            if body is not None and "line" in body:
                body |= {"line": name} | ({"owner": "reseller"} if "owner" in body else {})
            elif "{" not in operation.path:
                continue
            replies.append(await bob(operation.method, operation.address(username=name, order_id=order), body))
        if replies:
            theirs, nobodys = replies
            assert (theirs.status, theirs.body) == (404, nobodys.body), operation.name
            assert theirs.headers.keys() == nobodys.headers.keys()
    attempts: tuple[tuple[str, dict[str, Any]], ...] = (
        ("purchases", {"order": "B-2", "days": 1}),
        ("renewals", {"order": "B-3", "days": 1}),
        ("blocks", {"case": "B-4", "reason": "mine now", "owner": "reseller"}),
        ("unblocks", {"case": "B-4", "owner": "reseller"}),
        ("passwords", {"order": "B-5"}),
        ("moves", {"order": "B-6", "pair": "us1"}),
        ("closes", {"order": "B-7"}),
    )
    for kind, fields in attempts:
        for name in (line, "nobody99"):
            reply = await bob.post(kind, line=name, **fields)
            assert (reply.status, reply.problem) == (404, "UnknownLine"), kind
    for path in (order_id, "A-1", "purchase~A-1", "cancel~A-1~purchase"):
        for reply in (
            await bob.get(f"/v1/orders/{path}"),
            await bob("POST", f"/v1/orders/{path}/cancel", {"reason": "Not hers any more."}, Prefer="wait=30"),
        ):
            assert (reply.status, reply.problem) == (404, "UnknownOrder")
    # By an order of her own name for her own line she does not get at his either.
    house = await shop.token("ann")
    assert (await house.post("renewals", order="A-2", line=his.json["receipt"]["username"], days=1)).status == 201
    for reply in (
        await ann.get("/v1/orders/A-2"),
        await ann("POST", "/v1/orders/A-2/cancel", {"reason": "Mine by name."}, Prefer="wait=30"),
    ):
        assert (reply.status, reply.problem) == (404, "UnknownOrder")
    assert await shop.house.line(line) == before
    assert (await ann.get(f"/v1/lines/{line}/events")).json == events


async def test_a_reseller_neither_sets_nor_lifts_blocks_of_the_house(shop: Shop, api: Api) -> None:
    ann = await shop.token("ann-two", reseller=True)
    opened = await ann.post("trials", order="A-1", email="blocked@example.com", region="eu")
    line = opened.json["receipt"]["username"]
    assert (await api.post("blocks", case="C-1", line=line, reason="Shared with others.")).status == 201
    for owner in ("abuse", "payment", "operator"):
        reply = await ann.post("unblocks", case="C-1", line=line, owner=owner)
        assert (reply.status, reply.problem) == (403, "ScopeMissing")
    own: dict[str, Any] = {"case": "A-2", "line": line, "owner": "reseller"}
    assert (await ann.post("blocks", **own, reason="Not paid.")).status == 201
    assert (await ann.post("unblocks", **own)).status == 201
    assert [block["case"] for block in (await api.get(f"/v1/lines/{line}")).json["blocks"]] == ["C-1"]
    assert shop.house.serves(line) == (False, False)


async def test_the_use_of_a_token_is_noted(shop: Shop) -> None:
    api = await shop.token("noted")
    assert api.token is not None
    await api.get("/v1/lines")
    async with shop.house.ledger.read() as tx:
        found = await tokens.list_tokens(tx, now=datetime.now(UTC))
    (used,) = [token for token in found.tokens if token.token_id == api.token.split("_")[1]]
    assert used.last_used_at is not None
