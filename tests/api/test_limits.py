"""How often somebody may ask, with a token and without one that counts."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from starter.desk import Desk
from starter.limits import FAILURES_A_MINUTE, WINDOW, Buckets, sender_of
from tests.api.conftest import Api, Shop, new_token, served
from twinline.tokens import NewToken, Scope

WRONG = f"twl_{'0' * 16}_{'0' * 64}"


@dataclass
class Clock:
    """Stands still until it is told to go on."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(1, 50), st.lists(st.floats(0, 30), max_size=60))
def test_no_more_pass_than_a_full_bucket_and_what_came_back_since(rate: int, gaps: list[float]) -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    passed = 0
    for gap in gaps:
        clock.now += gap
        seen, taken = buckets.look("a", rate), buckets.take("a", rate)
        assert seen == taken
        passed += not taken.exceeded
        assert passed <= rate + (clock.now - 1000.0) * rate / WINDOW + 1e-6
        if taken.exceeded:
            clock.now += taken.wait.total_seconds() + 1e-3
            assert not buckets.look("a", rate).exceeded
            assert not buckets.look("b", rate).exceeded


def test_a_bucket_that_was_not_touched_for_the_longest_time_is_forgotten_first() -> None:
    buckets = Buckets(clock=Clock(), most=2)
    for key in ("a", "b", "a", "c"):
        buckets.take(key, 1)
    assert [key in buckets for key in "abc"] == [True, False, True]


def test_a_sender_is_an_address_or_the_network_of_a_home() -> None:
    assert sender_of("203.0.113.7") != sender_of("203.0.113.8")
    assert sender_of("::ffff:203.0.113.7") == sender_of("203.0.113.7")
    assert sender_of("2001:db8::1") == sender_of("2001:db8::ffff:1:2:3")
    assert sender_of("2001:db8::1") != sender_of("2001:db8:0:1::1")
    assert sender_of("unix") == sender_of("") == ""


@dataclass
class Limited:
    """Another API before the same house, with a clock that the test turns."""

    port: int
    clock: Clock
    shop: Shop = field(repr=False)

    async def token(self, rate: int) -> Api:
        new = NewToken(caller="limited", scopes=frozenset({Scope.LINES_READ}), rate=rate)
        return Api(self.port, await new_token(self.shop.house.ledger, new))


@pytest_asyncio.fixture
async def limited(shop: Shop) -> AsyncIterator[Limited]:
    clock = Clock()
    async with served(Desk(shop.house.ledger, shop.house.twinline, clock=clock)) as port:
        yield Limited(port, clock, shop)


async def test_a_token_may_send_so_many_requests_a_minute_and_no_other_is_concerned(limited: Limited) -> None:
    api, other = await limited.token(3), await limited.token(3)
    left: list[str] = []
    for _ in range(3):
        reply = await api.get("/v1/lines?limit=1")
        assert (reply.status, reply.headers["ratelimit-policy"]) == (200, '"token";q=3;w=60')
        left.append(reply.headers["ratelimit"])
    assert left == ['"token";r=2', '"token";r=1', '"token";r=0;t=20']
    for path in ("/v1/lines", "/v1/orders/x", "/v1/lines/nobody99/events"):
        refused = await api.get(path)
        assert (refused.status, refused.problem, refused.json["retryable"]) == (429, "TooManyRequests", True)
        assert refused.headers["retry-after"] == "20"
    assert (await other.get("/v1/lines?limit=1")).status == 200
    assert (await api.get("/livez")).status == 200
    limited.clock.now += 20
    # Failures count as much as what was answered.
    assert (await api.get("/v1/lines/nobody99")).problem == "UnknownLine"
    assert (await api.get("/v1/lines")).problem == "TooManyRequests"


async def test_who_tries_tokens_is_soon_not_even_looked_at_and_locks_out_no_known_one(limited: Limited) -> None:
    known, later = await limited.token(1000), await limited.token(1000)
    assert (await known.get("/v1/lines?limit=1")).status == 200
    guess = replace(known, token=WRONG)
    for _ in range(FAILURES_A_MINUTE):
        assert (await guess.get("/v1/lines")).problem == "InvalidToken"
    for token in (WRONG, None, "nonsense", later.token):
        reply = await replace(known, token=token).get("/v1/lines?limit=1")
        assert (reply.status, reply.problem) == (429, "TooManyRequests")
        assert int(reply.headers["retry-after"]) == WINDOW // FAILURES_A_MINUTE
    assert (await known.get("/v1/lines?limit=1")).status == 200
    limited.clock.now += WINDOW
    assert (await later.get("/v1/lines?limit=1")).status == 200


async def test_behind_a_proxy_the_address_is_the_one_that_it_names(limited: Limited) -> None:
    async def status(came_from: str) -> int:
        return (await Api(limited.port, None)("GET", "/v1/lines", X_Forwarded_For=came_from)).status

    assert {await status("198.51.100.1, 203.0.113.9") for _ in range(FAILURES_A_MINUTE)} == {401}
    # The last one is whom the proxy saw; what stands before it anybody may have written.
    assert await status("198.51.100.2, 203.0.113.9") == 429
    assert await status("203.0.113.9, 203.0.113.10") == 401
