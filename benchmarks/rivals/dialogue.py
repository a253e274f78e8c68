"""How a rival is told what to change: one JSON object per line in, the seconds that it took out."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Change = tuple[str, str]
"""A username, and the whole record that it is to have (without newline)."""


@dataclass(frozen=True)
class Door:
    """Where and as whom to connect: the first line of a dialogue."""

    port: int
    user: str
    key: str
    known_hosts: str


def greeted() -> Door:
    """Read whom to connect to."""
    return Door(**json.loads(sys.stdin.readline()))


def serve(change: Callable[[str, list[Change]], None]) -> None:
    """Say that the connection is open; then carry out batches until the input ends."""
    _say({"ready": True})
    for line in sys.stdin:
        batch: dict[str, Any] = json.loads(line)
        begun = time.perf_counter()
        change(batch["path"], [(username, record) for username, record in batch["changes"]])
        _say({"seconds": time.perf_counter() - begun})


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)
