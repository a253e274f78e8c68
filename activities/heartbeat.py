"""Beating while an activity waits: how a lost worker is noticed, and the only way a cancellation comes in."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from temporalio import activity

HEARTBEAT_SECONDS = 4.0


@contextlib.asynccontextmanager
async def heartbeats() -> AsyncGenerator[None]:
    """Beat every few seconds for as long as the body takes."""

    async def beat() -> None:
        while True:
            # First a pause: what is done at once costs the server no beat, and no cancellation can be waiting yet.
            await asyncio.sleep(HEARTBEAT_SECONDS)
            activity.heartbeat()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
