"""Whether a worker works, and what keeps it from working."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from temporalio.worker import Worker

from starter.client import Twinline
from twinline.errors import TwinlineError
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.ledger.schema import is_current
from twinline.ledger.standing import standing
from twinline.metrics_port import Readiness
from twinline.spans import span


class WorkerReadiness:
    """Asks all that a worker needs; mail and key ring are told, and keep nobody from working."""

    def __init__(self, ledger: Ledger, twinline: Twinline, workers: Sequence[Worker], keys: Path) -> None:
        self._ledger = ledger
        self._twinline = twinline
        self._workers = workers
        self._keys = keys

    async def __call__(self) -> Readiness:
        """How it stands now."""
        ledger, answers, keys, mail = await asyncio.gather(
            self._ledger_in_words(), self._twinline.answers(), asyncio.to_thread(self._keys_in_words), self._mail()
        )
        ended = [worker.task_queue for worker in self._workers if not worker.is_running]
        reasons = {
            "ledger": ledger,
            "temporal": "ok" if answers else "does not answer",
            "workers": "ok" if not ended else f"nobody here polls {', '.join(ended)}",
        }
        ready = all(reason == "ok" for reason in reasons.values())
        return Readiness(ready=ready, reasons={**reasons, "keys": keys, "mail": mail})

    async def _ledger_in_words(self) -> str:
        try:
            return "ok" if await is_current(self._ledger) else "was migrated by another version"
        except TwinlineError:
            return "does not answer"

    async def _mail(self) -> str:
        now = datetime.now(UTC)
        try:
            async with self._ledger.read() as tx:
                found = await standing(tx, now=now)
        except TwinlineError:
            return "unknown"
        if found.oldest_mail is None:
            return "ok"
        age = span((now - found.oldest_mail).total_seconds())
        return f"{found.mails_waiting} wait to be handed over, the oldest for {age}"

    def _keys_in_words(self) -> str:
        try:
            KeyRing.load(self._keys)
        except TwinlineError:
            return "the key ring's file can't be used; the ring that was read before still is"
        return "ok"
