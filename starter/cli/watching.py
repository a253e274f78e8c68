"""Shows on a terminal how far something is while a command waits for it; elsewhere nothing."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from rich.status import Status
from rich.text import Text

from starter.cli.receipts import standing_in_words
from starter.cli.render import err
from starter.client import Twinline

EVERY: Final = 1.0
"""Seconds between two looks."""
_T = TypeVar("_T")
Look = Callable[[], Awaitable[str | None]]


@contextlib.asynccontextmanager
async def shown_while(sentence: str, *, quiet: bool, look: Look | None = None) -> AsyncGenerator[None]:
    """Show this sentence while the block runs, and from time to time what `look` finds instead of it."""
    console = err()
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    with console.status(Text(sentence)) as status:
        looking = None if look is None else asyncio.create_task(_keep_looking(status, look))
        try:
            yield
        finally:
            if looking is not None:
                looking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await looking


async def watched(
    twinline: Twinline, workflow_id: str, work: Coroutine[Any, Any, _T], *, sentence: str, quiet: bool
) -> _T:
    """Wait for `work`, and show meanwhile how the order's halves stand."""

    async def look() -> str | None:
        status = await twinline.progress(workflow_id)
        if status is None or status.receipt is None:
            return None
        return standing_in_words(status.receipt, now=datetime.now(UTC))

    async with shown_while(sentence, quiet=quiet, look=look):
        return await work


async def _keep_looking(status: Status, look: Look) -> None:
    while True:
        await asyncio.sleep(EVERY)
        found = await look()
        if found is not None:
            status.update(Text(found))
