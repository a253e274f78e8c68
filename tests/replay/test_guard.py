"""The guard itself: a workflow that was changed without a patch is noticed, and one that was changed with it passes."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import worker
from tests.replay.commands import Replayed, counted, replay
from tests.replay.mutants import PATCHED, SEEN_BY_COMMANDS, SEEN_BY_REPLAY, Mutant
from tests.replay.paths import PATHS
from tests.replay.record import REFUSED, Recorder, open_converter
from tests.replay.shelf import ANEW, FIRST, Shelf, explained_by, this_release
from worker import WORKFLOWS

SHELF = Shelf()


@pytest.fixture
def garden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which mutants can be imported."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("mutant_")]:
        del sys.modules[name]


async def shown(mutant: Mutant, workflows: Sequence[type]) -> dict[str, Replayed]:
    """How these workflows go through the recordings that show a mutant, by name."""
    names = sorted({entry.name for entry in SHELF.log if entry.name.startswith(f"{mutant.workflow}/")})
    histories = [SHELF.history(str(SHELF.latest(name)), name) for name in names]
    found = await replay(histories, workflows=workflows, converter=open_converter())
    return dict(zip(names, found, strict=True))


def same_commands(name: str, replayed: Replayed) -> bool:
    return replayed.counted == counted(SHELF.commands(str(SHELF.latest(name)))[name])


@pytest.mark.parametrize("mutant", SEEN_BY_REPLAY, ids=lambda mutant: mutant.name)
async def test_a_change_without_a_patch_fails_in_replay(garden: Path, mutant: Mutant) -> None:
    found = await shown(mutant, mutant.plant(garden))

    assert [name for name, replayed in found.items() if replayed.failure is not None]


@pytest.mark.parametrize("mutant", SEEN_BY_COMMANDS, ids=lambda mutant: mutant.name)
async def test_a_change_that_replay_lets_pass_shows_in_the_commands(garden: Path, mutant: Mutant) -> None:
    found = await shown(mutant, mutant.plant(garden))

    assert {replayed.failure for replayed in found.values()} == {None}
    assert [name for name, replayed in found.items() if not same_commands(name, replayed)]


async def test_the_same_change_with_a_patch_passes(garden: Path) -> None:
    found = await shown(PATCHED, PATCHED.plant(garden))

    assert {replayed.failure for replayed in found.values()} == {None}
    assert all(same_commands(name, replayed) for name, replayed in found.items())


async def test_a_message_that_lost_a_field_fails_in_replay() -> None:
    """As older messages look to newer code: with a field that it does not know."""
    name = "Purchase/new_customer"
    history = SHELF.history(str(SHELF.latest(name)), name)
    payload = history.events[0].workflow_execution_started_event_attributes.input.payloads[0]
    payload.data = json.dumps({**json.loads(payload.data), "coupon": "SUMMER"}).encode()

    (replayed,) = await replay([history], workflows=WORKFLOWS, converter=open_converter())

    assert not same_commands(name, replayed)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """A copy of what is kept."""
    return Shelf(shutil.copytree(SHELF.folder, tmp_path / "histories"))


async def test_recording_anew_does_not_hide_a_change_without_a_patch(
    garden: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = SEEN_BY_REPLAY[0]
    monkeypatch.setattr(worker, "WORKFLOWS", swapped.plant(garden))
    before = shelf.contents(this_release())

    bad = await Recorder(shelf).record([PATHS["Purchase/new_customer"]])

    assert bad == 1
    assert REFUSED in capsys.readouterr().out
    assert (shelf.contents(this_release()), shelf.faults()) == (before, [])


async def test_a_patch_is_recorded_beside_what_was_shipped_and_stops_older_code(
    garden: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "Purchase/new_customer"
    shelf.seal(this_release())
    before = shelf.contents(this_release())
    with monkeypatch.context() as patched:
        patched.setattr(worker, "WORKFLOWS", PATCHED.plant(garden))
        assert await Recorder(shelf, release="99.0").record([PATHS[name]]) == 0

    assert (shelf.contents(this_release()), shelf.faults()) == (before, [])
    assert shelf.log[-1].why == "patch halves-first"
    assert shelf.latest(name) == "99.0"
    # By this an operator finds who has met it.
    assert b"TemporalChangeVersion" in shelf.file("99.0", name).read_bytes()
    # Who goes back to the release before leaves behind what has met the patch.
    (older,) = await replay([shelf.history("99.0", name)], workflows=WORKFLOWS, converter=open_converter())
    assert older.failure is not None


def test_a_shipped_release_takes_no_recording(shelf: Shelf) -> None:
    shelf.seal(this_release())

    with pytest.raises(ValueError, match="was shipped"):
        shelf.put(this_release(), "Trial/both_halves", "{}", (), "because we can")


def test_a_release_is_retired_by_name_once_nothing_of_it_runs(shelf: Shelf) -> None:
    release, name = this_release(), "Trial/both_halves"
    text, commands = shelf.file(release, name).read_text(), shelf.commands(release)[name]
    shelf.seal(release)
    shelf.put("99.0", name, text, commands, ANEW)
    shutil.rmtree(shelf.folder / release)
    assert len(shelf.faults()) > 1

    seals = shelf.folder / "sealed.txt"
    seals.write_text(f"{seals.read_text().rstrip()}  the last of its Terms ended in May\n")

    assert (shelf.faults(), shelf.releases) == ([], ["99.0"])


def test_what_was_meddled_with_is_told(shelf: Shelf) -> None:
    release, name = this_release(), "Trial/both_halves"
    shelf.seal(release)
    file, commands = shelf.file(release, name), shelf.folder / release / "commands.txt"
    text, whole = file.read_text(), commands.read_text()

    file.write_text(text.replace("48", "49"))
    assert [fault.split(": ")[1] for fault in shelf.faults()] == [
        "it was changed since it was recorded",
        "it was shipped and has changed since",
    ]
    file.write_text(text)
    commands.write_text(whole.replace("child Term, abandon", "child Term, terminate"))
    assert shelf.faults() == [f"{release}: it was shipped and has changed since"]
    commands.write_text(whole)
    file.rename(file.with_name("no_halves.json"))
    assert len(shelf.faults()) == 4


def test_a_recording_without_a_reason_or_with_a_wrong_one_is_told(shelf: Shelf) -> None:
    name, commands = "Trial/both_halves", shelf.commands(this_release())["Trial/both_halves"]
    text = shelf.file(this_release(), name).read_text()

    shelf.put("99.0", name, text, commands, FIRST)
    shelf.put("99.1", name, text, (*commands[:3], "patch second", *commands[3:]), "patch first")

    assert shelf.faults() == [
        f"99.0 {name}: `{FIRST}` is no reason",
        f"99.1 {name}: it does not begin to differ with `patch first`",
    ]


@pytest.mark.parametrize(
    ("now", "patch"),
    [
        (("a", "patch p", "c", "b"), "patch p"),
        (("a", "b", "patch p"), "patch p"),
        (("a", "c", "patch p"), None),
        (("a",), None),
        (("b", "a"), None),
    ],
)
def test_a_difference_has_to_begin_with_its_patch(now: tuple[str, ...], patch: str | None) -> None:
    assert explained_by(("a", "b"), now) == patch
