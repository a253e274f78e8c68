"""Group commit without a host: who waits, who is told what, and how often a host that is down is asked."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.hosts.judge import daemon_of
from tests.hosts.lab import MemoryLedger
from twinline.hosts.errors import HostUnreachable
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

    async def report_failure(self, host: str, line_ids: Sequence[str], code: str) -> None:
        raise ConnectionError("the database is away")


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
    with pytest.raises(ValueError, match="no half"):
        await writer.bring("nobody", 1)
