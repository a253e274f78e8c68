"""A real sshd for the whole session, and a fresh host of each kind for a test."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from tests.hosts.lab import Lab, run_lab
from tests.support.sshd import Sshd, run_sshd
from twinline.messages import Protocol

PROTOCOLS: tuple[Protocol, ...] = ("multics", "oscam")


@pytest_asyncio.fixture(scope="session")
async def sshd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sshd]:
    async with run_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest_asyncio.fixture(params=PROTOCOLS)
async def lab(request: pytest.FixtureRequest, tmp_path: Path, sshd: Sshd) -> AsyncIterator[Lab]:
    async with run_lab(cast("Protocol", request.param), tmp_path / "host", sshd) as running:
        yield running


@pytest_asyncio.fixture
async def multics(tmp_path: Path, sshd: Sshd) -> AsyncIterator[Lab]:
    async with run_lab("multics", tmp_path / "host", sshd) as running:
        yield running


@pytest_asyncio.fixture
async def oscam(tmp_path: Path, sshd: Sshd) -> AsyncIterator[Lab]:
    async with run_lab("oscam", tmp_path / "host", sshd) as running:
        yield running
