"""When all of ours is dead, each daemon ends a line by itself, by its own date and never early."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from time import struct_time
from typing import Any

import pytest

from tests.hosts.lab import FAR, Lab
from twinline.sandbox import multics as multics_stand_in
from twinline.sandbox import oscam as oscam_stand_in
from twinline.sandbox.receiver import LoginRefused

NAME, PASSWORD = "rosewood22", "pw23456789abcdef"


class OtherTime:
    """What a stand-in takes for the module `time`: the clock shows what a test says, everything else is as it is."""

    def __init__(self, shown: datetime) -> None:
        self.shown = shown
        self.looks = 0

    def time(self) -> float:
        self.looks += 1
        return self.shown.timestamp()

    def localtime(self, seconds: float | None = None) -> struct_time:
        return time.localtime(self.time() if seconds is None else seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    async def looked_at(self) -> None:
        """Until the daemon has gone by this clock once more from beginning to end."""
        seen = self.looks
        while self.looks < seen + 2:  # noqa: ASYNC110 - the daemon tells nobody that it looks
            await asyncio.sleep(0.01)


async def test_multics_ends_a_line_at_the_first_full_hour_and_not_a_second_before(
    multics: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await multics.bring(multics.ledger.want(NAME, PASSWORD, ends_at=FAR))
    session = await multics.login(NAME, PASSWORD)
    hour = FAR.replace(minute=0, second=0) + timedelta(hours=1)
    clock = OtherTime(hour - timedelta(seconds=1))
    monkeypatch.setattr(multics_stand_in, "time", clock)
    await multics.writer.close()

    await clock.looked_at()
    await session.ping()
    clock.shown = hour
    await session.closed.wait()
    with pytest.raises(LoginRefused):
        await multics.login(NAME, PASSWORD)


async def test_oscam_serves_a_line_to_the_end_of_its_day_and_no_longer(
    oscam: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await oscam.bring(oscam.ledger.want(NAME, PASSWORD, ends_at=FAR))
    midnight = datetime(FAR.year, FAR.month, FAR.day, tzinfo=UTC) + timedelta(days=1)
    clock = OtherTime(midnight - timedelta(seconds=1))
    monkeypatch.setattr(oscam_stand_in, "time", clock)
    await oscam.writer.close()

    async with await oscam.login(NAME, PASSWORD):
        assert "(expired)" not in await oscam.page(f"/oscamapi.html?part=userstats&label={NAME}")
        clock.shown = midnight
        assert "(expired)" in await oscam.page(f"/oscamapi.html?part=userstats&label={NAME}")
