"""What the helper writes, in which order, as the kernel reports it: the journal, what is synced, and the mark."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from tests.hosts.crash_driver import ANSWERS, WRITES
from tests.hosts.crashes import Report, State
from tests.hosts.helper_process import stored_in
from tests.hosts.playing import SCENES, every_scene
from tests.hosts.scenes import Scene, Stage
from twinline.hosts import helper_program

pytestmark = pytest.mark.usefixtures("small_files")

PAUSE: Final = helper_program.SETTLE_SECONDS
MARK_SPACE: Final = 19 + len(" }")


# --- the journal


def journalled(watched: Report, after: bytes) -> tuple[State, State, str]:
    """The states before and behind the write of the journal entry that says `after` it, and its name."""
    for before, behind in pairwise(watched.states):
        for name in ("state/journal.0", "state/journal.1"):
            content = behind.files.get(name, b"")
            if after in content and after not in before.files.get(name, b""):
                return before, behind, name
    raise AssertionError("the journal never said so")


def torn(stage: Stage, before: State, behind: State, name: str) -> Iterator[dict[str, bytes]]:
    """The files with a journal entry that came only so far, over what stood there before and over one as long as it."""
    new = behind.files[name]
    for old in (before.files[name], settled_like(stage, new)):
        for length in range(len(new)):
            if (mixed := new[:length] + old[length:]) != new:
                yield {**before.files, name: mixed}


def settled_like(stage: Stage, new: bytes) -> bytes:
    """An older entry that differs from a new one only here and there, so that a mixture of both can be read."""
    entry = stored_in(new)
    entry |= {"seq": 0, "state": "applied", "batch": "b" * len(entry["batch"])}
    helper_program.store(str(stage.folder / "entry"), entry)
    return (stage.folder / "entry").read_bytes()


def check_torn_journals(stage: Stage, scene: Scene, watched: Report) -> None:
    """Of every length: an entry that is not whole was never written, at the beginning and at the end of a batch."""
    for files in torn(stage, *journalled(watched, b'"state":"pending"')):
        stage.put(files)
        image = stage.read()
        assert (bytes(image.data), image.recover) == (scene.start, False)
    for files in torn(stage, *journalled(watched, b'"state":"applied","token":[1,7]')):
        stage.put(files)
        image = stage.read()
        assert (bytes(image.data), image.recover) == (scene.end, True)


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene.name == "block"], ids=str)
def test_an_entry_of_the_journal_that_is_not_whole_was_never_written(
    scene: Scene, stage: Stage, watched: Report
) -> None:
    check_torn_journals(stage, scene, watched)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scene", [scene for scene in SCENES if not scene.replaces], ids=str)
def test_no_entry_of_any_batch_that_is_not_whole_was_ever_written(scene: Scene, stage: Stage, watched: Report) -> None:
    check_torn_journals(stage, scene, watched)


# --- what stands on the disk before what, and the mark

RELIES: Final = {
    "accounts": {"state/journal.0", "state/journal.1", "state/kick.new", "state", "names in state"},
    "state/journal.0": {"accounts"},
    "state/journal.1": {"accounts"},
    ANSWERS: {"accounts", "state/kick.new", "names in state", "names in ."},
}
"""Of which files and folders everything must be on the disk before something is written."""


@every_scene
def test_what_a_write_relies_on_is_on_the_disk_before_it(scene: Scene, watched: Report) -> None:
    waiting: set[str] = set()
    for before, call in pairwise(watched.calls):
        name, target = call.step.name, call.step.target
        if name.startswith("rename"):
            source, target = target.split(" to ")
            assert source not in waiting
            waiting.add(f"names in {Path(target).parent}")
        elif name in ("fdatasync", "fsync"):
            waiting -= {target, f"names in {target}"}
        elif name in WRITES:
            assert not waiting & RELIES.get(target, set())
            waiting.add(target)
        elif target in RELIES and target not in watched.states[before.state].files and call.flags & os.O_CREAT:
            waiting.add(str(Path(target).parent))


@every_scene
def test_a_mark_comes_in_a_write_of_its_own_and_after_a_pause_where_no_page_shows_what_it_proves(
    scene: Scene, watched: Report
) -> None:
    assert PAUSE >= 0.010
    paused = True
    for before, call in pairwise(watched.calls):
        old, new = (watched.states[each.state].files["accounts"] for each in (before, call))
        if call.step.name == "clock_nanosleep":
            paused = True
        elif old != new and not scene.replaces:
            switching = only_switches(scene, old, new)
            proven = proves_more(scene, old, new)
            assert switching or not proven
            assert paused or not proven & hidden_changes(scene)
            paused = paused and switching


def hidden_changes(scene: Scene) -> set[str]:
    """The lines of which something changes that no page shows: a password of MultiCS, a new record of OSCam."""
    accounts = [line.after for line in scene.law.lines.values() if line.after is not None]
    if scene.kind.protocol == "multics":
        return {each.user for each in accounts if f": {each.user} {each.password} ".encode() not in scene.start}
    known = {each.user for each in scene.kind.see(scene.start)}
    return {each.user for each in accounts} - known


def proves_more(scene: Scene, old: bytes, new: bytes) -> set[str]:
    """The lines of which a daemon shows a new mark after a write that it did not show before."""
    shown = scene.kind.see(old)
    lines = scene.law.lines
    return {
        each.user
        for each in scene.kind.see(new)
        if each not in shown and each.user in lines
        if each.mark and each.mark == lines[each.user].mark and (each.enabled or lines[each.user].after is None)
    }


def only_switches(scene: Scene, old: bytes, new: bytes) -> bool:
    """Whether a write changes a single byte, or nothing but a mark and the brace behind it."""
    changed = [at for at, byte in enumerate(new) if old[at : at + 1] != bytes([byte])]
    marks = [new.find(line.mark.encode(), 0) for line in scene.law.lines.values() if line.mark]
    return len(changed) == 1 or any(at >= 0 and at <= changed[0] and changed[-1] < at + MARK_SPACE for at in marks)
