"""What can go wrong with an order, as the person who asked for it should read it.

Every error names its condition (`type`), says in a sentence what is wrong, in `hint` what to do, and whether
asking again later can help. `category` decides the exit code of the command line and the status of the API.
"""

from datetime import timedelta
from enum import StrEnum
from typing import ClassVar


class Category(StrEnum):
    """How a caller should take an error; the values are the reasons behind exit codes 2, 3, 4 and 6."""

    USAGE = "usage"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


class TwinlineError(Exception):
    """Base of every error that reaches a caller; `str()` is the sentence, without secrets or addresses."""

    category: ClassVar[Category] = Category.REFUSED
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def type(self) -> str:
        """The stable name of the condition."""
        return type(self).__name__


class InvalidOrder(TwinlineError):
    """A field of the order can never be right."""

    category = Category.USAGE


class UnknownRegion(TwinlineError):
    """The inventory has no pair in that region."""

    category = Category.NOT_FOUND


class RegionFull(TwinlineError):
    """Every pair of the region holds as many lines as its capacity allows."""

    retryable = True


class UnknownHost(TwinlineError):
    """There is no host of that name."""

    category = Category.NOT_FOUND


class UnknownPair(TwinlineError):
    """The inventory has no pair of that name."""

    category = Category.NOT_FOUND


class PairFull(TwinlineError):
    """The pair holds as many lines as its capacity allows."""

    retryable = True


class SamePair(TwinlineError):
    """The line lives on that pair already."""


class MoveRunning(TwinlineError):
    """A move of the line is not over yet; the next one has to wait for it."""

    retryable = True


class UnknownLine(TwinlineError):
    """No line has that username."""

    category = Category.NOT_FOUND


class UnknownOrder(TwinlineError):
    """No order has that id."""

    category = Category.NOT_FOUND


class UnknownBlock(TwinlineError):
    """No active block of that owner and case stands on the line."""

    category = Category.NOT_FOUND


class UnknownHalf(TwinlineError):
    """The order has no half on that host."""

    category = Category.NOT_FOUND


class UnknownRebuild(TwinlineError):
    """No rebuild of that host is running."""

    category = Category.NOT_FOUND


class NothingToRetry(TwinlineError):
    """No half of the order is waiting: each is proven or given up, or it is not driven yet."""


class TrialAlreadyUsed(TwinlineError):
    """The person behind the address had a trial before."""


class DisposableAddress(TwinlineError):
    """Addresses of that domain get no trials."""


class UsernameTaken(TwinlineError):
    """A line has that username, or had it: names are never given twice."""


class OrderConflict(TwinlineError):
    """The order id was used before for something else."""


class OrderCancelled(TwinlineError):
    """The order was cancelled, and is not taken again."""


class CannotCancel(TwinlineError):
    """Nothing of that order can be taken back (any more); the hint says what to do instead."""


class LineClosed(TwinlineError):
    """The line was closed for good and takes no further orders."""


class LineEnded(TwinlineError):
    """The line's time is over, so there is nothing on its hosts to be changed."""


class LineServed(TwinlineError):
    """The line has a grant that is not over, so nothing of it may be erased."""


class OrdersRunning(TwinlineError):
    """Orders for the line are not done yet, so nothing of it may be erased."""

    retryable = True


class LineErased(TwinlineError):
    """Whose the line was, and what it was called, was erased; `line_id` is what is left, where it is known."""

    category = Category.NOT_FOUND

    def __init__(
        self,
        message: str = "this line was erased, with everything that was known about its customer",
        *,
        hint: str = "Its orders can't be repeated; order a purchase for a new line.",
        line_id: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.line_id = line_id


class InvalidToken(TwinlineError):
    """No API token was shown, or none that counts (any more)."""


class ScopeMissing(TwinlineError):
    """The API token does not allow that."""


class ComesTooSoon(TwinlineError):
    """Too much of its kind came lately; after `wait` the same can succeed."""

    retryable = True

    def __init__(self, message: str, *, hint: str, wait: timedelta) -> None:
        super().__init__(message, hint=hint)
        self.wait = wait


class TooManyRequests(ComesTooSoon):
    """More requests came than the rate of the token, or of an address without one, allows."""


class TrialRangeUsed(ComesTooSoon):
    """Enough trials were asked for from that address range within a day."""


class UnknownToken(TwinlineError):
    """No API token has that id."""

    category = Category.NOT_FOUND


class TokenOver(TwinlineError):
    """The API token was revoked or has expired, so it can't be replaced."""


class UnreadableFile(TwinlineError):
    """A file of rows can't be read as one: its form, not what its rows ask for."""

    category = Category.USAGE


class InvalidRows(TwinlineError):
    """Rows of a bulk run can't be carried out, and nobody said to leave them out; nothing was begun."""

    category = Category.USAGE


class UnknownBulk(TwinlineError):
    """No bulk run of this caller has that id."""

    category = Category.NOT_FOUND


class Unavailable(TwinlineError):
    """Something that twinline needs (Temporal, the ledger) does not answer now."""

    category = Category.UNAVAILABLE
    retryable = True


class Misconfigured(TwinlineError):
    """A setting, the inventory or the key ring is wrong; the sentence names key, value and remedy."""

    category = Category.USAGE


ORDER_ERRORS: dict[str, type[TwinlineError]] = {
    error.__name__: error
    for error in (
        InvalidOrder,
        UnknownRegion,
        RegionFull,
        UnknownHost,
        UnknownPair,
        PairFull,
        SamePair,
        MoveRunning,
        UnknownLine,
        UnknownOrder,
        UnknownBlock,
        UnknownHalf,
        NothingToRetry,
        TrialAlreadyUsed,
        DisposableAddress,
        UsernameTaken,
        OrderConflict,
        OrderCancelled,
        CannotCancel,
        LineClosed,
        LineEnded,
        LineServed,
        OrdersRunning,
        LineErased,
        Unavailable,
        Misconfigured,
    )
}
"""By `type`: what comes back over Temporal as a name becomes the same class again."""
