"""A reader of an accounts file that does nothing else: in its daemon's own manner, again and again, judging records.

Run as a program it takes a `Task` as JSON, reads until SIGTERM, and answers with a `Sight` as JSON.
"""

import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from tests.hosts.histories import KEPT, Histories
from tests.hosts.judge import Kind, Seen, kind_of
from tests.hosts.law import LineLaw, as_seen
from twinline.hosts.daemon import MARK
from twinline.messages import Protocol

STDIO_BLOCK: Final = 4_096
"""What C's stdio reads at once from a file; OSCam's blocks are as large (daemons.md)."""

MULTICS_LINE: Final = 10_238
SENTINEL: Final = b"[account]\nuser = sentinel\npwd = sentinelpw\n"


class Task(BaseModel):
    """Which file to read, and what can stand in it."""

    protocol: Protocol
    path: Path
    seed: int
    above: bytes
    """What stands above the slots."""
    kept: int
    """How many lines are on at every moment."""


class Sight(BaseModel):
    """What was seen."""

    reads: int = 0
    records: int = 0
    """Records of ours that a daemon would have served."""
    torn_marks: int = 0
    """Among them: right in all but the mark, which is none that ever was."""
    wrong: int = 0
    """Among them and their neighbours: not lawful, missing, or twice there."""
    examples: list[str] = []


@dataclass(frozen=True)
class Verdict:
    """What one piece of the file, a line or a slot, gives its daemon."""

    names: tuple[str, ...] = ()
    torn_marks: int = 0
    wrong: str = ""


@dataclass
class Judge:
    """Judges pieces by the daemon's rules, each of them once."""

    kind: Kind
    histories: Histories
    known: dict[bytes, Verdict] = field(default_factory=dict[bytes, Verdict])

    def of(self, piece: bytes) -> Verdict:
        """The verdict on one piece."""
        found = self.known.get(piece)
        if found is None:
            found = self.known[piece] = self._judged(piece)
        return found

    def _judged(self, piece: bytes) -> Verdict:
        if self.kind.protocol == "multics":
            seen = self.kind.see(piece)
            if b"\\" in piece or b"\0" in piece:
                return Verdict(wrong="a line that joins or cuts others")
        else:
            # Keys without a header of their own would fall to the account above.
            above, *seen = self.kind.see(SENTINEL + piece)
            if above != self.kind.see(SENTINEL)[0]:
                return Verdict(wrong="keys that fall to the account above")
        enabled = [account for account in seen if account.enabled]
        if len(enabled) > 1:
            return Verdict(wrong="two accounts")
        names = tuple(account.user for account in enabled)
        for account in enabled:
            try:
                return Verdict(names, torn_marks=int(not self._whole(account)))
            except AssertionError:
                return Verdict(names, wrong=f"{account}")
        return Verdict(names)

    def _whole(self, account: Seen) -> bool:
        """Whether the mark is one that was; AssertionError if the rest of the account is not lawful."""
        match = re.fullmatch(MARK, account.mark)
        revision = int(account.mark.split("-")[0]) if match else 0
        now = self.histories.version(account.user, revision) if 0 < revision < 10_000 else None
        if now is None or now.mark != account.mark:
            self._check_without_mark(account)
            return False
        after = self.histories.version(account.user, revision + 1)
        law = LineLaw(self.kind, as_seen(self.kind, now), as_seen(self.kind, after), after.mark if after else "")
        law.check_enabled(account)
        return True

    def _check_without_mark(self, account: Seen) -> None:
        revision = 1
        while (before := self.histories.version(account.user, revision)) is not None:
            after = self.histories.version(account.user, revision + 1)
            law = LineLaw(self.kind, as_seen(self.kind, before), as_seen(self.kind, after), "")
            try:
                law.check_enabled(account)
            except AssertionError:
                revision += 1
                assert revision < 2_000
            else:
                return
        raise AssertionError("of no version")


def pieces_of(task: Task, width: int) -> Generator[bytes]:
    """The file as the daemon takes it: MultiCS line by line from stdio, OSCam in blocks, cut here into slots."""
    if task.protocol == "multics":
        with task.path.open("rb", buffering=STDIO_BLOCK) as file:
            while line := file.readline(MULTICS_LINE):
                yield line
        return
    fd = os.open(task.path, os.O_RDONLY)
    try:
        blocks: list[bytes] = []
        while block := os.read(fd, STDIO_BLOCK):
            blocks.append(block)
    finally:
        os.close(fd)
    data = b"".join(blocks)
    head = len(task.above)
    yield data[:head]
    for start in range(head, len(data), width):
        yield data[start : start + width]


def look(task: Task, judge: Judge, above: tuple[bytes, ...], sight: Sight) -> None:
    """Read the file once."""
    found: Counter[str] = Counter()
    wrong: list[str] = []
    torn = 0
    places = iter(above)
    for piece in pieces_of(task, judge.kind.daemon.width):
        expected = next(places, None)
        if expected is not None:
            if piece != expected:
                wrong.append(f"above the slots: {piece!r}")
            continue
        verdict = judge.of(piece)
        found.update(verdict.names)
        torn += verdict.torn_marks
        if verdict.wrong:
            wrong.append(f"{verdict.wrong} in {piece!r}")
        elif verdict.torn_marks:
            sight.examples.append(f"torn mark: {piece!r}")
    kept = sum(name.startswith(KEPT) for name in found)
    if kept != task.kept:
        wrong.append(f"{task.kept - kept} of the lines that are never off")
    wrong += [f"{name} twice" for name, count in found.items() if count > 1]
    sight.reads += 1
    sight.records += sum(found.values())
    sight.torn_marks += torn
    sight.wrong += len(wrong)
    sight.examples = (sight.examples + wrong)[:5]


def main() -> None:
    """Read until told to stop."""
    task = Task.model_validate_json(sys.argv[1])
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))  # pyright: ignore[reportUnknownLambdaType]
    judge = Judge(kind_of(task.protocol), Histories(task.seed))
    above = (task.above,) if task.protocol == "oscam" else tuple(task.above.splitlines(keepends=True))
    sight = Sight()
    look(task, judge, above, sight)
    sys.stdout.write("reading\n")
    sys.stdout.flush()
    while not told:
        look(task, judge, above, sight)
    sys.stdout.write(sight.model_dump_json())


if __name__ == "__main__":
    main()
