"""Bulk runs over HTTP and from the Python client: looked at, begun once, watched, stopped, on one's own lines only."""

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from starter.api.bodies import LARGEST_RUN
from starter.api.bulk_asked import FILES
from starter.api.problems import known_types
from starter.client import BlockRow, BlockRun, BulkRuns, ExtendRun, ImportRow, ImportRun
from starter.invalid import BadRows
from tests.api.conftest import Api, Reply, Shop
from tests.api.described import OPERATIONS
from tests.api.test_hostile import VALUES, rows
from tests.support.hostile import CELLS, hostile_files
from twinline.bulk import MOST_ITEMS, BulkKind
from twinline.errors import (
    InvalidOrder,
    InvalidRows,
    InvalidToken,
    Misconfigured,
    OrderConflict,
    ScopeMissing,
    TooManyRequests,
    Unavailable,
    UnknownBulk,
    UnknownRegion,
)
from twinline.messages import BlockOwner
from twinline.tokens import Scope

NUMBERS = itertools.count(1)
PATIENCE = timedelta(seconds=60)
ENDS_AT = (datetime.now(UTC) + timedelta(days=90)).isoformat()


async def opened(api: Api, count: int) -> list[str]:
    """New lines of this caller; their names."""
    names: list[str] = []
    for _ in range(count):
        number = next(NUMBERS)
        reply = await api.post("purchases", order=f"B-{number}", email=f"b{number}@example.com", region="eu", days=30)
        names.append(reply.json["receipt"]["username"])
    return names


def run_id() -> str:
    return f"run-{next(NUMBERS)}"


def blocking(names: list[str], **fields: Any) -> dict[str, Any]:
    return {"run": run_id(), "reason": "Shared", "rows": [{"line": name} for name in names], **fields}


async def begin(api: Api, kind: str, body: object, *, wait: int = 60) -> Reply:
    return await api("POST", f"/v1/bulk/{kind}", body, Prefer=f"wait={wait}")


async def test_a_run_is_looked_at_begun_once_and_told_of_item_by_item(shop: Shop, api: Api) -> None:
    names = await opened(api, 3)
    body = blocking(names)
    before = await rows(shop)
    looked = await api("POST", "/v1/bulk/blocks/dry-run", body)
    assert (looked.status, [change["after"]["state"] for change in looked.json["changes"]]) == (200, ["blocked"] * 3)
    assert (looked.json["known"], await rows(shop)) == (False, before)

    done = await begin(api, "blocks", body)

    assert (done.status, done.json["state"], done.json["counts"]["done"]) == (201, "over", 3), done.body
    assert done.headers["preference-applied"] == "wait=60"
    assert not any(any(shop.house.serves(name)) for name in names)
    path = done.headers["location"]
    assert (await api.get(path)).json == done.json
    again = await begin(api, "blocks", {**body, "run": body["run"]})
    assert (again.status, again.json) == (200, done.json)
    by_key = await api(
        "POST", "/v1/bulk/blocks", {**body, "run": body["run"]}, Prefer="wait=60", Idempotency_Key=body["run"]
    )
    assert by_key.status == 200
    assert (await api("POST", "/v1/bulk/blocks/dry-run", body)).json["known"]
    for other in ({"reason": "Another"}, {"rows": [{"line": names[0]}]}, {"case": "C-9"}):
        reply = await begin(api, "blocks", {**body, **other})
        assert (reply.status, reply.problem) == (422, "OrderConflict")
        reply = await api("POST", "/v1/bulk/blocks/dry-run", {**body, **other})
        assert (reply.status, reply.problem) == (422, "OrderConflict")

    seen = [item async for page in api.pages(f"{path}/items?limit=2") for item in page["items"]]
    assert [(item["number"], item["line"], item["state"]) for item in seen] == [
        (number, name, "done") for number, name in enumerate(names, start=1)
    ]
    order = await api.get(f"/v1/orders/{seen[0]['order']}")
    assert (order.json["id"], order.json["receipt"]["username"]) == (seen[0]["order"], names[0])
    assert (await api.get(f"{path}/items?state=refused")).json == {"items": [], "cursor": None}
    assert (await api("POST", f"{path}/cancel")).json == done.json, "what is over can't be stopped"
    assert (await api("POST", f"{path}/resume")).json == done.json


async def test_runs_are_listed_the_newest_first_page_by_page(shop: Shop) -> None:
    api, other = await shop.token("lister"), await shop.token("other-lister")
    (name,) = await opened(api, 1)
    runs = [(await begin(api, "blocks", blocking([name], run=f"listed-{number}"))).json for number in range(3)]
    runs.append((await begin(api, "extensions", {"run": "listed-3", "region": "eu", "days": 1}, wait=0)).json)
    stopped = (await api("POST", "/v1/bulk/runs/listed-3/cancel")).json["state"]

    seen = [run async for page in api.pages("/v1/bulk/runs?limit=3") for run in page["runs"]]

    assert [run["run"] for run in seen] == [run["run"] for run in reversed(runs)]
    assert seen[1:] == runs[2::-1]
    for query, found in (
        ("kind=block", ["listed-2", "listed-1", "listed-0"]),
        ("kind=extend", ["listed-3"]),
        ("kind=import", []),
        (f"kind=extend&state={stopped}", ["listed-3"]),
        ("kind=block&state=over&limit=1", ["listed-2"]),
        ("kind=block&state=running", []),
    ):
        assert [run["run"] for run in (await api.get(f"/v1/bulk/runs?{query}")).json["runs"]] == found, query
    assert (await other.get("/v1/bulk/runs")).json == {"runs": [], "cursor": None}
    for query in (
        "state=odd",
        "kind=trial",
        "limit=0",
        "cursor=x",
        "cursor=MTo5OTk5",
        "unknown=1",
        "caller=other-lister",
    ):
        reply = await api.get(f"/v1/bulk/runs?{query}")
        assert (reply.status, reply.problem) == (422, "InvalidOrder"), query


async def test_rows_that_are_wrong_are_told_by_number_and_may_be_skipped(shop: Shop, api: Api) -> None:
    (good,) = await opened(api, 1)
    wrong = [{"line": "nobody99"}, {"line": good, "owner": "the bank"}, {"lime": good}, {"line": 7}, {"line": good}]
    body = blocking([], rows=[{"line": good}, *wrong])
    before = await rows(shop)

    refused = await begin(api, "blocks", body)

    assert (refused.status, refused.problem) == (422, "InvalidRows")
    assert [(row["row"], row["type"]) for row in refused.json["rows"]] == [
        (2, "UnknownLine"),
        *[(row, "InvalidOrder") for row in (3, 4, 5, 6)],
    ]
    looked = (await api("POST", "/v1/bulk/blocks/dry-run", body)).json
    assert ([change["row"] for change in looked["changes"]], looked["problems"]) == ([1], refused.json["rows"])
    assert "`twinline" not in json.dumps(looked), "hints are for who has no command line"
    assert await rows(shop) == before

    done = await begin(api, "blocks", {**body, "skip_invalid": True})
    assert (done.status, done.json["counts"]["done"], done.json["counts"]["refused"]) == (201, 1, 5), done.body
    items = (await api.get(f"{done.headers['location']}/items?state=refused")).json["items"]
    assert [(item["row"], item["problem"]["type"]) for item in items] == [
        (row["row"], row["type"]) for row in refused.json["rows"]
    ]
    many = blocking([], rows=[{"line": "nobody99"}] * 150)
    assert len((await begin(api, "blocks", many)).json["rows"]) == 100
    none = await begin(api, "blocks", {**many, "skip_invalid": True})
    assert (none.status, none.problem) == (422, "InvalidRows")
    assert await rows(shop) != before


async def test_days_and_lines_of_another_system_come_over_http_too(shop: Shop) -> None:
    api = await shop.token("over-http")
    (name,) = await opened(api, 1)
    before = await shop.house.line(name)
    number = next(NUMBERS)
    username, email = f"jane{number}", f"jane{number}@example.com"
    row = {"username": username, "password": "s3cret-0", "email": email, "ends_at": ENDS_AT}
    imported = await begin(api, "imports", {"run": run_id(), "pair": "us1", "rows": [row]})
    assert (imported.status, imported.json["counts"]["done"]) == (201, 1), imported.body
    assert b"s3cret" not in imported.body
    assert (await shop.house.line(username)).pair == "us1"
    assert (await shop.house.password(username)).get_secret_value() == "s3cret-0"
    taken = await begin(api, "imports", {"run": run_id(), "pair": "us1", "rows": [row]})
    assert [problem["type"] for problem in taken.json["rows"]] == ["UsernameTaken"]

    extension = {"run": run_id(), "region": "us", "days": 1}
    extended = await begin(api, "extensions", extension)
    assert (extended.status, extended.json["counts"]["done"]) == (201, 1), extended.body
    assert (await begin(api, "extensions", extension)).status == 200
    assert (await shop.house.line(username)).ends_at == datetime.fromisoformat(ENDS_AT) + timedelta(days=1)
    assert await shop.house.line(name) == before
    (item,) = (await api.get(f"{extended.headers['location']}/items")).json["items"]
    assert (await api.get(f"/v1/orders/{item['order']}")).json["kind"] == "extension"
    for wrong, problem in (({"region": "nowhere"}, "UnknownRegion"), ({"pair": "eu1"}, "UnknownPair")):
        reply = await begin(api, "extensions", {**extension, "run": run_id(), **wrong})
        assert (reply.status, reply.problem) == (404, problem)


async def test_a_run_that_was_stopped_orders_the_rest_only_when_it_is_resumed(
    shop: Shop, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.bulk.AT_ONCE", 1)
    monkeypatch.setattr("activities.bulk.PATIENCE", timedelta(hours=1))
    names = await opened(api, 2)
    host = shop.house.hosts["os-eu1"]
    host.down_for_attempts = 1_000
    try:
        begun = await begin(api, "blocks", blocking(names), wait=0)
        path = begun.headers["location"]
        stopped = await api("POST", f"{path}/cancel")
    finally:
        host.heal()
    assert (begun.status, stopped.status) == (202, 200)
    assert (stopped.json["state"], stopped.json["cancelled_by"]) == ("cancelled", "shop")
    # One is being ordered; who stops the run does not wait to see that.
    assert stopped.json["counts"]["cancelled"] in (1, 2)
    assert (await shop.house.line(names[1])).state == "present"

    resumed = await api("POST", f"{path}/resume", Prefer="wait=60")

    assert (resumed.status, resumed.json["counts"]["done"]) == (200, 2), resumed.body


async def test_a_reseller_touches_and_sees_its_own_lines_only(shop: Shop, api: Api) -> None:
    """Whatever it asks, the answer is the one that it would get if there were no other line."""
    ann, bob = [await shop.token(name, reseller=True) for name in ("ann-bulk", "bob-bulk")]
    hers, his = await opened(ann, 1), await opened(bob, 1)
    theirs = await shop.house.line(his[0])
    own: dict[str, Any] = {"owner": "reseller"}
    answers: list[tuple[Reply, ...]] = []
    for name in (his[0], theirs.line_id, "nobody99"):
        body = {**blocking([hers[0], name], **own), "run": "probe"}
        replies = (
            await ann("POST", "/v1/bulk/blocks/dry-run", body),
            await begin(ann, "blocks", body),
            await begin(ann, "blocks", {**body, "skip_invalid": True, "rows": [{"line": name}]}),
        )
        answers.append(replies)
    for replies in answers:
        assert [reply.status for reply in replies] == [200, 422, 422]
        for reply, nobodys in zip(replies, answers[-1], strict=True):
            assert reply.body == nobodys.body
    assert await shop.house.line(his[0]) == theirs
    # Blocks of the house are not for her to set, whosever line it is.
    for name in (hers[0], his[0], "nobody99"):
        reply = await begin(ann, "blocks", blocking([name], owner="abuse"))
        assert (reply.status, reply.problem) == (403, "ScopeMissing")
    # A name that is taken would be told; so she takes none over.
    for username in (his[0], "nobody99"):
        row = {"username": username, "password": "s3cret-1", "email": "a@example.com", "ends_at": ENDS_AT}
        for path in ("/v1/bulk/imports", "/v1/bulk/imports/dry-run"):
            reply = await ann("POST", path, {"run": run_id(), "region": "eu", "rows": [row]})
            assert (reply.status, reply.problem) == (403, "ScopeMissing")
    # Days for a region are days for her lines there.
    given = await begin(ann, "extensions", {"run": "days", "region": "eu", "days": 2})
    assert (given.status, given.json["counts"]["items"]) == (201, 1), given.body
    items = (await ann.get("/v1/bulk/runs/days/items")).json["items"]
    assert [item["line"] for item in items] == hers
    assert await shop.house.line(his[0]) == theirs
    done = await begin(ann, "blocks", {**blocking(hers, **own), "run": "mine"})
    assert (done.status, done.json["counts"]["done"]) == (201, 1)
    # Another one's run is none for her, and neither is one that another token of her own name has begun.
    house = await shop.token("ann-bulk")
    of_house = await begin(house, "blocks", blocking([hers[0], his[0]], run="of-the-house"))
    assert of_house.json["counts"]["done"] == 2, of_house.body
    for reader, run in ((bob, "mine"), (ann, "of-the-house"), (api, "mine")):
        for method, rest in (("GET", ""), ("GET", "/items"), ("POST", "/cancel"), ("POST", "/resume")):
            reply = await reader(method, f"/v1/bulk/runs/{run}{rest}")
            nobodys = await reader(method, f"/v1/bulk/runs/nothing{rest}")
            assert (reply.status, reply.body) == (404, nobodys.body)
    assert (await house.get("/v1/bulk/runs/mine")).status == 200
    for reader, runs in ((ann, ["mine", "days"]), (bob, []), (house, ["of-the-house", "mine", "days"])):
        assert [run["run"] for run in (await reader.get("/v1/bulk/runs")).json["runs"]] == runs


@pytest.mark.parametrize("scope", Scope)
async def test_runs_are_for_the_scope_bulk(shop: Shop, scope: Scope) -> None:
    api = await shop.token(f"bulk-{scope.replace(':', '-')}", frozenset({scope}))
    allowed = scope in (Scope.BULK, Scope.ADMIN)
    for kind in ("blocks", "extensions", "imports"):
        for path in (f"/v1/bulk/{kind}", f"/v1/bulk/{kind}/dry-run"):
            reply = await api("POST", path, {})
            assert (reply.status, reply.problem) == ((422, "InvalidOrder") if allowed else (403, "ScopeMissing"))
    for method, rest in (("GET", ""), ("GET", "/items"), ("POST", "/cancel"), ("POST", "/resume")):
        reply = await api(method, f"/v1/bulk/runs/nothing{rest}")
        assert (reply.status, reply.problem) == ((404, "UnknownBulk") if allowed else (403, "ScopeMissing"))
    assert (await api.get("/v1/bulk/runs")).status == (200 if allowed else 403)


CSV = "username,password,email,ends_at\n"


async def test_files_are_taken_as_the_command_line_takes_them(shop: Shop, api: Api) -> None:
    number = next(NUMBERS)
    names = [f"csv{number}a", f"csv{number}b"]
    text = CSV + "".join(f"{name},s3cret-2,{name}@example.com,{ENDS_AT}\r\n" for name in names)
    run = run_id()
    looked = await api("POST", f"/v1/bulk/imports/dry-run?run={run}&pair=eu1", text.encode(), Content_Type="text/csv")
    assert [change["line"] for change in looked.json["changes"]] == names, looked.body
    done = await api(
        "POST", f"/v1/bulk/imports?run={run}&pair=eu1", b"\xef\xbb\xbf" + text.encode(), Content_Type="text/csv",
        Prefer="wait=60",
    )  # fmt: skip
    assert (done.status, done.json["counts"]["done"]) == (201, 2), done.body
    # However the rows are sent, they are the same run.
    fields = [
        {"username": name, "password": "s3cret-2", "email": f"{name}@example.com", "ends_at": ENDS_AT} for name in names
    ]
    assert (await begin(api, "imports", {"run": run, "pair": "eu1", "rows": fields})).status == 200
    lines = "\n".join(json.dumps(row) for row in fields).encode()
    for media_type in FILES[1:]:
        reply = await api("POST", f"/v1/bulk/imports?pair=eu1&run={run}", lines, Content_Type=media_type)
        assert reply.status == 200
    rows_ = "line,reason,owner\n" + "".join(f"{name},Unpaid,payment\n" for name in names)
    blocked = await api(
        "POST", "/v1/bulk/blocks", rows_.encode(), Content_Type="text/csv", Idempotency_Key=run_id(), Prefer="wait=60"
    )
    assert (blocked.status, blocked.json["counts"]["done"]) == (201, 2), blocked.body


@pytest.mark.parametrize("kind", ["blocks", "imports"])
async def test_each_documented_body_is_taken_and_all_of_them_are_the_same_run(shop: Shop, line: str, kind: str) -> None:
    api = await shop.token(f"documented-{kind}")
    look, place = [
        next(each for each in OPERATIONS if each.path == path)
        for path in (f"/v1/bulk/{kind}/dry-run", f"/v1/bulk/{kind}")
    ]
    (key,) = [each["example"] for each in place.parameters if each["name"] == "Idempotency-Key"]
    assert look.body is not None
    assert look.body == place.body
    assert look.files == place.files
    bodies = {"application/json": json.dumps(look.body["example"])}
    bodies |= {media_type: media["example"] for media_type, media in look.files.items()}
    assert set(bodies) == {"application/json", *FILES}
    taken: list[Reply] = []
    for media_type, text in bodies.items():
        body = text.replace("k7mq3xw9ab", line).encode()
        looked = await api("POST", look.path, body, Content_Type=media_type, Idempotency_Key=key)
        assert (looked.status, looked.json["known"], looked.json["problems"]) == (200, bool(taken), []), media_type
        taken.append(
            await api("POST", place.path, body, Content_Type=media_type, Idempotency_Key=key, Prefer="wait=60")
        )
    assert [reply.status for reply in taken] == [201, 200, 200, 200]
    assert {reply.body for reply in taken} == {taken[0].body}
    assert taken[0].json["counts"]["done"] == 1


async def test_each_documented_option_of_a_file_is_taken_from_the_query(shop: Shop) -> None:
    api = await shop.token("documented-options")
    (line,) = await opened(api, 1)
    (place,) = [each for each in OPERATIONS if each.path == "/v1/bulk/blocks"]
    options = {"run": "by-query", "skip_invalid": "true", "owner": "payment", "case": "C-77", "until": ENDS_AT}
    assert {each["name"] for each in place.parameters if each["in"] == "query"} == set(options)
    text = f"line,reason\n{line},Unpaid\nnobody99,Unpaid\n"
    reply = await api(
        "POST", f"{place.path}?{urlencode(options)}", text.encode(), Content_Type="text/csv", Prefer="wait=60"
    )
    assert (reply.status, reply.json["counts"]["done"], reply.json["counts"]["refused"]) == (201, 1, 1), reply.body
    assert (reply.json["run"], reply.json["job"]["case"]) == ("by-query", "C-77")
    assert [block.owner for block in (await shop.house.line(line)).blocks if block.case == "C-77"] == ["payment"]


FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
KEYS = ("line", "reason", "owner", "username", "password", "email", "ends_at", "pair", "x")
ROWS = st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES | CELLS, max_size=6), max_size=4)


@FEW
@given(kind=st.sampled_from(("blocks", "imports")), given_rows=ROWS | VALUES, skip=st.booleans())
async def test_no_row_can_break_anything(shop: Shop, api: Api, kind: str, given_rows: Any, skip: bool) -> None:  # noqa: FBT001 - drawn by name
    before = await rows(shop)
    body = json.dumps({"run": "hostile", "rows": given_rows, "skip_invalid": skip}).encode()
    for path in (f"/v1/bulk/{kind}", f"/v1/bulk/{kind}/dry-run"):
        reply = await api("POST", path, body)
        if path.endswith("dry-run") and reply.status == 200:
            assert (reply.json["changes"], len(reply.json["problems"])) == ([], len(given_rows))
        else:
            assert (reply.status, reply.problem) in (
                (422, "InvalidRows"),
                (422, "InvalidOrder"),
                # Half a character can't be in UTF-8.
                (400, "BadRequest"),
            ), reply.body
        assert b"Traceback" not in reply.body
        assert b"s3cret" not in reply.body
    assert await rows(shop) == before


@FEW
@given(data=hostile_files(), kind=st.sampled_from(("blocks", "imports")), media_type=st.sampled_from(FILES))
async def test_no_file_can_break_anything(shop: Shop, api: Api, data: bytes, kind: str, media_type: str) -> None:
    before = await rows(shop)
    for path in (f"/v1/bulk/{kind}", f"/v1/bulk/{kind}/dry-run"):
        reply = await api("POST", f"{path}?run=hostile", data, Content_Type=media_type)
        if path.endswith("dry-run") and reply.status == 200:
            assert reply.json["changes"] == []
            assert reply.json["problems"]
        else:
            assert (reply.status, reply.problem) in ((422, "UnreadableFile"), (422, "InvalidRows")), reply.body
        assert b"Traceback" not in reply.body
        assert b"s3cret" not in reply.body
    assert await rows(shop) == before


@pytest.mark.parametrize("kind", ["blocks", "imports", "extensions"])
async def test_what_http_demands_is_demanded_of_every_run(shop: Shop, api: Api, kind: str) -> None:
    before = await rows(shop)
    for path in (f"/v1/bulk/{kind}", f"/v1/bulk/{kind}/dry-run"):
        for media_type in ("text/plain", "", "text/csv; charset=latin-1", "application/json; charset=latin-1"):
            reply = await api("POST", path, b"{}", Content_Type=media_type)
            assert (reply.status, reply.problem) == (415, "NotJson")
        large = b'{"run":"' + b"a" * LARGEST_RUN + b'"}'
        reply = await api("POST", path, large)
        assert (reply.status, reply.problem) == (413, "BodyTooLarge")
        for text in (
            b"",
            b"[]",
            b"{",
            b"[" * 10_000,
            b'{"run": "a", "run": "b"}',
            b'{"rows": [{"line": 1, "line": 2}]}',
        ):
            reply = await api("POST", path, text)
            assert (reply.status, reply.problem) == (400, "BadRequest"), text[:10]
        extras: list[dict[str, object]] = [
            {"caller": "x"},
            {"run": "a b"},
            {"run": "x" * 60},
            {"own": False},
            {"run": None},
        ]
        for extra in extras:
            reply = await api("POST", path, {"run": "x", "region": "eu", "days": 1, "rows": [{"line": "x"}], **extra})
            assert (reply.status, reply.problem) == (422, "InvalidOrder"), extra
        for query in ("run=x", "x=1"):
            reply = await api("POST", f"{path}?{query}", {"run": "x", "region": "eu", "days": 1})
            assert (reply.status, reply.problem) == (422, "InvalidOrder")
        reply = await api.get(path)
        assert (reply.status, reply.problem, reply.headers["allow"]) == (405, "MethodNotAllowed", "POST")
    if kind != "extensions":
        for query in (
            "",
            "run=x&run=y",
            "run=x&reason=Shared",
            "run=x&skip_invalid=perhaps",
            "run=x&caller=y",
            "run=%00",
        ):
            reply = await api("POST", f"/v1/bulk/{kind}?{query}", b"line\nnobody99\n", Content_Type="text/csv")
            assert (reply.status, reply.problem) == (422, "InvalidOrder"), query
        too_many = {"run": "x", "reason": "Shared", "rows": [{"line": "nobody99"}] * (MOST_ITEMS + 1)}
        too_many |= {"rows": [{"username": "x"}] * (MOST_ITEMS + 1)} if kind == "imports" else {}
        too_many = {name: value for name, value in too_many.items() if kind == "blocks" or name != "reason"}
        reply = await api("POST", f"/v1/bulk/{kind}", too_many)
        assert (reply.status, reply.problem, "10000 lines at most" in reply.json["detail"]) == (
            422,
            "InvalidRows",
            True,
        )
        reply = await api("POST", f"/v1/bulk/{kind}?run=x", b"\n" + b"line\n" * 200_000, Content_Type="text/csv")
        assert (reply.status, "rows" in reply.json) == (422, False)
    assert await rows(shop) == before
    for query in ("state=odd", "limit=0", "cursor=x", "cursor=MTo5OTk5OTk5OTk5OTk", "unknown=1"):
        reply = await api.get(f"/v1/bulk/runs/nothing/items?{query}")
        assert reply.problem in ("InvalidOrder", "UnknownBulk")
    assert {"InvalidRows", "UnknownBulk", "UnreadableFile"} <= set(known_types())


async def test_the_python_client_does_the_same(shop: Shop, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.token is not None
    runs = BulkRuns(f"http://127.0.0.1:{api.port}", api.token)
    names = await opened(api, 2)
    run = BlockRun(run=run_id(), reason="Shared", rows=tuple(BlockRow(line=name) for name in names))
    plan = await runs.plan(run)
    assert [change.line for change in plan.changes] == names

    done = await runs.begin(run, patience=PATIENCE)

    assert (done.state, done.counts.done) == ("over", 2)
    assert await runs.begin(run) == await runs.show(run.run) == await runs.resume(run.run) == await runs.cancel(run.run)
    assert [(item.line, item.state) async for item in runs.items(run.run)] == [(name, "done") for name in names]
    assert [item async for item in runs.items(run.run, state="refused")] == []
    number = next(NUMBERS)
    row = ImportRow(username=f"pyt{number}", password="s3cret-3", email=f"py{number}@example.com", ends_at=ENDS_AT)
    imported = await runs.begin(ImportRun(run=run_id(), pair="eu1", rows=(row,)), patience=PATIENCE)
    assert imported.counts.done == 1
    monkeypatch.setattr("starter.bulk_runs._RUNS_A_PAGE", 1)
    assert [each async for each in runs.list()][:2] == [imported, done]
    assert await anext(runs.list(kind=BulkKind.BLOCK, state="over")) == done
    assert [each async for each in runs.list(kind=BulkKind.EXTEND, state="cancelled")] == []
    assert "s3cret" not in repr(row)
    assert api.token not in repr(runs)

    with pytest.raises(OrderConflict):
        await runs.begin(run.model_copy(update={"reason": "Another"}))
    with pytest.raises(BadRows, match="row 1 can't be carried out") as refused:
        await runs.begin(BlockRun(run=run_id(), reason="Shared", rows=(BlockRow(line="nobody99"),)))
    assert [(row.row, row.type) for row in refused.value.problems] == [(1, "UnknownLine")]
    with pytest.raises(UnknownBulk):
        await runs.show("nothing")
    with pytest.raises(UnknownBulk):
        await runs.show("no/thing?")
    with pytest.raises(UnknownRegion):
        await runs.begin(ExtendRun(run=run_id(), region="nowhere", days=1))
    with pytest.raises(InvalidRows):
        await runs.begin(BlockRun(run=run_id(), reason="x", owner=BlockOwner.ABUSE, rows=(BlockRow(line="x"),)))
    with pytest.raises(InvalidOrder):
        await runs.begin(BlockRun(run=run_id(), reason="x", rows=()))


async def test_the_python_client_names_what_keeps_it_from_asking(shop: Shop, api: Api) -> None:
    assert api.token is not None
    here = BulkRuns(f"http://127.0.0.1:{api.port}", api.token)
    nothing = await shop.token("none-bulk", frozenset({Scope.LINES_READ}))
    assert nothing.token is not None
    with pytest.raises(ScopeMissing):
        await replace(here, token=nothing.token).show("x")
    for token in ("", "twl_", f"{api.token}\r\nX: y", f"twl_{'0' * 16}_{'0' * 64}"):
        with pytest.raises(InvalidToken):
            await replace(here, token=token).show("x")
    for url in ("", "http://api.example.net", "ftp://127.0.0.1", "127.0.0.1", "https://", "http://[::1", "https://a:b"):
        with pytest.raises(Misconfigured):
            await replace(here, url=url).show("x")
    for url in ("https://127.0.0.1:9", "http://localhost:9", f"https://127.0.0.1:{api.port}", f"{here.url}/elsewhere"):
        with pytest.raises((Unavailable, InvalidOrder)):
            await replace(here, url=url).show("x")
    few = await shop.token("few-bulk", rate=1)
    assert few.token is not None
    few_runs = replace(here, token=few.token)
    with pytest.raises(UnknownBulk):
        await few_runs.show("x")
    with pytest.raises(TooManyRequests) as too_many:
        await few_runs.show("x")
    assert timedelta(0) < too_many.value.wait <= timedelta(minutes=1)
