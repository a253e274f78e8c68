"""A stand-in daemon as a child process, with its control socket."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from twinline.sandbox.control import Stats
from twinline.sandbox.processes import Program, inherited_environment
from twinline.sandbox.sites import ZONE_RULE, Site

_SOCKET: Final = "control"


class ControlRefused(Exception):
    """The stand-in did not understand a control request; the same request is never understood."""


class StandIn:
    """One running daemon of a site; stopped and started again it reads its files anew."""

    def __init__(self, site: Site, *, timescale: float) -> None:
        self._site = site
        # The socket's name is relative to the daemon's folder: a whole path may be longer than a socket's can be.
        module = f"twinline.sandbox.{site.protocol}"
        self._program = Program(
            f"the {site.protocol} stand-in {site.name}",
            (
                *(sys.executable, "-P", "-m", module, *site.arguments),
                *("--timescale", str(timescale), "--control", _SOCKET),
            ),
            environment=inherited_environment() | {"TZ": ZONE_RULE},
            folder=site.daemon_folder,
        )

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._program.pid

    @property
    def log(self) -> Path:
        """The file that it writes its log to."""
        return self._program.log

    async def start(self) -> None:
        """Start it and wait until it serves; raises WorldFailed."""
        await self._program.start()

    async def stop(self) -> None:
        """End it in good order: its clients see their connections close."""
        await self._program.stop()

    async def kill(self) -> None:
        """End it as a crash would."""
        await self._program.kill()

    async def control(self, request: Mapping[str, object]) -> dict[str, Any]:
        """Send one fault-injection request (sandbox/control.py) and return the answer; raises ControlRefused."""
        answer = json.loads(await self._ask(json.dumps(request).encode()))
        if not answer["ok"]:
            raise ControlRefused(answer["error"])
        return answer

    async def stats(self) -> Stats:
        """What the daemon has done so far, and who is connected."""
        return Stats.model_validate(await self.control({"do": "stats"}))

    async def switch(self, what: Literal["ignore_reloads", "hang", "freeze_parse"], *, on: bool) -> None:
        """Turn one misbehaviour on or off."""
        await self.control({"do": what, "on": on})

    async def drop_session(self, user: str) -> int:
        """Close a user's sessions as a broken network would; the number of them."""
        return int((await self.control({"do": "drop_session", "user": user}))["dropped"])

    async def _ask(self, request: bytes) -> bytes:
        folder = os.open(self._site.daemon_folder, os.O_PATH | os.O_DIRECTORY)
        try:
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{_SOCKET}")
        finally:
            os.close(folder)
        try:
            writer.write(request + b"\n")
            return await reader.readline()
        finally:
            writer.close()
