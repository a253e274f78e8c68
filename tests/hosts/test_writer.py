"""Group commit without a host: who waits, who is told what, and how often a host that is down is asked."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from tests.hosts.judge import daemon_of
from tests.hosts.lab import MemoryLedger
from twinline.errors import UnknownLine
from twinline.hosts import writer as writing
from twinline.hosts.errors import HostUnreachable
from twinline.hosts.ports import Proven
from twinline.hosts.reads import ProvenReads
from twinline.hosts.ssh import Helper
from twinline.hosts.writer import HostWriter


class Down:
    """A host that can't be reached; counts how often it was tried, and lets a test decide when a try ends."""

    def __init__(self) -> None:
        self.tries = 0
        self.tried = asyncio.Event()
        self.answer = asyncio.Event()

    async def __call__(self) -> Helper:
        self.tries += 1
        self.tried.set()
        await self.answer.wait()
        raise HostUnreachable("no SSH connection")


class DeafLedger(MemoryLedger):
    """A ledger that can't take reports."""

    async def report_failure(self, host: str, tried: Mapping[str, int], code: str) -> None:
        raise ConnectionError("the database is away")


class SlowLedger(MemoryLedger):
    """A ledger whose answer is on its way until a test lets it arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.read = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def proven(self, host: str, line_ids: Sequence[str]) -> Mapping[str, Proven]:
        answer = await super().proven(host, line_ids)
        self.read.set()
        await self.may_answer.wait()
        return answer


def writer_on(ledger: MemoryLedger, down: Down) -> HostWriter:
    return HostWriter("mc-eu1", daemon=daemon_of("multics"), ledger=ledger, start_helper=down)


async def settled(tasks: Sequence["asyncio.Task[object]"]) -> list[object]:
    return list(await asyncio.gather(*tasks, return_exceptions=True))


async def test_a_host_that_is_down_is_tried_once_for_all_who_wait() -> None:
    ledger, down = MemoryLedger(), Down()
    writer = writer_on(ledger, down)
    halves = [ledger.want(f"guest{number}", "pw23456789abcdef") for number in range(50)]
    waiting = [asyncio.create_task(writer.bring(each.line_id, 1)) for each in halves]
    await asyncio.sleep(0)
    down.answer.set()
    outcomes = await settled(waiting)
    assert all(isinstance(outcome, HostUnreachable) for outcome in outcomes)
    assert down.tries == 1
    assert sorted(ledger.failures) == sorted((each.line_id, "HostUnreachable") for each in halves)
    await writer.close()


async def test_a_host_that_is_down_is_not_asked_again_for_each_batch_that_is_to_be_written_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "BATCH_LIMIT", 2)
    ledger, down = MemoryLedger(), Down()
    writer = writer_on(ledger, down)
    down.answer.set()
    names = [ledger.want(f"guest{number}", "pw23456789abcdef").line_id for number in range(5)]
    outcomes = await writer.restore(names)
    assert list(outcomes) == names
    assert all(isinstance(outcome, HostUnreachable) for outcome in outcomes.values())
    assert down.tries == 1
    await writer.close()


async def test_nobody_waits_for_ever_when_not_even_the_failure_can_be_recorded() -> None:
    ledger, down = DeafLedger(), Down()
    down.answer.set()
    writer = writer_on(ledger, down)
    halves = [ledger.want(f"guest{number}", "pw23456789abcdef") for number in range(3)]
    outcomes = await settled([asyncio.create_task(writer.bring(each.line_id, 1)) for each in halves])
    assert all(isinstance(outcome, HostUnreachable | ConnectionError) for outcome in outcomes)
    # The writer is still good for another try.
    with pytest.raises((HostUnreachable, ConnectionError)):
        await writer.bring("guest0", 1)
    await writer.close()


async def test_who_waits_is_released_when_the_writer_closes() -> None:
    ledger, down = MemoryLedger(), Down()
    writer = writer_on(ledger, down)
    waiting = asyncio.create_task(writer.bring(ledger.want("guest", "pw23456789abcdef").line_id, 1))
    await down.tried.wait()
    await writer.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_line_without_a_half_is_refused_at_once() -> None:
    writer = writer_on(MemoryLedger(), Down())
    with pytest.raises(UnknownLine, match="no half"):
        await writer.bring("nobody", 1)


async def test_all_who_ask_at_once_share_one_read_of_the_ledger() -> None:
    ledger, down = MemoryLedger(), Down()
    writer = writer_on(ledger, down)
    down.answer.set()
    halves = [ledger.want(f"guest{number}", "pw23456789abcdef") for number in range(50)]
    for each in halves:
        ledger.known[each.line_id] = Proven(each.line_id, 1, each.wanted)
    outcomes = await settled([asyncio.create_task(writer.bring(each.line_id, 1)) for each in halves])
    assert outcomes == list(ledger.known.values())
    assert ledger.reads == [50]


async def test_who_asks_while_the_ledger_is_read_gets_a_read_of_his_own() -> None:
    ledger = SlowLedger()
    reads = ProvenReads("mc-eu1", ledger)
    half = ledger.want("guest", "pw23456789abcdef")
    early = asyncio.create_task(reads.of(half.line_id))
    await ledger.read.wait()
    ledger.known[half.line_id] = Proven(half.line_id, 1, half.wanted)
    late = asyncio.create_task(reads.of(half.line_id))
    await asyncio.sleep(0)
    ledger.may_answer.set()
    assert (await early).revision == 0
    assert (await late).revision == 1


async def test_a_probe_of_a_host_that_is_down_tells_who_asked_and_nobody_else() -> None:
    ledger, down = MemoryLedger(), Down()
    down.answer.set()
    writer = writer_on(ledger, down)
    outcomes = await settled([asyncio.create_task(writer.probe()) for _ in range(3)])
    assert all(isinstance(outcome, HostUnreachable) for outcome in outcomes)
    assert (down.tries, ledger.said) == (1, [])
    await writer.close()


async def test_a_probe_that_finds_a_batch_at_a_host_that_is_down_learns_what_it_learns() -> None:
    ledger, down = MemoryLedger(), Down()
    writer = writer_on(ledger, down)
    half = ledger.want("guest", "pw23456789abcdef")
    waiting: list[asyncio.Task[object]] = [asyncio.create_task(writer.bring(half.line_id, 1))]
    await down.tried.wait()
    waiting.append(asyncio.create_task(writer.probe()))
    await asyncio.sleep(0)
    down.answer.set()
    outcomes = await settled(waiting)
    assert all(isinstance(outcome, HostUnreachable) for outcome in outcomes)
    assert (down.tries, ledger.said) == (1, ["HostUnreachable"])
    await writer.close()


async def test_a_probe_that_nobody_waits_for_any_more_asks_no_host() -> None:
    ledger, down = MemoryLedger(), Down()
    writer = writer_on(ledger, down)
    first = asyncio.create_task(writer.probe())
    await down.tried.wait()
    second = asyncio.create_task(writer.probe())
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    down.answer.set()
    await settled([first, second])
    with pytest.raises(HostUnreachable):
        await writer.probe()
    assert down.tries == 2
    await writer.close()


async def test_who_waits_for_a_probe_is_released_when_the_writer_closes() -> None:
    writer = writer_on(MemoryLedger(), down := Down())
    waiting = asyncio.create_task(writer.probe())
    await down.tried.wait()
    await writer.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
