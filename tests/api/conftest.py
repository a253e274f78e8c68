"""The API under a running uvicorn on loopback, in front of a house whose hosts obey at once."""

import asyncio
import http.client
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from starter.api.app import create_app
from starter.api.serving import listen, serve
from starter.desk import Desk
from tests.support.temporal import dev_server
from tests.workflows.house import House, run_house
from twinline.keys import KeyRing
from twinline.ledger import Ledger, tokens
from twinline.tokens import NewToken, Scope
from twinline.ui import workflow_page

EVERYTHING = frozenset(Scope)
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Reply:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The name of the problem that this must be."""
        assert self.headers["content-type"] == PROBLEM, (self.status, self.body)
        assert self.json["status"] == self.status
        assert self.json["title"]
        assert self.json["detail"]
        assert self.json["hint"]
        return str(self.json["type"]).removeprefix("/api/errors/")


@dataclass(frozen=True)
class Api:
    """Asks the API with one token, as a storefront would."""

    port: int
    token: str | None

    async def __call__(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """One request; a body that is no bytes goes as JSON; an underscore in a header's name stands for a hyphen."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return await asyncio.to_thread(self._ask, method, path, data, sent)

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    async def get(self, path: str) -> Reply:
        """Look at something."""
        return await self("GET", path)

    async def pages(self, path: str) -> AsyncGenerator[Any]:
        """Every page of a list; the path has a query already."""
        asked = path
        while asked:
            page = (await self.get(asked)).json
            yield page
            asked = f"{path}&cursor={page['cursor']}" if page["cursor"] else ""

    async def post(self, kind: str, *, wait: int = 30, **fields: Any) -> Reply:
        """Place an order, and wait for its end."""
        return await self("POST", f"/v1/{kind}", fields, Prefer=f"wait={wait}")


@asynccontextmanager
async def served(desk: Desk) -> AsyncGenerator[int]:
    """The API in front of a desk, on a port of loopback, until the block ends."""
    listener, stop = listen("127.0.0.1", 0), asyncio.Event()
    serving = asyncio.create_task(serve(create_app(desk), listener, ready=lambda: None, stop=stop))
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        await serving


async def new_token(ledger: Ledger, new: NewToken) -> str:
    """The text of a new token."""
    async with ledger.write() as tx:
        return (await tokens.create_token(tx, new, actor="test", now=datetime.now(UTC))).token


TEMPORAL_UI = "https://temporal.example.net"


def page_of(workflow_id: str) -> str:
    """Where Temporal's web interface would show a workflow."""
    return workflow_page(TEMPORAL_UI, "default", workflow_id)


@dataclass(frozen=True)
class Shop:
    """The house with the API in front of it."""

    house: House
    port: int
    temporal_ui: str = TEMPORAL_UI

    async def token(
        self,
        caller: str = "shop",
        scopes: frozenset[Scope] = EVERYTHING,
        *,
        reseller: bool = False,
        rate: int = 1_000_000,
    ) -> Api:
        """The API for somebody with a new token, which may send as much as it likes unless a rate is given."""
        new = NewToken(caller=caller, scopes=scopes, reseller=reseller, rate=rate)
        return Api(self.port, await new_token(self.house.ledger, new))


@pytest_asyncio.fixture(scope="session")
async def shop(tmp_path_factory: pytest.TempPathFactory, key_ring: KeyRing) -> AsyncIterator[Shop]:
    async with (
        # Of its own: on a shared one the workers of another house, with another ledger, would take its orders.
        dev_server() as server,
        run_house(tmp_path_factory.mktemp("house"), key_ring, await server.connect(key_ring)) as house,
        # tests/api/test_limits.py has its own, where nobody may fail that often.
        served(Desk(house.ledger, house.twinline, page=page_of, failures=1_000_000)) as port,
    ):
        yield Shop(house, port)


@pytest_asyncio.fixture(scope="session")
async def api(shop: Shop) -> Api:
    """For a caller that may do everything."""
    return await shop.token()


@pytest_asyncio.fixture(scope="session")
async def line(api: Api) -> str:
    """A line of the caller `shop`."""
    reply = await api.post("trials", order="the-line", email="line@example.com", region="eu")
    assert reply.status == 201, reply.body
    return str(reply.json["receipt"]["username"])
