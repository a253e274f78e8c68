"""The helper dies before any system call of a batch, and in the middle of every write: nothing is ever torn.

In real processes ended by SIGKILL: at every call that changes something, and at a seeded sample of the others, of
which a death shows no state that the calls around do not show. The deaths of recovery itself are a seeded sample too;
the seed stands in the name of each case.
"""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tests.hosts.crashes import Driver
from tests.hosts.files import END, carried_out, half, image_of, plan_for
from tests.hosts.helper_process import apply_request, image_in, setup_for, stored
from tests.hosts.judge import KINDS, Kind
from tests.hosts.lab import FOREIGN
from tests.hosts.law import Law
from twinline.hosts import image
from twinline.hosts.helper_program import Helper
from twinline.hosts.image import Image
from twinline.hosts.ports import Half, Wanted
from twinline.hosts.ssh import encode

NAME: Final = "alder22222"
HARMLESS: Final = ("open", "close", "flock", "fsync", "fdatasync")
SEEDS: Final = range(8)


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    monkeypatch.setattr(image, "GROWTH", 1)


@dataclass(frozen=True)
class Scene:
    """A host on which one line is to be changed."""

    kind: Kind
    accounts: Path
    state: Path
    start: bytes
    wanted: Half | None
    scrub: Sequence[str]

    @property
    def setup(self) -> dict[str, Any]:
        return setup_for(self.accounts, self.state, self.kind).as_request()

    def reset(self) -> None:
        """The host as it was before the batch, on the same inode."""
        self.accounts.write_bytes(self.start)
        self.state.mkdir(exist_ok=True)
        for file in self.state.iterdir():
            file.unlink()

    def request(self, picture: Image, number: int) -> dict[str, Any]:
        halves = [self.wanted] if self.wanted is not None else []
        return apply_request(picture, picture.plan(halves, self.scrub), number=number, batch=f"b{number}")

    @property
    def helper(self) -> Helper:
        """A helper of the next connection, in this process: it is not the one to die."""
        return Helper(self.setup)

    def read(self) -> Image:
        return image_in(self.kind, self.helper.read({}))

    @property
    def law(self) -> Law:
        return Law.of(self.kind, self.start, NAME, self.wanted)

    @property
    def end(self) -> bytes:
        halves = [self.wanted] if self.wanted is not None else []
        return carried_out(self.start, plan_for(self.kind.daemon, self.start, halves, self.scrub))

    def check_torn(self, inode: int) -> None:
        """What any daemon may read now, and what must not have changed."""
        found = self.accounts.read_bytes()
        self.law.check(found)
        assert found.startswith(FOREIGN[self.kind.protocol])
        assert self.accounts.stat().st_ino == inode

    def check_done(self, inode: int) -> None:
        assert self.accounts.read_bytes() == self.end
        assert self.accounts.stat().st_ino == inode
        for name in ("journal.0", "journal.1"):
            if (self.state / name).exists():
                entry = stored(self.state, name)
                assert (entry["ops"], entry["records"]) == ([], [])

    def finish(self, inode: int, number: int) -> None:
        """The next batch, as the next worker would send it, completes what was begun."""
        self.helper.apply(self.request(self.read(), number))
        self.check_done(inode)
        assert not self.read().recover


def before(kind: Kind, *batches: Half) -> bytes:
    data = FOREIGN[kind.protocol]
    for each in batches:
        data = carried_out(data, plan_for(kind.daemon, data, [each]))
    return data


def scenes(kind: Kind, folder: Path) -> dict[str, Scene]:
    present, absent = half(NAME, 9), half(NAME, 10, wanted=Wanted.ABSENT)
    changed = half(NAME, 10, password="another23", ends_at=END + timedelta(days=40))
    plain = FOREIGN[kind.protocol]
    todo: dict[str, tuple[bytes, Half | None, Sequence[str]]] = {
        "add": (plain, present, ()),
        "renew and password": (before(kind, present), changed, ()),
        "block": (before(kind, present), half(NAME, 10, wanted=Wanted.BLOCKED), ()),
        "scrub": (before(kind, present, absent), None, (NAME,)),
    }
    accounts, state = folder / "accounts", folder / "state"
    return {name: Scene(kind, accounts, state, *values) for name, values in todo.items()}


BATCHES: Final = ("add", "renew and password", "block", "scrub")


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_a_death_at_any_call_leaves_a_whole_file_and_the_next_batch_completes_it(
    kind: Kind, batch: str, driver: Driver, folder: Path
) -> None:
    scene = scenes(kind, folder)[batch]
    scene.reset()
    inode = scene.accounts.stat().st_ino
    calls = driver.run(scene.setup, scene.request(scene.read(), 1))["calls"]
    scene.check_done(inode)
    assert {"open", "close", "pwrite", "fdatasync", "flock"} <= set(calls)
    harmless = [number for number, call in enumerate(calls, start=1) if call in HARMLESS]
    sample = random.Random(batch).sample(harmless, 5)  # noqa: S311 - a sample, not a secret
    for die_at, call in enumerate(calls, start=1):
        if call in HARMLESS and die_at not in sample:
            continue
        for half_way in (False, True) if call == "pwrite" else (False,):
            scene.reset()
            assert driver.run(scene.setup, scene.request(scene.read(), 1), die_at=die_at, half_way=half_way)["died"]
            scene.check_torn(inode)
            scene.finish(inode, 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_deaths_in_recovery_after_deaths_are_recovered_from_too(
    kind: Kind, seed: int, driver: Driver, folder: Path
) -> None:
    chance = random.Random(seed)  # noqa: S311 - a sample, not a secret
    scene = scenes(kind, folder)[chance.choice(BATCHES)]
    scene.reset()
    inode = scene.accounts.stat().st_ino
    number = 1
    for _ in range(4):
        request = scene.request(scene.read(), number)
        driver.run(scene.setup, request, die_at=chance.randrange(4, 40), half_way=chance.random() < 0.5)
        scene.check_torn(inode)
        number += 1
    scene.finish(inode, number)


def test_a_new_layout_is_whole_whenever_the_helper_dies(driver: Driver, folder: Path) -> None:
    kind = KINDS[1]
    moved = b"# moved\n" + before(kind, half(NAME, 9), half("birch22222", 3))
    scene = Scene(kind, folder / "accounts", folder / "state", moved, None, ())
    better = image_of(kind.daemon, moved).relayout()
    assert better is not None
    scene.reset()

    def replace() -> dict[str, Any]:
        return {
            "do": "replace",
            "token": [1, 1],
            "signature": scene.read().signature,
            "body": encode(zlib.compress(better)),
        }

    calls = driver.run(scene.setup, replace())["calls"]
    assert scene.accounts.read_bytes() == better
    for die_at, call in enumerate(calls, start=1):
        scene.reset()
        assert driver.run(scene.setup, replace(), die_at=die_at, half_way=call == "pwrite")["died"]
        assert scene.accounts.read_bytes() in (moved, better)
        scene.helper.replace(replace())
        assert scene.accounts.read_bytes() == better
        assert sorted(file.name for file in folder.iterdir()) == ["accounts", "state"]
