"""The helper dies at any step of any edit: nothing is ever torn, and the next batch makes it good.

No list of steps is kept anywhere: every test asks the kernel for the calls that the real helper makes (`crash_driver`).
What a death between two calls leaves is what stands on the disk between them, so a watched run shows all of it. Real
deaths, and deaths over recovery, are a seeded sample here, and all of them are carried out in `make soak`. The seed
stands in the name of each case; CRASH_SEED sets another.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.hosts.crash_driver import ANSWERS, UNKNOWN, WRITES
from tests.hosts.crashes import Driver, Fault, Report, State
from tests.hosts.files import half
from tests.hosts.judge import KINDS, Kind
from tests.hosts.playing import (
    SCENES,
    SEED,
    a_seed,
    chance,
    check_death,
    check_good,
    deaths,
    durable,
    every_scene,
    of_interest,
    play,
    played,
)  # fmt: skip
from tests.hosts.scenes import Scene, Stage

pytestmark = pytest.mark.usefixtures("small_files")

DEATHS: Final = 4
"""How many of a scene's deaths are tried in `make test`."""


@every_scene
def test_whatever_stands_between_two_calls_is_lawful_and_the_next_batch_makes_it_good(
    scene: Scene, stage: Stage, watched: Report
) -> None:
    assert [list(answer) for answer in watched.answers] == [["ok"]] * 3
    assert watched.left_open == 0
    assert not [call for call in watched.calls if call.step.name.startswith(UNKNOWN.split(" {", 1)[0] + " ")]
    assert {"pwrite64", "fdatasync", "flock"} <= {call.step.name for call in watched.calls}
    for state in watched.states:
        scene.check(state, watched.states[0].inode)
        stage.put(state.files)
        check_good(stage, scene)
    stage.put(watched.states[-1].files)
    stage.check_done(scene, stage.state().inode)


# --- deaths


@a_seed
@every_scene
def test_a_helper_that_is_killed_leaves_what_was_watched_and_the_next_batch_makes_it_good(
    scene: Scene, seed: int, stage: Stage, driver: Driver, watched: Report
) -> None:
    for fault in chance(seed, scene).sample(deaths(watched), DEATHS):
        check_death(stage, scene, driver, fault, watched)


@pytest.mark.soak
@pytest.mark.timeout(900)
@every_scene
def test_every_death_in_every_call(scene: Scene, stage: Stage, driver: Driver, watched: Report) -> None:
    for fault in deaths(watched):
        check_death(stage, scene, driver, fault, watched)


@every_scene
def test_a_batch_whose_answer_was_lost_is_done_already_and_the_next_one_finds_nothing_to_do(
    scene: Scene, stage: Stage, driver: Driver, watched: Report
) -> None:
    answer = next(call.step for call in of_interest(watched)[::-1] if call.step.target == ANSWERS)
    inode = stage.put(scene.files)
    requests = [stage.hello, stage.request(scene, number=7)]
    assert driver.run(stage.folder, requests, fault=Fault(at=answer, how="before")).died
    left = stage.state()
    again = driver.run(stage.folder, requests)
    # A new layout is no batch: who asks for it again is told that the file is another one by now.
    assert again.answers[1].get("trouble") == ("changed" if scene.replaces else None)
    assert not [call for call in again.calls if call.step.name in WRITES and call.step.target == "accounts"]
    assert durable(stage.state()) == durable(left)
    next_plan = stage.read().plan(scene.halves, scene.scrub)
    assert next_plan.empty
    assert not next_plan.kicks
    check_good(stage, scene)
    stage.check_done(scene, stage.state().inode if scene.replaces else inode)


# --- recovery


MORE: Final = half("fir2222222", 1)
"""What the batch brings that finds another one half done."""


def cut_short(stage: Stage, watched: Report) -> Sequence[State]:
    """The states in which something is left for the next batch to complete."""
    found: list[State] = []
    for state in watched.states:
        stage.put(state.files)
        if stage.read().recover:
            found.append(state)
    return found


def check_recovery(stage: Stage, scene: Scene, driver: Driver, state: State, faults: int, seed: int) -> None:
    """Watch the next batch complete one that was cut short, and kill it over that."""
    following = scene.after(state, MORE)
    watched = play(stage, following, driver, watch=True)
    for each in watched.states:
        following.check(each, watched.states[0].inode)
        stage.put(each.files)
        check_good(stage, following)
    for fault in chance(seed, following).sample(deaths(watched), faults):
        check_death(stage, following, driver, fault, watched)


RECOVERED: Final = [scene for scene in SCENES if not scene.replaces]


@a_seed
@pytest.mark.parametrize("scene", RECOVERED, ids=str)
def test_a_batch_that_was_cut_short_is_completed_even_by_one_that_is_cut_short_itself(
    scene: Scene, seed: int, stage: Stage, driver: Driver, watched: Report
) -> None:
    state = chance(seed, scene).choice(cut_short(stage, watched))
    check_recovery(stage, scene, driver, state, 1, seed)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scene", RECOVERED, ids=str)
def test_every_batch_that_was_cut_short_anywhere(scene: Scene, stage: Stage, driver: Driver, watched: Report) -> None:
    for number, state in enumerate(cut_short(stage, watched)):
        check_recovery(stage, scene, driver, state, 12, number)


def check_chain(stage: Stage, scene: Scene, driver: Driver, luck: random.Random) -> None:
    """Kill one helper after another over the same change, each while it makes good what the one before left."""
    stage.put(scene.files)
    for _ in range(4):
        now = replace(scene, files=durable(stage.state()))
        fault = luck.choice(deaths(play(stage, now, driver)))
        assert play(stage, now, driver, fault).died
        scene.check(stage.state(), stage.state().inode)
    check_good(stage, scene)


@pytest.mark.parametrize("seed", range(SEED, SEED + 5), ids=lambda seed: f"seed{seed}")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_deaths_over_deaths_over_deaths_are_made_good_too(kind: Kind, seed: int, driver: Driver, folder: Path) -> None:
    luck = random.Random(seed)  # noqa: S311 - a sample, not a secret
    with played(folder, kind) as stage:
        check_chain(stage, luck.choice([scene for scene in SCENES if scene.kind is kind]), driver, luck)


@pytest.mark.soak
@pytest.mark.timeout(900)
@every_scene
def test_many_deaths_over_deaths(scene: Scene, stage: Stage, driver: Driver) -> None:
    for seed in range(SEED, SEED + 25):
        check_chain(stage, scene, driver, chance(seed, scene))
