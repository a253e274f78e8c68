"""Hosts on which one batch is to be carried out: every kind of edit there is, on both daemons."""

import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from tests.hosts.crashes import State
from tests.hosts.files import END, carried_out, half, image_of, plan_for
from tests.hosts.helper_process import apply_request, image_in, setup_for, stored_in
from tests.hosts.judge import Kind
from tests.hosts.lab import FOREIGN
from tests.hosts.law import Law
from tests.hosts.pages import Pages
from twinline.hosts.helper_program import Helper
from twinline.hosts.image import Image
from twinline.hosts.ports import Half, Wanted
from twinline.hosts.ssh import encode
from twinline.hosts.writer import checks_of, kick_of

NAME, NEIGHBOUR, FRESH, GONE = "alder22222", "birch22222", "cedar22222", "elder22222"
NEW_PASSWORD: Final = "another23"
BELOW: Final = {
    "multics": b"F: oldsue suepass1 { enddate=2032-02-02; name=Sue }\n",
    "oscam": b"[account]\nuser = oldsue\npwd = suepass1\ngroup = 1\n",
}
"""What stands below our slots."""

PUSHED: Final = {"multics": b"F: handmade handpass1\n", "oscam": b"# a line more\n"}
"""What somebody writes on top, so that no slot stands where it stood."""


@dataclass(frozen=True)
class Scene:
    """A host as it stands, and the batch that is to come."""

    name: str
    kind: Kind
    files: Mapping[str, bytes] = field(repr=False)
    halves: Sequence[Half]
    scrub: Sequence[str]
    law: Law = field(repr=False)
    theirs: Sequence[bytes] = field(repr=False)
    """What belongs to others, as it stands in the file."""
    end: bytes = field(repr=False)
    """The accounts file when all is done."""
    replaces: bool = False
    """Whether the batch is a new file under the old name."""

    def __str__(self) -> str:
        return f"{self.kind.protocol}-{self.name}"

    @property
    def start(self) -> bytes:
        """The accounts file as it stands."""
        return self.files["accounts"]

    def check(self, state: State, inode: int) -> None:
        """What any daemon may read at any time, and what must not have changed (I3, I4, I9)."""
        found = state.files["accounts"]
        self.law.check(found)
        if self.replaces:
            assert found in (self.start, self.end)
        else:
            assert state.inode == inode
            for piece in self.theirs:
                at = self.start.index(piece)
                assert found[at : at + len(piece)] == piece

    def after(self, state: State, *more: Half) -> "Scene":
        """The scene of the next batch, which brings more, on what a death of this one has left."""
        law = Law.of(self.kind, self.start, [*self.halves, *more], self.scrub, copies=self.law.copies)
        end = carried_out(self.end, plan_for(self.kind.daemon, self.end, more))
        # Of the time in which the daemon is deaf nothing is known any more; a batch of before may be long ago.
        files = {name: content for name, content in state.files.items() if name != "state/window"}
        return Scene(f"after {self.name}", self.kind, files, more, (), law, self.theirs, end)


def scene(kind: Kind, name: str, ours: bytes, *halves: Half, scrub: Sequence[str] = (), pushed: bool = False) -> Scene:
    """A batch on a file with lines of ours between those of others."""
    above, below = FOREIGN[kind.protocol], BELOW[kind.protocol]
    assert ours.startswith(above)
    theirs = [above, below]
    start = ours + below
    if pushed:
        theirs.insert(0, PUSHED[kind.protocol])
        start = theirs[0] + start
    law = Law.of(kind, start, halves, scrub, copies=2 if pushed else 1)
    end = carried_out(start, plan_for(kind.daemon, start, halves, scrub))
    return Scene(name, kind, {"accounts": start}, halves, scrub, law, theirs, end)


def holding(kind: Kind, *batches: Half) -> bytes:
    """The top of a file after some changes, one after another."""
    data = FOREIGN[kind.protocol]
    for each in batches:
        data = carried_out(data, plan_for(kind.daemon, data, [each]))
    return data


def new_layout(kind: Kind, ours: bytes) -> Scene:
    """A file that was pushed out of place, and is laid out anew."""
    start = PUSHED[kind.protocol] + ours
    better = image_of(kind.daemon, start).relayout()
    assert better is not None
    return Scene("relayout", kind, {"accounts": start}, (), (), Law.of(kind, start, ()), (), better, replaces=True)


def scenes_of(kind: Kind) -> Sequence[Scene]:
    """Every kind of edit; small files make cheap cases, so call it with a small `image.GROWTH`."""
    near, present, absent = half(NEIGHBOUR, 3), half(NAME, 9), half(NAME, 10, wanted=Wanted.ABSENT)
    blocked, gone = half(NAME, 10, wanted=Wanted.BLOCKED), half(GONE, 4, wanted=Wanted.ABSENT)
    later = END + timedelta(days=400)
    renewed, changed = half(NAME, 10, ends_at=later), half(NAME, 10, password=NEW_PASSWORD)
    two = holding(kind, near, present)
    many = holding(kind, near, present, half(GONE, 3), gone)
    scenes = [
        scene(kind, "add", holding(kind, near), present),
        scene(kind, "grow", holding(kind, near), present, half(FRESH, 1)),
        scene(kind, "block", two, blocked),
        scene(kind, "unblock", holding(kind, near, present, blocked), half(NAME, 11)),
        scene(kind, "renew", two, renewed),
        scene(kind, "cut short", holding(kind, near, renewed), half(NAME, 11)),
        scene(kind, "password", two, changed),
        scene(kind, "renew and password", two, half(NAME, 10, password=NEW_PASSWORD, ends_at=later)),
        scene(kind, "remove", two, absent),
        scene(kind, "scrub", holding(kind, near, present, absent), scrub=[NAME]),
        scene(
            kind, "many", many, half(NEIGHBOUR, 5, wanted=Wanted.BLOCKED), changed, half(FRESH, 1), scrub=[GONE]
        ),
    ]  # fmt: skip
    if kind.daemon.may_replace:
        return [*scenes, new_layout(kind, two)]
    return [
        *scenes,
        scene(kind, "mend", two, renewed, pushed=True),
        scene(kind, "mend with password", two, changed, pushed=True),
        scene(kind, "mend to block", two, blocked, pushed=True),
        scene(kind, "mend what is parked", holding(kind, near, present, blocked), half(NAME, 11), pushed=True),
        scene(kind, "scrub what is out of place", holding(kind, near, present, absent), scrub=[NAME], pushed=True),
    ]


@dataclass(frozen=True)
class Stage:
    """Where a scene is played: a folder, and a daemon's pages."""

    folder: Path
    kind: Kind
    pages: Pages

    @property
    def accounts(self) -> Path:
        return self.folder / "accounts"

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def setup(self) -> dict[str, Any]:
        """What a helper is told."""
        return setup_for(self.accounts, self.state_dir, self.kind, status_url=self.pages.url).as_request()

    @property
    def hello(self) -> dict[str, Any]:
        """The first request of every connection."""
        return {"do": "hello", "setup": self.setup}

    def put(self, files: Mapping[str, bytes]) -> int:
        """Make the folder hold these files and no others, the accounts on the inode they have; that inode."""
        self.pages.off.clear()
        self.state_dir.mkdir(exist_ok=True)
        for path in (*self.folder.glob(".*"), *self.state_dir.iterdir()):
            path.unlink()
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        return self.accounts.stat().st_ino

    def state(self) -> State:
        """Every file as it stands."""
        names = [each for each in self.folder.rglob("*") if each.is_file()]
        files = {str(each.relative_to(self.folder)): each.read_bytes() for each in sorted(names)}
        return State(files=files, inode=self.accounts.stat().st_ino)

    @property
    def helper(self) -> Helper:
        """A helper of the next connection, in this process: it is not the one to die."""
        return Helper(self.setup)

    def read(self) -> Image:
        """The accounts file as the next worker sees it."""
        return image_in(self.kind, self.helper.read({}))

    def request(self, scene: Scene, number: int = 1) -> dict[str, Any]:
        """What the worker of the next batch asks for."""
        image = self.read()
        if scene.replaces and bytes(image.data) != scene.end:
            return {
                "do": "replace",
                "token": [1, number],
                "signature": image.signature,
                "body": encode(zlib.compress(scene.end)),
            }
        daemon = self.kind.daemon
        plan = image.plan(scene.halves, scene.scrub)
        assert not plan.conflicts
        assert not plan.unsafe
        wish = daemon.trigger()
        kicks = [kick_of(daemon, each, plan.kicks[each.line_id]) for each in scene.halves if each.line_id in plan.kicks]
        return apply_request(
            image,
            plan,
            number=number,
            batch=f"b{number}",
            kicks=kicks,
            probes=[{"id": each.line_id, "checks": checks_of(daemon, each)} for each in scene.halves],
            trigger={"method": wish.method, "path": wish.path},
            deadline=5.0,
        )

    def finish(self, scene: Scene, number: int) -> dict[str, Any]:
        """Do what the next worker does; what the helper answered."""
        helper, request = self.helper, self.request(scene, number)
        while set(answer := getattr(helper, request["do"])(request)) == {"wait_ms"}:
            time.sleep(answer["wait_ms"] / 1000)
        assert sorted(answer.get("proven", [])) == sorted(each.line_id for each in scene.halves)
        return answer

    def check_done(self, scene: Scene, inode: int) -> None:
        """All is as wanted, and nothing is left of how it came about."""
        state = self.state()
        scene.check(state, inode)
        scene.law.check_done(state.files["accounts"])
        assert state.files["accounts"] == scene.end
        assert not [name for name in scene.scrub if name.encode() in scene.end]
        assert not self.pages.off
        assert not self.read().recover
        for name in ("journal.0", "journal.1"):
            if f"state/{name}" in state.files:
                entry = stored_in(state.files[f"state/{name}"])
                assert (entry["ops"], entry["records"]) == ([], [])
        if "state/kick" in state.files:
            assert stored_in(state.files["state/kick"])["kicks"] == []
        strangers = set(state.files) - {"accounts"} - {f"state/{name}" for name in STATE}
        assert not strangers


STATE: Final = ("lock", "window", "journal.0", "journal.1", "kick")
