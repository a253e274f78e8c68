"""A worker of its own process: brings lines about on one host, and ends when all are proven.

Arguments: the host as a JSON file, a file with the last fencing number, and usernames.
"""

import asyncio
import fcntl
import shlex
import sys
from collections.abc import Set as AbstractSet
from pathlib import Path

from tests.hosts.lab import MemoryLedger
from twinline.hosts import ssh
from twinline.hosts.errors import Fenced, HelperFailed
from twinline.hosts.factory import writer_for
from twinline.hosts.ports import Batch, Half, Token
from twinline.inventory import Host

PASSWORD = "pw23456789abcdef"


class SharedNumbers(MemoryLedger):
    """Its fencing numbers come from one file for all workers, as they come from one row of a database."""

    def __init__(self, numbers: Path) -> None:
        super().__init__()
        self._numbers = numbers

    async def open_batch(self, host: str, limit: int, also: AbstractSet[str] = frozenset()) -> Batch:
        """Raise the number under a lock, and take what is behind."""
        with self._numbers.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            number = int(file.read()) + 1
            # As long at all times: who looks meanwhile must not see less than what was given out.
            file.seek(0)
            file.write(f"{number:08d}")
        return Batch(Token(1, number), (await super().open_batch(host, limit, also)).halves)

    async def fence(self, host: str) -> Token:
        """The last number that any worker took."""
        return Token(1, int(self._numbers.read_text()))


async def work(host: Host, numbers: Path, usernames: list[str]) -> None:
    """Bring every line about, one after the other in many batches, whoever else writes."""
    ledger = SharedNumbers(numbers)
    writer = writer_for(host, ledger)

    async def until_proven(half: Half) -> None:
        while True:
            try:
                await writer.bring(half.line_id, half.revision)
            except (Fenced, HelperFailed):
                continue
            return

    for username in usernames:
        await until_proven(ledger.want(username, PASSWORD))
    await writer.close()


if __name__ == "__main__":
    ssh.BOOTSTRAP = ssh.BOOTSTRAP.replace("python3", shlex.quote(sys.executable))
    asyncio.run(work(Host.model_validate_json(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]), sys.argv[3:]))
