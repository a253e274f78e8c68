"""One host under test: an accounts file, its stand-in daemon, a real sshd, and a ledger kept in memory."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from typing import Protocol as Shape

from twinline.hosts.errors import named
from twinline.hosts.factory import daemon_for, helper_for, writer_for
from twinline.hosts.helper_program import StatusPages
from twinline.hosts.ports import Batch, Half, Named, Proven, Token, Wanted
from twinline.hosts.writer import HostWriter
from twinline.inventory import Host
from twinline.messages import Protocol
from twinline.sandbox import multics, oscam
from twinline.sandbox.processes import free_port
from twinline.sandbox.receiver import Receiver
from twinline.sandbox.runtime import Timescale

STATUS_PASSWORD = "statuspass"
FAST = 0.02
FAR = datetime(2031, 5, 6, 13, 30, tzinfo=UTC)

FOREIGN = {
    "multics": b"# kept by hand\nF: oldtom tompass1 { name=Tom; enddate=2031-01-01 }\nF: oldeve evepass1",
    "oscam": b"# kept by hand\n[account]\nuser = oldtom\npwd = tompass1\ngroup = 1\n\n"
    b"[account]\nuser = oldeve\npwd = evepass1\ngroup = 1\n",
}


@dataclass
class MemoryLedger:
    """A ledger for one host: what is wanted, what is proven, and what failed."""

    wanted: dict[str, Half] = field(default_factory=dict[str, Half])
    known: dict[str, Proven] = field(default_factory=dict[str, Proven])
    failures: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    batches: list[int] = field(default_factory=list[int])
    epoch: int = 1
    reads: list[int] = field(default_factory=list[int])
    stopped: dict[str, str] = field(default_factory=dict[str, str])
    """Lines that wait for a person, and why."""
    withheld: frozenset[str] = frozenset()
    """Lines that the blast guard holds back."""
    number: int = 0
    clock_ahead: float = 0.0
    """Seconds by which this ledger's clock is ahead of this machine's."""
    clocks: list[bool] = field(default_factory=list[bool])
    """What was said of the host's clock: whether it was right."""
    said: list[str] = field(default_factory=list[str])
    """What was said of the host itself, in turn: `through`, `well`, or the code of an error."""

    def want(
        self,
        username: str,
        password: str,
        *,
        wanted: Wanted = Wanted.PRESENT,
        ends_at: datetime = FAR,
    ) -> Half:
        """Change what a line should be; raises its revision."""
        old = self.wanted.get(username)
        revision = old.revision + 1 if old is not None else 1
        mark = f"{revision}-{abs(hash((username, password, wanted, ends_at))) % 2**32:08x}"
        half = Half(username, username, password, wanted, ends_at, revision, mark)
        self.wanted[username] = half
        self.stopped.pop(username, None)
        return half

    def change(self, username: str, **changes: object) -> Half:
        """Change some of a line's values; raises its revision."""
        old = self.wanted[username]
        fresh = replace(old, **changes)  # pyright: ignore[reportArgumentType] - the tests name real fields
        return self.want(username, fresh.password, wanted=fresh.wanted, ends_at=fresh.ends_at or FAR)

    async def open_batch(self, host: str, limit: int, also: AbstractSet[str] = frozenset()) -> Batch:
        self.number += 1
        behind = [
            half
            for half in self.wanted.values()
            if half.revision > self._proven_revision(half.line_id)
            and half.line_id not in {*self.stopped, *self.withheld}
        ]
        behind.sort(key=lambda half: half.wanted is Wanted.PRESENT)
        again = [half for half in self.wanted.values() if half.line_id in also and half not in behind]
        halves = tuple([*behind, *again][:limit])
        if limit:
            self.batches.append(len(halves))
        held = {line_id: half.revision for line_id, half in self.wanted.items() if line_id in self.withheld}
        return Batch(Token(self.epoch, self.number), halves, held)

    async def lines_named(self, host: str, usernames: Sequence[str]) -> dict[str, Named]:
        lines = {half.username: Named(half.line_id, half.wanted) for half in self.wanted.values()}
        return {name: lines[name] for name in usernames if name in lines}

    async def close_batch(self, host: str, token: Token, proven: Sequence[Proven]) -> None:
        self.said.append("through")
        for one in proven:
            if one.revision > self._proven_revision(one.line_id):
                self.known[one.line_id] = one
                self.stopped.pop(one.line_id, None)

    async def report_failure(self, host: str, tried: Mapping[str, int], code: str) -> None:
        self.failures.extend((line_id, code) for line_id in tried)
        self.said.append(code)
        kind = named(code)
        if kind is not None and kind.attention and kind.of_one_line:
            self.stopped |= {line: code for line, revision in tried.items() if revision == self.wanted[line].revision}

    async def ask_again(self, line_id: str, host: str, *, due_only: bool) -> bool:
        return not due_only and self.stopped.pop(line_id, None) is not None

    async def now(self) -> float:
        return time.time() + self.clock_ahead

    async def note_clock(self, host: str, *, right: bool) -> None:
        self.clocks.append(right)

    async def note_well(self, host: str) -> None:
        self.said.append("well")

    async def fence(self, host: str) -> Token:
        return Token(self.epoch, self.number)

    async def proven(self, host: str, line_ids: Sequence[str]) -> Mapping[str, Proven]:
        self.reads.append(len(line_ids))
        asked = [half for line_id in line_ids if (half := self.wanted.get(line_id)) is not None]
        return {
            each.line_id: replace(
                self.known.get(each.line_id, Proven(each.line_id, 0, each.wanted)),
                attention=self.stopped.get(each.line_id),
            )
            for each in asked
        }

    async def absent_usernames(self, host: str, usernames: Sequence[str]) -> set[str]:
        return {
            name
            for name in usernames
            if (proven := self.known.get(name)) is not None and proven.wanted is Wanted.ABSENT
        }

    def _proven_revision(self, line_id: str) -> int:
        found = self.known.get(line_id)
        return found.revision if found is not None else 0


@dataclass
class Lab:
    """Everything of one host, for a test to act on."""

    host: Host
    folder: Path
    accounts: Path
    client_port: int
    control: Path
    ledger: MemoryLedger
    writer: HostWriter
    daemon: multics.MultiCS | oscam.OSCam
    fresh_daemon: Callable[[], multics.MultiCS | oscam.OSCam]

    async def restart_daemon(self) -> None:
        """End the daemon and start it again: it forgets everything but its files."""
        await self.daemon.stop()
        self.daemon = self.fresh_daemon()
        await self.daemon.start()

    async def bring(self, half: Half) -> Proven:
        """Have the writer prove a half."""
        return await self.writer.bring(half.line_id, half.revision)

    async def tell(self, **command: object) -> dict[str, Any]:
        """Send one command to the stand-in's control socket."""
        reader, writer = await asyncio.open_unix_connection(str(self.control))
        writer.write(json.dumps(command).encode() + b"\n")
        answer = json.loads(await reader.readline())
        writer.close()
        return answer

    async def login(self, username: str, password: str) -> Receiver:
        """Open a customer's session on the daemon."""
        return await Receiver.login(self.client_port, username, password)

    async def page(self, path: str) -> str:
        """One of the daemon's own pages, as its operator's browser gets it."""
        url, auth = self.host.status.url, daemon_for(self.host).status_auth
        _, body = await asyncio.to_thread(StatusPages(url, auth, "admin", STATUS_PASSWORD).get, path)
        return body.decode("latin-1")

    def another_writer(self, *, deadline: float | None = None, ledger: MemoryLedger | None = None) -> HostWriter:
        """A second worker's writer on the same host; `deadline` (seconds) makes it give up a proof sooner."""
        daemon = daemon_for(self.host)
        daemon.deadline = daemon.deadline if deadline is None else deadline
        start = partial(helper_for, self.host)
        return HostWriter(self.host.name, daemon=daemon, ledger=ledger or self.ledger, start_helper=start)


class Door(Shape):
    """How a host is reached: sshd, or a box of the sandbox."""

    @property
    def port(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def key(self) -> Path: ...
    @property
    def known_hosts(self) -> Path: ...


def _host(
    protocol: Protocol,
    folder: Path,
    sshd: Door,
    *,
    accounts: Path,
    client_port: int,
    web_port: int,
    timescale: float,
) -> Host:
    multics = protocol == "multics"
    return Host.model_validate(
        {
            "name": "mc-eu1" if multics else "os-eu1",
            "protocol": protocol,
            "ssh": {
                "address": "127.0.0.1",
                "port": sshd.port,
                "user": sshd.user,
                "key": sshd.key,
                "known_hosts": sshd.known_hosts,
            },
            "accounts_file": str(accounts),
            "state_dir": str(folder / "state"),
            "timezone": "UTC",
            "public": {"address": "127.0.0.1", "port": client_port},
            "status": {"url": f"http://127.0.0.1:{web_port}", "user": "admin", "password": STATUS_PASSWORD},
            "quiet_seconds": 3.0 * timescale if multics else 0.0,
            **({} if multics else {"groups": (1,)}),
        }
    )


def _daemon(
    host: Host, folder: Path, *, client_port: int, web_port: int, control: Path, timescale: Timescale
) -> multics.MultiCS | oscam.OSCam:
    if host.protocol == "multics":
        main = folder / "multics.cfg"
        main.write_text(
            f"HTTP PORT: {web_port}\nHTTP USER: admin\nHTTP PASS: {STATUS_PASSWORD}\nCCCAM PORT: {client_port}\n"
            f'INCLUDE: "{host.accounts_file}"\n[P1]\n'
        )
        return multics.MultiCS(multics.Options(main, timescale, control, folder / "daemon.log"))
    (folder / "oscam.conf").write_text(
        "[global]\nreload_useraccounts = 0\n\n"
        f"[webif]\nhttpport = {web_port}\nhttpuser = admin\nhttppwd = {STATUS_PASSWORD}\n\n"
        f"[cccam]\nport = {client_port}\n"
    )
    return oscam.OSCam(oscam.Options(folder, folder / "oscam.pid", timescale, control, folder / "daemon.log"))


@asynccontextmanager
async def run_lab(
    protocol: Protocol,
    folder: Path,
    sshd: Door,
    *,
    timescale: float = FAST,
    content: bytes | None = None,
    ledger: MemoryLedger | None = None,
    moves_to: Path | None = None,
) -> AsyncGenerator[Lab]:
    """Start a stand-in daemon, in this process, on an accounts file with two accounts that are not ours.

    `content` is another file to begin with, and `ledger` one that knows it. `moves_to` is where an operator will put
    the file before the first order; OSCam then finds a link in its place.
    """
    folder.mkdir(parents=True)
    client_port, web_port = free_port(), free_port()
    accounts = folder / ("Cccam.cfg" if protocol == "multics" else "oscam.user")
    ports = {"client_port": client_port, "web_port": web_port}
    host = _host(protocol, folder, sshd, accounts=moves_to or accounts, **ports, timescale=timescale)
    accounts.write_bytes(FOREIGN[protocol] if content is None else content)
    accounts.chmod(0o600)
    control = folder / "control"
    fresh_daemon = partial(_daemon, host, folder, **ports, control=control, timescale=Timescale(timescale))
    daemon = fresh_daemon()
    ledger = ledger or MemoryLedger()
    writer = writer_for(host, ledger)
    await daemon.start()
    lab = Lab(host, folder, Path(host.accounts_file), client_port, control, ledger, writer, daemon, fresh_daemon)
    try:
        yield lab
    finally:
        await writer.close()
        await lab.daemon.stop()
