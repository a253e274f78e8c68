"""A real sshd for the whole session, a fresh host of each kind for a test, and no secret in any log."""

import logging
import os
import shlex
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from tests.hosts.crashes import Driver, Report, running_driver
from tests.hosts.lab import STATUS_PASSWORD, Lab, run_lab
from tests.hosts.playing import make_small, play, played
from tests.hosts.scenes import Scene, Stage
from tests.support.sshd import Sshd, run_sshd
from twinline.hosts import ssh
from twinline.hosts.ssh import BOOTSTRAP
from twinline.messages import Protocol

PROTOCOLS: tuple[Protocol, ...] = ("multics", "oscam")


SECRETS = ("pw23456789abcdef", "new3456789abcdef", "other56789abcdef", "third56789abcdef", "tompass1", STATUS_PASSWORD)
"""Every password that the tests over SSH use; none may be spelled in a log."""


@pytest.fixture(autouse=True)
def no_secret_in_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test during which any logger, ours or a library's, wrote a password."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.get_records("call"):
        said = f"{record.getMessage()} {record.__dict__}"
        assert not [number for number, secret in enumerate(SECRETS) if secret in said], record.name


@pytest.fixture(autouse=True, scope="session")
def utc() -> Iterator[None]:
    """The zone of the daemons, which run in this process."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC0"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture(autouse=True)
def own_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a login on this machine calls python3, or takes to start it, is no concern of these tests."""
    monkeypatch.setattr(ssh, "BOOTSTRAP", BOOTSTRAP.replace("python3", shlex.quote(sys.executable)))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a sync costs nothing, if this machine has such a place: nothing here is about power cuts."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cheap cases; see `playing`."""
    make_small(monkeypatch)


@pytest.fixture
def stage(scene: Scene, folder: Path) -> Iterator[Stage]:
    """Where the test's scene is played."""
    with played(folder, scene.kind) as ready:
        yield ready


_watched: dict[str, Report] = {}


@pytest.fixture
def watched(scene: Scene, stage: Stage, driver: Driver, small_files: None) -> Report:
    """The test's scene when nothing goes wrong, with all files after every call; the same whoever asks."""
    if str(scene) not in _watched:
        _watched[str(scene)] = play(stage, scene, driver, watch=True)
    return _watched[str(scene)]


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    with running_driver() as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def sshd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sshd]:
    async with run_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest_asyncio.fixture(params=PROTOCOLS)
async def lab(request: pytest.FixtureRequest, folder: Path, sshd: Sshd) -> AsyncIterator[Lab]:
    async with run_lab(cast("Protocol", request.param), folder / "host", sshd) as running:
        yield running


@pytest_asyncio.fixture
async def multics(folder: Path, sshd: Sshd) -> AsyncIterator[Lab]:
    async with run_lab("multics", folder / "host", sshd) as running:
        yield running


@pytest_asyncio.fixture
async def oscam(folder: Path, sshd: Sshd) -> AsyncIterator[Lab]:
    async with run_lab("oscam", folder / "host", sshd) as running:
        yield running
