"""Somebody else at the host: a process that edits the accounts file as people, their editors and OSCam do.

Run as a program it reads one JSON object per line (`do`, `path`, `data`), acts, and answers with one line each.
"""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any


def append(path: Path, data: bytes) -> None:
    """`>>` of a shell."""
    with path.open("ab", buffering=0) as file:
        file.write(data)


def rewrite(path: Path, data: bytes) -> None:
    """Truncate and write in pieces: `vi` with backupcopy, OSCam's web pages, MultiCS' editor page."""
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data), 512):
            file.write(data[start : start + 512])


def rename(path: Path, data: bytes) -> None:
    """A new file that takes the name: `sed -i` and most editors."""
    fresh = path.with_name("edited")
    fresh.write_bytes(data)
    fresh.rename(path)


def move_away(path: Path, data: bytes) -> None:
    """The old file gets another name and lives on, a new one is made in its place: `vi` as it comes."""
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    path.write_bytes(data)


def symlink(path: Path, data: bytes) -> None:
    """A name for another file in the place of this one."""
    target = path.with_name("target")
    target.write_bytes(data)
    path.unlink()
    path.symlink_to(target)


OPENED: list[int] = []


def begin(path: Path, data: bytes) -> None:
    """The first half of `rewrite`."""
    OPENED.append(os.open(path, os.O_WRONLY | os.O_TRUNC))
    os.write(OPENED[0], data[: len(data) // 2])


def finish(path: Path, data: bytes) -> None:
    """The second half of `rewrite`."""
    os.write(OPENED[0], data[len(data) // 2 :])
    os.close(OPENED.pop())


ACTS: dict[str, Callable[[Path, bytes], None]] = {
    act.__name__: act for act in (append, rewrite, rename, move_away, symlink, begin, finish)
}


class Hand:
    """The other process; an act of it can be waited for until it is over or kept waiting by a lease of ours."""

    def __init__(self, process: "subprocess.Popen[bytes]", told: int) -> None:
        self._process = process
        self._told = told
        self._owed = 0

    def begin(self, do: str, path: Path, data: bytes = b"") -> None:
        """Have it act, and return when that is done or waits for us to close the file."""
        command = {"do": do, "path": str(path), "data": base64.b64encode(data).decode()}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        self._owed += 1
        if self._owed > 1:
            return
        ready, _, _ = select([self._process.stdout, self._told], [], [])
        if self._process.stdout in ready:
            self.end()

    def end(self) -> None:
        """Wait until everything it was told is done."""
        assert self._process.stdout is not None
        for _ in range(self._owed):
            assert self._process.stdout.readline() == b"done\n", "the other process ended; its error stands above"
        self._owed = 0
        while select([self._told], [], [], 0)[0]:
            os.read(self._told, 1024)


def _heard(number: int, frame: object) -> None:
    """The pipe of `set_wakeup_fd` tells it."""


@contextmanager
def other_hand() -> Generator[Hand]:
    """Start the process; it ends with the block. Only in the main thread, which gets the signal of a lease."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    before = signal.signal(signal.SIGURG, _heard)
    outer = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hosts.hand"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield Hand(process, told)
    finally:
        signal.set_wakeup_fd(outer)
        signal.signal(signal.SIGURG, before)
        process.communicate()
        os.close(told)
        os.close(tell)


def main() -> None:
    """Act until the input ends."""
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        ACTS[command["do"]](Path(command["path"]), base64.b64decode(command["data"]))
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
