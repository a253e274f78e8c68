"""Carrying on when Temporal asks a workflow to cancel: halves must not be left as they happen to be."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from temporalio import workflow

T = TypeVar("T")


async def steadily(steps: Coroutine[Any, Any, T], *, asked: Callable[[], None]) -> T:
    """Take these steps to their end whatever is asked of the workflow; `asked` is called when a cancel is."""
    task = asyncio.create_task(steps)
    while not task.done():
        if not await until(task.done):
            asked()
    return task.result()


async def until(reached: Callable[[], bool]) -> bool:
    """Wait for something; False when Temporal asks to cancel meanwhile, which it does once."""
    with contextlib.suppress(asyncio.CancelledError):
        await workflow.wait_condition(reached)
        return True
    return False
