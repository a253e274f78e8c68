"""`make histories`: goes every path of every workflow on a real server, and keeps the histories that are new or differ.

A recording that differs needs a reason: a patch at the place where it begins to differ, or `--because TEXT`, which goes
to the log. Nothing is written when the commands are the same. What a shipped release recorded is never touched.
"""

import argparse
import asyncio
import difflib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from google.protobuf.message import Message
from temporalio.api.failure.v1 import Failure
from temporalio.client import WorkflowFailureError, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.service import RPCError

import worker
from tests.replay import paths_bulk, paths_cancels, paths_health, paths_moves, paths_orders, paths_rebuilds, paths_terms
from tests.replay.commands import Replayed, counted, replay
from tests.replay.paths import PATHS
from tests.replay.paths import Path as Walked
from tests.replay.shelf import ANEW, FIRST, Shelf, explained_by, this_release
from tests.replay.studio import Setting, Studio, open_studio
from twinline.codec import data_converter
from twinline.errors import TwinlineError
from twinline.keys import KeyRing

MODULES = (paths_bulk, paths_cancels, paths_health, paths_moves, paths_orders, paths_rebuilds, paths_terms)
"""Whose paths are gone."""
REFUSED: Final = "left as it was: no patch begins the difference, so workflows that run already would break"
AT_MOST: Final = 120
"""Seconds for one path."""


def throwaway_keys() -> KeyRing:
    """Keys for a ledger that is thrown away with them; recordings are not sealed."""
    return KeyRing(primary="recording", keys={"recording": os.urandom(32)}, stable=os.urandom(32))


def open_converter() -> DataConverter:
    """twinline's own converter for payloads that were left open."""
    return replace(data_converter(throwaway_keys()), payload_codec=None)


@dataclass(frozen=True)
class Recorder:
    """Goes paths, and keeps what comes of them as a release's own."""

    shelf: Shelf
    release: str = field(default_factory=this_release)
    because: str | None = None
    """Why recordings may differ from those before though no patch says that they do."""
    anew: bool = False
    """Whether to keep also what differs in nothing that counts."""

    async def record(self, paths: Sequence[Walked]) -> int:
        """Go these paths, those of different settings at the same time; how many recordings could not be kept."""
        one_by_one = asyncio.Lock()

        async def in_setting(setting: Setting) -> int:
            bad = 0
            async with AsyncExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                # Alembic migrates one database of a process at a time.
                async with one_by_one:
                    studio = await stack.enter_async_context(open_studio(folder, throwaway_keys(), setting))
                for path in (path for path in paths if path.setting == setting):
                    bad += await self._go(studio, path)
            return bad

        return sum(await asyncio.gather(*(in_setting(setting) for setting in {path.setting for path in paths})))

    async def _go(self, studio: Studio, path: Walked) -> int:
        studio.heal()
        try:
            async with asyncio.timeout(AT_MOST):
                workflow_id = await path.walk(studio)
                runs = await studio.runs(workflow_id)
        except (AssertionError, TimeoutError, RPCError, TwinlineError, WorkflowFailureError) as error:
            say(f"{path.name}: {type(error).__name__}: {error}")
            return 1
        kept = runs if len(path.recordings) == 1 else [runs[0], runs[-1]]
        if len(kept) != len(path.recordings) or (len(path.recordings) > 1 and len(runs) == 1):
            say(f"{path.name}: {len(runs)} runs, which were not foreseen")
            return 1
        texts = [scrubbed(run) for run in kept]
        again = [WorkflowHistory.from_json(workflow_id, text) for text in texts]
        results = await replay(again, workflows=worker.WORKFLOWS, converter=open_converter())
        found = zip(path.recordings, texts, results, strict=True)
        return sum(not self._keep(name, text, replayed) for name, text, replayed in found)

    def _keep(self, name: str, text: str, replayed: Replayed) -> bool:
        """Keep what is new; whether all is well."""
        if replayed.failure is not None:
            say(f"{name}: cannot be replayed: {replayed.failure}")
            return False
        last = self.shelf.latest(name)
        if last is None:
            known = any(entry.name == name for entry in self.shelf.log)
            say(f"{name}: new")
            self.shelf.put(self.release, name, text, replayed.commands, ANEW if known else FIRST)
            return True
        before = self.shelf.commands(last)[name]
        same = counted(before) == replayed.counted
        if same and not self.anew:
            say(f"{name}: as before")
            return True
        why = ANEW if same else explained_by(before, replayed.commands) or self.because
        say(f"{name}: differs from {last}" + (f" ({why})" if why else ""))
        for line in difflib.unified_diff(before, replayed.commands, lineterm="", n=2):
            say(f"    {line}")
        if why is None:
            say(f"    {REFUSED}")
            return False
        self.shelf.put(self.release, name, text, replayed.commands, why)
        return True


def scrubbed(history: WorkflowHistory) -> str:
    """A history as it is kept, one event a line, without what only tells about the machine that recorded it."""
    document = json.loads(history.to_json())
    again = WorkflowHistory.from_json(history.workflow_id, json.dumps(document))
    for event in again.events:
        for failure in _failures(event):
            failure.ClearField("stack_trace")
            attributes = failure.encoded_attributes
            if attributes.data:
                inner = json.loads(attributes.data)
                attributes.data = json.dumps({**inner, "stack_trace": ""}).encode()
    events = json.loads(again.to_json())["events"]
    lines = ",\n".join(json.dumps(event, separators=(",", ":"), sort_keys=True) for event in events)
    return f'{{"events":[\n{lines}\n]}}\n'


def _failures(message: Message) -> Iterator[Failure]:
    if isinstance(message, Failure):
        yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if isinstance(value, Message):
            yield from _failures(value)
        elif not descriptor.message_type.GetOptions().map_entry:
            for each in value:
                yield from _failures(each)


def say(text: str) -> None:
    """Write a line for who recorded."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Record the paths that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.replay.record", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a path (Trial/both_halves) or a workflow (Trial)")
    parser.add_argument("--missing", action="store_true", help="only paths of which nothing is kept")
    parser.add_argument("--because", metavar="TEXT", help="why recordings may differ without a patch; kept in the log")
    parser.add_argument("--anew", action="store_true", help="keep also what differs in nothing that counts")
    parser.add_argument("--seal", action="store_true", help="this release is shipped: let nothing of it change again")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    shelf = Shelf()
    if asked.seal:
        say(f"sealed: {shelf.seal(this_release())}")
        return 0
    if this_release() in {seal.release for seal in shelf.seals}:
        say(f"{this_release()} was shipped and is sealed: raise the version in pyproject.toml first")
        return 2
    chosen = [path for path in PATHS.values() if not asked.names or {path.name, path.workflow} & set(asked.names)]
    if asked.missing:
        chosen = [path for path in chosen if any(shelf.latest(name) is None for name in path.recordings)]
    recorder = Recorder(shelf, because=asked.because, anew=asked.anew)
    bad = asyncio.run(recorder.record(chosen))
    say(f"{len(chosen)} paths, {bad} not kept")
    return 1 if bad or not chosen else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Interpreter finalisation may abort a process that used the SDK.
    os._exit(code)
