"""One embedded world with its worker for the whole session, and the command line run inside it."""

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from starter.cli import app
from tests.cli.alone import Alone, prepare
from tests.support.sshd import die_with_parent
from tests.support.world import FAST
from twinline.sandbox.sites import PairPlan
from twinline.sandbox.world import World

GRACE = 1.5
WORKER_LOG = "worker.log"
SCRIPT = "from starter.cli import main; main()"


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """Runs `twinline` in this process, in a thread with an event loop of its own, with this environment."""

    env: Mapping[str, str] = field(default_factory=dict[str, str])

    def with_env(self, **changes: str) -> "Cli":
        """The same with other variables."""
        return Cli({**self.env, **changes})

    async def __call__(self, *words: str) -> Said:
        """Run one command; a mistake of ours in it is raised here."""
        # xdist tells its workers a width; what we start writes to no terminal.
        env = {"COLUMNS": None, **self.env}
        result = await asyncio.to_thread(CliRunner().invoke, app, words, env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what the worker of its world said last."""
    report = yield
    cli = item.funcargs.get("cli")
    if report.failed and isinstance(cli, Cli) and "TWINLINE_INVENTORY" in cli.env:
        log = Path(cli.env["TWINLINE_INVENTORY"]).parent / WORKER_LOG
        said = log.read_text().splitlines() if log.exists() else []
        report.sections.append((f"{WORKER_LOG} at {time.strftime('%X')}", "\n".join(said[-40:])))
    return report


@pytest.fixture(scope="session")
def bare() -> Cli:
    """The command line on a machine without any setting."""
    return Cli({name: "" for name in os.environ if name.startswith("TWINLINE_")})


async def start_script(
    script: str, *words: str, env: Mapping[str, str], stderr: int = PIPE, inherited: Sequence[int] = ()
) -> Process:
    """Start a Python script with our packages as a process that ends with us."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, *words),
        env={**os.environ, **env},
        stdout=PIPE,
        stderr=stderr,
        pass_fds=inherited,
        preexec_fn=die_with_parent,
    )


class WorkerProcess:
    """`twinline worker`, stopped and started again as tests need it."""

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        self._env = env
        self._log = log
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it and wait until it says that it polls."""
        with self._log.open("ab") as log:
            self._process = await start_script(SCRIPT, "worker", env=self._env, stderr=log.fileno())
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"ready\n", self._log.read_text()

    async def stop(self) -> int:
        """Ask it to end; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return await self._process.wait()


@pytest_asyncio.fixture(scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Two pairs, one of which has room for a single line; without a worker."""
    pairs = (PairPlan("eu1", region="eu"), PairPlan("us1", region="us", capacity=1))
    folder = tmp_path_factory.mktemp("world")
    async with World(folder, pairs=pairs, timescale=FAST, grace=GRACE, delay_notice=60) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def worker(world: World) -> AsyncIterator[WorkerProcess]:
    """The worker of the world."""
    running = WorkerProcess(world.env, world.folder / WORKER_LOG)
    await running.start()
    yield running
    assert await running.stop() == 0


@pytest_asyncio.fixture(scope="session")
async def cli(world: World, worker: WorkerProcess) -> Cli:
    """The command line in the world, with a worker."""
    return Cli(world.env)


@pytest_asyncio.fixture(scope="session")
async def line(cli: Cli) -> str:
    """A line in region eu that tests may change as long as it is served again at the end."""
    said = await cli("trial", "line@example.com", "--region", "eu", "--order", "the-line", "--json")
    assert said.code == 0, said.err
    return str(said.json["username"])


@pytest.fixture
def inventory_file(world: World, tmp_path: Path) -> Path:
    """A copy of the inventory to spoil, which still finds the world's keys."""
    text = Path(world.env["TWINLINE_INVENTORY"]).read_text()
    folder = world.folder
    text = text.replace('"keys/', f'"{folder}/keys/').replace('"known_hosts"', f'"{folder}/known_hosts"')
    copy = tmp_path / "inventory.toml"
    copy.write_text(text)
    return copy


@pytest_asyncio.fixture(scope="session")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """A machine on which everything is set and nothing answers."""
    return await prepare(tmp_path_factory.mktemp("alone"))
