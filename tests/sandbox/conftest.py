"""Stand-ins that run inside the test's own event loop, on free loopback ports."""

import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.sandbox.world import MulticsHost, OscamHost


@pytest.fixture
async def multics(tmp_path: Path) -> AsyncIterator[MulticsHost]:
    """A MultiCS host, not yet started; what was started is stopped afterwards."""
    host = MulticsHost(tmp_path)
    yield host
    await host.stop()


@pytest.fixture
async def oscam(tmp_path: Path) -> AsyncIterator[OscamHost]:
    """An OSCam host, not yet started; what was started is stopped afterwards."""
    host = OscamHost(tmp_path)
    yield host
    await host.stop()


@pytest.fixture
def timezone() -> Iterator[type["Zone"]]:
    """Sets the C library's zone of this process for one test."""
    before = os.environ.get("TZ")
    yield Zone
    Zone.set(before)


class Zone:
    """The time zone of the process."""

    @staticmethod
    def set(name: str | None) -> None:
        if name is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = name
        time.tzset()
