"""How callers name orders: by their own id, or by one that tells every order of a caller from all others."""

import re
from dataclasses import dataclass
from typing import Final

from twinline.errors import UnknownOrder
from twinline.messages import Order, OrderKind, case_ref, order_kind, order_ref

TAKEN_BACK: Final = (
    OrderKind.TRIAL,
    OrderKind.PURCHASE,
    OrderKind.RENEWAL,
    OrderKind.EXTENSION,
    OrderKind.IMPORT,
    OrderKind.MOVE,
)
"""The kinds of orders that may be cancelled."""
_OF_A_CASE: Final = (OrderKind.BLOCK, OrderKind.UNBLOCK)

# Not all that a database is asked for can be in one: PostgreSQL takes no NUL.
_ID: Final = re.compile(r"[A-Za-z0-9._:~-]{1,200}", re.ASCII)
_REF: Final = re.compile(r"[A-Za-z0-9._:/-]{1,200}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class OrderId:
    """An order's id as `OrderAnswer.id` gives it (kind~ref, a block's with its line's digest), or the caller's own."""

    kind: OrderKind | None
    ref: str

    @classmethod
    def of(cls, order: Order) -> "OrderId":
        """The id of an order."""
        return cls(kind=order_kind(order), ref=order_ref(order))

    @classmethod
    def parse(cls, text: str) -> "OrderId":
        """Read an id; raises UnknownOrder for one that can't be."""
        if not _ID.fullmatch(text):
            raise unknown_order()
        first, tilde, rest = text.partition("~")
        if tilde and first in set(OrderKind):
            return cls(kind=OrderKind(first), ref=rest.replace("~", "/"))
        return cls(kind=None, ref=text)

    @classmethod
    def of_workflow(cls, workflow_id: str) -> "OrderId":
        """The id of the order that this workflow carries out."""
        kind, _, ref = workflow_id.split("/", 2)
        return cls(kind=OrderKind(kind), ref=ref)

    @classmethod
    def named(cls, text: str, *, kind: OrderKind | None = None, line: str | None = None) -> "OrderId":
        """The order that a person means: a block is told from others of its case by its line.

        Whatever can be no id is the id of no order.
        """
        if kind is None and line is None and "~" in text and _ID.fullmatch(text):
            return cls.parse(text)
        if line is None or kind not in (None, *_OF_A_CASE):
            return cls(kind=kind, ref=text)
        return cls(kind=kind, ref=case_ref(text, line=line))

    @property
    def text(self) -> str:
        """As a part of a URL: neither order ids nor cases hold a tilde."""
        return f"{self.kind}~{self.ref.replace('/', '~')}"

    @property
    def own(self) -> str:
        """The caller's own id."""
        return self.ref.partition("/")[0]

    @property
    def of_kind(self) -> OrderKind | None:
        """The kind of order that it is about: of a cancellation, what is taken back."""
        if self.kind is not OrderKind.CANCEL:
            return self.kind
        taken_back = self.ref.rpartition("/")[2]
        return OrderKind(taken_back) if taken_back in set(OrderKind) else None

    @property
    def may_be_trial(self) -> bool:
        """Whether it may be about a trial."""
        return self.of_kind in (None, OrderKind.TRIAL)

    def candidates(self) -> tuple["OrderId", ...]:
        """What it may be, each with its kind."""
        if not _REF.fullmatch(self.ref):
            return ()
        case, slash, _ = self.ref.partition("/")
        if self.kind is OrderKind.CANCEL and not slash:
            return tuple(OrderId(kind=self.kind, ref=f"{case}/{of}") for of in TAKEN_BACK)
        if self.kind is not None:
            return (self,)
        if slash:
            return tuple(OrderId(kind=kind, ref=self.ref) for kind in _OF_A_CASE)
        # A cancellation is never meant by the bare id: that is the id of what it takes back.
        return tuple(OrderId(kind=kind, ref=self.ref) for kind in OrderKind if kind is not OrderKind.CANCEL)

    def workflow_id(self, caller: str) -> str:
        """The workflow of this caller's order; only of one with a kind."""
        return f"{self.kind}/{caller}/{self.ref}"


def unknown_order() -> UnknownOrder:
    """In the same words whatever the reason."""
    return UnknownOrder("there is no such order of this caller", hint="Check the id; ids count per caller.")
