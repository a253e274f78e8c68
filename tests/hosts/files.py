"""Accounts files for the pure tests: halves to write, plans carried out byte by byte."""

import hashlib
from collections.abc import Generator, Iterable, Sequence
from datetime import UTC, datetime

from twinline.hosts.daemon import Daemon
from twinline.hosts.image import Image, Op, Plan
from twinline.hosts.ports import Half, Wanted

END = datetime(2031, 5, 6, 13, 0, tzinfo=UTC)
PASSWORD = "pw23456789abcdef"


def half(
    username: str,
    revision: int = 1,
    *,
    password: str = PASSWORD,
    wanted: Wanted = Wanted.PRESENT,
    ends_at: datetime | None = END,
) -> Half:
    """A half whose mark depends on all of its values, as the ledger's does."""
    values = repr((username, password, wanted, ends_at, revision)).encode()
    mark = f"{revision}-{hashlib.sha256(values).hexdigest()[:8]}"
    return Half(username, username, password, wanted, ends_at, revision, mark)


def image_of(daemon: Daemon, data: bytes) -> Image:
    """The engine's picture of a file that nobody else changes."""
    return Image(daemon, data, [], recover=False)


def plan_for(daemon: Daemon, data: bytes, halves: Sequence[Half], scrub: Iterable[str] = ()) -> Plan:
    """The engine's plan for a file as it reads it now."""
    return image_of(daemon, data).plan(halves, scrub)


def ops_of(plan: Plan) -> list[Op]:
    """All writes of a plan in their order."""
    return [op for group in plan.groups for op in group]


def written(data: bytes, op: Op, length: int | None = None) -> bytes:
    """The file after one write, or after its first `length` bytes; the write must find what it expects."""
    assert data[op.offset : op.offset + len(op.old)] == op.old
    assert op.old or op.offset == len(data)
    new = op.new[:length]
    return data[: op.offset] + new + data[op.offset + len(new) :]


def carried_out(data: bytes, plan: Plan) -> bytes:
    """The file after a whole plan."""
    for op in ops_of(plan):
        data = written(data, op)
    return data


def first_group_of(data: bytes, plan: Plan) -> bytes:
    """The file as it stands while the engine pauses between the two groups of writes."""
    for op in plan.groups[0]:
        data = written(data, op)
    return data


def every_state(data: bytes, plan: Plan) -> Generator[bytes]:
    """The file after every single byte of every write, front to back."""
    for op in ops_of(plan):
        for length in range(1, len(op.new) + 1):
            yield written(data, op, length)
        data = written(data, op)
