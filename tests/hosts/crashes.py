"""Starts the process that kills helpers, and tells it when."""

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class Driver:
    """The process that forks helpers and kills them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(
        self,
        setup: dict[str, Any],
        request: dict[str, Any],
        *,
        die_at: int = 0,
        half_way: bool = False,
        question: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Carry out one request; `died` says whether the helper was killed over it. See the driver for the rest."""
        command = {"setup": setup, "request": request, "die_at": die_at, "half": half_way, **(question or {})}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the driver ended; its error stands above"
        return json.loads(line)


@contextmanager
def running_driver() -> Generator[Driver]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hosts.crash_driver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Driver(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait()
        process.stdout.close()
