"""How an error of the house crosses into Temporal: its name is the contract, its text bounded and without secrets."""

from collections.abc import Generator
from contextlib import contextmanager

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from twinline.errors import TwinlineError
from twinline.hosts.errors import HostError
from twinline.messages import Attention, HalfTrouble

MAX_TEXT = 500


@contextmanager
def translated() -> Generator[None]:
    """Turn refusals into final errors, and what can be repaired without us into retryable ones."""
    try:
        yield
    except TwinlineError as error:
        # RegionFull and its like may pass with time, but the caller decides whether to ask again.
        waits = error.type == "Unavailable"
        raise ApplicationError(
            error.message[:MAX_TEXT],
            error.hint[:MAX_TEXT],
            error.retryable,
            type=error.type,
            non_retryable=not waits,
            category=ApplicationErrorCategory.BENIGN,
        ) from None
    except HostError as error:
        raise ApplicationError(
            str(error)[:MAX_TEXT], _trouble(error), type=error.code, category=ApplicationErrorCategory.BENIGN
        ) from None


def _trouble(error: HostError) -> HalfTrouble:
    if not error.attention:
        return HalfTrouble(hint=error.hint[:MAX_TEXT])
    attention = Attention.LINE if error.of_one_line else Attention.HOST
    return HalfTrouble(hint=error.hint[:MAX_TEXT], attention=attention)
