"""A worker of one host that a test can kill: brings one half after another through a writer of its own.

Reads lines of JSON: first the host and the number of its ledger's last token, then halves. Writes a line with the
proven revision, or the code of what went wrong, for each half.
"""

import asyncio
import json
import sys
from typing import Final

from pydantic import TypeAdapter

from tests.hosts.lab import MemoryLedger
from twinline.hosts.errors import HostError
from twinline.hosts.factory import writer_for
from twinline.hosts.ports import Half
from twinline.inventory import Host

HALVES: Final = TypeAdapter(Half)


async def main() -> None:
    """Serve until the input ends."""
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    first = json.loads(await reader.readline())
    ledger = MemoryLedger(number=first["number"])
    writer = writer_for(Host.model_validate(first["host"]), ledger)
    while line := await reader.readline():
        half = HALVES.validate_json(line)
        ledger.wanted[half.line_id] = half
        try:
            answer = str((await writer.bring(half.line_id, half.revision)).revision)
        except HostError as error:
            answer = error.code
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()
    await writer.close()


if __name__ == "__main__":
    asyncio.run(main())
