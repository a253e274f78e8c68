"""Every order by a method of its own, for a program that has its parts and no order yet."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import ValidationError

from starter.invalid import field_problems
from twinline.errors import InvalidOrder
from twinline.messages import (
    GRACE,
    BlockOrder,
    BlockOwner,
    CloseOrder,
    MoveOrder,
    Order,
    OrderStatus,
    PasswordOrder,
    PurchaseOrder,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
)


class Ordering(ABC):
    """Orders by name. Each takes the caller's own id, and the same id with the same contents is the same order.

    All wait at most `patience` for the end of the order and give how far it is by then: `done`, and a `receipt` once
    the ledger has taken it. Calling again with the same arguments is always safe, and how to ask again. All raise
    InvalidOrder (a field can never be right; nothing was ordered) and what `place` raises; `caller` is whose order it
    is.
    """

    @abstractmethod
    async def place(self, order: Order, *, patience: timedelta = GRACE) -> OrderStatus:
        """Place an order that was built before."""

    async def trial(
        self, order: str, *, email: str, region: str, caller: str = "cli", patience: timedelta = GRACE
    ) -> OrderStatus:
        """48 hours for a new customer, once per person; raises TrialAlreadyUsed, UnknownRegion, RegionFull too."""
        return await self._place(lambda: TrialOrder(caller=caller, order=order, email=email, region=region), patience)

    async def purchase(
        self,
        order: str,
        *,
        days: int,
        email: str | None = None,
        region: str | None = None,
        line: str | None = None,
        caller: str = "cli",
        patience: timedelta = GRACE,
    ) -> OrderStatus:
        """Paid days: for a new customer (`email` and `region`) or an existing line (`line`, also one on trial).

        Raises UnknownRegion, RegionFull, UnknownLine, LineClosed, LineErased too.
        """
        return await self._place(
            lambda: PurchaseOrder(caller=caller, order=order, days=days, email=email, region=region, line=line),
            patience,
        )

    async def renew(
        self, order: str, *, line: str, days: int, caller: str = "cli", patience: timedelta = GRACE
    ) -> OrderStatus:
        """Further paid days, from now or from the line's end; raises UnknownLine, LineClosed, LineErased too."""
        return await self._place(lambda: RenewalOrder(caller=caller, order=order, line=line, days=days), patience)

    async def block(
        self,
        case: str,
        *,
        line: str,
        reason: str,
        owner: BlockOwner = BlockOwner.ABUSE,
        until: datetime | None = None,
        caller: str = "cli",
        patience: timedelta = GRACE,
    ) -> OrderStatus:
        """Stop a line from working until this case of this owner is lifted, or until `until` (with a zone).

        The customer reads the reason. Raises UnknownLine, LineClosed, LineErased too.
        """
        return await self._place(
            lambda: BlockOrder(caller=caller, case=case, line=line, reason=reason, owner=owner, until=until), patience
        )

    async def unblock(
        self,
        case: str,
        *,
        line: str,
        owner: BlockOwner = BlockOwner.ABUSE,
        caller: str = "cli",
        patience: timedelta = GRACE,
    ) -> OrderStatus:
        """Lift this owner's block of this case, and no other; raises UnknownLine, UnknownBlock too."""
        return await self._place(lambda: UnblockOrder(caller=caller, case=case, line=line, owner=owner), patience)

    async def password(self, order: str, *, line: str, caller: str = "cli", patience: timedelta = GRACE) -> OrderStatus:
        """A new password, mailed to the customer; raises UnknownLine, LineClosed, LineEnded too."""
        return await self._place(lambda: PasswordOrder(caller=caller, order=order, line=line), patience)

    async def move(
        self,
        order: str,
        *,
        line: str,
        pair: str,
        overlap_hours: float = 24.0,
        caller: str = "cli",
        patience: timedelta = GRACE,
    ) -> OrderStatus:
        """Another pair; the old one serves for `overlap_hours` more, so that the order goes on for so long.

        Raises UnknownLine, UnknownPair, PairFull, SamePair, MoveRunning, LineEnded too.
        """
        return await self._place(
            lambda: MoveOrder(caller=caller, order=order, line=line, pair=pair, overlap_hours=overlap_hours), patience
        )

    async def close(self, order: str, *, line: str, caller: str = "cli", patience: timedelta = GRACE) -> OrderStatus:
        """End a line for good, whatever was paid for; raises UnknownLine, LineErased too."""
        return await self._place(lambda: CloseOrder(caller=caller, order=order, line=line), patience)

    async def _place(self, build: Callable[[], Order], patience: timedelta) -> OrderStatus:
        try:
            order = build()
        except ValidationError as error:
            problems = field_problems(error, names={})
            sentences = "; ".join(problem.sentence for problem in problems)
            raise InvalidOrder(sentences, hint="Nothing was ordered; correct it.") from None
        return await self.place(order, patience=patience)
