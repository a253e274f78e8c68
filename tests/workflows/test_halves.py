"""The halves of an order by themselves: what counts as over while the wanted revision moves on."""

import asyncio
from datetime import UTC, datetime
from typing import NoReturn

from twinline.messages import HalfProven, HalfRef, HalfState
from workflows.halves import Half, Halves


class Answered(Halves):
    """Its hosts answer when the test says so."""

    def __init__(self, half: Half, revision: int) -> None:
        self.changed = asyncio.Event()
        super().__init__("line", [half], revision, changed=self.changed.set, begin_anew=self._never)
        self.attempts: asyncio.Queue[asyncio.Future[HalfProven]] = asyncio.Queue()

    @staticmethod
    def _never() -> NoReturn:
        raise AssertionError

    async def _attempt(self, half: Half, *, recheck: bool) -> HalfProven:
        answer: asyncio.Future[HalfProven] = asyncio.get_running_loop().create_future()
        await self.attempts.put(answer)
        return await answer


async def test_a_half_that_proves_less_than_is_wanted_by_now_is_not_over() -> None:
    half = Half(ref=HalfRef(host="mc-eu1", protocol="multics"))
    halves = Answered(half, 1)
    halves.start()
    first = await halves.attempts.get()
    # The trial began late, and its end moved, while this host was being written.
    halves.raise_to(2)
    first.set_result(applied(1))
    second = await halves.attempts.get()
    assert not halves.over
    assert not halves.any_proven
    assert halves.proven_hosts() == ("mc-eu1",)
    halves.changed.clear()
    second.set_result(applied(2))
    await halves.changed.wait()
    assert halves.over
    assert (half.revision, half.state, half.attempts) == (2, HalfState.APPLIED, 2)


def applied(revision: int) -> HalfProven:
    return HalfProven(revision=revision, state=HalfState.APPLIED, proven_at=datetime.now(UTC))
