"""Whatever is sent: a problem, never a trace, never a 500, and nothing changed."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlmodel import func, select
from starlette.routing import Route

from starter.api.app import ROUTERS, create_app
from starter.api.bodies import LARGEST_BODY
from starter.api.orders import EXAMPLES, KINDS
from starter.api.problems import PAGES, known_types
from starter.desk import Desk
from tests.api.conftest import Api, Shop
from tests.api.described import OF_TOKENS, OPERATIONS, WITH_BODY, Operation, fits
from tests.support.hostile import NASTY
from twinline.errors import Misconfigured
from twinline.ledger import models, tokens
from twinline.tokens import NewToken, Scope

VALUES = (
    st.sampled_from(NASTY)
    | st.text(max_size=40)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=5), st.integers(), max_size=2)
)
FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


async def rows(shop: Shop) -> dict[str, int]:
    """How much there is of everything that an order leaves behind."""
    tables = (
        *(models.Line, models.Order, models.Grant, models.Block, models.Event, models.Mail, models.TrialRequest),
        *(models.Bulk, models.BulkItem),
    )
    async with shop.house.ledger.read() as tx:
        return {
            table.__name__: (await tx.session.exec(select(func.count()).select_from(table))).one() for table in tables
        }


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[Operation, dict[str, Any]]:
    """An operation and a body that its description rules out, because a field or two do not fit."""
    operation = draw(st.sampled_from(WITH_BODY))
    assert operation.body is not None
    schema = operation.body["schema"]
    body: dict[str, Any] = {**operation.body["example"]}
    fields = sorted({*schema["properties"], "caller", "token", "password", "__class__"})
    for name in draw(st.lists(st.sampled_from(fields), min_size=1, max_size=3, unique=True)):
        if name in body and draw(st.booleans()):
            del body[name]
        else:
            body[name] = draw(VALUES)
    assume(not fits(schema, body))
    return operation, body


@FEW
@given(spoiled())
async def test_no_field_of_any_body_can_break_anything(
    shop: Shop, api: Api, asked: tuple[Operation, dict[str, Any]]
) -> None:
    operation, body = asked
    before = await rows(shop)
    reply = await api(operation.method, operation.address(order_id="nothing", username="nobody99"), body)
    assert reply.status in (400, 422), (operation.name, reply.status, reply.body, body)
    assert reply.problem in known_types()
    assert str(reply.status) in operation.described["responses"]
    for secret in (b"Traceback", b"jane@example.com", b"203.0.113"):
        assert secret not in reply.body
    assert await rows(shop) == before


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if "{" in each.path], ids=lambda each: each.name)
async def test_no_name_in_any_address_can_break_anything(shop: Shop, api: Api, operation: Operation) -> None:
    before = await rows(shop)
    body = None if operation.body is None else operation.body["example"]
    names = [parameter["name"] for parameter in operation.parameters if parameter["in"] == "path"]
    for nasty in (*NASTY, "\ud800".encode("utf-8", "surrogatepass"), "~", "trial~", "%00", "a" * 5000):
        address = operation.address(**{name: quote(nasty, safe="") for name in names})
        reply = await api(operation.method, address, body)
        assert (reply.status, reply.problem) in (
            (404, "UnknownOrder"),
            (404, "UnknownLine"),
            (404, "UnknownBulk"),
            (404, "NoSuchPath"),
            # Two dots, or nothing, lead to another path.
            (405, "MethodNotAllowed"),
            (422, "InvalidOrder"),
        ) or (nasty == "" and reply.status == 200), (address, reply.status, reply.body)
    assert await rows(shop) == before


def test_all_but_these_needs_a_token_and_is_described() -> None:
    open_to_all = {operation.name for operation in OPERATIONS if not operation.needs_token}
    assert open_to_all == {"GET /livez", "GET /readyz", "GET /api/errors/{name}"}
    app = create_app(Desk.__new__(Desk))
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    assert {route.path for route in routes if not route.include_in_schema} == {"/api"}
    assert {route.path for route in app.routes if isinstance(route, Route)} == {"/api/openapi.json"}
    described = {(operation.method, operation.path) for operation in OPERATIONS}
    assert described == {
        (method, each.path) for each in routes if each.include_in_schema for method in each.methods or ()
    }


@pytest_asyncio.fixture(scope="module")
async def over(shop: Shop) -> tuple[str, ...]:
    """Tokens that counted once: one expired, one revoked, one replaced; and a secret under the id of another."""
    now, new = datetime.now(UTC), NewToken(caller="shop", scopes=frozenset(Scope), days=30)
    async with shop.house.ledger.write() as tx:
        expired, revoked, replaced, other, whole = [
            await tokens.create_token(tx, new, actor="test", now=now - timedelta(days=age)) for age in (31, 3, 3, 3, 3)
        ]
        await tokens.revoke_token(tx, revoked.token_id, actor="test", now=now)
        then = now - timedelta(days=2)
        await tokens.replace_token(tx, replaced.token_id, overlap=timedelta(days=1), days=30, actor="test", now=then)
    foreign = f"twl_{other.token_id}_{whole.token.rpartition('_')[2]}"
    return expired.token, revoked.token, replaced.token, foreign


@pytest.mark.parametrize("operation", OF_TOKENS, ids=lambda each: each.name)
async def test_whatever_needs_a_token_needs_one_that_counts_and_allows_it(
    shop: Shop, api: Api, line: str, over: tuple[str, ...], operation: Operation
) -> None:
    names = {"username": line, "order_id": "the-line"}
    body = None if operation.body is None else {**operation.body["example"]}
    if body is not None and "line" in body:
        body["line"] = line
    nothing = await shop.token("shop", frozenset({Scope.CREDENTIALS_READ}))
    assert nothing.token is not None
    before = await rows(shop)
    for token in (None, "", "twl_", f"{nothing.token}0", "'; DROP TABLE api_token; --", *over):
        reply = await replace(api, token=token)(operation.method, operation.address(**names), body)
        assert (reply.status, reply.problem) == (401, "InvalidToken")
        assert reply.headers["www-authenticate"].startswith("Bearer")
    # It shows passwords of lines, but alone no line.
    reply = await nothing(operation.method, operation.address(**names), body)
    assert (reply.status, reply.problem) == (403, "ScopeMissing")
    assert line not in reply.body.decode()
    for method in ("PUT", "DELETE", "PATCH"):
        reply = await api(method, operation.address(**names))
        assert (reply.status, reply.problem) == (405, "MethodNotAllowed")
        assert reply.headers["allow"]
    assert await rows(shop) == before


@pytest.mark.parametrize("operation", OF_TOKENS, ids=lambda each: each.name)
async def test_a_parameter_that_there_is_not_is_no_parameter(api: Api, operation: Operation) -> None:
    known = {parameter["name"] for parameter in operation.parameters if parameter["in"] == "query"}
    if not known:
        return
    for query in ("unknown=1", "limit=1&limit=x", "limit=%00", "cursor=%ff", "limit=" + "9" * 5000):
        reply = await api(operation.method, f"{operation.address()}?{query}")
        assert (reply.status, reply.problem) == (422, "InvalidOrder"), query


@FEW
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: json.dumps(text).encode()))
async def test_no_body_can_break_anything(shop: Shop, api: Api, body: bytes) -> None:
    before = await rows(shop)
    for kind in ("trials", "blocks"):
        reply = await api("POST", f"/v1/{kind}", body)
        assert (reply.status, reply.problem) in ((400, "BadRequest"), (422, "InvalidOrder"))
    assert await rows(shop) == before


@pytest.mark.parametrize("kind", KINDS)
async def test_what_http_demands_is_demanded_of_every_order(shop: Shop, api: Api, kind: str) -> None:
    body = json.dumps(EXAMPLES[kind]).encode()
    before = await rows(shop)
    path = f"/v1/{kind}"
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "", "application/json; charset=latin-1"):
        reply = await api("POST", path, body, Content_Type=media_type)
        assert (reply.status, reply.problem) == (415, "NotJson")
    large = b'{"order":"' + b"a" * LARGEST_BODY + b'"}'
    reply = await api("POST", path, large)
    assert (reply.status, reply.problem) == (413, "BodyTooLarge")
    texts = (
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"order": NaN}',
        b"[" * 10_000,
        b'"\\ud800"',
        b"\xff{}",
        b'{"days":' + b"9" * 5000,
    )
    for text in (*texts, b'{"order": "A-1", "order": "A-2"}', b'{"order": {"a": 1, "a": 2}}'):
        reply = await api("POST", path, text)
        assert (reply.status, reply.problem) == (400, "BadRequest"), text[:10]
    for extra in ("caller", "password", "revision", "order\x00"):
        reply = await api("POST", path, {**EXAMPLES[kind], extra: "x"})
        assert (reply.status, reply.problem) == (422, "InvalidOrder")
    for key in ("a b", "x" * 300, "a/b", "jane@example.com", '"'):
        without = {name: value for name, value in EXAMPLES[kind].items() if name not in ("order", "case")}
        reply = await api("POST", path, without, Idempotency_Key=key)
        assert (reply.status, reply.problem) == (422, "InvalidOrder")
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        reply = await api(method, path)
        assert (reply.status, reply.problem, reply.headers["allow"]) == (405, "MethodNotAllowed", "POST")
    assert await rows(shop) == before


async def test_a_body_without_a_length_is_bounded_too(api: Api) -> None:
    assert api.token is not None
    head = (
        f"POST /v1/trials HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(head.encode())
    chunk = b"1000\r\n" + b"a" * 4096 + b"\r\n"
    writer.write(chunk * (LARGEST_BODY // 4096 + 1))
    await writer.drain()
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer


async def test_bytes_that_are_no_http_are_a_problem_too(api: Api) -> None:
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(sent + b"\r\n\r\n")
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"content-type: application/problem+json" in head
        assert json.loads(body)["type"] == "/api/errors/BadRequest"


async def test_a_body_that_is_cut_off_leaves_nothing_in_the_log(
    shop: Shop, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    before = await rows(shop)
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = f"POST /v1/trials HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\nContent-Length: 100\r\n"
    writer.write(f'{head}Content-Type: application/json\r\n\r\n{{"order": "A-1'.encode())
    await writer.drain()
    writer.close()
    assert (await api.get("/livez")).status == 200
    assert caplog.text == ""
    assert await rows(shop) == before


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=many",
        "state=gone",
        "behind=perhaps",
        "region=EU%00",
        "pair=%27%3B--",
        "cursor=k7mq3xw9ab",
        "cursor=%00",
        "cursor=MTo",
        "cursor=" + "a" * 300,
        "unknown=1",
        "limit=1&limit=x",
    ],
)
async def test_a_query_that_can_not_be_is_told(api: Api, query: str) -> None:
    reply = await api.get(f"/v1/lines?{query}")
    if query == "cursor=MTo":  # the beginning of everything
        assert reply.status == 200
    else:
        assert (reply.status, reply.problem) == (422, "InvalidOrder")


async def test_paths_that_there_are_not_are_problems_too(api: Api) -> None:
    for path in ("/", "/v1", "/v1/", "/v2/trials", "/v1/lines/", "/docs", "/api/errors/Nothing"):
        reply = await replace(api, token=None).get(path)
        assert (reply.status, reply.problem) == (404, "NoSuchPath"), path


async def test_a_mistake_of_ours_tells_nothing_of_our_inside(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for mistake in (ValueError("secret-of-ours"), Misconfigured("secret-of-ours", hint="secret-of-ours")):

        async def broken(*_: object, mistake: Exception = mistake, **__: object) -> None:
            raise mistake

        monkeypatch.setattr(Desk, "place", broken)
        caplog.clear()
        reply = await api("POST", "/v1/trials", EXAMPLES["trials"])
        assert (reply.status, reply.problem) == (500, "InternalError")
        assert b"secret-of-ours" not in reply.body
        assert type(mistake).__name__ in caplog.text
        assert "secret-of-ours" not in caplog.text.replace('"secret-of-ours"', "")


async def test_every_type_has_a_page_and_every_page_a_type(api: Api) -> None:
    assert {page.stem for page in PAGES.iterdir()} == set(known_types())
    for name, meaning in known_types().items():
        page = (await replace(api, token=None).get(f"/api/errors/{name}")).body.decode()
        assert page.startswith(f"# {name}\n\n{meaning}\n\nStatus ")
        assert len(page.splitlines()) > 5


async def test_it_says_whether_orders_can_be_taken(api: Api) -> None:
    anybody = replace(api, token=None)
    assert (await anybody.get("/livez")).body == b"ok\n"
    # Temporal knows of a worker once it has asked for work.
    while (ready := await anybody.get("/readyz")).json["workers"] != "ok":
        assert ready.status == 200
    assert (ready.status, ready.json) == (200, {"ready": True, "ledger": "ok", "temporal": "ok", "workers": "ok"})
