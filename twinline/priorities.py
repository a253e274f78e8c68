"""How urgent each kind of work is when a task queue has a backlog; Temporal hands out lower numbers first.

What a workflow starts inherits its priority. Callers of the same urgency take turns, so that ten thousand orders of
one shop do not keep another one waiting.
"""

from typing import Final

from temporalio.common import Priority

from twinline.messages import AnyOrder, OrderKind, order_kind

_URGENT: Final = 1
_SOON: Final = 2
_ORDINARY: Final = 3
_BULK: Final = 5

BULK: Final = Priority(priority_key=_BULK)
"""Of what nobody waits for: Reconcile, rebuilds, reminders, forgetting; bulk runs have the same: `bulk_priority`."""

_OF_KIND: Final = {
    # Abuse goes on until a block is proven, and a customer who was let in again waits at the receiver.
    OrderKind.BLOCK: _URGENT,
    OrderKind.UNBLOCK: _URGENT,
    # These take access away too, and somebody else may be watching by it.
    OrderKind.PASSWORD: _SOON,
    OrderKind.CLOSE: _SOON,
    OrderKind.CANCEL: _SOON,
}


def priority_of(order: AnyOrder) -> Priority:
    """How urgent an order is, and whose turn it takes."""
    return Priority(priority_key=_OF_KIND.get(order_kind(order), _ORDINARY), fairness_key=order.caller)


def bulk_priority(caller: str) -> Priority:
    """How urgent a bulk run and the orders of its items are, whatever they ask for; callers take turns here too."""
    return Priority(priority_key=_BULK, fairness_key=caller)
