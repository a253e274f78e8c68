"""Where recorded histories are kept: a folder per release, a log of what was recorded when and why, and seals.

A release that was shipped is sealed: nothing in its folder may change any more, and what is recorded later goes to the
folder of the next one. A log's entry says why a recording differs from the one before it.
"""

import hashlib
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final

from temporalio.client import WorkflowHistory

from tests.replay.commands import PATCH, counted

HISTORIES: Final = Path(__file__).parent / "histories"
FIRST: Final = "first recording"
ANEW: Final = "the same again"
_HEAD: Final = "== "


@dataclass(frozen=True)
class Entry:
    """One line of the log."""

    release: str
    digest: str
    """Of the history's file."""
    name: str
    why: str
    """Why it differs from the recording before it: `first recording`, `the same again`, `patch NAME`, or a sentence."""

    def __str__(self) -> str:
        return f"{self.release}  {self.digest}  {self.name}  {self.why}"


@dataclass(frozen=True)
class Seal:
    """A release that was shipped, and the digest over all that its folder held then."""

    release: str
    digest: str
    retired: str = ""
    """Why its recordings are gone: no workflow that began before the next release runs any more."""

    def __str__(self) -> str:
        return "  ".join(filter(None, (self.release, self.digest, self.retired)))


class Shelf:
    """The recordings of all releases."""

    def __init__(self, folder: Path = HISTORIES) -> None:
        self.folder = folder
        self._log = folder / "log.txt"
        self._seals = folder / "sealed.txt"

    @property
    def log(self) -> list[Entry]:
        """What was recorded, the oldest first."""
        return [Entry(*line.split("  ", 3)) for line in _lines(self._log)] if self._log.exists() else []

    @property
    def seals(self) -> list[Seal]:
        """The releases that were shipped, the oldest first."""
        return [Seal(*line.split("  ", 2)) for line in _lines(self._seals)]

    @property
    def releases(self) -> list[str]:
        """Those of which there are recordings, the oldest first."""
        retired = {seal.release for seal in self.seals if seal.retired}
        return [each for each in dict.fromkeys(entry.release for entry in self.log) if each not in retired]

    def names(self, release: str) -> list[str]:
        """The recordings of a release."""
        folder = self.folder / release
        return sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.glob("*/*.json"))

    def file(self, release: str, name: str) -> Path:
        """Where a recording stands."""
        return self.folder / release / f"{name}.json"

    def history(self, release: str, name: str) -> WorkflowHistory:
        """A recording, to replay it."""
        return WorkflowHistory.from_json(name, self.file(release, name).read_text())

    def commands(self, release: str) -> dict[str, tuple[str, ...]]:
        """What the workflows of a release asked for, by recording."""
        file = self.folder / release / "commands.txt"
        if not file.exists():
            return {}
        found: dict[str, list[str]] = {}
        for line in _lines(file):
            if line.startswith(_HEAD):
                found[line.removeprefix(_HEAD)] = []
            else:
                list(found.values())[-1].append(line)
        return {name: tuple(commands) for name, commands in found.items()}

    def latest(self, name: str, *, before: str | None = None) -> str | None:
        """The last release that has this recording; of those before another one, if that is given."""
        releases = self.releases if before is None else takewhile(lambda each: each != before, self.releases)
        return next((each for each in reversed(list(releases)) if self.file(each, name).exists()), None)

    def put(self, release: str, name: str, text: str, commands: Sequence[str], why: str) -> None:
        """Keep a recording; raises ValueError when the release is sealed."""
        if release in {seal.release for seal in self.seals}:
            raise ValueError(f"{release} was shipped and is sealed: raise the version in pyproject.toml")
        file = self.file(release, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        known = {**self.commands(release), name: tuple(commands)}
        paragraphs = ["\n".join((f"{_HEAD}{each}", *known[each])) for each in sorted(known)]
        (self.folder / release / "commands.txt").write_text("\n\n".join(paragraphs) + "\n")
        with self._log.open("a") as log:
            log.write(f"{Entry(release, digest(file), name, why)}\n")

    def seal(self, release: str) -> Seal:
        """Let nothing of a release change any more."""
        seal = Seal(release, self.contents(release))
        with self._seals.open("a") as seals:
            seals.write(f"{seal}\n")
        return seal

    def faults(self) -> list[str]:
        """What is not as it was recorded, or was recorded without a reason; empty when all is well."""
        return [*self._changed(), *self._unexplained()]

    def _changed(self) -> Iterator[str]:
        retired = {seal.release for seal in self.seals if seal.retired}
        newest = {(entry.release, entry.name): entry for entry in self.log if entry.release not in retired}
        folders = sorted(each.name for each in self.folder.iterdir() if each.is_dir())
        files = {(release, name) for release in folders for name in self.names(release)}
        for release, name in sorted(files | newest.keys()):
            entry = newest.get((release, name))
            if entry is None:
                yield f"{release} {name}: nobody recorded it"
            elif (release, name) not in files:
                yield f"{release} {name}: it is gone"
            elif entry.digest != digest(self.file(release, name)):
                yield f"{release} {name}: it was changed since it was recorded"
        for release in folders:
            if sorted(self.commands(release)) != self.names(release):
                yield f"{release}: commands.txt tells of other recordings than there are"
        for seal in self.seals:
            if not seal.retired and seal.digest != self.contents(seal.release):
                yield f"{seal.release}: it was shipped and has changed since"

    def _unexplained(self) -> Iterator[str]:
        known: dict[str, Entry] = {}
        for entry in self.log:
            before = known.get(entry.name)
            known[entry.name] = entry
            if (before is None) != (entry.why == FIRST):
                yield f"{entry.release} {entry.name}: `{entry.why}` is no reason"
            # Of two recordings in one release only the second is there to be looked at.
            looked_at = before is not None and before.release != entry.release and entry.why.startswith(PATCH)
            if before is None or not looked_at or before.release not in self.releases:
                continue
            now, was = self.commands(entry.release)[entry.name], self.commands(before.release)[entry.name]
            if explained_by(was, now) != entry.why:
                yield f"{entry.release} {entry.name}: it does not begin to differ with `{entry.why}`"

    def contents(self, release: str) -> str:
        """A digest over everything in a release's folder."""
        whole = hashlib.sha256()
        for file in sorted((self.folder / release).rglob("*")):
            if file.is_file():
                whole.update(f"{file.relative_to(self.folder)} {digest(file)}\n".encode())
        return whole.hexdigest()[:32]


def digest(file: Path) -> str:
    """Names a file's contents."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def this_release() -> str:
    """The version that is being worked on."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    return str(project["project"]["version"])


def explained_by(before: Sequence[str], now: Sequence[str]) -> str | None:
    """The patch with which the commands begin to differ; None when no patch says that they would."""
    old, new = counted(before), counted(now)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    first = new[same] if same < len(new) else ""
    return first if first.startswith(PATCH) else None


def _lines(file: Path) -> Iterator[str]:
    return (line for line in file.read_text().splitlines() if line and not line.startswith("# "))
