"""Plays scenes in helpers that are followed: what there is to go wrong in each, and what must come of it."""

import os
import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.hosts.crash_driver import WRITES
from tests.hosts.crashes import Call, Driver, Fault, Report, State
from tests.hosts.judge import KINDS, Kind
from tests.hosts.pages import serving
from tests.hosts.scenes import Scene, Stage, scenes_of
from twinline.hosts import helper_program, image

SEED: Final = int(os.environ.get("CRASH_SEED", "1"))


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few free slots and short pauses: neither changes which calls are made."""
    monkeypatch.setattr(image, "GROWTH", 1)
    monkeypatch.setattr(helper_program, "SETTLE_SECONDS", 0.0001)


def all_scenes() -> Sequence[Scene]:
    """Every kind of edit on both daemons."""
    with pytest.MonkeyPatch.context() as patched:
        make_small(patched)
        return [scene for kind in KINDS for scene in scenes_of(kind)]


SCENES: Final = all_scenes()
every_scene = pytest.mark.parametrize("scene", SCENES, ids=str)
a_seed = pytest.mark.parametrize("seed", [SEED], ids=lambda seed: f"seed{seed}")


@contextmanager
def played(folder: Path, kind: Kind) -> Generator[Stage]:
    """Where the scenes of one kind are played."""
    (folder / "accounts").touch()
    with serving(kind, folder / "accounts") as pages:
        yield Stage(folder, kind, pages)


def play(stage: Stage, scene: Scene, driver: Driver, fault: Fault | None = None, *, watch: bool = False) -> Report:
    """Have a helper that is followed carry out a scene; it is asked once more whether it still serves."""
    stage.put(scene.files)
    request = stage.request(scene, number=7)
    return driver.run(stage.folder, [stage.hello, request, stage.hello], fault=fault, watch=watch)


def of_interest(report: Report) -> Sequence[Call]:
    """The calls of getting to know the host and of the batch itself, its answer included."""
    return [call for call in report.calls if call.step.request < 2]


def chance(seed: object, scene: Scene) -> random.Random:
    """What chooses for a seed."""
    return random.Random(f"{seed} {scene}")  # noqa: S311 - a sample, not a secret


def check_good(stage: Stage, scene: Scene, number: int = 8) -> None:
    """The next batch, as the next worker would send it, makes good what was left."""
    inode = stage.state().inode
    stage.finish(scene, number)
    stage.check_done(scene, stage.state().inode if scene.replaces else inode)


def deaths(report: Report) -> Sequence[Fault]:
    """Every death that there is: before, after and, where something is written, in the middle of a call."""
    found: list[Fault] = []
    for call in of_interest(report):
        found += [Fault(at=call.step, how="before"), Fault(at=call.step, how="after")]
        if call.step.name in WRITES:
            found += [Fault(at=call.step, how="torn", keep=keep) for keep in cuts(call)]
    return found


def cuts(call: Call) -> Sequence[int]:
    """Where a write is cut: behind its first byte, in the middle, before its last byte."""
    return sorted({1, call.length // 2, call.length - 1} - {0, call.length})


def durable(state: State) -> dict[str, bytes]:
    """The files that hold no time of day."""
    return {name: content for name, content in state.files.items() if name != "state/window"}


def check_death(stage: Stage, scene: Scene, driver: Driver, fault: Fault, watched: Report) -> None:
    """Have a helper die, and see what that leaves and comes to."""
    inode = stage.put(scene.files)
    assert play(stage, scene, driver, fault).died
    state = stage.state()
    scene.check(state, inode)
    if fault.how != "torn":
        number = [call.step for call in watched.calls].index(fault.at) - (fault.how == "before")
        expected = watched.calls[number].state if number >= 0 else 0
        assert durable(state) == durable(watched.states[expected])
    check_good(stage, scene)
