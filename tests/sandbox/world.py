"""Hosts for the stand-in tests: files on disk, a daemon in this process, and a plain HTTP client."""

import asyncio
import base64
import json
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from twinline.sandbox import multics, oscam
from twinline.sandbox.control import Stats
from twinline.sandbox.processes import free_port
from twinline.sandbox.receiver import Receiver
from twinline.sandbox.runtime import Timescale

FAST = 0.02
WEB_PASSWORD = "secret"


def xml(text: str | bytes) -> ET.Element:
    """Parse an answer of our own stand-ins."""
    return ET.fromstring(text)  # noqa: S314 - nobody but our own code writes it


async def raw_http(port: int, request: str) -> bytes:
    """Send bytes and return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request.encode("latin-1"))
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()


async def control(path: Path, **command: object) -> dict[str, object]:
    """Ask a control socket one thing."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(json.dumps(command).encode() + b"\n")
        return json.loads(await reader.readline())
    finally:
        writer.close()


async def stats(path: Path) -> Stats:
    """Ask a control socket for its counters."""
    return Stats.model_validate(await control(path, do="stats"))


async def some_time(socket: Path) -> None:
    """Give a daemon in this process many turns of the loop, enough for any answer it means to give."""
    for _ in range(20):
        await stats(socket)


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("latin-1")


class MulticsHost:
    """The files of one MultiCS host with an accounts-only include and a trigger include."""

    def __init__(self, directory: Path, *, profile: str = "[P1]") -> None:
        self.main = directory / "multics.cfg"
        self.accounts = directory / "Cccam.cfg"
        self.trigger = directory / "reload.trigger"
        self.socket = directory / "multics.sock"
        self.http_port, self.port = free_port(), free_port()
        self.main.write_text(
            f"HTTP PORT: {self.http_port}\nHTTP USER: admin\nHTTP PASS: secret\n{profile}\n"
            f'CCCAM PORT: {self.port}\nINCLUDE: "{self.accounts}"\nINCLUDE: "{self.trigger}"\n'
        )
        self.accounts.write_text("")
        self.trigger.write_text("")
        self._daemon: multics.MultiCS | None = None

    @property
    def daemon(self) -> multics.MultiCS:
        assert self._daemon is not None, "the test has not started the daemon"
        return self._daemon

    async def start(self, accounts: str = "", *, timescale: float = FAST) -> None:
        self.accounts.write_text(accounts)
        options = multics.Options(self.main, Timescale(timescale), self.socket, self.main.with_suffix(".log"))
        self._daemon = multics.MultiCS(options)
        await self._daemon.start()

    async def stop(self) -> None:
        if self._daemon is not None:
            await self._daemon.stop()

    async def reload(self, accounts: str) -> None:
        """Write the accounts in place, close once, and wait until the watches are set again."""
        done = (await stats(self.socket)).reloads
        self.accounts.write_text(accounts)
        await self.started(done + 1)
        await self.daemon.idle()

    async def started(self, times: int = 1) -> None:
        """Wait until that many reloads have begun since the start."""
        await self.daemon.log.until("Config file Changed...", times=times)

    async def login(self, user: str, password: str) -> Receiver:
        return await Receiver.login(self.port, user, password)

    async def get(self, target: str, *, header: str | None = None) -> bytes:
        """Everything a GET brings, head included; empty if the daemon hangs up."""
        credentials = base64.b64encode(b"admin:secret").decode()
        header = f"Authorization: Basic {credentials}" if header is None else header
        return await raw_http(self.http_port, f"GET {target} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n")

    async def page(self, target: str) -> str:
        """The body of a GET."""
        return (await self.get(target)).partition(b"\r\n\r\n")[2].decode("latin-1")

    async def users(self) -> list[str]:
        """The names that the daemon lists."""
        servers = json.loads(await self.page("/cccam?action=json&id=1"))
        return [user["name"] for user in servers[0]["users"]]

    async def status(self, user: str) -> int:
        """The status number of a user in the list."""
        servers = json.loads(await self.page("/cccam?action=json&id=1"))
        return next(each["status"] for each in servers[0]["users"] if each["name"] == user)


class OscamHost:
    """The files of one OSCam host."""

    def __init__(self, directory: Path, *, extra_global: str = "", extra_webif: str = "") -> None:
        self.directory = directory
        self.users = directory / "oscam.user"
        self.pidfile = directory / "oscam.pid"
        self.socket = directory / "oscam.sock"
        self.web_port, self.port = free_port(), free_port()
        self.configure(extra_global=extra_global, extra_webif=extra_webif)
        self._daemon: oscam.OSCam | None = None

    def configure(self, *, extra_global: str = "", extra_webif: str = "") -> None:
        (self.directory / "oscam.conf").write_text(
            f"[global]\n{extra_global}\n[webif]\nhttpport = {self.web_port}\nhttpuser = admin\nhttppwd = secret\n"
            f"{extra_webif}\n[cccam]\nport = {self.port}\n"
        )

    @property
    def daemon(self) -> oscam.OSCam:
        assert self._daemon is not None, "the test has not started the daemon"
        return self._daemon

    async def start(self, users: str = "", *, timescale: float = FAST) -> None:
        self.users.write_text(users)
        options = oscam.Options(
            self.directory, self.pidfile, Timescale(timescale), self.socket, self.directory / "oscam.log"
        )
        self._daemon = oscam.OSCam(options)
        await self._daemon.start()

    async def stop(self) -> None:
        if self._daemon is not None:
            await self._daemon.stop()

    async def login(self, user: str, password: str) -> Receiver:
        return await Receiver.login(self.port, user, password)

    async def get(self, target: str, *, password: str = WEB_PASSWORD) -> Answer:
        """A GET by urllib, whose digest code is not ours."""
        return await asyncio.to_thread(_digest_get, f"http://127.0.0.1:{self.web_port}", target, password)

    async def reinit(self, users: str | None = None) -> None:
        """Write the file if given, and reload over the web interface."""
        if users is not None:
            self.users.write_text(users)
        assert (await self.get("/userconfig.html?action=reinit")).status == 200


def _digest_get(base: str, target: str, password: str) -> Answer:
    keys = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    keys.add_password(None, base, "admin", password)
    opener = urllib.request.build_opener(urllib.request.HTTPDigestAuthHandler(keys))
    try:
        with opener.open(base + target, timeout=30) as answer:
            return Answer(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read())


class Process:
    """A stand-in in a process of its own, for what only a process can show."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, daemon: str, *arguments: str) -> "Process":
        """Start and wait for the `ready` line; the test fails if the daemon ends instead."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"twinline.sandbox.{daemon}", *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return cls(process)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end; the negative number of the signal if one killed it."""
        return await self._process.wait()

    async def end(self) -> None:
        """Clean up, whatever state it is in."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
