"""Every contender's edits by latency, size of the file and number of changes, in turn within one run."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from benchmarks.accounts import Accounts, behind
from benchmarks.contenders import OURS, Contender, Design, KeptChannel, opened
from benchmarks.figures import Sample
from tests.support.sshd import Sshd
from twinline.messages import Protocol

REST_SECONDS: Final = 0.005
"""Between two edits of one host: a daemon that is deaf for no time at all still has to be seen listening."""


@dataclass(frozen=True, order=True)
class Cell:
    """What is measured: one-way delay (ms), records in the file, changes at once, and of which kind."""

    delay: int
    records: int
    count: int
    kind: Literal["renew", "add"] = "renew"


@dataclass(frozen=True)
class Course:
    """What one contender goes through, and how often."""

    design: Design
    cells: tuple[Cell, ...]
    times: int


@dataclass
class Grid:
    """All files and connections of one run, and what was measured with them."""

    sshd: Sshd
    ports: dict[int, int]
    """The relay's port by its one-way delay (ms)."""
    folder: Path
    seed: int
    taken: dict[tuple[Design, Cell], list[float]] = field(default_factory=dict[tuple[Design, Cell], list[float]])
    trips: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    """Round trips through the kept channel by delay; `execs` are those of a program that does nothing."""
    execs: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    _accounts: dict[tuple[str, int, int], Accounts] = field(default_factory=dict[tuple[str, int, int], Accounts])
    _contenders: dict[tuple[str, int, int], Contender] = field(default_factory=dict[tuple[str, int, int], Contender])
    _floors: dict[int, KeptChannel] = field(default_factory=dict[int, KeptChannel])
    _places: int = 0

    async def open(self, stack: AsyncExitStack, courses: Sequence[Course]) -> None:
        """Prepare every file and open every connection; the stack closes them."""
        for delay, port in self.ports.items():
            folder = self.place()
            folder.mkdir(parents=True)
            door = behind(self.sshd, port, folder)
            any_host = self.accounts("floor", delay, 1).host_behind(door.port, door.known_hosts)
            self._floors[delay] = floor = await KeptChannel.open(any_host)
            stack.push_async_callback(floor.close)
        for course in courses:
            for cell in course.cells:
                await self._contender(stack, course.design, cell)

    def accounts(self, design: str, delay: int, records: int) -> Accounts:
        """The file that a contender edits: ours remembers one between edits, the others can share one."""
        owner = (design, delay, records) if design in OURS else ("rivals", 0, records)
        if owner not in self._accounts:
            protocol: Protocol = "oscam" if design == "ours, OSCam" else "multics"
            self._accounts[owner] = Accounts.prepared(
                protocol, self.place(), self.sshd, records=records, seed=self.seed
            )
        return self._accounts[owner]

    def place(self) -> Path:
        """A folder that does not exist yet."""
        self._places += 1
        return self.folder / f"place{self._places}"

    def fresh(self, records: int) -> Accounts:
        """A file that nobody else edits."""
        return Accounts.prepared("multics", self.place(), self.sshd, records=records, seed=self.seed)

    async def used(self, design: Design, cell: Cell) -> tuple[Accounts, Contender]:
        """A file and the connection by which it was edited before."""
        async with AsyncExitStack() as nothing_new:
            return self.accounts(design, cell.delay, cell.records), await self._contender(nothing_new, design, cell)

    async def _contender(self, stack: AsyncExitStack, design: Design, cell: Cell) -> Contender:
        key = (design, cell.delay, cell.records if design in OURS else 0)
        if key not in self._contenders:
            accounts = self.accounts(design, cell.delay, cell.records)
            folder = self.place()
            self._contenders[key] = contender = await opened(
                design, accounts, self.sshd, self.ports[cell.delay], folder
            )
            stack.push_async_callback(contender.close)
            if design in OURS:
                # The first edit of a connection also reads the file.
                await contender.change(accounts, accounts.renewed(1))
        return self._contenders[key]

    async def measure(self, courses: Sequence[Course]) -> None:
        """Go through all courses side by side: every contender meets the same machine, whatever else it does."""
        order = random.Random(self.seed)
        rounds = max(course.times for course in courses)
        for number in range(rounds):
            due: list[tuple[Design, Cell]] = [
                (course.design, cell)
                for course in courses
                if number * course.times // rounds != (number + 1) * course.times // rounds
                for cell in course.cells
            ]
            order.shuffle(due)
            for design, cell in due:
                await self._one(design, cell)

    async def _one(self, design: Design, cell: Cell) -> None:
        floor = self._floors[cell.delay]
        self.trips.setdefault(cell.delay, []).append(await floor.round_trip())
        self.execs.setdefault(cell.delay, []).append(await floor.exec_round_trip())
        accounts = self.accounts(design, cell.delay, cell.records)
        halves = accounts.renewed(cell.count) if cell.kind == "renew" else accounts.added(cell.count)
        _, contender = await self.used(design, cell)
        self.taken.setdefault((design, cell), []).append(await contender.change(accounts, halves))
        accounts.check()
        await asyncio.sleep(REST_SECONDS)

    def sample(self, design: Design, cell: Cell) -> Sample | None:
        """What a contender took; None where it was not measured."""
        taken = self.taken.get((design, cell))
        return Sample.of(taken) if taken else None

    def floor(self, delay: int) -> Sample:
        """Round trips through the kept channel."""
        return Sample.of(self.trips[delay])

    def exec_floor(self, delay: int) -> Sample:
        """Round trips of a program that does nothing."""
        return Sample.of(self.execs[delay])
