"""The daemons' own windows at true scale, side by side: each is observed from outside, by lower bounds."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sandbox.world import MulticsHost, OscamHost, stats

TRUE = 1.0
ALICE, BOB, CAROL = (f"F: {user} pw\n" for user in ("alice", "bob", "carol"))


@dataclass(frozen=True)
class DeafWindow:
    """What was seen of one MultiCS reload; times in seconds from the close of the write."""

    reload_began: float
    visible_while_deaf: bool
    removed_dropped: float
    watching_again: float
    loaded_after: list[str]
    lost: int
    loaded_after_next_write: list[str]


async def watch_deaf_window(host: MulticsHost) -> DeafWindow:
    """Write, write again 1.5 s into the window, and once more when it is over."""
    now = asyncio.get_running_loop().time
    try:
        await host.start(ALICE + BOB, timescale=TRUE)
        async with await host.login("alice", "pw") as alice, await host.login("bob", "pw") as bob:
            # Twice at once: the second is seen too, because the reload has not begun.
            host.accounts.write_text(ALICE)
            host.accounts.write_text(ALICE + CAROL)
            written = now()
            await host.started()
            began = now()
            while "carol" not in await host.users():
                pass
            visible_while_deaf = not (await stats(host.socket)).armed
            await asyncio.sleep(began + 1.5 - now())
            host.accounts.write_text(ALICE + CAROL + "F: dave pw\n")
            await host.daemon.idle()
            armed = now()
            loaded, lost = await host.users(), (await stats(host.socket)).lost
            await host.reload(ALICE + CAROL + "F: dave pw\n")
            assert bob.closed_at is not None
            assert alice.connected
            return DeafWindow(
                reload_began=began - written,
                visible_while_deaf=visible_while_deaf,
                removed_dropped=bob.closed_at - written,
                watching_again=armed - written,
                loaded_after=loaded,
                lost=lost,
                loaded_after_next_write=await host.users(),
            )
    finally:
        await host.stop()


async def watch_expiry_tick(host: MulticsHost) -> float:
    """Seconds from the start to the kick of a client whose date is long past."""
    now = asyncio.get_running_loop().time
    try:
        await host.start("F: alice pw { enddate=2020-01-01 }\n", timescale=TRUE)
        started = now()
        async with await host.login("alice", "pw") as receiver:
            await receiver.closed.wait()
            assert receiver.closed_at is not None
            return receiver.closed_at - started
    finally:
        await host.stop()


async def watch_oscam_kick(host: OscamHost) -> float:
    """Seconds from the swap of the lists to the end of a session whose password was changed."""
    now = asyncio.get_running_loop().time

    async def swap() -> float:
        await host.daemon.log.until("accounts freed")
        return now()

    try:
        await host.start("[account]\nuser = alice\npwd = old\n", timescale=TRUE)
        async with await host.login("alice", "old") as receiver:
            swapped = asyncio.create_task(swap())
            await host.reinit("[account]\nuser = alice\npwd = new\n")
            await receiver.closed.wait()
            assert receiver.closed_at is not None
            return receiver.closed_at - await swapped
    finally:
        await host.stop()


@dataclass(frozen=True)
class Observations:
    """The observations under way."""

    deaf_window: asyncio.Task[DeafWindow]
    expiry_tick: asyncio.Task[float]
    oscam_kick: asyncio.Task[float]


@pytest.fixture(scope="module")
async def observations(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Observations]:
    """All observations, begun at once so that the module takes as long as the longest of them."""

    def place(name: str) -> Path:
        return tmp_path_factory.mktemp(name)

    under_way = Observations(
        asyncio.create_task(watch_deaf_window(MulticsHost(place("window")))),
        asyncio.create_task(watch_expiry_tick(MulticsHost(place("tick")))),
        asyncio.create_task(watch_oscam_kick(OscamHost(place("kick")))),
    )
    yield under_way
    await asyncio.gather(under_way.deaf_window, under_way.expiry_tick, under_way.oscam_kick, return_exceptions=True)


async def test_multics_is_deaf_for_two_seconds_and_drops_the_removed_after_one(
    observations: Observations,
) -> None:
    seen = await observations.deaf_window
    assert seen.reload_began >= 0.02
    assert seen.visible_while_deaf
    assert seen.removed_dropped >= 1.0
    assert seen.watching_again >= 2.0
    assert seen.removed_dropped < seen.watching_again
    assert (seen.loaded_after, seen.lost) == (["alice", "carol"], 1)
    assert seen.loaded_after_next_write == ["alice", "carol", "dave"]


async def test_oscam_drops_a_changed_password_one_second_after_the_swap(observations: Observations) -> None:
    assert await observations.oscam_kick >= 0.9


async def test_multics_looks_for_expired_clients_every_ten_seconds(observations: Observations) -> None:
    assert await observations.expiry_tick >= 9.9
