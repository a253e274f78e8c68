"""Sees every close of a file that was open for writing, with the time at which it happened."""

import asyncio
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, cast

from inotify_simple import INotify, flags


class _Event(Protocol):
    wd: int
    mask: int


class _INotify(Protocol):
    """The part of inotify_simple that is used here; the package itself carries no types."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def add_watch(self, path: str, mask: int) -> int: ...
    def read(self, timeout: int) -> list[_Event]: ...


class Closes:
    """The closes seen so far, by the names under which the files are watched."""

    def __init__(self, inotify: _INotify, files: Mapping[str, Path]) -> None:
        self._inotify = inotify
        # The kernel merges equal events that stand next to each other; a write in between keeps closes apart.
        mask = int(flags.CLOSE_WRITE) | int(flags.MODIFY)
        self._names = {inotify.add_watch(str(path), mask): name for name, path in files.items()}
        self._seen: dict[str, list[float]] = {name: [] for name in files}

    def since(self, name: str, moment: float) -> list[float]:
        """The times (Unix seconds) of a file's closes after a moment."""
        return [at for at in self._seen[name] if at > moment]

    def take(self) -> None:
        """Read what the kernel has for us."""
        now = time.time()
        for event in self._inotify.read(0):
            if event.mask & int(flags.CLOSE_WRITE):
                self._seen[self._names[event.wd]].append(now)


@contextmanager
def watching(files: Mapping[str, Path]) -> Generator[Closes]:
    """Watch the inodes that now stand at these paths until the block ends; needs a running event loop."""
    inotify = cast("_INotify", INotify(nonblocking=True))
    loop = asyncio.get_running_loop()
    closes = Closes(inotify, files)
    loop.add_reader(inotify.fileno(), closes.take)
    try:
        yield closes
    finally:
        loop.remove_reader(inotify.fileno())
        inotify.close()
