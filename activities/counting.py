"""Counts orders by how they ended."""

from twinline import metrics
from twinline.ledger.orders import Took
from twinline.messages import HalfState, OrderKind, Receipt


def count_order(receipt: Receipt, took: Took) -> None:
    """Count an order that was taken and has ended now."""
    metrics.ORDERS.labels(receipt.kind, outcome_of(receipt)).inc()
    metrics.ORDER_SECONDS.labels(receipt.kind).observe(took.ended.total_seconds())
    if took.proven is not None:
        metrics.ORDER_PROVEN_SECONDS.labels(receipt.kind).observe(took.proven.total_seconds())


def outcome_of(receipt: Receipt) -> str:
    """How it ended: done, partly (a half was given up), unserved (its time was over before that), or cancelled."""
    if receipt.cancelled is not None and receipt.kind is not OrderKind.CANCEL:
        return "cancelled"
    if receipt.unserved:
        return "unserved"
    return "partly" if any(half.state is HalfState.ABANDONED for half in receipt.halves) else "done"
