"""The port for those who watch over a process: `/metrics`, `/livez` and `/readyz`, on loopback unless told otherwise.

It answers from a thread of its own, so that it can also tell when the event loop stands still. What Temporal's SDK
counts, it serves on a port of its own; that is added to ours, so that there is one place to look at.
"""

import asyncio
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar
from urllib.request import urlopen

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from twinline.errors import TwinlineError
from twinline.ledger import Ledger
from twinline.ledger.standing import Standing, standing

log = logging.getLogger(__name__)

PATIENCE: Final = 5.0
"""Seconds for whatever is asked of the event loop or of the SDK."""
AGAIN_SECONDS: Final = 5.0
"""When a port that somebody else has is asked for again: a worker that ends keeps it for a minute."""
_TEXT: Final = "text/plain; charset=utf-8"

T = TypeVar("T")


class Readiness(NamedTuple):
    """Whether a process does its work, and each thing that it needs in a word or a sentence."""

    ready: bool
    reasons: Mapping[str, str]


class MetricsPort:
    """Serves one process until its block ends; a port that is taken is waited for, because orders must not."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        variable: str,
        ledger: Ledger | None,
        ready: Callable[[], Coroutine[Any, Any, Readiness]],
        temporal: Callable[[], Coroutine[Any, Any, bool]] | None = None,
        sdk: str | None = None,
    ) -> None:
        """`variable` is where the address comes from; `sdk` is where Temporal's SDK serves what it counts.

        `temporal` asks whether Temporal answers; without it, as without a ledger, nothing is told of that.
        """
        self._address = address
        self._variable = variable
        self._ledger = ledger
        self._ready = ready
        self._temporal = temporal
        self._sdk = sdk
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._server is not None:
            self._server.shutdown()

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, media type and body of an answer."""
        match path.partition("?")[0]:
            case "/metrics":
                return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, self._metrics()
            case "/livez":
                alive = self._in_loop(_nothing()) is not None
                said = b"ok\n" if alive else b"the event loop stands still\n"
                return HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, said
            case "/readyz":
                found = self._in_loop(self._ready()) or Readiness(
                    ready=False, reasons={"process": "does not answer in time"}
                )
                status = HTTPStatus.OK if found.ready else HTTPStatus.SERVICE_UNAVAILABLE
                body = json.dumps({"ready": found.ready, **found.reasons}).encode() + b"\n"
                return status, "application/json", body
            case _:
                return HTTPStatus.NOT_FOUND, _TEXT, b"/metrics, /livez and /readyz are here\n"

    def _serve(self) -> None:
        told = False
        while not self._ended.is_set():
            try:
                self._server = _server(self._address, self.answer)
            except OSError as error:
                if not told:
                    told = True
                    hint = f"set {self._variable} to another host:port; it is tried again meanwhile"
                    log.warning(
                        "nothing can be watched: the port is not to be had",
                        extra={"error": error.strerror, "hint": hint},
                    )
                self._ended.wait(AGAIN_SECONDS)
                continue
            with self._server:
                if not self._ended.is_set():
                    self._server.serve_forever(poll_interval=0.1)
            return

    def _metrics(self) -> bytes:
        parts = [generate_latest(REGISTRY), _text(list(self._families())), self._of_the_sdk()]
        return b"".join(parts)

    def _families(self) -> Iterable[Metric]:
        now = datetime.now(UTC)
        # Both are under way together: one that hangs must not have the scrape time out before the other is told.
        temporal = None if self._temporal is None else self._begin(self._temporal())
        ledger = None if self._ledger is None else self._begin(_standing(self._ledger, now))
        if temporal is not None:
            up = self._answer(temporal) is True
            yield GaugeMetricFamily("twinline_temporal_up", "Whether Temporal answered this time.", value=up)
        if ledger is not None:
            found = self._answer(ledger)
            up = found is not None
            yield GaugeMetricFamily("twinline_ledger_up", "Whether the ledger answered this time.", value=up)
            yield from [] if found is None else families_of(found, now)

    def _of_the_sdk(self) -> bytes:
        if self._sdk is None:
            return b""
        try:
            with urlopen(f"http://{self._sdk}/metrics", timeout=PATIENCE) as answer:
                return answer.read()
        except OSError as error:
            log.warning("the SDK does not tell what it counts", extra={"error": type(error).__name__})
            return b""

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What the event loop finds out; None when it does not in time, or can't."""
        return self._answer(self._begin(work))

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _answer(self, future: Future[T]) -> T | None:
        try:
            return future.result(PATIENCE)
        except (TooLate, TwinlineError):
            future.cancel()
            return None


async def _nothing() -> bool:
    return True


async def _standing(ledger: Ledger, now: datetime) -> Standing:
    async with ledger.read() as tx:
        return await standing(tx, now=now)


def families_of(found: Standing, now: datetime) -> list[Metric]:
    """What waits in the ledger, as metrics; several workers with one ledger show the same."""

    def age(since: datetime | None) -> float:
        return 0.0 if since is None else max(0.0, (now - since).total_seconds())

    waiting = GaugeMetricFamily("twinline_halves_waiting", "Halves that are behind.", labels=["host"])
    oldest = GaugeMetricFamily(
        "twinline_halves_waiting_oldest_seconds", "How long the one waits that waits the longest.", labels=["host"]
    )
    stuck = GaugeMetricFamily(
        "twinline_halves_stuck", "Those that wait for a person, or were given up.", labels=["host"]
    )
    state = GaugeMetricFamily(
        "twinline_host_state",
        "1 for what a host is: up, degraded, down or stopped.",
        labels=["host", "state", "reason"],
    )
    looked = GaugeMetricFamily(
        "twinline_host_looked_timestamp_seconds", "When somebody last looked whether a host answers.", labels=["host"]
    )
    lines = GaugeMetricFamily("twinline_pair_lines", "Lines that live on a pair.", labels=["pair"])
    capacity = GaugeMetricFamily("twinline_pair_capacity", "Lines that it may hold.", labels=["pair"])
    for host in found.hosts:
        waiting.add_metric([host.host], host.waiting)
        oldest.add_metric([host.host], age(host.oldest))
        stuck.add_metric([host.host], host.stuck)
        state.add_metric([host.host, host.state, host.reason], 1)
        if host.looked is not None:
            looked.add_metric([host.host], host.looked.timestamp())
    for pair in found.pairs:
        lines.add_metric([pair.pair], pair.lines)
        capacity.add_metric([pair.pair], pair.capacity)
    single = (
        ("twinline_mails_waiting", "Mails that no server has taken yet.", found.mails_waiting),
        ("twinline_mails_waiting_oldest_seconds", "How long the oldest of them waits.", age(found.oldest_mail)),
        ("twinline_grants_overdue", "Grants whose end has come and was not carried out.", found.grants_overdue),
        ("twinline_grants_overdue_oldest_seconds", "How long ago the first of them ended.", age(found.oldest_overdue)),
    )
    alone = [GaugeMetricFamily(name, about, value=value) for name, about, value in single]
    return [waiting, oldest, stuck, state, looked, lines, capacity, *alone]


class _Of(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Give what was found before."""
        return self._families


def _text(families: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Of(families))
    return generate_latest(registry)


def _server(address: tuple[str, int], answer_to: Callable[[str], tuple[HTTPStatus, str, bytes]]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        server_version, sys_version = "twinline", ""

        def do_GET(self) -> None:
            status, media_type, body = answer_to(self.path)
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep still: a scrape every few seconds is no news."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base's own
            log.info("a scrape broke off", extra={"error": type(sys.exception()).__name__})

    return Server(address, Handler)
