"""Mounts that only one thread sees, and whatever it starts; they are gone when it ends."""

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from tests.support.root import require_root

_CLONE_NEWNS: Final = 0x00020000
_JUNK: Final = "junk"
_T = TypeVar("_T")


def with_own_mounts(work: Callable[[], _T]) -> _T:
    """Do something in a thread of its own, which may mount what it likes; for root only."""
    require_root("mounts a small file system")

    def alone() -> _T:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        _mount("--make-rprivate", "/")
        return work()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(alone).result()


def mount_small(folder: Path, *, size: int) -> None:
    """An empty file system of so many bytes."""
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))


def set_read_only(folder: Path, *, on: bool) -> None:
    """Have everything refused that would change it, or take it again."""
    _mount("-o", f"remount,{'ro' if on else 'rw'}", str(folder))


def fill(folder: Path) -> None:
    """Take all its room."""
    (folder / _JUNK).write_bytes(bytes(os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize))


def free(folder: Path) -> None:
    """Give it back."""
    (folder / _JUNK).unlink()


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)
