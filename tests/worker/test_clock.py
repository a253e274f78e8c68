"""A worker whose own clock is minutes off says so once, and once that it is right again; nothing stops for it."""

import logging
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from activities.clocks import WorkerClock
from twinline.ledger import Ledger

TRUE = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Clocks:
    """Temporal's, the database's and the worker's."""

    def __init__(self) -> None:
        self.worker = self.database = TRUE

    async def now(self) -> datetime:
        return self.database

    def time(self) -> float:
        return self.worker.timestamp()


@pytest.mark.parametrize(
    ("off", "said"),
    [
        (timedelta(minutes=5), "this machine's clock is 5 min ahead of that of"),
        (timedelta(minutes=-5), "this machine's clock is 5 min behind that of"),
        (timedelta(seconds=119), None),
        (timedelta(seconds=-119), None),
    ],
)
async def test_it_is_told_once_of_whom_it_is_far(
    off: timedelta, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "twinline.clocks")
    clocks = Clocks()
    looker = WorkerClock(cast("Ledger", clocks), clocks.time)
    await looker.look(TRUE)
    assert caplog.messages == []

    clocks.worker = TRUE + off
    for _ in range(2):
        await looker.look(TRUE)
    others = [] if said is None else [f"{said} Temporal", f"{said} the ledger's database"]
    assert caplog.messages == others

    clocks.worker = TRUE
    await looker.look(TRUE)
    assert len(caplog.messages) == 2 * len(others)
    assert all("agrees again" in message for message in caplog.messages[len(others) :])


async def test_a_database_that_is_off_alone_is_told_apart_from_temporal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "twinline.clocks")
    clocks = Clocks()
    clocks.database = TRUE - timedelta(hours=3)
    await WorkerClock(cast("Ledger", clocks), clocks.time).look(TRUE)
    assert caplog.messages == ["this machine's clock is 3 h ahead of that of the ledger's database"]
