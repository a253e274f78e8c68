"""Follows helpers through their system calls, and has them die or fail at a chosen one.

A program of its own: forking is safe here, where nothing else runs, and only the thread that follows a process may
tell it anything. Reads one command per line and answers each with one line; `attach` with one when it follows, and
another when the helper stands at its step or has ended. See `crashes`.
The calls are not listed anywhere: they are those that the real helper makes, as the kernel reports them.
"""

import hashlib
import json
import os
import sys
import zlib
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tests.hosts.crashes import COMMANDS, Attach, Call, Fault, Job, Release, Report, State, Step
from tests.support.ptrace import Followed, Stop, follow_me
from tests.support.syscalls import CALLS, Kind
from twinline.hosts import helper_program as helper

REQUESTS, ANSWERS = "requests", "answers"
WRITES = ("write", "pwrite64", "sendto")
OPENS = {"open": 1, "openat": 2}
UNKNOWN = "call {} that tests/support/syscalls.py does not name"
PAUSE = "clock_nanosleep"


@dataclass
class Meaning:
    """Tells which of a process' stops can be seen from outside it, and names them."""

    followed: Followed
    folder: str
    requests: str
    answers: str
    """What the descriptors of its frames lead to, as /proc names it."""
    answered: int = 0
    seen: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])

    def of(self, stop: Stop) -> Call | None:
        """The call that a process is about to make; None for one that changes nothing but itself."""
        kind = CALLS.get(stop.number, Kind(UNKNOWN.format(stop.number), "fd"))
        if kind.concern == "private" and kind.name != PAUSE:
            return None
        target = self._target(kind, stop) if kind.name != PAUSE else "pause"
        self.seen[kind.name, target] += 1
        step = Step(request=self.answered, name=kind.name, target=target, nth=self.seen[kind.name, target])
        length = stop.arguments[2] if kind.name in WRITES else 0
        flags = stop.arguments[OPENS[kind.name]] if kind.name in OPENS else 0
        return Call(step=step, length=length, flags=flags)

    def answered_one(self) -> None:
        """Count anew: what follows belongs to the next request."""
        self.answered += 1
        self.seen.clear()

    def _target(self, kind: Kind, stop: Stop) -> str:
        first, second, third, fourth, *_ = stop.arguments
        match kind.concern:
            case "path":
                return self._named(self._path(first))
            case "at":
                return self._named(self._at(first, second))
            case "two paths":
                return f"{self._named(self._path(first))} to {self._named(self._path(second))}"
            case "two at":
                return f"{self._named(self._at(first, second))} to {self._named(self._at(third, fourth))}"
            case _:
                if kind.name == "sendto":
                    return self.followed.text(second, min(third, 4096)).split(b"\r\n")[0].decode("latin-1")
                return self._named(self.followed.fd_path(first & 0xFFFFFFFF))

    def _path(self, address: int) -> str:
        return os.path.join(self.followed.folder(), self.followed.text(address).decode("utf-8", "surrogateescape"))  # noqa: PTH118 - as the kernel joins them

    def _at(self, folder: int, address: int) -> str:
        path = self.followed.text(address).decode("utf-8", "surrogateescape")
        if path.startswith("/"):
            return path
        number = folder & 0xFFFFFFFF
        base = self.followed.folder() if number == 0xFFFFFF9C else self.followed.fd_path(number)
        return f"{base}/{path}" if path else base

    def _named(self, path: str) -> str:
        named = {self.requests: REQUESTS, self.answers: ANSWERS}.get(path, path)
        if named.startswith("socket:"):
            return "socket"
        if named == self.folder:
            return "."
        return named.removeprefix(f"{self.folder}/")


class Watch:
    """Keeps the files of a host as they stood after every call."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self.states = [self._now()]

    def look(self) -> int:
        """The number of the present state."""
        found = self._now()
        if found != self.states[-1]:
            self.states.append(found)
        return len(self.states) - 1

    def _now(self) -> State:
        names = sorted(each for each in self._folder.rglob("*") if each.is_file())
        files = {str(each.relative_to(self._folder)): each.read_bytes() for each in names}
        return State(files=files, inode=(self._folder / "accounts").stat().st_ino)


class Ended(Exception):
    """The helper ended by the fault that was asked for."""


def bend(followed: Followed, call: Call, fault: Fault) -> Call:
    """Have a fault happen at the call before which a helper stands; the call as it was carried out then."""
    if fault.how == "before":
        followed.kill()
        raise Ended
    if fault.how in ("torn", "short"):
        # An answer is not as long every time, for it says how long something took.
        followed.set_argument(2, min(fault.keep, call.length - 1))
    # The kernel frees a descriptor whatever its close returns.
    closes = call.step.name == "close"
    if fault.how == "error" and not closes:
        followed.skip()
    left = followed.next()
    assert left is not None
    assert left.side == "leave"
    if fault.how == "error":
        followed.set_result(-fault.error)
        left = Stop("leave", result=-fault.error)
    if fault.deadly:
        followed.kill()
        raise Ended
    return call.model_copy(update={"result": left.result})


def run(job: Job) -> Report:
    """Fork a helper, follow it to its end, and have the fault happen."""
    requests, feed = os.pipe()
    source, answers = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(feed)
        os.close(source)
        follow_me()
        helper.serve(os.fdopen(requests, "rb"), os.fdopen(answers, "wb"))
        os._exit(0)
    os.close(requests)
    os.close(answers)
    followed = Followed.child(child)
    with os.fdopen(feed, "wb") as sink:
        for request in job.requests:
            helper.write_frame(sink, request)
    watch = Watch(job.folder) if job.watch else None
    with looked_at(job.requests):
        report = Report(**follow(followed, job, (requests, answers), watch), states=watch.states if watch else [])
    with os.fdopen(source, "rb") as answered:
        return report.model_copy(update={"answers": list(frames(answered))})


@contextmanager
def looked_at(requests: Sequence[dict[str, Any]]) -> Generator[None]:
    """Have the accounts file open: a helper then gets no lease on it, and who looks between two calls need not wait."""
    with Path(requests[0]["setup"]["accounts_file"]).open("rb"):
        yield


def follow(followed: Followed, job: Job, fds: tuple[int, int], watch: Watch | None) -> dict[str, Any]:
    """Go from call to call until the helper ends."""
    requests, answers = (followed.fd_path(fd) for fd in fds)
    meaning = Meaning(followed, job.folder, requests, answers)
    calls: list[Call] = []
    before = followed.open_fds()
    left_open = 0
    found = job.fault is None
    while (stop := followed.next()) is not None:
        if stop.side == "leave":
            continue
        call = meaning.of(stop)
        if call is None:
            continue
        answering = call.step.name == "write" and call.step.target == ANSWERS
        if answering:
            left_open = followed.open_fds() - before
        if job.fault is not None and call.step == job.fault.at:
            found = True
            try:
                call = bend(followed, call, job.fault)
            except Ended:
                return {"calls": calls, "died": True}
        else:
            left = followed.next()
            if left is None:
                break
            call = call.model_copy(update={"result": left.result})
        calls.append(call.model_copy(update={"state": watch.look() if watch is not None else 0}))
        if answering:
            meaning.answered_one()
    error = f"the helper ended with {followed.status}" if followed.status else ""
    error = error if found else f"the helper never came to this: {job.fault}"
    return {"calls": calls, "left_open": left_open, "error": error}


def frames(source: BinaryIO) -> Any:
    """Every whole answer that a helper has given."""
    while len(head := source.read(helper.HEADER.size)) == helper.HEADER.size:
        _, length, digest = helper.HEADER.unpack(head)
        body = source.read(length)
        if hashlib.sha256(body).digest() != digest:
            return
        yield json.loads(zlib.decompress(body))


def attach(command: Attach) -> Followed | None:
    """Follow a helper until it stands at its step; None if it ends before."""
    followed = Followed.attached(command.pid)
    meaning = Meaning(followed, command.folder, followed.fd_path(0), followed.fd_path(1), answered=1)
    calls: list[Call] = []
    say(Report())
    while (stop := followed.next()) is not None:
        call = meaning.of(stop) if stop.side == "enter" else None
        if call is None:
            continue
        calls.append(call)
        if call.step == command.at:
            if command.side == "after":
                followed.next()
            say(Report(calls=calls))
            return followed
    error = f"the helper ended, and never came to this: {command.at}" if command.at is not None else ""
    say(Report(calls=calls, error=error))
    return None


def say(answer: Report) -> None:
    """Write one answer."""
    sys.stdout.write(answer.model_dump_json() + "\n")
    sys.stdout.flush()


def warm_up() -> None:
    """Load what the helper loads at its first question to a daemon, and make it pause no longer than to be seen."""
    "localhost".encode("idna")
    helper.boot_id.cache_clear()
    helper.SETTLE_SECONDS = 0.0001
    helper.READER_PATIENCE = 0.0


def main() -> None:
    """Serve until the input ends."""
    warm_up()
    held: Followed | None = None
    for line in sys.stdin:
        match COMMANDS.validate_json(line):
            case Job() as job:
                say(run(job))
            case Attach() as command:
                held = attach(command)
            case Release(kill=kill):
                if held is not None:
                    held.kill() if kill else held.let_go()
                held = None
                say(Report())


if __name__ == "__main__":
    main()
