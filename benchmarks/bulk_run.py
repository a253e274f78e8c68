"""A bulk run of thousands for real: `python -m benchmarks.bulk_run [ITEMS [MINUTES]]` extends lines, and prints.

Temporal, worker, ledger and hosts are real, the daemons are stand-ins four times as fast as true ones. The lines are
imported into the ledger without orders of their own, and written to the hosts by Reconcile. While the run goes on,
some of the last lines are blocked, and the worker is killed in the middle. The figures are judged by people:
docs/bulk.md.
"""

import asyncio
import os
import random
import statistics
import string
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlmodel import col, func, select, update
from temporalio.client import Client

from benchmarks.arena import connected
from benchmarks.cpu import seconds_of
from benchmarks.script import say
from starter import bulk
from starter.cli.hosts_checked import expected_on, inspect_all
from starter.client import Twinline
from twinline.bulk import BulkExtend, BulkImport, BulkKind, NewBulk, bulk_workflow_id
from twinline.hosts.check import Verdict
from twinline.keys import KeyRing
from twinline.ledger import Ledger, imports, models
from twinline.ledger import bulk as in_ledger
from twinline.ledger.bulk_judged import judge
from twinline.messages import BlockOrder, ImportOrder, order_workflow_id
from twinline.rows import Row
from twinline.sandbox.processes import inherited_environment
from twinline.sandbox.sites import PairPlan
from twinline.sandbox.world import DEMO_TIMESCALE, World

ITEMS: Final = 10_000
MINUTES: Final = 40.0
BLOCKS: Final = 8
"""Spread over the run, and as many when it is over and everything rests."""
EVERY: Final = 5.0
"""Seconds between two looks at the run."""
SEED: Final = 7
PAIRS: Final = (PairPlan("eu1", region="eu"), PairPlan("eu2", region="eu"))
CALLER: Final = "bench"
AT_A_TIME: Final = 200
OLD: Final = NewBulk(caller=CALLER, run="old-system", job=BulkImport())
RUN: Final = NewBulk(caller=CALLER, run="outage", job=BulkExtend(days=1, region="eu"))


@dataclass
class Found:
    """What was seen of the run."""

    items: int = 0
    seconds: float = 0.0
    cpu: Mapping[str, float] = field(default_factory=dict[str, float])
    looks: list[float] = field(default_factory=list[float])
    """Seconds of a look at how all items stand."""
    shows: list[float] = field(default_factory=list[float])
    """Seconds of `twinline bulk show`, a process of its own."""
    memory: dict[str, int] = field(default_factory=dict[str, int])
    """Bytes at most, of worker and server."""
    during: list[float] = field(default_factory=list[float])
    resting: list[float] = field(default_factory=list[float])
    """Seconds from a block's order to the proof by both hosts."""
    killed_at: int = 0
    histories: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Events and bytes of each execution of the run's workflow."""
    wrong: list[str] = field(default_factory=list[str])


class Bench:
    """A world with lines, and the run that goes through them."""

    def __init__(self, world: World, ledger: Ledger, client: Client) -> None:
        self._world = world
        self._ledger = ledger
        self._client = client
        self._twinline = Twinline(client)
        self.found = Found()
        self._names: list[str] = []
        self._blocked: list[str] = []

    async def import_lines(self, items: int) -> None:
        """Take so many lines over, and have them written and proven."""
        ends_at, chance = (datetime.now(UTC) + timedelta(days=90)).isoformat(), random.Random(SEED)
        rows = [
            Row(
                number,
                {
                    "username": f"line{number:05}",
                    "password": "".join(chance.choices(string.ascii_letters + string.digits, k=16)),
                    "email": f"line{number:05}@example.com",
                    "ends_at": ends_at,
                },
            )
            for number in range(items)
        ]
        asked, now = bulk.items_of(BulkKind.IMPORT, rows, {"region": "eu"}), datetime.now(UTC)
        async with self._ledger.write() as tx:
            bulk_id = await in_ledger.record_bulk(tx, OLD, asked, await judge(tx, OLD, asked, now=now), now=now)
        while await self._import_some(bulk_id):
            pass
        say("writing them to the hosts …")
        await self._twinline_says("drift", "repair", "--yes", "--timeout", "900")
        async with self._ledger.write() as tx:
            await tx.session.exec(update(models.Order).values(settled_at=datetime.now(UTC)))
            self._names = list(await tx.session.exec(select(models.Line.username).order_by(models.Line.username)))

    async def _import_some(self, bulk_id: str) -> int:
        async with self._ledger.write() as tx:
            todo = await in_ledger.next_items(tx, bulk_id, limit=AT_A_TIME)
            for work in todo:
                assert isinstance(work.order, ImportOrder)
                workflow_id = order_workflow_id(work.order)
                await imports.record_import(tx, work.order, now=datetime.now(UTC), workflow_id=workflow_id)
            placed = [in_ledger.Placed(item_id=work.item_id, refused=None) for work in todo]
            await in_ledger.note_placed(tx, bulk_id, placed, now=datetime.now(UTC))
        return len(todo)

    async def extend(self, items: int, minutes: float) -> None:
        """Give each a day, with blocks in between and the worker killed in the middle."""
        began, processes, found = time.perf_counter(), self._processes(), self.found
        before = {name: seconds_of(pid) for name, pid in processes.items()}
        lost, blocks = dict.fromkeys(processes, 0.0), asyncio.Queue[int]()
        at = [items * (number + 1) // (BLOCKS + 1) for number in range(BLOCKS)]
        blocker = asyncio.create_task(self._block_when_told(blocks))
        await bulk.begin(self._ledger, self._twinline, RUN)
        say(f"begun after {time.perf_counter() - began:.1f} s")
        shown = time.perf_counter()
        while True:
            look = time.perf_counter()
            view = await bulk.view(self._ledger, CALLER, RUN.run)
            found.looks.append(time.perf_counter() - look)
            self._weigh()
            placed = view.counts.placed
            if view.state != "running" and view.counts.open == 0:
                break
            if time.perf_counter() - began > minutes * 60:
                found.wrong.append(f"ended by the clock: {view.counts}")
                break
            while at and placed >= at[0]:
                blocks.put_nowait(at.pop(0))
            if not found.killed_at and placed >= items // 2:
                found.killed_at = placed
                lost["worker"] = seconds_of(processes["worker"]) - before["worker"]
                await self._world.kill_worker()
                await self._world.start_worker()
                processes, before = self._processes(), {**before, "worker": 0.0}
            if time.perf_counter() - shown > 30:
                shown = time.perf_counter()
                await self._show()
                rate = placed / (time.perf_counter() - began)
                say(f"{time.perf_counter() - began:6.0f} s: {placed} of {items}, {rate:.2f} a second, {view.counts}")
            await asyncio.sleep(EVERY)
        found.items, found.seconds = view.counts.done, time.perf_counter() - began
        found.cpu = {name: lost[name] + seconds_of(pid) - before[name] for name, pid in processes.items()}
        blocks.put_nowait(-1)
        await blocker
        if view.counts.waiting:
            await bulk.stop(self._ledger, CALLER, RUN.run, actor="bench")

    async def block_resting(self) -> None:
        """The same blocks when nothing else goes on."""
        for number in range(BLOCKS):
            self.found.resting.append(await self._block(f"rest-{number}"))

    async def look_back(self, items: int) -> None:
        """What the run left in Temporal, in the ledger and on the hosts."""
        found = self.found
        async for each in self._client.list_workflows(f'WorkflowId = "{bulk_workflow_id(CALLER, RUN.run)}"'):
            told = await self._client.get_workflow_handle(each.id, run_id=each.run_id).fetch_history()
            found.histories.append((len(told.events), sum(event.ByteSize() for event in told.events)))
        line, grant, order = models.Line, models.Grant, models.Order
        async with self._ledger.read() as tx:
            other = select(grant.line_id).group_by(grant.line_id).having(func.count() != 2)
            not_two = len((await tx.session.exec(other)).all())
            extensions = (await tx.session.exec(select(func.count()).where(order.kind == "extension"))).one()
            out = sorted(await tx.session.exec(select(line.username).where(col(line.state) != "present")))
        if (extensions, not_two) != (found.items, items - found.items):
            found.wrong.append(f"{extensions} extensions, {not_two} lines without two grants")
        if out != sorted(self._blocked):
            found.wrong.append(f"blocked {sorted(self._blocked)}, not served {out}")
        hosts = self._world.inventory.hosts
        for findings in await inspect_all(hosts, await expected_on(self._ledger, hosts)):
            found.wrong += [
                f"{one.subject}: {one.item}: {one.message}"
                for one in findings
                if one.item in ("lines", "loaded accounts") and one.verdict is not Verdict.OK
            ]

    async def _block_when_told(self, told: asyncio.Queue[int]) -> None:
        while (at := await told.get()) >= 0:
            seconds = await self._block(f"at-{at}")
            say(f"a block at {at} items was proven after {seconds:.2f} s")
            self.found.during.append(seconds)

    async def _block(self, case: str) -> float:
        name = self._names[-1 - len(self._blocked)]
        self._blocked.append(name)
        order, began = BlockOrder(caller="abuse", case=case, line=name, reason="Shared."), datetime.now(UTC)
        await self._twinline.place(order, patience=timedelta(minutes=10))
        half, line = models.Half, models.Line
        async with self._ledger.read() as tx:
            query = select(half.proven_at).join(line, col(line.id) == half.line_id).where(line.username == name)
            moments = [moment for moment in await tx.session.exec(query) if moment is not None]
        return (max(moments) - began).total_seconds()

    async def _show(self) -> None:
        began = time.perf_counter()
        await self._twinline_says("bulk", "show", RUN.run, "--caller", CALLER, "--json")
        self.found.shows.append(time.perf_counter() - began)

    async def _twinline_says(self, *words: str) -> None:
        program = str(Path(sysconfig.get_path("scripts")) / "twinline")
        env = inherited_environment() | self._world.env
        process = await asyncio.create_subprocess_exec(program, *words, env=env, stdout=asyncio.subprocess.DEVNULL)
        if await process.wait() not in (0, 5):
            self.found.wrong.append(f"{words} ended with {process.returncode}")

    def _processes(self) -> dict[str, int]:
        pids = {"worker": self._world.worker_pid, "server": self._world.temporal.pid}
        return {name: pid for name, pid in pids.items() if pid is not None}

    def _weigh(self) -> None:
        for name, pid in self._processes().items():
            self.found.memory[name] = max(self.found.memory.get(name, 0), _resident(pid))


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


async def measure(folder: Path, items: int, minutes: float) -> Found:
    """Go through a whole run of so many items, for so many minutes at most."""
    async with World(folder / "world", pairs=PAIRS, timescale=DEMO_TIMESCALE) as world:
        await world.start_worker()
        keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
        ledger = await Ledger.open(world.env["TWINLINE_DATABASE_URL"], keys=keys)
        try:
            bench = Bench(world, ledger, await connected(world))
            say(f"{items} lines first …")
            began = time.perf_counter()
            await bench.import_lines(items)
            say(f"which took {time.perf_counter() - began:.0f} s")
            await bench.extend(items, minutes)
            await bench.block_resting()
            await bench.look_back(items)
            return bench.found
        finally:
            await ledger.close()


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "never"
    return f"median {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s, n = {len(seconds)}"


def main() -> None:
    """Measure and print; ends with 1 if something was not as it should be."""
    items = int(sys.argv[1]) if len(sys.argv) > 1 else ITEMS
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else MINUTES
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="twinline-bench-") as folder:
        found = asyncio.run(measure(Path(folder), items, minutes))
    print(f"{found.items} of {items} items done in {found.seconds:.0f} s: {found.items / found.seconds:.2f} a second")
    print("CPU:", ", ".join(f"{name} {each / max(found.items, 1):.3f} s an item" for name, each in found.cpu.items()))
    print("memory at most:", ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in found.memory.items()))
    print("a look at all items:", _spread(found.looks))
    print("`bulk show`:", _spread(found.shows))
    print("a block, meanwhile:", _spread(found.during))
    print("a block, at rest:", _spread(found.resting))
    print(f"worker killed at {found.killed_at}, events and bytes of histories: {found.histories}")
    print(f"load of the machine: {load:.1f} before, {os.getloadavg()[0]:.1f} after; seed {SEED}")
    print("wrong:", found.wrong or "nothing")
    sys.stdout.flush()
    os._exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
