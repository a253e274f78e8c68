"""A file system of a few pages in a mount namespace of its own: nothing of it is left when its holder ends."""

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.support.root import require_root
from tests.support.sshd import die_with_parent

PAGE: Final = 4096


class Disk:
    """A mounted tmpfs; whoever may follow the holder's root sees it under `folder`."""

    def __init__(self, holder: Process, mount: Path) -> None:
        self._holder = holder
        self._mount = mount
        self.folder = Path(f"/proc/{holder.pid}/root{mount}")

    async def do(self, command: str) -> None:
        """Run a shell command where the disk is mounted; fails with what it said."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.write(f"{{ {command} ; }} 2>&1 && echo done\n".encode())
        said = await self._holder.stdout.readline()
        assert said == b"done\n", said.decode()

    async def read_only(self, *, on: bool) -> None:
        """Have everything refused that would change it, or take it again."""
        await self.do(f"mount -o remount,{'ro' if on else 'rw'} {self._mount}")

    def fill(self, *, leave: int = 0) -> None:
        """Take all of its room but some pages."""
        self.free()
        room = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_bsize
        self._junk.write_bytes(bytes(room - leave * PAGE))

    def free(self) -> None:
        """Give the room back."""
        self._junk.unlink(missing_ok=True)

    @property
    def _junk(self) -> Path:
        return self.folder / "junk"


@asynccontextmanager
async def small_disk(mount: Path, *, pages: int) -> AsyncGenerator[Disk]:
    """Mount one over an empty folder, for root only."""
    require_root("mounts a small file system")
    holder = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "/bin/sh", stdin=PIPE, stdout=PIPE, preexec_fn=die_with_parent
    )
    disk = Disk(holder, mount)
    try:
        await disk.do(f"mount -t tmpfs -o size={pages * PAGE} none {mount}")
        yield disk
    finally:
        assert holder.stdin is not None
        holder.stdin.close()
        await holder.wait()
