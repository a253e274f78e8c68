"""The guard itself: a workflow that was changed without a patch is noticed, and one that was changed with it passes."""

import json
import shutil
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.client import WorkflowHistory

import worker
from tests.replay.commands import Replayed, counted, replay
from tests.replay.mutants import PATCHED, SEEN_BY_COMMANDS, SEEN_BY_REPLAY, Mutant
from tests.replay.paths import PATHS
from tests.replay.record import REFUSED, Recorder, open_converter
from tests.replay.shelf import ANEW, FIRST, Shelf, explained_by, this_release
from tests.replay.studio import PatientHost, until
from tests.support.temporal import dev_server
from tests.workflows.house import House, run_house
from twinline.hosts.errors import HostUnreachable
from twinline.keys import KeyRing
from twinline.messages import HalfState, PurchaseOrder, order_workflow_id
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


@pytest.mark.soak
async def test_an_upgrade_goes_on_with_what_runs_and_going_back_leaves_what_met_a_patch_unharmed(
    garden: Path, tmp_path: Path, key_ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is upgraded, taken back and upgraded again, while one order of before and one of between wait."""
    before, between = (
        PurchaseOrder(order=name, email=f"{name}@example.org", region="eu", days=30) for name in ("before", "between")
    )
    today, patched = worker.WORKFLOWS, PATCHED.plant(garden)

    @asynccontextmanager
    async def working(workflows: Sequence[type], *, hosts_away: bool = True) -> AsyncGenerator[House]:
        monkeypatch.setattr(worker, "WORKFLOWS", workflows)
        async with run_house(tmp_path, key_ring, await server.connect(key_ring), grace=1, host=PatientHost) as house:
            if hosts_away:
                house.hosts["os-eu1"].trouble = HostUnreachable("no SSH connection")
            yield house

    async with dev_server() as server:
        client = await server.connect(key_ring)
        runs = [client.get_workflow_handle(order_workflow_id(order)) for order in (before, between)]

        async def fails() -> bool:
            return (await runs[1].describe()).raw_description.pending_workflow_task.attempt > 2

        async with working(today) as house:
            await begun(house, before)
        async with working(patched) as house:
            await begun(house, between)
        async with working(today):
            await until(fails)
        async with working(patched, hosts_away=False) as house:
            receipts = [await house.order(order, seconds=60) for order in (before, between)]

        histories = [await run.fetch_history() for run in runs]
    assert {half.state for receipt in receipts for half in receipt.halves} == {HalfState.APPLIED}
    assert [failures(history) for history in histories] == [
        set(),
        {WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR},
    ]


async def begun(house: House, order: PurchaseOrder) -> None:
    """Place an order, and let it come so far that one half is told."""
    await house.start(order)
    await house.mails.wait_for(lambda mail: f"{order.order}@" in str(mail.message["To"]))


def failures(history: WorkflowHistory) -> set[int]:
    """Why tasks of a workflow failed."""
    failed = [event for event in history.events if event.HasField("workflow_task_failed_event_attributes")]
    return {event.workflow_task_failed_event_attributes.cause for event in failed}


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
