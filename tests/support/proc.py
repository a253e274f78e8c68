"""What the kernel knows about processes and listening ports (`/proc`, Linux)."""

import asyncio
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_LISTENING: Final = "0A"


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried does not."""
    return _state_and_parent(pid)[0] not in {"", "Z", "X"}


async def ended(pids: Iterable[int]) -> None:
    """Wait until none of the processes runs."""
    async with asyncio.timeout(15):
        for pid in pids:
            while alive(pid):  # noqa: ASYNC110 - nobody tells us of the end of a process that isn't our child
                await asyncio.sleep(0.01)


def descendants(ancestor: int) -> set[int]:
    """Every process that runs below this one."""
    parents = {pid: _state_and_parent(pid)[1] for pid in _numbers(_PROC) if alive(pid)}
    found = {ancestor}
    while fresh := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= fresh
    return found - {ancestor}


def listening(pids: Iterable[int]) -> set[tuple[str, int]]:
    """Address and port of every TCP socket on which one of the processes listens."""
    held = {socket for pid in pids for socket in _sockets(pid)}
    rows = [line.split() for name in ("tcp", "tcp6") for line in (_PROC / "net" / name).read_text().splitlines()[1:]]
    return {_address(row[1]) for row in rows if row[3] == _LISTENING and row[9] in held}


def _state_and_parent(pid: int) -> tuple[str, int]:
    try:
        # The program's name stands in brackets and may hold anything.
        state, parent, *_ = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return state, int(parent)


def _numbers(folder: Path) -> list[int]:
    return [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()]


def _sockets(pid: int) -> set[str]:
    links: set[str] = set()
    for entry in (_PROC / str(pid) / "fd").iterdir():
        try:
            links.add(str(entry.readlink()))
        except FileNotFoundError:
            # Closed since the listing.
            continue
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}


def _address(text: str) -> tuple[str, int]:
    address, port = text.split(":")
    # Words of four bytes in this machine's order, which is little-endian wherever these tests run.
    words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
    return str(ipaddress.ip_address(b"".join(words))), int(port, 16)
