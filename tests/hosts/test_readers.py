"""Readers in each daemon's own manner, in processes of their own and without pause, through edits by the real helper.

The file is kept open all the time, so the helper gets no lease and readers may read in the middle of every edit: the
worst case, which a daemon meets only on a file that does not belong to twinline's user.

The bound is nothing wrong at all in a short run, and one record in a million in `make soak`. A read in the middle of a
write to the same page may in principle be torn (measured.md: up to 107 in a million under a writer that never pauses,
5 in 105 million with a commit byte); ours pauses, and 18 million records showed none. That wrong things
are seen at all is shown with a writer that truncates and writes again, in the last test.
"""

import asyncio
import random
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.hosts.files import carried_out, plan_for
from tests.hosts.helper_process import apply_request, helper, setup_for
from tests.hosts.histories import KEPT, Histories
from tests.hosts.judge import KINDS, Kind
from tests.hosts.lab import FOREIGN
from tests.hosts.reader import Sight, Task
from twinline.hosts.ports import Half, Wanted

SEED: Final = 1
LINES: Final = 120
"""As many that are never off, and as many that come and go."""

READERS: Final = 2


class Host:
    """An accounts file whose lines go through their histories."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.accounts = folder / "accounts"
        self.state = folder / "state"
        self._histories = Histories(SEED)
        self._luck = random.Random(SEED)  # noqa: S311 - made up, not secret
        self._kept = [f"{KEPT}{number:03d}" for number in range(LINES)]
        self._names = [f"line{number:03d}g0000" for number in range(LINES)]
        self._revisions: dict[str, int] = {}
        above = FOREIGN[kind.protocol] + b"\n"
        self.above = above + kind.daemon.filler(-len(above) % kind.daemon.width or kind.daemon.width)
        # The append begins with a newline and a comment of its own, which stand above the slots too.
        data = carried_out(self.above, plan_for(kind.daemon, self.above, [self._next(name) for name in self._kept]))
        start = min(plan_offsets(kind, data))
        self.above = data[:start]
        self.accounts.write_bytes(data)

    def _next(self, name: str) -> Half:
        revision = self._revisions[name] = self._revisions.get(name, 0) + 1
        half = self._histories.version(name, revision)
        assert half is not None
        return half

    def batch(self) -> tuple[Sequence[Half], Sequence[str]]:
        """The next changes, and whose slots can be scrubbed after them."""
        halves = [self._next(name) for name in self._luck.sample(self._kept, LINES // 2)]
        gone: list[str] = []
        for number in self._luck.sample(range(LINES), LINES // 2):
            halves.append(self._next(self._names[number]))
            if halves[-1].wanted is Wanted.ABSENT:
                gone.append(self._names[number])
                self._names[number] = f"line{number:03d}g{int(self._names[number][-4:]) + 1:04d}"
        return halves, gone

    async def edit(self, batches: int) -> int:
        """Carry out batches with the real helper; the number of records changed."""
        edits = 0
        gone: Sequence[str] = ()
        async with helper(setup_for(self.accounts, self.state, self.kind)) as running:
            image = await running.read(self.kind)
            for number in range(1, batches + 1):
                halves, after = self.batch()
                plan = image.plan(halves, gone)
                edits += len(halves) + len(gone)
                answer = await running.ask(apply_request(image, plan, number=number, batch=f"b{number}"))
                image.signature = answer["signature"]
                gone = after
        return edits


def plan_offsets(kind: Kind, data: bytes) -> Sequence[int]:
    """Where the slots stand."""
    found = kind.daemon.survey(data)
    return [*found.slots.values(), *found.free]


@asynccontextmanager
async def readers(host: Host, sights: list[Sight]) -> AsyncGenerator[None]:
    """Readers that read as long as the block lasts; what they saw is added at its end."""
    task = Task(
        protocol=host.kind.protocol, path=host.accounts, seed=SEED, above=host.above, kept=LINES
    ).model_dump_json()
    words = (sys.executable, "-m", "tests.hosts.reader", task)
    running = [await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE) for _ in range(READERS)]
    outputs = [process.stdout for process in running if process.stdout is not None]
    for output in outputs:
        assert await output.readline() == b"reading\n"
    yield
    for process, output in zip(running, outputs, strict=True):
        process.terminate()
        sights.append(Sight.model_validate_json(await output.read()))
        await process.wait()


@pytest.mark.parametrize(
    ("batches", "bound"), [(6, 0), pytest.param(300, 1, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
async def test_readers_see_only_whole_old_or_whole_new_records(
    kind: Kind, batches: int, bound: int, folder: Path
) -> None:
    host, sights = Host(kind, folder), list[Sight]()
    async with readers(host, sights):
        with host.accounts.open("rb"):
            edits = await host.edit(batches)
    records = sum(sight.records for sight in sights)
    sys.stdout.write(f"{kind.protocol}, seed {SEED}: {edits} edits, {records} records read\n")
    assert min(sight.reads for sight in sights) > 1
    found = sum(sight.wrong + sight.torn_marks for sight in sights)
    assert found <= bound * (records // 1_000_000), [sight.examples for sight in sights]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
async def test_a_writer_that_truncates_does_not_get_past_the_readers(kind: Kind, folder: Path) -> None:
    host, sights = Host(kind, folder), list[Sight]()
    data = host.accounts.read_bytes()
    async with readers(host, sights):
        for _ in range(60):
            host.accounts.write_bytes(data[: len(data) // 2])
            await asyncio.sleep(0.001)
            host.accounts.write_bytes(data)
    assert sum(sight.wrong for sight in sights) > 0
