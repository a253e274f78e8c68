"""Two HTTP APIs on one Temporal server, each in a process of its own: `twinline web`, and the least there can be."""

import asyncio
import os
import sys
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Container, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from temporalio.client import Client

from benchmarks import bare_api
from benchmarks.arena import CALLER, connected
from benchmarks.callers import HOST, Answered, Question, ask
from benchmarks.cpu import seconds_of
from benchmarks.noop_runner import NoopRunner, run_noop
from twinline.keys import KeyRing
from twinline.ledger import Ledger, tokens
from twinline.sandbox.processes import Program, free_port, inherited_environment
from twinline.sandbox.world import World
from twinline.tokens import NewToken, Scope

FAST: Final = 0.05
MANY: Final = 1_000_000
"""Requests a minute, so that no limit is met."""
AT_ONCE: Final = {"Prefer": "wait=0"}
"""From a caller who does not wait until a refusal could be told."""
PATIENT: Final = {"Prefer": "wait=30"}


@dataclass(frozen=True)
class Burst:
    """Requests of many callers at the same time; CPU seconds by what used them."""

    answered: Answered
    api: float
    temporal: float
    worker: float
    ourselves: float

    @property
    def per_second(self) -> float:
        """Requests answered per second."""
        return len(self.answered.latencies) / self.answered.seconds


class Door(ABC):
    """An API, with the worker of what it starts."""

    def __init__(self, world: World, client: Client, api: Program, port: int) -> None:
        self._world = world
        self._client = client
        self._api = api
        self._port = port
        self._number = 0

    @abstractmethod
    def order(self) -> Question:
        """What a caller sends who orders something new, and does not wait."""

    @abstractmethod
    def _workflow_id(self, number: int) -> str: ...

    @property
    @abstractmethod
    def _worker_pid(self) -> int | None: ...

    async def burst(self, questions: Sequence[Question], *, callers: int) -> Burst:
        """Have that many callers send them all."""
        before = self._used()
        answered = await ask(self._port, questions, callers=callers)
        return Burst(answered, *(late - early for early, late in zip(before, self._used(), strict=True)))

    def _used(self) -> tuple[float, float, float, float]:
        pids = (self._api.pid, self._world.temporal.pid, self._worker_pid, os.getpid())
        api, temporal, worker, ourselves = (0.0 if pid is None else seconds_of(pid) for pid in pids)
        return api, temporal, worker, ourselves

    async def come_to_rest(self, orders: int) -> None:
        """Wait until the last orders, so many, are done."""
        numbers = range(self._number - orders + 1, self._number + 1)
        handles = [self._client.get_workflow_handle(self._workflow_id(number)) for number in numbers]
        await asyncio.gather(*(handle.result() for handle in handles))

    def _next(self) -> int:
        self._number += 1
        return self._number


class BareDoor(Door):
    """A FastAPI endpoint that starts a no-op workflow."""

    def __init__(self, world: World, client: Client, api: Program, port: int, noop: NoopRunner) -> None:
        super().__init__(world, client, api, port)
        self._noop = noop

    def order(self) -> Question:
        """As many fields as a purchase."""
        order = f"b{self._next()}"
        fields = {"order": order, "email": f"{order}@example.org", "region": "eu", "days": 30}
        return Question.post(bare_api.PATH, fields, headers={}, wanted=(202,))

    def look(self) -> Question:
        """What nobody has to be asked for."""
        return Question.get(f"{bare_api.PATH}/b1", headers={}, wanted=(200,))

    def _workflow_id(self, number: int) -> str:
        return bare_api.workflow_id(f"b{number}")

    @property
    def _worker_pid(self) -> int | None:
        return self._noop.worker_pid


class TwinlineDoor(Door):
    """`twinline web` with its ledger, and a token of a shop."""

    def __init__(self, world: World, client: Client, api: Program, port: int, token: str) -> None:
        super().__init__(world, client, api, port)
        self._token = {"Authorization": f"Bearer {token}"}

    def order(self) -> Question:
        """A purchase for a new customer."""
        return self._purchase(self._next(), wanted=(202,))

    def as_sent_by_default(self) -> Question:
        """The same, of a caller who says nothing about waiting."""
        return self._purchase(self._next(), wanted=(201, 202), headers={})

    def again(self) -> Question:
        """The first purchase once more."""
        return self._purchase(1, wanted=(200,), headers=PATIENT)

    def another_body(self) -> Question:
        """The id of the first purchase, for something else."""
        return self._purchase(1, wanted=(422,), days=31)

    def bad_field(self) -> Question:
        """An address that can't be one."""
        return self._purchase(1, wanted=(422,), email="nobody")

    def stranger(self, number: int) -> Question:
        """A token of the right form that nobody made, from an address of its own: who fails often is not answered."""
        headers = {"Authorization": f"Bearer twl_{number:016x}_{number:064x}"}
        headers["X-Forwarded-For"] = str(IPv4Address("198.18.0.0") + number)
        return Question.get(self._where(1), headers=headers, wanted=(401,))

    def look(self) -> Question:
        """The first purchase, which is done."""
        return Question.get(self._where(1), headers=self._token, wanted=(200,))

    def look_at_last(self) -> Question:
        """The last purchase, which no worker has seen."""
        return Question.get(self._where(self._number), headers=self._token, wanted=(200,))

    def _where(self, number: int) -> str:
        return f"/v1/orders/purchase~p{number}"

    def _purchase(
        self,
        number: int,
        *,
        wanted: Container[int],
        days: int = 30,
        email: str | None = None,
        headers: dict[str, str] = AT_ONCE,
    ) -> Question:
        order = f"p{number}"
        fields = {"order": order, "email": email or f"{order}@example.org", "region": "eu", "days": days}
        return Question.post("/v1/purchases", fields, headers={**self._token, **headers}, wanted=wanted)

    def _workflow_id(self, number: int) -> str:
        return f"purchase/{CALLER}/p{number}"

    @property
    def _worker_pid(self) -> int | None:
        return self._world.worker_pid


@dataclass(frozen=True)
class Doors:
    """Both, and how what works behind them is stopped."""

    bare: BareDoor
    twinline: TwinlineDoor
    world: World
    noop: NoopRunner

    async def leave_orders_alone(self) -> None:
        """Stop both workers, so that orders wait in Temporal."""
        await self.world.stop_worker()
        await self.noop.stop()


@asynccontextmanager
async def run_doors(folder: Path) -> AsyncGenerator[Doors]:
    """Start a world with both APIs and both workers, and send an order through each before anything is measured."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(World(folder, timescale=FAST))
        await world.start_worker()
        client = await connected(world)
        noop = await stack.enter_async_context(run_noop(world, client))
        port = free_port()
        bare = await _started(stack, _bare_api(world, port))
        doors = Doors(
            bare=BareDoor(world, client, bare, port, noop),
            twinline=await _twinline_door(stack, world, client),
            world=world,
            noop=noop,
        )
        for door in (doors.bare, doors.twinline):
            await door.burst([door.order()], callers=1)
            await door.come_to_rest(1)
        yield doors


async def _twinline_door(stack: AsyncExitStack, world: World, client: Client) -> TwinlineDoor:
    port = free_port()
    api = await _started(stack, _web(world, port))
    return TwinlineDoor(world, client, api, port, await _token(world))


async def _token(world: World) -> str:
    keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
    ledger = await Ledger.open(world.env["TWINLINE_DATABASE_URL"], keys=keys)
    try:
        async with ledger.write() as tx:
            scopes = frozenset({Scope.PURCHASES_CREATE, Scope.LINES_READ})
            new = NewToken(caller=CALLER, scopes=scopes, rate=MANY)
            return (await tokens.create_token(tx, new, actor="bench", now=datetime.now(UTC))).token
    finally:
        await ledger.close()


async def _started(stack: AsyncExitStack, program: Program) -> Program:
    await program.start()
    stack.push_async_callback(program.stop)
    return program


def _bare_api(world: World, port: int) -> Program:
    folder = world.folder / "bare"
    folder.mkdir()
    return Program(
        "the bare API",
        (
            *(sys.executable, "-P", "-m", "benchmarks.bare_api"),
            *(world.temporal.address, world.env["TWINLINE_KEYS"], str(port)),
        ),
        environment=inherited_environment(),
        folder=folder,
    )


def _web(world: World, port: int) -> Program:
    folder = world.folder / "web"
    folder.mkdir()
    return Program(
        "twinline web",
        (str(Path(sysconfig.get_path("scripts")) / "twinline"), "web"),
        environment=inherited_environment() | world.env | {"TWINLINE_HTTP": f"{HOST}:{port}"},
        folder=folder,
    )
