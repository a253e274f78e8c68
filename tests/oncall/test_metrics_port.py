"""The port of those who watch: it waits for its address, and tells when the event loop stands still."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from twinline import metrics_port
from twinline.metrics_port import MetricsPort, Readiness
from twinline.sandbox.processes import free_port


def ask(url: str) -> tuple[int, bytes]:
    try:
        with urlopen(url, timeout=30) as answer:  # noqa: S310 - our own URL
            return answer.status, answer.read()
    except HTTPError as refused:
        return refused.code, refused.read()


async def fine() -> Readiness:
    return Readiness(ready=True, reasons={"ledger": "ok"})


async def away() -> Readiness:
    return Readiness(ready=False, reasons={"ledger": "does not answer"})


async def until_served(url: str) -> tuple[int, bytes]:
    """Ask until somebody listens."""
    while True:
        try:
            return await asyncio.to_thread(ask, url)
        except OSError:
            await asyncio.sleep(0.01)


async def test_a_port_that_is_taken_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metrics_port, "AGAIN_SECONDS", 0.01)
    holder = socket.create_server(("127.0.0.1", 0))
    address = ("127.0.0.1", int(holder.getsockname()[1]))
    with MetricsPort(address, variable="TWINLINE_METRICS", ledger=None, ready=fine):
        while not caplog.records:  # noqa: ASYNC110 - a thread of its own logs it
            await asyncio.sleep(0.01)
        assert "TWINLINE_METRICS" in caplog.records[0].__dict__["hint"]
        holder.close()
        base = f"http://127.0.0.1:{address[1]}"
        assert await until_served(f"{base}/readyz") == (200, b'{"ready": true, "ledger": "ok"}\n')
        assert (await asyncio.to_thread(ask, f"{base}/nothing"))[0] == 404
    assert len(caplog.records) == 1
    with pytest.raises(OSError, match=r"refused|reset"):
        await asyncio.to_thread(ask, f"{base}/livez")


async def test_who_is_not_ready_or_stands_still_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_port, "PATIENCE", 0.2)
    port = free_port()
    with MetricsPort(("127.0.0.1", port), variable="X", ledger=None, ready=away):
        base = f"http://127.0.0.1:{port}"
        assert await until_served(f"{base}/readyz") == (503, b'{"ready": false, "ledger": "does not answer"}\n')
        assert await asyncio.to_thread(ask, f"{base}/livez") == (200, b"ok\n")
        # Asked from the loop itself, which therefore can't answer.
        assert ask(f"{base}/livez") == (503, b"the event loop stands still\n")
        assert ask(f"{base}/readyz")[0] == 503


@pytest.mark.parametrize(
    ("answers", "told"), [(True, b"\ntwinline_temporal_up 1.0\n"), (False, b"\ntwinline_temporal_up 0.0\n")]
)
async def test_whether_temporal_answers_is_told(answers: bool, told: bytes) -> None:  # noqa: FBT001 - a case
    async def temporal() -> bool:
        return answers

    port = free_port()
    with MetricsPort(("127.0.0.1", port), variable="X", ledger=None, ready=fine, temporal=temporal):
        _, shown = await until_served(f"http://127.0.0.1:{port}/metrics")
    assert told in shown


def test_ages_are_seconds_and_never_below_zero() -> None:
    from twinline.ledger.standing import Standing

    moment = datetime(2026, 11, 26, tzinfo=UTC)
    ahead = moment + timedelta(seconds=5)
    found = Standing(hosts=(), pairs=(), mails_waiting=1, oldest_mail=ahead, grants_overdue=1, oldest_overdue=moment)

    def told(name: str, now: datetime) -> float:
        return next(each.samples[0].value for each in metrics_port.families_of(found, now) if each.name == name)

    assert told("twinline_grants_overdue_oldest_seconds", ahead) == 5
    assert told("twinline_mails_waiting_oldest_seconds", moment) == 0
