"""One change and many changes on a host that holds many records, by the engine alone."""

import asyncio
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.big_host import BigHost, ReloadCost, prepare, serving
from benchmarks.figures import Sample, Table, milliseconds, ratio
from benchmarks.idle import Rest
from tests.support.sshd import Sshd
from twinline.hosts.errors import HostError
from twinline.hosts.factory import daemon_for, helper_for, writer_for
from twinline.hosts.image import Image
from twinline.hosts.ports import Half
from twinline.hosts.ssh import Helper, decode, encode
from twinline.hosts.writer import HostWriter
from twinline.inventory import Host
from twinline.messages import Protocol

FIRST_PAUSE: Final = 1.0
"""Seconds until the second try, as in workflows/halves.py."""

PROTOCOLS: Final[Sequence[Protocol]] = ("multics", "oscam")


@dataclass(frozen=True)
class File:
    """One size of file, and the reload costs with which it is measured."""

    records: int
    costs: tuple[ReloadCost, ...]


@dataclass(frozen=True)
class Plan:
    """Sizes of files, how many changes `many` are, and how often each is measured."""

    files: tuple[File, ...]
    many: int
    proven_times: int
    edit_times: int
    connect_times: int
    timescale: float
    seed: int


@dataclass
class _Proven:
    """A host with a daemon: changes take until the daemon is seen to hold them."""

    big: BigHost
    writer: HostWriter
    rest: Rest
    failures: Counter[str] = field(default_factory=Counter[str])
    taken: dict[int, list[float]] = field(default_factory=dict[int, list[float]])

    async def change(self, count: int) -> float:
        await self.rest.come()
        halves = self.big.lines.renew(count)
        begun = time.perf_counter()
        await asyncio.gather(*(self._bring(half) for half in halves))
        seconds = time.perf_counter() - begun
        self.rest.after(seconds)
        return seconds

    async def _bring(self, half: Half) -> None:
        """Try as a workflow does, and count what failed: a figure that hides failed tries would be a lie."""
        while True:
            try:
                await self.writer.bring(half.line_id, half.revision)
            except HostError as error:
                self.failures[error.code] += 1
                await asyncio.sleep(FIRST_PAUSE)
            else:
                return


@dataclass
class EditOnly:
    """A host without a daemon: plan and edit, and nothing to wait for."""

    big: BigHost
    helper: Helper
    image: Image
    taken: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    trips: list[float] = field(default_factory=list[float])

    async def change(self, count: int) -> float:
        halves = self.big.lines.renew(count)
        begun = time.perf_counter()
        await self.edit(halves)
        return time.perf_counter() - begun

    async def round_trip(self) -> float:
        begun = time.perf_counter()
        await self.helper.ask("inspect")
        return time.perf_counter() - begun

    async def edit(self, halves: Sequence[Half]) -> None:
        """What the writer does of a batch, with nothing to trigger and nothing to prove."""
        plan = self.image.plan(halves, ())
        token = self.big.lines.next_token()
        answer = await self.helper.ask(
            "apply",
            {
                "token": [token.epoch, token.number],
                "batch": uuid.uuid4().hex,
                "signature": self.image.signature,
                "groups": [[[op.offset, encode(op.old), encode(op.new)] for op in group] for group in plan.groups],
                "kicks": [],
                "trigger": None,
                "probes": [],
                "deadline": 0.0,
            },
        )
        self.image.signature = answer["signature"]


@dataclass(frozen=True)
class Arrival:
    """What a worker does once per connection; seconds each."""

    connect: float
    read: float
    understand: float


async def arrive(host: Host) -> tuple[Arrival, Helper, Image]:
    """Connect to a host, start the helper, and read the file; with what each of these took."""
    begun = time.perf_counter()
    helper = await helper_for(host)
    connected = time.perf_counter()
    answer = await helper.ask("read")
    data = zlib.decompress(decode(answer["body"]))
    received = time.perf_counter()
    image = Image(daemon_for(host), data, answer["signature"], recover=answer["recover"])
    understood = time.perf_counter()
    return Arrival(connected - begun, received - connected, understood - received), helper, image


_ProvenKey = tuple[Protocol, int, ReloadCost]
_EditKey = tuple[Protocol, int]


class Edits:
    """All hosts of this measurement, open at the same time and used in turn."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._proven: dict[_ProvenKey, _Proven] = {}
        self._edits: dict[_EditKey, EditOnly] = {}
        self._arrivals: dict[_EditKey, list[Arrival]] = {}
        self._counts = (1, plan.many)

    async def open(self, stack: AsyncExitStack, folder: Path, sshd: Sshd) -> None:
        """Prepare and start every host; the stack closes them."""
        for protocol in PROTOCOLS:
            for file in self._plan.files:
                records = file.records
                for cost in file.costs:
                    await self._open_proven(stack, folder, sshd, protocol, records, cost)
                big, _ = prepare(
                    protocol,
                    folder / f"{protocol}{records}",
                    sshd,
                    records=records,
                    timescale=0.0,
                    seed=self._plan.seed,
                )
                self._edits[protocol, records] = await self._open_edit(stack, big, protocol, records)

    async def _open_proven(
        self,
        stack: AsyncExitStack,
        folder: Path,
        sshd: Sshd,
        protocol: Protocol,
        records: int,
        cost: ReloadCost,
    ) -> None:
        place = folder / f"{protocol}{records}{cost}"
        big, site = prepare(
            protocol, place, sshd, records=records, timescale=self._plan.timescale, seed=self._plan.seed
        )
        await stack.enter_async_context(serving(site, cost, timescale=self._plan.timescale))
        writer = writer_for(big.host, big.lines)
        stack.push_async_callback(writer.close)
        host = _Proven(big, writer, Rest(quiet=big.host.quiet_seconds))
        await host.change(1)
        self._proven[protocol, records, cost] = host

    async def _open_edit(self, stack: AsyncExitStack, big: BigHost, protocol: Protocol, records: int) -> EditOnly:
        arrivals: list[Arrival] = []
        for _ in range(self._plan.connect_times):
            arrival, helper, image = await arrive(big.host)
            arrivals.append(arrival)
            await helper.close()
        self._arrivals[protocol, records] = arrivals
        _, helper, image = await arrive(big.host)
        stack.push_async_callback(helper.close)
        host = EditOnly(big, helper, image)
        await host.change(1)
        return host

    async def measure(self) -> None:
        """Take every measurement in turn, again and again."""
        for _ in range(self._plan.proven_times):
            for count in self._counts:
                for host in self._proven.values():
                    host.taken.setdefault(count, []).append(await host.change(count))
        for _ in range(self._plan.edit_times):
            for count in self._counts:
                for host in self._edits.values():
                    host.trips.append(await host.round_trip())
                    host.taken.setdefault(count, []).append(await host.change(count))

    # -- what came out

    def tables(self) -> tuple[Table, Table, Table]:
        """Edits alone, changes until proven, and what a new connection costs."""
        return self._edit_table(), self._proven_table(), self._arrival_table()

    def _edit_table(self) -> Table:
        def row(key: _EditKey) -> tuple[str, ...]:
            protocol, records = key
            host = self._edits[key]
            trip = Sample.of(host.trips)
            one, many = (Sample.of(host.taken[count]) for count in self._counts)
            return (
                protocol,
                f"{records:,}",
                milliseconds(trip),
                milliseconds(one),
                ratio(one, trip),
                milliseconds(many),
                ratio(many, one),
                str(one.n),
            )

        return Table(
            "The edit alone",
            "Plan, one request over the kept channel, journal, write, sync, close; no daemon. Next to a request that "
            "only looks at the file (n is twice as many). Each change moves an end date, which needs no pause; ms.",
            (
                *("host", "records", "round trip", "1 change", "round trips"),
                *(f"{self._plan.many} changes", "times 1 change", "n"),
            ),
            tuple(row(key) for key in self._edits),
        )

    def _proven_table(self) -> Table:
        def row(key: _ProvenKey) -> tuple[str, ...]:
            protocol, records, cost = key
            one, many = (Sample.of(self._proven[key].taken[count]) for count in self._counts)
            edit = Sample.of(self._edits[protocol, records].taken[1])
            reload = "no time" if cost == "none" else "as measured"
            failures = self._proven[key].failures
            return (
                *(protocol, f"{records:,}", reload, milliseconds(one), ratio(one, edit)),
                *(milliseconds(many), ratio(many, one), str(one.n)),
                ", ".join(f"{number} {code}" for code, number in failures.items()) or "0",
            )

        return Table(
            "A change until the daemon is seen to hold it",
            "The writer on an idle host, true time: edit, reload, proof; ms. With a reload of “no time” the stand-in "
            "only reads the file; “as measured” it also takes as long as the real daemon's quadratic reload did. "
            "A failed try is repeated after 1 s, as a workflow does, and that time counts; each half of a batch "
            "counts its own.",
            (
                *("host", "records", "the daemon's reload takes", "1 change", "times the edit"),
                *(f"{self._plan.many} changes", "times 1 change", "n", "failed tries"),
            ),
            tuple(row(key) for key in self._proven),
        )

    def _arrival_table(self) -> Table:
        def row(key: _EditKey) -> tuple[str, ...]:
            protocol, records = key
            arrivals = self._arrivals[key]
            return (
                protocol,
                f"{records:,}",
                milliseconds(Sample.of([one.connect for one in arrivals])),
                milliseconds(Sample.of([one.read for one in arrivals])),
                milliseconds(Sample.of([one.understand for one in arrivals])),
                str(len(arrivals)),
            )

        return Table(
            "Once per connection",
            "Connect and send the helper, read the accounts file, find every slot in it; ms. Paid by the first batch "
            "after a start or a lost connection, and (but for the connecting) after somebody else's edit.",
            ("host", "records", "connect", "read", "find the slots", "n"),
            tuple(row(key) for key in self._arrivals),
        )
