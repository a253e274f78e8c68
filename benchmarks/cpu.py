"""CPU time of the processes that serve an order."""

import os
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_USER, _CHILDREN = 11, 15
_PARENT: Final = 1


def seconds_of(pid: int) -> float:
    """CPU seconds of a process and of those children that it has waited for; 0.0 when it is gone."""
    fields = _fields(pid)
    return sum(int(field) for field in fields[_USER:_CHILDREN]) / _TICKS if fields else 0.0


def descendants(pid: int) -> frozenset[int]:
    """All processes that a process has started, theirs too, as long as they run."""
    parents = {
        int(entry.name): int(fields[_PARENT])
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (fields := _fields(int(entry.name)))
    }
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return frozenset(found)


def _fields(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name; none when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
