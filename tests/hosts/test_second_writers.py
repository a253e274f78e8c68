"""Somebody else writes to the accounts file in the very moment of our edit: nobody's update is lost.

The helper runs in this process, so that the other hand can act exactly between two of its system calls: before every
one of them in turn (`make soak`), before a seeded sample of them in `make test`.
"""

import asyncio
import os
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, Final, cast

import pytest

from tests.hosts.files import END, carried_out, half, plan_for
from tests.hosts.gaps import Gaps, NearHelper
from tests.hosts.hand import Hand, other_hand
from tests.hosts.helper_process import apply_request, image_in, setup_for, stored
from tests.hosts.judge import KINDS, Kind
from tests.hosts.lab import FOREIGN, MemoryLedger
from tests.hosts.law import as_seen
from twinline.hosts import helper_program, image
from twinline.hosts.errors import FileTrouble
from twinline.hosts.helper_program import Trouble
from twinline.hosts.image import Image
from twinline.hosts.ports import Half, Proven, Wanted
from twinline.hosts.ssh import Changed, Helper
from twinline.hosts.writer import HostWriter

OURS: Final = "alder22222"
NEIGHBOUR: Final = half("birch22222", 3)
HANDMADE: Final = {
    "multics": b"F: handmade handpass1\n",
    "oscam": b"[account]\nuser = handmade\npwd = handpass1\n",
}
SAMPLE: Final = 2


def _at_once(_: helper_program.Helper) -> int:
    return 0


def _answers(_: helper_program.StatusPages, path: str) -> tuple[int, bytes]:
    return 200, b""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    monkeypatch.setattr(image, "GROWTH", 1)
    monkeypatch.setattr(helper_program, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(helper_program.Helper, "wait_ms", _at_once)
    monkeypatch.setattr(helper_program.StatusPages, "get", _answers)


@pytest.fixture(scope="module")
def hand() -> Iterator[Hand]:
    with other_hand() as running:
        yield running


@dataclass(frozen=True)
class Edit:
    """What somebody else does: one act on the file, with content made of the file as he had loaded it before."""

    do: str
    content: Callable[[bytes, bytes], bytes] = field(repr=False)
    """Of the file before our edit and the record that he adds."""


def _on_top(before: bytes, record: bytes) -> bytes:
    return record + before


def _at_the_end(before: bytes, record: bytes) -> bytes:
    return before + record


def _only(_: bytes, record: bytes) -> bytes:
    return record


def _unfinished(_: bytes, record: bytes) -> bytes:
    return record.rstrip(b"\n")


EDITS: Final = {
    "append": Edit("append", _only),
    "append without an end": Edit("append", _unfinished),
    "rewrite with a record on top": Edit("rewrite", _on_top),
    "rewrite with a record at the end": Edit("rewrite", _at_the_end),
    "rename with a record on top": Edit("rename", _on_top),
    "rename with a record at the end": Edit("rename", _at_the_end),
    "backup and a new file": Edit("move_away", _at_the_end),
}


@dataclass(frozen=True)
class Batch:
    """One change of our line, from what the file holds of it before."""

    before: Sequence[Half]
    wanted: Half
    above: bytes = b""
    """What pushed all records off their places."""


PRESENT: Final = half(OURS, 9)
CHANGED: Final = half(OURS, 10, password="another23", ends_at=END + timedelta(days=40))
BATCHES: Final = {
    "add": Batch((), PRESENT),
    "renew and password": Batch((PRESENT,), CHANGED),
    "block": Batch((PRESENT,), half(OURS, 10, wanted=Wanted.BLOCKED)),
    "remove and scrub": Batch((PRESENT,), half(OURS, 10, wanted=Wanted.ABSENT)),
    "lay out": Batch((PRESENT,), CHANGED, b"# one line more\n"),
}


class Scene:
    """A host on which our line changes, and a writer that brings it about beside somebody else."""

    def __init__(self, kind: Kind, folder: Path, batch: Batch, hand: Hand) -> None:
        self.kind = kind
        self.batch = batch
        self.accounts = folder / "accounts"
        self._folder = folder
        self._state = folder / "state"
        self._hand = hand
        self._proven = False
        data = FOREIGN[kind.protocol]
        for each in (NEIGHBOUR, *batch.before):
            data = carried_out(data, plan_for(kind.daemon, data, [each]))
        # Free slots would spare us the append.
        data = data.replace(kind.daemon.free_slot(), b"#" * (kind.daemon.width - 1) + b"\n")
        self.start = batch.above + data

    def reset(self) -> int:
        """The host as it was before; the file's inode."""
        self._proven = False
        for file in (*self._folder.iterdir(), *self._state.glob("*")):
            if not file.is_dir():
                file.unlink()
        self.accounts.write_bytes(self.start)
        return self.accounts.stat().st_ino

    async def bring(self, gaps: Gaps) -> None:
        """Have the real writer bring our change about with a helper in this process."""
        wanted = self.batch.wanted
        ledger = MemoryLedger({each.line_id: each for each in (NEIGHBOUR, wanted)})
        ledger.known[NEIGHBOUR.line_id] = Proven(NEIGHBOUR.line_id, NEIGHBOUR.revision, NEIGHBOUR.wanted)

        async def near() -> Helper:
            return cast(Helper, NearHelper(setup_for(self.accounts, self._state, self.kind), gaps))

        writer = HostWriter("host", daemon=self.kind.daemon, ledger=ledger, start_helper=near)
        await writer.bring(wanted.line_id, wanted.revision)
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "writer host"))
        await writer.close()

    def prove(self, request: dict[str, Any], *_: object) -> dict[str, Any]:
        """In place of a daemon: one that reads the file by its path now, when whoever waited for us has written."""
        self._hand.end()
        wanted = as_seen(self.kind, self.batch.wanted)
        ours = [seen for seen in self.kind.served(self.accounts.read_bytes()) if seen.user == OURS]
        holds = ours == ([] if wanted is None else [wanted])
        self._proven = self._proven or holds
        proven = [probe["id"] for probe in request["probes"]] if holds else []
        return {"proven": proven, "status_error": "", "wait_ms": 0}

    def run(self, gaps: Gaps, acts: dict[int, Callable[[], None]]) -> bool:
        """Bring our change about while somebody acts before some of the calls; whether that was proven before."""
        late: list[bool] = []

        def noted(act: Callable[[], None]) -> Callable[[], None]:
            def acting() -> None:
                late.append(self._proven)
                act()

            return acting

        gaps.begin({number: noted(act) for number, act in acts.items()})
        asyncio.run(self.bring(gaps))
        for act in gaps.left():
            act()
        self._hand.end()
        return any(late)

    def check(self, *, late: bool) -> None:
        """Everybody's update is in the file, and nothing of ours is left undone."""
        found = self.accounts.read_bytes()
        seen = {each.user: each for each in self.kind.see(found)}
        expected = {each.user: each for each in self.kind.see(self.start) if each.user != OURS}
        expected["handmade"] = self.kind.see(HANDMADE[self.kind.protocol])[0]
        assert {name: each for name, each in seen.items() if name != OURS} == expected
        wanted, ours = as_seen(self.kind, self.batch.wanted), seen.get(OURS)
        # Who takes back what was proven before he wrote makes a drift; that is for others to find.
        assert late or ours == wanted or (wanted is None and (ours is None or not ours.enabled))
        assert FOREIGN[self.kind.protocol] in found
        entries = [stored(self._state, file.name) for file in self._state.glob("journal.*")]
        assert max(entries, key=lambda entry: entry["seq"])["state"] == "applied"
        assert {file.name for file in self._folder.iterdir()} <= {"accounts", "accounts~", "state"}


def _no_lease(fd: int, kind: int, patience: float) -> bool:
    return True


def _no_exchange(one: str, other: str) -> bool:
    return False


@dataclass(frozen=True)
class Means:
    """What a host lets us do against others: a lease, an exchange of names, or neither."""

    name: str
    lease: bool
    exchange: bool

    def take_away(self, patch: pytest.MonkeyPatch) -> None:
        if not self.lease:
            patch.setattr(helper_program, "lease", _no_lease)
        if not self.exchange:
            patch.setattr(helper_program, "exchange", _no_exchange)

    def closed(self, call: str, edit: Edit) -> bool:
        """Whether the gap before a call is closed to somebody's edit: two are not, where a host lets us do little."""
        if call == "pwrite" and edit.do == "rewrite":
            return self.lease
        return call != "rename" or self.exchange


MEANS: Final = (Means("owner", True, True), Means("stranger", False, False))


@contextmanager
def naming(what: str) -> Generator[None]:
    """Say with a failure where in a loop it came up."""
    try:
        yield
    except Exception as error:
        error.add_note(what)
        raise


def case_of(kind: Kind, means: Means, batch: str, edit: str, calls: str) -> Any:
    return pytest.param(
        (kind, means, BATCHES[batch], EDITS[edit], calls == "every call"),
        id=f"{kind.protocol}-{means.name}-{batch}-{edit}-{calls}",
        marks=[pytest.mark.soak] if calls == "every call" else [],
    )


CASES: Final = [case_of(*each) for each in product(KINDS, MEANS, BATCHES, EDITS, ("some calls", "every call"))]


@pytest.mark.parametrize("case", CASES)
def test_whoever_writes_between_two_of_our_calls_loses_nothing_and_neither_do_we(
    case: tuple[Kind, Means, Batch, Edit, bool],
    folder: Path,
    hand: Hand,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    kind, means, batch, edit, every = case
    seed = request.node.name
    scene = Scene(kind, folder, batch, hand)
    monkeypatch.setattr(helper_program.Helper, "prove", scene.prove)
    means.take_away(monkeypatch)
    gaps = Gaps(monkeypatch)
    content = edit.content(scene.start, HANDMADE[kind.protocol])
    scene.reset()
    scene.run(gaps, {})
    calls = list(gaps.names)
    closed = [number for number, call in enumerate(calls, start=1) if means.closed(call, edit)]
    numbers = closed if every else random.Random(seed).sample(closed, SAMPLE)  # noqa: S311 - a sample
    for number in numbers:
        inode = scene.reset()
        with naming(f"somebody acted before call {number}, {calls[number - 1]}"):
            late = scene.run(gaps, {number: lambda: hand.begin(edit.do, scene.accounts, content)})
            scene.check(late=late)
            if edit.do in {"append", "rewrite"} and kind.protocol == "multics":
                assert scene.accounts.stat().st_ino == inode


@pytest.mark.parametrize("pause", [2, 60])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_half_of_what_somebody_writes_is_never_taken_for_all_of_it(
    kind: Kind, batch: str, pause: int, folder: Path, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(kind, folder, BATCHES[batch], hand)
    monkeypatch.setattr(helper_program.Helper, "prove", scene.prove)
    gaps = Gaps(monkeypatch)
    content = _on_top(scene.start, HANDMADE[kind.protocol])
    scene.reset()
    scene.run(gaps, {})
    calls = range(1, len(gaps.names) + 1)
    for number in random.Random(f"{batch} {pause}").sample(calls, SAMPLE):  # noqa: S311 - a sample
        scene.reset()
        late = scene.run(
            gaps,
            {
                number: lambda: hand.begin("begin", scene.accounts, content),
                number + pause: lambda: hand.begin("finish", scene.accounts, content),
            },
        )
        scene.check(late=late)


# --- the helper alone


class Alone:
    """A helper that is to add a line, asked without a writer that would try again."""

    def __init__(self, kind: Kind, folder: Path, gaps: Gaps) -> None:
        self.accounts = folder / "accounts"
        self.accounts.write_bytes(FOREIGN[kind.protocol])
        self.window = folder / "state" / "window"
        self.window.unlink(missing_ok=True)
        self.helper = NearHelper(setup_for(self.accounts, self.window.parent, kind), gaps)
        self._kind = kind
        self._gaps = gaps

    async def read(self) -> Image:
        return image_in(self._kind, await self.helper.ask("read"))

    async def add(self, number: int, acts: dict[int, Callable[[], None]]) -> None:
        picture = await self.read()
        request = apply_request(picture, picture.plan([PRESENT], []), number=number, batch=f"b{number}")
        self._gaps.begin(acts)
        await self.helper.ask("apply", request)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
async def test_a_batch_that_went_to_a_file_that_was_replaced_is_never_called_done(
    kind: Kind, folder: Path, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    gaps = Gaps(monkeypatch)
    await Alone(kind, folder, gaps).add(1, {})
    synced = gaps.names.index("fdatasync", gaps.names.index("write")) + 1
    alone = Alone(kind, folder, gaps)
    edited = HANDMADE[kind.protocol] + FOREIGN[kind.protocol]
    with pytest.raises(Changed):
        await alone.add(2, {synced: lambda: hand.begin("rename", alone.accounts, edited)})
    assert alone.accounts.read_bytes() == edited
    # To close what was written makes MultiCS reload, whatever became of it.
    assert alone.window.exists() == kind.daemon.close_triggers


def test_what_we_append_never_hides_what_somebody_appended_before(folder: Path) -> None:
    file = folder / "accounts"
    file.write_bytes(b"first\nsecond\n")
    with file.open("r+b", buffering=0) as open_file:
        with pytest.raises(Trouble, match="changed"):
            helper_program.append(open_file.fileno(), b"#\n", len(b"first\n"))
        helper_program.append(open_file.fileno(), b"third\n", len(b"first\nsecond\n#\n"))
        os.pwrite(open_file.fileno(), b"F", 0)
    assert file.read_bytes() == b"First\nsecond\n#\nthird\n"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
async def test_who_keeps_the_file_open_for_writing_is_waited_for_and_then_named(
    kind: Kind, folder: Path, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_program, "WRITER_PATIENCE", 0.01)
    alone = Alone(kind, folder, Gaps(monkeypatch))
    hand.begin("begin", alone.accounts, FOREIGN[kind.protocol])
    with pytest.raises(FileTrouble, match="somebody else has the accounts file open for writing"):
        await alone.read()
    hand.begin("finish", alone.accounts, FOREIGN[kind.protocol])
    assert bytes((await alone.read()).data) == FOREIGN[kind.protocol]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_a_name_for_another_file_is_never_followed_whenever_it_appears(
    kind: Kind, folder: Path, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(kind, folder, BATCHES["add"], hand)
    monkeypatch.setattr(helper_program.Helper, "prove", scene.prove)
    gaps = Gaps(monkeypatch)
    scene.reset()
    scene.run(gaps, {})
    for number in range(1, len(gaps.names)):
        scene.reset()
        with pytest.raises(FileTrouble, match="not a regular file with exactly one link"):
            scene.run(gaps, {number: lambda: hand.begin("symlink", scene.accounts, scene.start)})
        hand.end()
        assert scene.accounts.read_bytes() == scene.start
