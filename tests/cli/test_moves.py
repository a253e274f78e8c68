"""Moves through the command line, with two pairs that are real but for the daemons, and receivers that watch."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from tests.cli.conftest import Cli, Said
from tests.support.world import FAST
from twinline.sandbox.receiver import LoginRefused, Receiver
from twinline.sandbox.sites import PairPlan
from twinline.sandbox.world import World

OLD, NEW = ("mc-eu1", "os-eu1"), ("mc-us1", "os-us1")
OVERLAP_HOURS = 0.0003


@pytest_asyncio.fixture(scope="module")
async def wide_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Two pairs in two regions, with a worker."""
    pairs = (PairPlan("eu1", region="eu"), PairPlan("us1", region="us"))
    async with World(tmp_path_factory.mktemp("wide"), pairs=pairs, timescale=FAST, grace=1.5) as world:
        await world.start_worker()
        yield world


@pytest.fixture
def wide(wide_world: World) -> Cli:
    """The command line in that world."""
    return Cli(wide_world.env)


def flat(said: Said) -> str:
    """What it said, without line breaks."""
    return " ".join(said.out.split())


async def on_trial(wide: Cli, email: str) -> tuple[str, str]:
    """A line on the pair `eu1`; its name and password."""
    opened = await wide("trial", email, "--region", "eu", "--order", f"T-{email.partition('@')[0]}", "--json")
    assert opened.code == 0, opened.out
    name = opened.json["username"]
    return name, (await wide("line", "show", name, "--reveal", "--json")).json["password"]


async def until_ready(wide: Cli, order: str) -> dict[str, Any]:
    """The receipt of a move once its new pair is ready and the customer told."""
    async with asyncio.timeout(30):
        while True:
            shown = await wide("order", "show", order, "--json")
            receipt: dict[str, Any] = shown.json
            mail: dict[str, Any] = receipt["mail"] or {}
            if "old_until" in receipt and mail.get("state") == "accepted":
                return receipt


async def watching(
    stack: AsyncExitStack, world: World, hosts: tuple[str, str], line: tuple[str, str]
) -> list[Receiver]:
    """Receivers that are logged in on both hosts."""
    return [await stack.enter_async_context(await world.receiver(host, *line)) for host in hosts]


async def test_a_customer_watches_by_the_old_pair_until_the_break_and_by_the_new_one_throughout(
    wide: Cli, wide_world: World
) -> None:
    line = await on_trial(wide, "mona@example.com")
    async with AsyncExitStack() as stack:
        old = await watching(stack, wide_world, OLD, line)
        began = wide("move", line[0], "--pair", "us1", "--order", "M-1", "--overlap", str(OVERLAP_HOURS), "--no-wait")
        assert (await began).code == 5
        receipt = await until_ready(wide, "M-1")
        new = await watching(stack, wide_world, NEW, line)
        for receiver in old:
            await receiver.closed.wait()
            # Only the break closes them, and it does not come before the customer was told it would.
            assert datetime.now(UTC) >= datetime.fromisoformat(receipt["old_until"])

        done = await wide(
            *("move", line[0], "--pair", "us1", "--order", "M-1", "--overlap", str(OVERLAP_HOURS)), "--timeout", "30"
        )

        assert done.code == 0, done.out
        assert "mc-us1 and os-us1 serve the line; mc-eu1 and os-eu1 hold it no longer; the mail was" in flat(done)
        for receiver in new:
            assert receiver.connected
            await receiver.ping()
    for host in OLD:
        with pytest.raises(LoginRefused):
            await wide_world.receiver(host, *line)
    assert (await wide("host", "check")).code == 0
    again = await wide("move", line[0], "--pair", "us1", "--order", "M-2", "--json")
    assert (again.code, again.json["type"]) == (4, "SamePair")


async def test_in_the_overlap_both_pairs_serve_and_a_close_reaches_all_four(wide: Cli, wide_world: World) -> None:
    line = await on_trial(wide, "nils@example.com")
    before = [wide_world.read_accounts(host) for host in OLD]
    async with AsyncExitStack() as stack:
        old = await watching(stack, wide_world, OLD, line)
        assert (await wide("move", line[0], "--pair", "us1", "--order", "M-3", "--no-wait")).code == 5
        await until_ready(wide, "M-3")
        new = await watching(stack, wide_world, NEW, line)
        for receiver in (*old, *new):
            await receiver.ping()
        assert [wide_world.read_accounts(host) for host in OLD] == before, "nothing is written before the break"

        shown = await wide("order", "show", "M-3")
        assert shown.code == 5
        assert "All 4 halves serve the line; the old pair (mc-eu1 and os-eu1) is kept until" in " ".join(
            shown.out.split()
        )
        second = await wide("move", line[0], "--pair", "eu1", "--order", "M-4", "--json")
        assert (second.code, second.json["type"], second.json["retryable"]) == (4, "MoveRunning", True)

        closed = await wide("close", line[0], "--order", "C-3", "--yes", "--timeout", "30")
        assert closed.code == 0, closed.out
        assert "All 4 halves refuse the line" in flat(closed)
        for receiver in (*old, *new):
            await receiver.closed.wait()
