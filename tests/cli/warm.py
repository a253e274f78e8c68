"""Runs `twinline` many times from one interpreter that has everything imported: each run is a process of its own.

Started as a program it takes one request a line, forks, lets the child run the command at a terminal, and answers with
the exit code. Nothing in it has threads, so that a fork is safe.
"""

import asyncio
import fcntl
import importlib
import json
import os
import signal
import sys
import termios
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from typing import Any

from tests.support.sshd import die_with_parent
from tests.support.terminal import Terminal, environment

MODULES = (
    "starter.cli",
    "starter.cli.bulk_run",
    "starter.cli.doctor",
    "starter.cli.lines_shown",
    "starter.cli.orders_asked",
    "starter.cli.orders_cancelled",
    "starter.cli.orders_stuck",
    "starter.cli.tokens_made",
)


class Warm:
    """The warm interpreter, as a test uses it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> "Warm":
        """Start it."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__), stdin=PIPE, stdout=PIPE, preexec_fn=die_with_parent
        )
        return cls(process)

    async def run(self, *words: str, terminal: Terminal, env: Mapping[str, str], stdin: bool = True) -> int:
        """Run a command at a terminal to its end; its exit code."""
        request = {"words": words, "terminal": terminal.path, "env": environment(env), "stdin": stdin}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        code = int(await self._process.stdout.readline())
        terminal.drain()
        return code

    async def stop(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert await self._process.wait() == 0


def _serve() -> None:
    for module in MODULES:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(request: dict[str, Any]) -> None:
    os.setsid()
    terminal = os.open(request["terminal"], os.O_RDWR)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(terminal, number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
    if not request["stdin"]:
        sys.stdin = None  # pyright: ignore[reportAttributeAccessIssue] - as Python sets it for `<&-`
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["twinline", *request["words"]]
    from starter.cli import main

    main()


if __name__ == "__main__":
    _serve()
