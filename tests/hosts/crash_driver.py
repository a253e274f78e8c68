"""Carries out helper requests in forked children that die by SIGKILL at a chosen system call.

Reads one JSON object per line (`setup`, `request`, `die_at`, `half`) and writes one back (`died`, `calls`, `answer`).
The calls are those by which a request changes or locks something; `half` lets a dying write write its first half.
With `die_before` or `die_after` it dies at a question to the daemon whose path contains that word instead.
Run as a program of its own: forking is safe here, where nothing else runs.
"""

import ctypes
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from twinline.hosts import helper_program as helper

DURABLE = ("open", "close", "pwrite", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "makedirs", "fchmod")


class Countdown:
    """Counts calls, and ends the process before the chosen one."""

    def __init__(self, die_at: int, *, half: bool) -> None:
        self.names: list[str] = []
        self._die_at = die_at
        self._half = half

    def wrap(self, owner: Any, name: str) -> None:
        """Have every call of a function counted."""
        real: Callable[..., Any] = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            self.names.append(name)
            if len(self.names) == self._die_at:
                if self._half and name == "pwrite":
                    fd, data, offset = arguments
                    real(fd, data[: len(data) // 2], offset)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(owner, name, counted)


def mortal_questions(die_before: str | None, die_after: str | None) -> None:
    """Have the process end at a question to the daemon."""
    real = helper.StatusPages.get

    def get(self: helper.StatusPages, path: str) -> tuple[int, bytes]:
        if die_before is not None and die_before in path:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(self, path)
        if die_after is not None and die_after in path:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    helper.StatusPages.get = get


def in_child(command: dict[str, Any], answer_to: int) -> None:
    """Answer one request and end."""
    served, _ = helper.answer_to(None, {"do": "hello", "setup": command["setup"]})
    countdown = Countdown(command["die_at"], half=command["half"])
    for name in DURABLE:
        countdown.wrap(os, name)
    countdown.wrap(fcntl, "flock")
    countdown.wrap(helper, "reserve")
    mortal_questions(command.get("die_before"), command.get("die_after"))
    _, answer = helper.answer_to(served, command["request"])
    with os.fdopen(answer_to, "w", encoding="ascii") as out:
        json.dump({"died": False, "calls": countdown.names, "answer": answer}, out)


def main() -> None:
    """Serve until the input ends."""
    for line in sys.stdin:
        command = json.loads(line)
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            os.close(readable)
            in_child(command, writable)
            os._exit(0)
        os.close(writable)
        with os.fdopen(readable, encoding="ascii") as source:
            text = source.read()
        _, status = os.waitpid(child, 0)
        died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not died and status != 0:
            raise SystemExit("the helper failed; see above")
        sys.stdout.write(text if not died else json.dumps({"died": True, "calls": [], "answer": None}))
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
