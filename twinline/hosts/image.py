"""Our picture of one accounts file, and the plan that takes it from what it holds to what is wanted.

The picture spares a read per batch: every edit names the bytes it expects, and the helper refuses the batch
when the file is no longer the one that was pictured.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from twinline.hosts.daemon import Daemon, Kick, Step, Stray
from twinline.hosts.ports import Half, Wanted

GROWTH = 16
"""Free slots that an append adds beyond what the batch needs, so that most additions need none."""

JOINED_AT_MOST = 1 << 16
"""How much of the end of a file is looked at for backslashes: more than any daemon joins to one line."""


@dataclass(frozen=True)
class Op:
    """Bytes to write at an offset, and the bytes expected there; nothing expected means an append."""

    offset: int
    old: bytes = field(repr=False)
    new: bytes = field(repr=False)


@dataclass
class Plan:
    """The writes of one batch, in groups with a pause between them, and what to do beside them."""

    groups: tuple[list[Op], list[Op], list[Op]] = field(default_factory=lambda: ([], [], []))
    """Those of the steps' own groups, and then what takes the contents out of records that were switched off."""
    kicks: dict[str, Kick] = field(default_factory=dict[str, Kick])
    """By line id: sessions that a password change has to close."""
    conflicts: list[str] = field(default_factory=list[str])
    """Line ids whose username stands in a record that is not ours."""
    unsafe: list[str] = field(default_factory=list[str])
    """Line ids whose values can't be written."""
    growing: list[str] = field(default_factory=list[str])
    """Line ids whose records need room that the file does not have yet."""

    @property
    def empty(self) -> bool:
        """Whether the file already holds what is wanted."""
        return not any(self.groups)


class Image:
    """The accounts file as it stood at one signature, with an index of its slots."""

    def __init__(self, daemon: Daemon, data: bytes, signature: list[int], *, recover: bool) -> None:
        found = daemon.survey(data)
        self.daemon = daemon
        self.data = bytearray(data)
        self.signature = signature
        self.recover = recover
        """Whether a batch of before still has to be completed on the host."""
        self.slots = found.slots
        self.free = sorted(found.free, reverse=True)
        self.parked = found.parked | {stray.username for stray in found.strays if not stray.live}
        """Usernames of which the file held a record that is off when it was read."""
        self.foreign = found.foreign
        self.strays: dict[str, list[Stray]] = {}
        for stray in found.strays:
            self.strays.setdefault(stray.username, []).append(stray)

    def names(self) -> set[str]:
        """Every account that stands in the file, ours whether on or off."""
        return {*self.slots, *self.strays, *self.foreign}

    def relayout(self) -> bytes | None:
        """The whole file with our strays in slots, if this daemon wants it that way and there are any."""
        return self.daemon.relayout(bytes(self.data)) if self.strays else None

    def plan(self, halves: Sequence[Half], scrub: Iterable[str]) -> Plan:
        """Work out the writes for these halves, and take out what is left of `scrub` (usernames proven absent).

        A stray is brought back into a slot together with its line and not before: where it stands it serves its
        customer. The picture is changed as if all writes had happened; throw it away if they did not.
        """
        plan = Plan()
        wanted = {half.username for half in halves}
        newcomers = [half.line_id for half in halves if self._needs_slot(half)]
        plan.growing = newcomers[len(self.free) :]
        self._grow(plan, len(newcomers))
        for half in halves:
            if half.username in self.foreign:
                plan.conflicts.append(half.line_id)
                if half.wanted is Wanted.PRESENT:
                    continue
            try:
                self._plan_half(plan, half)
            except ValueError:
                plan.unsafe.append(half.line_id)
        for username in scrub:
            if username not in wanted:
                self._scrub(plan, username)
        return plan

    def _slot(self, offset: int) -> bytes:
        return bytes(self.data[offset : offset + self.daemon.width])

    def _needs_slot(self, half: Half) -> bool:
        return half.wanted is Wanted.PRESENT and half.username not in self.slots and half.username not in self.foreign

    def _grow(self, plan: Plan, needed: int) -> None:
        """Append free slots, as comments, on a boundary that no record straddles."""
        if needed <= len(self.free):
            return
        gap = self._gap()
        count = needed - len(self.free) + GROWTH
        start = len(self.data) + len(gap)
        self._write(plan, 0, len(self.data), b"", gap + self.daemon.free_slot() * count)
        self.free = sorted(
            [*self.free, *range(start, start + count * self.daemon.width, self.daemon.width)], reverse=True
        )

    def _gap(self) -> bytes:
        """What has to stand between the end of the file and the next slot: a newline, then a comment to the boundary.

        Somebody's last line may have no end, or end in a backslash that joins the next one to it; and somebody may
        append such a line in the very moment before we write. Several backslashes join as many lines.
        """
        begin = b"\n" * (1 + bytes(self.data[-JOINED_AT_MOST:]).count(b"\\"))
        return begin + self.daemon.filler(-(len(self.data) + len(begin) + 1) % self.daemon.width + 1)

    def _plan_half(self, plan: Plan, half: Half) -> None:
        present = half.wanted is Wanted.PRESENT
        offset = self.slots.get(half.username)
        slot = self.daemon.free_slot() if offset is None else self._slot(offset)
        steps = self.daemon.steps(slot, half)
        strays = self.strays.pop(half.username, [])
        fresh_password = self.daemon.password_in(slot) not in (None, half.password) or any(
            stray.live and half.password.encode() not in self.data[stray.start : stray.end] for stray in strays
        )
        if offset is None and present:
            offset = self.free.pop()
            self.slots[half.username] = offset
        if offset is not None:
            self._take(plan, offset, steps)
        for stray in strays:
            self._mend(plan, stray, int(present))
        kick = self.daemon.kick(half) if fresh_password and present else None
        if kick is not None:
            plan.kicks[half.line_id] = kick

    def _mend(self, plan: Plan, stray: Stray, group: int) -> None:
        """Switch a stray off, and take its contents out after a pause: of one on two pages a reader may see half."""
        mended = self.daemon.mend(bytes(self.data), stray)
        if mended is None:
            return
        start, second = stray.start, stray.start + 1
        if stray.live:
            self._write(plan, group, start, bytes(self.data[start:second]), mended[:1])
        self._write(plan, 2, second, bytes(self.data[second : stray.end]), mended[1:])

    def _scrub(self, plan: Plan, username: str) -> None:
        strays = self.strays.pop(username, [])
        for stray in strays:
            if not stray.live:
                self._mend(plan, stray, 0)
        if left := [stray for stray in strays if stray.live]:
            # Nobody ordered that it is gone; the one who finds out what should be does.
            self.strays[username] = left
        offset = self.slots.get(username)
        if offset is None:
            return
        steps = self.daemon.scrub(self._slot(offset))
        if steps:
            self._take(plan, offset, steps)
            del self.slots[username]
            self.free.append(offset)

    def _take(self, plan: Plan, offset: int, steps: Sequence[Step]) -> None:
        for step in steps:
            before = self._slot(offset)
            if before != step.image:
                first, last = _difference(before, step.image)
                self._write(plan, step.group, offset + first, before[first:last], step.image[first:last])

    def _write(self, plan: Plan, group: int, offset: int, old: bytes, new: bytes) -> None:
        plan.groups[group].append(Op(offset, old, new))
        self.data[offset : offset + len(old)] = new


def _difference(before: bytes, after: bytes) -> tuple[int, int]:
    """From where to where two different slots differ."""
    bits = int.from_bytes(before) ^ int.from_bytes(after)
    return len(before) - (bits.bit_length() + 7) // 8, len(before) - ((bits & -bits).bit_length() - 1) // 8
