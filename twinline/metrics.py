"""What this process counts, in Prometheus' way; `twinline.metrics_port` shows it.

Labels are names of the inventory, kinds and outcomes, and never a line, an order or a person.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, Info, disable_created_metrics

_WAITS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 90, 180, 300, 900, 3600, 14_400, 86_400)
"""Seconds; 90 is the grace."""
_MOMENTS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# Of every counter when it began: nobody asks, and it doubles what is shown.
disable_created_metrics()

BUILD: Final = Info("twinline_build", "Which twinline this is.")
BUILD.info({"version": version("twinline")})

ORDERS: Final = Counter(
    "twinline_orders", "Orders that ended: done, partly, unserved, cancelled or refused.", ["kind", "outcome"]
)
ORDER_SECONDS: Final = Histogram(
    "twinline_order_seconds", "From an order to its end, mail included.", ["kind"], buckets=_WAITS
)
ORDER_PROVEN_SECONDS: Final = Histogram(
    "twinline_order_proven_seconds",
    "From an order to the proof of the last of its halves; not of orders that ended without one.",
    ["kind"],
    buckets=_WAITS,
)
HALF_SECONDS: Final = Histogram(
    "twinline_half_proven_seconds", "From a change to its proof by the running daemon.", ["host"], buckets=_WAITS
)

BATCHES: Final = Counter(
    "twinline_host_batches",
    'Batches by outcome: "done", or the name of the error that stopped all of it.',
    ["host", "outcome"],
)
EDITS: Final = Counter("twinline_host_edits", "Edits of the accounts file.", ["host"])
RELOADS: Final = Counter("twinline_host_reloads", "Reloads that were asked of the daemon.", ["host"])
KICKS: Final = Counter("twinline_host_kicks", "Sessions that had to be closed for a new password.", ["host"])
UNPROVEN: Final = Counter("twinline_host_unproven", "Halves that the daemon did not show after all tries.", ["host"])
CLOCK: Final = Gauge(
    "twinline_host_clock_offset_seconds", "By which a host's clock is ahead of the ledger's.", ["host"]
)
PROBES: Final = Counter(
    "twinline_host_probes",
    'Short looks at hosts by outcome: "well", or the name of the error in the way.',
    ["host", "outcome"],
)
DRIFTED: Final = Gauge("twinline_host_drifted_lines", "Lines that the last Reconcile found drifted.", ["host"])
RECONCILED: Final = Gauge(
    "twinline_host_reconciled_timestamp_seconds", "When this worker last ended a Reconcile of the host.", ["host"]
)

WORKER_CLOCK: Final = Gauge(
    "twinline_worker_clock_offset_seconds", "By which this machine's clock is ahead of another.", ["of"]
)

MAILS: Final = Counter(
    "twinline_mails", "Tries to hand a mail over: accepted, refused, temporary or unknown.", ["kind", "outcome"]
)

LEDGER_SECONDS: Final = Histogram(
    "twinline_ledger_transaction_seconds", "How long transactions took, waiting included.", ["mode"], buckets=_MOMENTS
)

REQUESTS: Final = Counter("twinline_api_requests", "Requests that were answered.", ["method", "route", "status"])
REQUEST_SECONDS: Final = Histogram(
    "twinline_api_request_seconds", "How long they took, `Prefer: wait` included.", ["route"], buckets=_WAITS
)


@contextmanager
def timed(histogram: Histogram) -> Generator[None]:
    """Observe how long the block takes."""
    started = time.perf_counter()
    try:
        yield
    finally:
        histogram.observe(time.perf_counter() - started)
