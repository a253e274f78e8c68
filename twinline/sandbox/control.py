"""Fault injection for demo and tests: a unix socket, one JSON object per line, one answer per line."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from twinline.sandbox.runtime import Conversations


class Switch(BaseModel):
    """Turn one misbehaviour on or off: swallow reload triggers, answer nothing, or stay before the merge."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    do: Literal["ignore_reloads", "hang", "freeze_parse"]
    on: bool


class DropSession(BaseModel):
    """Close the sessions of one user, as a broken network would."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    do: Literal["drop_session"]
    user: str


class AskStats(BaseModel):
    """Ask what the daemon has done so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    do: Literal["stats"]


Command = Switch | DropSession | AskStats


class Answer(BaseModel):
    """Base of all answers; `error` says in a sentence what was not understood."""

    ok: bool = True
    error: str | None = None


class Dropped(Answer):
    """How many sessions were closed."""

    dropped: int


class Stats(Answer):
    """Counters since the start; `lost` are triggers the daemon did not act on, `armed` that it would now."""

    reloads: int
    lost: int
    sessions: list[str]
    accounts: int
    armed: bool
    reloading: bool


_COMMANDS: TypeAdapter[Command] = TypeAdapter(Switch | DropSession | AskStats)


class ControlServer:
    """Listens on the socket until closed; the socket file is ours and is removed at the end."""

    def __init__(self, path: Path, obey: Callable[[Command], Answer]) -> None:
        self._path = path
        self._obey = obey
        self._server: asyncio.Server | None = None
        self._conversations = Conversations()

    async def open(self) -> None:
        """Start listening."""
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._conversations.end()
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._conversations.one(writer):
            while line := await reader.readline():
                writer.write(self._answer(line).model_dump_json(exclude_none=True).encode() + b"\n")
                await writer.drain()

    def _answer(self, line: bytes) -> Answer:
        try:
            command = _COMMANDS.validate_json(line)
        except ValidationError:
            return Answer(ok=False, error="no such command: see twinline/sandbox/control.py")
        return self._obey(command)
