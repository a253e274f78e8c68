"""inotify as MultiCS uses it: one watch per file, on the inode, for close-after-write only."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol, cast

from inotify_simple import INotify, flags

from twinline.sandbox.runtime import Timescale

POLL_SECONDS = 0.03  # How often the daemon looks at its watches.


class _Event(Protocol):
    wd: int
    mask: int


class _INotify(Protocol):
    """The part of inotify_simple that is used here; the package itself carries no types."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def add_watch(self, path: str, mask: int) -> int: ...
    def read(self, timeout: int) -> list[_Event]: ...


class FileWatches:
    """Watches that are set by path, then stay with the inode until the kernel drops them.

    When the last link and descriptor of an inode are gone the kernel says so, and the watch is set again
    by path one poll later. If nothing is at the path then, the file stays unwatched.
    """

    def __init__(
        self, on_write: Callable[[], None], timescale: Timescale, *, on_rewatch: Callable[[str, bool], None]
    ) -> None:
        self._on_write = on_write
        self._on_rewatch = on_rewatch
        self._timescale = timescale
        self._inotify: _INotify | None = None
        self._paths: dict[int, str] = {}
        self._rewatches: list[asyncio.TimerHandle] = []

    @property
    def armed(self) -> bool:
        """Whether a write would be noticed now."""
        return self._inotify is not None

    def arm(self, paths: Iterable[str]) -> None:
        """Set the watches by path; absent files stay unwatched."""
        self.disarm()
        self._inotify = cast(_INotify, INotify(nonblocking=True))
        asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._read)
        for path in paths:
            self._watch(path)

    def disarm(self) -> None:
        """Drop all watches together with every event that waits in the queue."""
        for handle in self._rewatches:
            handle.cancel()
        self._rewatches.clear()
        self._paths.clear()
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def _rewatch(self, path: str) -> None:
        self._on_rewatch(path, self._watch(path))

    def _watch(self, path: str) -> bool:
        if self._inotify is None:
            return False
        try:
            self._paths[self._inotify.add_watch(path, flags.CLOSE_WRITE)] = path
        except OSError:
            # Absent or unreadable: the daemon goes on without a watch on this file.
            return False
        return True

    def _read(self) -> None:
        if self._inotify is None:
            return
        for event in self._inotify.read(timeout=0):
            path = self._paths.get(event.wd)
            if path is None:
                continue
            if event.mask & flags.IGNORED:
                del self._paths[event.wd]
                later = asyncio.get_running_loop().call_later(self._timescale.scaled(POLL_SECONDS), self._rewatch, path)
                self._rewatches.append(later)
            elif event.mask & flags.CLOSE_WRITE:
                self._on_write()
