"""A helper in this process, and somebody who acts exactly between two of its system calls."""

import fcntl
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from twinline.hosts import helper_program
from twinline.hosts.errors import trouble
from twinline.hosts.helper_program import Helper, Trouble
from twinline.hosts.ssh import Changed, HelperSetup

CALLS = (
    *((os, name) for name in ("open", "close", "pread", "pwrite", "write", "lseek", "fstat", "stat")),
    *((os, name) for name in ("fsync", "fdatasync", "ftruncate", "unlink", "rename")),
    *((fcntl, name) for name in ("fcntl", "flock")),
    *((helper_program, name) for name in ("reserve", "exchange")),
)


class Gaps:
    """Counts the system calls of a helper, and acts before those that it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self._acts: dict[int, Callable[[], None]] = {}
        self.inside = False
        for owner, name in CALLS:
            patch.setattr(owner, name, self._counted(name, getattr(owner, name)))

    def begin(self, acts: dict[int, Callable[[], None]]) -> None:
        """Count anew, with these acts before the calls of these numbers."""
        self.names.clear()
        self._acts = dict(acts)

    def left(self) -> list[Callable[[], None]]:
        """The acts that no call came for."""
        return [self._acts.pop(number) for number in sorted(self._acts)]

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if self.inside:
                self.inside = False
                try:
                    self.names.append(name)
                    self._acts.pop(len(self.names), _nothing)()
                finally:
                    self.inside = True
            return real(*arguments, **options)

        return counted


def _nothing() -> None:
    pass


class NearHelper:
    """What the writer takes for a helper behind SSH; real requests, real answers, no connection."""

    closed = False

    def __init__(self, setup: HelperSetup, gaps: Gaps) -> None:
        self._helper = Helper(setup.as_request())
        self._gaps = gaps
        self.hello = self._helper.hello({})

    async def ask(self, do: str, request: dict[str, Any] | None = None, *, patience: float = 0.0) -> dict[str, Any]:
        """As the SSH connection's helper does it."""
        self._gaps.inside = True
        try:
            return helper_program.answer_to(self._helper, {"do": do, **(request or {})})[1]
        except Trouble as refused:
            if refused.code == "changed":
                raise Changed(refused.detail) from None
            raise trouble(refused.code, refused.detail) from None
        finally:
            self._gaps.inside = False

    async def clock(self) -> float:
        """What this machine's clock shows."""
        return time.time()

    async def close(self) -> None:
        """Nothing to close."""
