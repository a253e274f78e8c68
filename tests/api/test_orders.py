"""Orders over HTTP: one order per id, and the truth about each."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from starter import taking
from starter.client import Twinline
from tests.api.conftest import Api, Shop
from twinline.messages import Receipt
from twinline.tokens import Scope


async def test_an_order_is_placed_waited_for_and_looked_at(api: Api) -> None:
    body = {"order": "first-1", "email": "first@example.com", "region": "eu"}
    placed = await api("POST", "/v1/trials", body, Prefer="wait=30")
    assert (placed.status, placed.json["done"]) == (201, True)
    assert placed.headers["preference-applied"] == "wait=30"
    assert placed.headers["cache-control"] == "no-store"
    receipt = Receipt.model_validate(placed.json["receipt"])
    assert (receipt.order, receipt.kind, {half.state for half in receipt.halves}) == ("first-1", "trial", {"applied"})
    shown = await api.get(placed.headers["location"])
    assert (shown.status, shown.json) == (200, placed.json)
    assert (await api.get("/v1/orders/first-1")).json == placed.json


async def test_no_answer_to_a_token_is_stored_on_its_way(api: Api) -> None:
    opened = await api("POST", "/v1/trials", {"order": "kept-1", "email": "kept@example.com", "region": "eu"})
    run = {"run": "kept-2", "reason": "Shared.", "rows": [{"line": opened.json["receipt"]["username"]}]}
    answers = [opened, await api("POST", "/v1/bulk/blocks/dry-run", run), await api("POST", "/v1/bulk/blocks", run)]
    line = f"/v1/lines/{opened.json['receipt']['username']}"
    lists = (line, f"{line}/events", "/v1/lines", "/v1/orders", "/v1/bulk/runs/kept-2", "/v1/bulk/runs/kept-2/items")
    answers += [await api.get(path) for path in (*lists, "/v1/orders/kept-1", "/v1/orders/nobodys")]
    assert [each.headers.get("cache-control") for each in answers] == ["no-store"] * len(answers)
    assert [each.status for each in answers[3:]] == [200] * 7 + [404]


async def test_who_does_not_wait_gets_a_place_to_look_at(api: Api, shop: Shop) -> None:
    host = shop.house.hosts["os-eu1"]
    host.down_for_attempts = 1
    placed = await api.post("trials", wait=0, order="later-1", email="later@example.com", region="eu")
    assert (placed.status, placed.headers["location"]) == (202, "/v1/orders/trial~later-1")
    assert placed.json["done"] is False
    again = await api.post("trials", order="later-1", email="later@example.com", region="eu")
    assert again.json["done"]
    host.heal()


async def test_who_says_nothing_about_waiting_is_told_when_it_is_taken_or_refused_and_no_worker_is_asked(
    api: Api, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Twinline, "progress", None)
    # However long the worker takes here.
    monkeypatch.setattr(taking, "TAKEN_WITHIN", timedelta(seconds=60))
    monkeypatch.setattr(taking, "LOOKS", (0.05,) * 1000)
    shop.house.hosts["os-eu1"].down_for_attempts = 1000
    body = {"email": "said-nothing@example.com", "region": "eu"}
    placed = await api("POST", "/v1/trials", {"order": "nothing-1", **body})
    assert (placed.status, placed.json["done"]) == (202, False)
    assert "preference-applied" not in placed.headers
    told = Receipt.model_validate(placed.json["receipt"])
    assert (told.order, {half.host for half in told.halves}) == ("nothing-1", {"mc-eu1", "os-eu1"})
    # Whose time is over is told as much by the ledger.
    waited = await api.post("trials", wait=1, order="nothing-1", **body)
    assert (waited.status, waited.json["receipt"]["line"]) == (202, told.line)
    again = await api("POST", "/v1/trials", {"order": "nothing-2", **body})
    assert (again.status, again.problem) == (409, "TrialAlreadyUsed")
    shop.house.hosts["os-eu1"].heal()


async def test_fifty_times_the_same_order_at_once_is_one_line(api: Api) -> None:
    body = {"email": "fifty@example.com", "region": "eu"}
    replies = await asyncio.gather(
        *(api("POST", "/v1/trials", body, Prefer="wait=30", Idempotency_Key="fifty-1") for _ in range(50))
    )
    assert {reply.status for reply in replies} <= {200, 201}
    assert len({reply.json["receipt"]["line"] for reply in replies}) == 1


async def test_the_same_id_with_another_body_is_refused_and_changes_nothing(api: Api, line: str) -> None:
    body: dict[str, Any] = {"order": "one-id", "line": line, "days": 30}
    first = await api.post("renewals", **body)
    before = (await api.get(f"/v1/lines/{line}")).json
    others: tuple[tuple[str, dict[str, Any]], ...] = (
        ("renewals", {**body, "days": 31}),
        ("purchases", body),
        ("closes", {"order": "one-id", "line": line}),
    )
    for kind, other in others:
        for wait in (0, 30):
            reply = await api.post(kind, wait=wait, **other)
            assert (reply.status, reply.problem) == (422, "OrderConflict")
    again = await api.post("renewals", **body)
    assert (again.status, again.json) == (200, first.json)
    assert (await api.get(f"/v1/lines/{line}")).json == before


async def test_ids_count_per_caller(api: Api, shop: Shop) -> None:
    other = await shop.token("other-shop")
    mine = await api.post("trials", order="same-id", email="mine@example.com", region="eu")
    theirs = await other.post("trials", order="same-id", email="theirs@example.com", region="eu")
    assert (mine.status, theirs.status) == (201, 201)
    assert mine.json["receipt"]["line"] != theirs.json["receipt"]["line"]
    assert (await other.get("/v1/orders/same-id")).json == theirs.json
    assert (await other.get("/v1/orders/first-1")).problem == "UnknownOrder"


async def test_the_id_may_come_as_a_header_but_not_as_two(api: Api, line: str) -> None:
    body = {"line": line, "days": 1}
    placed = await api("POST", "/v1/renewals", body, Idempotency_Key='"keyed-1"', Prefer="wait=30")
    assert placed.json["order"] == "keyed-1"
    twice = await api("POST", "/v1/renewals", {**body, "order": "keyed-2"}, Idempotency_Key="keyed-3")
    assert (twice.status, twice.problem) == (422, "InvalidOrder")
    for prefer in ('respond-async, wait="30"', "handling=lenient , Wait = 30;x=1"):
        again = await api("POST", "/v1/renewals", body, Idempotency_Key="keyed-1", Prefer=prefer)
        assert (again.status, again.headers["preference-applied"]) == (200, "wait=30")
    none = await api("POST", "/v1/renewals", body)
    assert (none.status, none.json["errors"][0]["field"]) == (422, "order")


async def test_every_kind_of_order_works_on_a_line(api: Api) -> None:
    bought = await api.post("purchases", order="all-1", email="all@example.com", region="eu", days=30)
    line = bought.json["receipt"]["username"]
    orders: tuple[tuple[str, dict[str, Any]], ...] = (
        ("purchases", {"order": "all-2", "days": 5}),
        ("renewals", {"order": "all-3", "days": 5}),
        ("blocks", {"case": "all-4", "reason": "Shared with others.", "until": "2031-05-06T12:00:00+02:00"}),
        ("unblocks", {"case": "all-4"}),
        ("passwords", {"order": "all-5"}),
        ("closes", {"order": "all-6"}),
    )
    for kind, fields in orders:
        reply = await api.post(kind, line=line, **fields)
        assert (reply.status, reply.json["receipt"]["username"]) == (201, line), (kind, reply.body)
        assert (await api.get(reply.headers["location"])).json == reply.json
    moved = await api.post("moves", order="all-7", line=line, pair="us1")
    assert (moved.status, moved.problem) == (409, "LineClosed")


async def test_a_refusal_is_a_problem_that_tells_what_to_do(api: Api) -> None:
    await api.post("trials", order="once-1", email="once@example.com", region="eu")
    again = await api.post("trials", order="once-2", email="once@example.com", region="eu")
    assert (again.status, again.problem) == (409, "TrialAlreadyUsed")
    assert again.json["retryable"] is False
    assert "once@example.com" not in again.body.decode()
    shown = await api.get("/v1/orders/trial~once-2")
    assert (shown.json["done"], shown.json["refused"]["type"]) == (True, "TrialAlreadyUsed")
    page = await api.get(again.json["type"])
    assert page.body.startswith(b"# TrialAlreadyUsed\n")


async def test_lines_are_listed_page_by_page_and_the_cursor_is_opaque(api: Api, line: str) -> None:
    await api.post("trials", order="page-1", email="page@example.com", region="eu")
    names: list[str] = []
    async for page in api.pages("/v1/lines?limit=1&region=eu"):
        names += [each["username"] for each in page["lines"]]
        assert page["cursor"] is None or names[-1] not in page["cursor"]
    everything = (await api.get("/v1/lines?limit=1000&region=eu")).json["lines"]
    assert names == [each["username"] for each in everything]
    assert line in names


async def test_a_password_is_shown_to_a_token_with_credentials_only(shop: Shop, api: Api, line: str) -> None:
    password = (await shop.house.password(line)).get_secret_value()
    assert (await api.get(f"/v1/lines/{line}")).json["password"] == password
    admin = await shop.token(scopes=frozenset({Scope.ADMIN}))
    for path in (f"/v1/lines/{line}", "/v1/lines?limit=1000"):
        assert password not in (await admin.get(path)).body.decode()
    assert password not in (await api.get("/v1/lines?limit=1000")).body.decode()


async def test_an_order_that_is_sent_again_says_that_its_line_has_changed_since(api: Api, shop: Shop) -> None:
    body = {"order": "since-1", "email": "since@example.com", "region": "eu"}
    opened = await api("POST", "/v1/trials", body, Prefer="wait=30")
    name = opened.json["receipt"]["username"]
    assert (await api("POST", "/v1/trials", body, Prefer="wait=30")).json == opened.json
    block = {"case": "since-2", "line": name, "reason": "Shared."}
    assert (await api("POST", "/v1/blocks", block, Prefer="wait=30")).status == 201
    for again in (await api("POST", "/v1/trials", body, Prefer="wait=30"), await api.get("/v1/orders/since-1")):
        assert (again.status, again.json["changed"]) == (200, True)
        assert again.json["receipt"] == opened.json["receipt"]
    client = Twinline(shop.house.client)
    status = await client.trial(**body, caller="shop", patience=timedelta(seconds=10))
    assert status.done
    assert status.ended_at is not None
    line = await shop.house.line(name)
    assert status.ended_at < line.blocks[0].since
