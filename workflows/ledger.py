"""How a workflow asks the ledger: one transaction, as a local activity."""

from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

LEDGER_TIMEOUT = timedelta(seconds=20)
LEDGER_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=20))

T = TypeVar("T")


async def in_ledger(name: str, argument: Any, result: type[T], *, summary: str) -> T:
    """One ledger transaction; waits for a ledger that is away, and raises what the ledger refuses."""
    try:
        return await workflow.execute_local_activity(
            name,
            argument,
            result_type=result,
            start_to_close_timeout=LEDGER_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary=summary,
        )
    except ActivityError as error:
        # The condition's own name has to be the outermost one: callers and retries go by it.
        if isinstance(error.cause, ApplicationError):
            raise error.cause from None
        raise
