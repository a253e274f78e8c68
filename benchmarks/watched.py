"""What happens to the file itself while a contender edits it: closes, its inode, and what a reader sees meanwhile."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.accounts import Accounts
from benchmarks.closes import watching
from benchmarks.contenders import ROOT, Contender
from twinline.sandbox.processes import dying_with_us, inherited_environment


class ReaderFailed(Exception):
    """The reader ended before it was told to."""


@dataclass(frozen=True)
class Watched:
    """What was seen of one contender's edits of one record each."""

    edits: int
    closes: int
    """Closes of the file after a write; none where another file took its name, which MultiCS does not notice."""
    inode_kept: bool
    reads: Mapping[str, int]
    """Readings by what they were: `whole`, `empty`, `short`, `torn`."""

    def share(self, kind: str) -> float:
        """What part of all readings were of this kind."""
        return self.reads.get(kind, 0) / max(1, sum(self.reads.values()))


async def watch(contender: Contender, accounts: Accounts, *, edits: int) -> Watched:
    """Have records changed one by one, with a reader beside it that never pauses."""
    inode = accounts.path.stat().st_ino
    reads: dict[str, int] = {}
    with watching({"accounts": accounts.path}) as closes:
        async with _reader(accounts, reads):
            for _ in range(edits):
                await contender.change(accounts, accounts.renewed(1))
                accounts.check()
        closes.take()
        seen = len(closes.since("accounts", 0.0))
    return Watched(edits, seen, accounts.path.stat().st_ino == inode, reads)


@asynccontextmanager
async def _reader(accounts: Accounts, reads: dict[str, int]) -> AsyncGenerator[None]:
    process = await asyncio.create_subprocess_exec(
        *dying_with_us((sys.executable, "-m", "benchmarks.reader", str(accounts.path), str(accounts.size))),
        *(str(accounts.first_record), str(accounts.big.host.record_width)),
        stdin=PIPE,
        stdout=PIPE,
        cwd=ROOT,
        env=inherited_environment(),
    )
    try:
        await _line(process)
        yield
        assert process.stdin is not None
        process.stdin.close()
        reads.update(json.loads(await _line(process)))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _line(process: Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise ReaderFailed("the reader ended; its error stands above")
    return line
