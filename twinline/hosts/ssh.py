"""One kept SSH connection per host, and on it one helper program that answers framed requests.

Host keys are always verified against the inventory's known_hosts; there is no switch to turn that off.
"""

import asyncio
import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import asyncssh

from twinline.hosts.errors import (
    HelperFailed,
    HelperRefused,
    HostKeyMismatch,
    HostLoginRefused,
    HostUnreachable,
    trouble,
)

CONNECT_TIMEOUT = 15.0
REQUEST_TIMEOUT = 90.0
KEEPALIVE_SECONDS = 15
KEEPALIVE_MISSES = 3
HEADER = struct.Struct(">4sI32s")
MAGIC = b"TWL1"
BOOTSTRAP = (
    "exec python3 -IBc "
    '\'import sys;s=sys.stdin.buffer;exec(compile(s.read(int(s.readline())),"twinline-helper","exec"))\''
)
"""Reads the program's length and text from standard input, so nothing is installed and no word comes from outside."""

REFUSED = "twinline-refused"
"""What a forced command (`forced.LAUNCHER`) says to any program but the one that it allows."""

LAST_WORDS_TIMEOUT = 1.0


@dataclass(frozen=True)
class SshAccess:
    """Where and as whom to connect."""

    address: str
    port: int
    user: str
    key: Path
    known_hosts: Path


@dataclass(frozen=True)
class HelperSetup:
    """What a helper has to know about the host it runs on; seconds where a time is meant."""

    accounts_file: str
    state_dir: str
    status_url: str
    status_auth: str
    status_user: str
    status_password: str = field(repr=False)
    close_triggers: bool
    quiet_seconds: float
    record_width: int
    lock_timeout: float = 10.0

    def as_request(self) -> dict[str, Any]:
        """The `setup` part of a hello request."""
        return {
            "accounts_file": self.accounts_file,
            "state_dir": self.state_dir,
            "lock_timeout": self.lock_timeout,
            "quiet_seconds": self.quiet_seconds,
            "close_triggers": self.close_triggers,
            "record_width": self.record_width,
            "status": {
                "url": self.status_url,
                "auth": self.status_auth,
                "user": self.status_user,
                "password": self.status_password,
            },
        }


def helper_source() -> bytes:
    """The helper program as it is sent."""
    return resources.files("twinline.hosts").joinpath("helper_program.py").read_bytes()


class Helper:
    """A running helper program; `ask` is one round trip."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        process: "asyncssh.SSHClientProcess[bytes]",
        setup: HelperSetup,
    ) -> None:
        self._connection = connection
        self._process = process
        self._setup = setup
        self._turn = asyncio.Lock()
        self.hello: dict[str, Any] = {}

    @property
    def closed(self) -> bool:
        """Whether the connection is known to be gone."""
        return self._connection.is_closed() or self._process.is_closing()

    async def introduce(self) -> None:
        """Say what the helper serves, which has to come first; raises as `ask` does."""
        self.hello = await self._greet()

    async def clock(self) -> float:
        """What the host's clock shows now, in POSIX seconds; raises as `ask` does."""
        # The shortest question of all, and one that every helper answers.
        return float((await self._greet())["clock"])

    async def _greet(self) -> dict[str, Any]:
        return await self.ask("hello", {"setup": self._setup.as_request()})

    async def ask(self, do: str, request: Mapping[str, Any] | None = None, *, patience: float = 0.0) -> dict[str, Any]:
        """Send one request and return what the helper answered.

        `patience` seconds are added to the time-out for requests that wait on the host. Raises HelperFailed when
        the connection or the program ends, HelperRefused when the host does not let it start, and the HostError
        that the helper's own refusal stands for, or Changed.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT + patience):
                    answer = await self._round_trip({"do": do, **(request or {})})
            except (asyncio.IncompleteReadError, OSError, asyncssh.Error, TimeoutError) as error:
                refused = not self.hello and await self._was_refused()
                await self.close()
                if refused:
                    raise HelperRefused("the host allows our key another version of the helper") from None
                raise HelperFailed(f"the connection ended during {do} ({type(error).__name__})") from None
        if "ok" in answer:
            return answer["ok"]
        if answer["trouble"] == "changed":
            raise Changed(str(answer["detail"]))
        raise trouble(str(answer["trouble"]), str(answer["detail"]))

    async def _round_trip(self, request: Mapping[str, Any]) -> dict[str, Any]:
        body = zlib.compress(json.dumps(request, separators=(",", ":")).encode(), 1)
        self._process.stdin.write(HEADER.pack(MAGIC, len(body), hashlib.sha256(body).digest()) + body)
        head = await self._process.stdout.readexactly(HEADER.size)
        magic, length, digest = HEADER.unpack(head)
        answer = await self._process.stdout.readexactly(length) if magic == MAGIC else b""
        if hashlib.sha256(answer).digest() != digest:
            raise OSError("torn answer")
        return json.loads(zlib.decompress(answer))

    async def _was_refused(self) -> bool:
        """Whether a forced command took what we sent for something else than what it allows."""
        words = b""
        try:
            async with asyncio.timeout(LAST_WORDS_TIMEOUT):
                while not self._process.stderr.at_eof():
                    words += await self._process.stderr.read(4096)
        except (asyncssh.Error, OSError, TimeoutError):
            pass  # it did not come to its end; what it said until then may do
        return REFUSED.encode() in words

    async def close(self) -> None:
        """End the helper and its connection; what it is doing just now is finished or recovered later."""
        self._process.close()
        self._connection.close()
        try:
            async with asyncio.timeout(2):
                await self._connection.wait_closed()
        except TimeoutError:
            self._connection.abort()


class Changed(Exception):
    """The accounts file is no longer the one that the plan was made for: read it again."""


async def connect(access: SshAccess) -> asyncssh.SSHClientConnection:
    """Open a verified connection; raises HostUnreachable, HostKeyMismatch or HostLoginRefused."""
    where = f"{access.address}:{access.port}"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await asyncssh.connect(
                access.address,
                access.port,
                username=access.user,
                client_keys=[str(access.key)],
                known_hosts=str(access.known_hosts),
                agent_path=None,
                config=None,
                keepalive_interval=KEEPALIVE_SECONDS,
                keepalive_count_max=KEEPALIVE_MISSES,
            )
    except asyncssh.HostKeyNotVerifiable:
        raise HostKeyMismatch(f"{where} does not show a host key that ssh.known_hosts trusts") from None
    except asyncssh.PermissionDenied:
        raise HostLoginRefused(f"{where} refuses the key in ssh.key for user {access.user}") from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise HostLoginRefused(f"ssh.key can't be used ({type(error).__name__})") from None
    except FileNotFoundError as error:
        raise HostLoginRefused(
            f"file {Path(str(error.filename)).name} of the inventory's ssh settings is missing"
        ) from None
    except (OSError, asyncssh.Error, TimeoutError) as error:
        raise HostUnreachable(f"no SSH connection to {where} ({type(error).__name__})") from None


async def start_helper(access: SshAccess, setup: HelperSetup) -> Helper:
    """Connect, send the helper program and introduce ourselves; raises the HostError that kept us from it."""
    connection = await connect(access)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            process = await connection.create_process(BOOTSTRAP, encoding=None)
        helper = Helper(connection, process, setup)
        source = helper_source()
        process.stdin.write(f"{len(source)}\n".encode() + source)
        await helper.introduce()
    except (asyncssh.Error, OSError, TimeoutError) as error:
        connection.close()
        raise HelperFailed(f"no session on {access.address} ({type(error).__name__})") from None
    except BaseException:
        connection.close()
        raise
    return helper


def encode(data: bytes) -> str:
    """Bytes as they travel inside a request."""
    return base64.b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
    """Bytes out of an answer."""
    return base64.b64decode(text)
