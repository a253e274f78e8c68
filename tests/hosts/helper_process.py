"""The helper program as it runs on a host, without SSH: the same bootstrap line, its frames through a pipe."""

import asyncio
import hashlib
import json
import os
import shlex
import struct
import sys
import zlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from tests.hosts.judge import Kind
from tests.support.sshd import die_with_parent
from twinline.hosts.image import Image, Plan
from twinline.hosts.ssh import BOOTSTRAP, HEADER, MAGIC, HelperSetup, decode, encode, helper_source

NOBODY = "http://127.0.0.1:9"
"""A status page that nobody serves."""


def setup_for(accounts: Path, state: Path, kind: Kind, *, status_url: str = NOBODY, **values: Any) -> HelperSetup:
    """What the helper is told; `values` are further fields of HelperSetup."""
    settings: dict[str, Any] = {"quiet_seconds": 0.0, "lock_timeout": 0.05, **values}
    return HelperSetup(
        accounts_file=str(accounts),
        state_dir=str(state),
        status_url=status_url,
        status_auth=kind.daemon.status_auth,
        status_user="admin",
        status_password="statuspass",
        close_triggers=kind.daemon.close_triggers,
        record_width=kind.daemon.width,
        **settings,
    )


def frame(request: dict[str, Any]) -> bytes:
    """One request as it travels."""
    body = zlib.compress(json.dumps(request).encode(), 1)
    return HEADER.pack(MAGIC, len(body), hashlib.sha256(body).digest()) + body


def apply_request(image: Image, plan: Plan, *, number: int = 1, batch: str = "b1", **values: Any) -> dict[str, Any]:
    """A batch without reload and proof unless `values` say otherwise."""
    return {
        "do": "apply",
        "token": [1, number],
        "batch": batch,
        "signature": image.signature,
        "groups": [[[op.offset, encode(op.old), encode(op.new)] for op in group] for group in plan.groups],
        "kicks": [],
        "probes": [],
        "deadline": 0.0,
        "trigger": None,
        **values,
    }


def image_in(kind: Kind, answer: dict[str, Any]) -> Image:
    """The engine's picture of what the helper has read."""
    data = zlib.decompress(decode(answer["body"]))
    return Image(kind.daemon, data, answer["signature"], recover=answer["recover"])


class Refused(Exception):
    """The helper answered with a trouble."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code


class HelperProcess:
    """A running helper; `ask` is one round trip."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, *, before: Sequence[str] = (), words: Sequence[str] = ()) -> Self:
        """Start through a shell, as sshd does; `before` are words in front of the shell, `words` the program's own."""
        # Our own Python first: the machine may have none by the name of python3.
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"}
        process = await asyncio.create_subprocess_exec(
            *before, "/bin/sh", "-c", f"{BOOTSTRAP} {shlex.join(words)}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=environment, preexec_fn=die_with_parent, limit=1 << 26,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        source = helper_source()
        process.stdin.write(f"{len(source)}\n".encode() + source)
        return cls(process, process.stdout, process.stdin)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    async def answer(self) -> dict[str, Any]:
        """The next answer; raises Refused, or EOFError when the helper has ended."""
        head = await self._reader.readexactly(HEADER.size)
        magic, length, digest = HEADER.unpack(head)
        body = await self._reader.readexactly(length)
        assert magic == MAGIC
        assert hashlib.sha256(body).digest() == digest
        answer = json.loads(zlib.decompress(body))
        if "trouble" in answer:
            raise Refused(answer["trouble"], answer["detail"])
        return answer["ok"]

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer; raises Refused."""
        self.send(frame(request))
        return await self.answer()

    async def hello(self, setup: HelperSetup) -> dict[str, Any]:
        """Say what the helper serves."""
        return await self.ask({"do": "hello", "setup": setup.as_request()})

    async def read(self, kind: Kind) -> Image:
        """The accounts file as the helper reads it."""
        return image_in(kind, await self.ask({"do": "read"}))

    async def end(self) -> bytes:
        """Close its input, wait for its end, and return what it wrote besides answers."""
        self._writer.close()
        assert self.process.stderr is not None
        rest = await self._reader.read() + await self.process.stderr.read()
        await self.process.wait()
        return rest


@asynccontextmanager
async def helper(setup: HelperSetup, *, before: Sequence[str] = ()) -> AsyncGenerator[HelperProcess]:
    """A helper that was introduced to its host, and has nothing to complain about at the end."""
    running = await HelperProcess.start(before=before)
    try:
        await running.hello(setup)
        yield running
    except BaseException:
        running.process.kill()
        await running.process.wait()
        raise
    assert await running.end() == b""


def stored(state: Path, name: str) -> dict[str, Any]:
    """One of the helper's small files."""
    return stored_in((state / name).read_bytes())


def stored_in(record: bytes) -> dict[str, Any]:
    """What one of the helper's small files says."""
    (length,) = struct.unpack(">I", record[:4])
    assert len(record) == 36 + length, "something of what stood here before is left"
    return json.loads(record[36:])
