"""Starts the process that follows helpers through their system calls, and tells it where one shall die or fail."""

import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class Step(_Model):
    """One system call of a helper that can be seen from outside it.

    Named by the call, by what it concerns (a path below the host's folder, `requests`, `answers`, or what is sent),
    and by how many like it came before in the same request: that stays the same however often it is carried out.
    """

    request: int
    """How many requests were answered before."""
    name: str
    target: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.name} {self.target} {self.nth} of request {self.request}"


class Call(_Model):
    """A call as it was carried out."""

    step: Step
    length: int = 0
    """How many bytes it was asked to write; 0 for all other calls."""
    flags: int = 0
    """How it opens a file."""
    result: int = 0
    state: int = 0
    """Where the files as they stand after it are found in `Report.states`."""


class Fault(_Model):
    """What happens at a step.

    The helper dies before it, after it, or when a write has come as far as `keep` bytes (`torn`); or lives on with a
    write that came no farther (`short`), or with an error.
    """

    at: Step
    how: Literal["before", "after", "torn", "short", "error"]
    keep: int = 0
    error: int = 0

    @property
    def deadly(self) -> bool:
        """Whether the helper ends by it."""
        return self.how in ("before", "after", "torn")

    def __str__(self) -> str:
        detail = {"torn": f" {self.keep}", "short": f" {self.keep}", "error": f" {self.error}"}.get(self.how, "")
        return f"{self.how}{detail} {self.at}"


class State(_Model):
    """Every file of a host, by its path below the host's folder."""

    files: dict[str, bytes] = Field(repr=False)
    inode: int
    """That of the accounts file."""


class Job(_Model):
    """Requests to be carried out by one helper, each after the one before was answered."""

    do: Literal["run"] = "run"
    folder: str
    """Where the host's files are: `accounts`, `state/…`."""
    requests: list[dict[str, Any]] = Field(repr=False)
    fault: Fault | None = None
    watch: bool = False
    """Whether to look at all files after every call."""


class Report(_Model):
    """What became of a command."""

    calls: list[Call] = []
    states: list[State] = []
    """The files as they stood, without repetitions in a row; the first is from before the first call."""
    answers: list[dict[str, Any]] = Field(default=[], repr=False)
    died: bool = False
    error: str = ""
    """Why the job was not carried out as asked."""
    left_open: int = 0
    """How many more descriptors the helper held when it answered than at its beginning."""


class Attach(_Model):
    """Follow a helper that waits for a request, and hold it where it comes to a step, or see all its steps to its end.

    However many requests it answers, all that it does counts as the first one after `hello`.
    """

    do: Literal["attach"] = "attach"
    pid: int
    folder: str
    at: Step | None
    side: Literal["before", "after"]


class Release(_Model):
    """Let a held helper go on by itself, or end it where it stands."""

    do: Literal["release"] = "release"
    kill: bool


COMMANDS: TypeAdapter[Job | Attach | Release] = TypeAdapter(Job | Attach | Release)


class Driver:
    """The process that forks helpers, follows them and kills them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(
        self, folder: object, requests: Sequence[dict[str, Any]], *, fault: Fault | None = None, watch: bool = False
    ) -> Report:
        """Carry out requests, the first of which is `hello`; fails if a fault's step was not come to."""
        self._send(Job(folder=str(folder), requests=list(requests), fault=fault, watch=watch))
        return self._report()

    def attach(self, pid: int, folder: object, at: Step | None, side: Literal["before", "after"] = "before") -> None:
        """Have a running helper that waits for a request held at a step, or only watched."""
        self._send(Attach(pid=pid, folder=str(folder), at=at, side=side))
        self._report()

    def held(self) -> Report:
        """Wait until the attached helper stands at its step, or has ended; fails if it ended without coming to it."""
        return self._report()

    def release(self, *, kill: bool = False) -> None:
        """Let the held helper run on, or end it there."""
        self._send(Release(kill=kill))
        self._report()

    def _send(self, command: _Model) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command.model_dump_json() + "\n")
        self._process.stdin.flush()

    def _report(self) -> Report:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the driver ended; its error stands above"
        report = Report.model_validate_json(line)
        assert not report.error, report.error
        return report


@contextmanager
def running_driver() -> Generator[Driver]:
    """Start the driver; it ends with its input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hosts.crash_driver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Driver(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait()
        process.stdout.close()
