"""Who may do what: tokens, scopes, and two resellers that try to get at each other's lines."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Api, Reply, Shop
from tests.api.described import OF_TOKENS, Operation
from twinline.ledger import tokens
from twinline.tokens import Scope, allows

DOCS = Path(__file__).resolve().parents[2] / "docs"


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


def _written() -> dict[str, tuple[set[Scope], str]]:
    """The scopes of every operation, and what the binding of a reseller leaves of it, as docs/api.md has them."""
    rows = re.findall(r"^\| (`(?:GET|POST) /.*?) \| (.*?) \| (.*?) \|$", (DOCS / "api.md").read_text(), re.MULTILINE)
    return {
        name: ({scope for scope in Scope if f"`{scope}`" in scopes}, bound)
        for names, scopes, bound in rows
        for name in re.findall(r"`(.*?)`", names)
    }


def _harmless(operation: Operation, *, reseller: bool) -> dict[str, Any] | None:
    """A body that is well formed, so that the scope decides, and comes to nothing."""
    if operation.body is None:
        return None
    if "/bulk/" in operation.path:
        return {"run": "matrix-2"}
    body: dict[str, Any] = {**operation.body["example"]}
    nobodys = {"line": "nobody99", "region": "nowhere"} | ({"owner": "reseller"} if reseller else {})
    return body | {name: value for name, value in nobodys.items() if name in body}


def test_the_table_of_scopes_has_every_operation() -> None:
    assert _written().keys() == {operation.name for operation in OF_TOKENS}


@pytest.mark.parametrize("reseller", [False, True])
@pytest.mark.parametrize("scope", Scope)
async def test_a_scope_allows_what_is_written_and_nothing_else(
    shop: Shop, api: Api, line: str, *, scope: Scope, reseller: bool
) -> None:
    # Of the same caller, so that a reseller's token is asked about a line of its own.
    token = await shop.token("shop", frozenset({scope}), reseller=reseller)
    placed = await api.post("passwords", order="matrix-1", line=line)
    assert placed.status in (200, 201)
    for operation in OF_TOKENS:
        scopes, bound = _written()[operation.name]
        allowed = any(allows({scope}, each) for each in {Scope.ADMIN, *scopes}) and not (reseller and bound == "never")
        # An order that takes `admin`, and can't be taken back.
        address = operation.address(order_id="matrix-1", username=line)
        reply = await token(operation.method, address, _harmless(operation, reseller=reseller), Prefer="wait=0")
        assert (reply.status != 403) == allowed, (operation.name, reply.status, reply.body)
        if not allowed:
            assert reply.problem == "ScopeMissing"


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
