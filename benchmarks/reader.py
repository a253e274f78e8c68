"""Somebody who reads an accounts file again and again while it is edited, and counts what he should never see.

`python -m benchmarks.reader PATH SIZE FIRST WIDTH`: bytes that the file has, offset of the first record, bytes per
record. Prints `ready`, reads until standard input ends, then prints what it saw as JSON. A torn read is one with a
record that is no whole line of its form; only what differs from the last good reading is looked at.
"""

import json
import re
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Final

RECORD: Final = re.compile(rb"(?:F: [a-z0-9]+ \S+ 0 \{ enddate=\d{4}-\d\d-\d\d \d\d; rev=\d+-[0-9a-f]{8} \} *|#.*)\n")


def seen(data: bytes, good: bytes, *, size: int, first: int, width: int) -> str:
    """What one reading is: `whole`, `empty`, `short` or `torn`."""
    if not data:
        return "empty"
    if len(data) < size:
        return "short"
    starts = range(first, size, width)
    changed = (at for at in starts if data[at : at + width] != good[at : at + width])
    return "torn" if any(RECORD.fullmatch(data, at, at + width) is None for at in changed) else "whole"


def main() -> None:
    """Read until the input ends."""
    path, size, first, width = Path(sys.argv[1]), *(int(word) for word in sys.argv[2:5])
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    counts: Counter[str] = Counter()
    good = path.read_bytes()
    print("ready", flush=True)
    while not over.is_set():
        data = path.read_bytes()
        kind = "whole" if data == good else seen(data, good, size=size, first=first, width=width)
        counts[kind] += 1
        if kind == "whole":
            good = data
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
