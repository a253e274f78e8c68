"""A host in this process: the real engine and helper on a real file, and a daemon that reloads in no time.

Only SSH is left out. Who may log in is judged by the stand-ins' parsers.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

from activities.host_ledger import LedgerOfHosts
from tests.hosts.judge import Kind, Seen, kind_of
from tests.hosts.lab import FOREIGN
from tests.hosts.pages import Pages
from twinline.hosts import helper_program
from twinline.hosts.errors import HelperFailed, HostError, HostUnreachable, trouble
from twinline.hosts.ssh import Changed, Helper
from twinline.hosts.writer import HostWriter
from twinline.ledger import Ledger
from twinline.messages import Protocol
from twinline.sandbox.multics_parser import EndDate

Answer = Literal["lost before", "lost after"]
"""What a connection that dies leaves behind: nothing, or all of the batch."""

WRITES: Final = ("apply", "replace")
PATIENCE: Final = 0.02
"""Seconds that a daemon is given to show a change; this one needs none."""


class Daemon(Pages):
    """Its pages; it has loaded what stood in the file when it was last told to."""

    def __init__(self, kind: Kind, accounts: Path) -> None:
        super().__init__(kind, cast(Path, self), 0)
        self.deaf = False
        """Whether it misses what it is told."""
        self._closes_are_seen = kind.protocol == "multics"
        self._file = accounts
        self._loaded = accounts.read_bytes()

    def read_bytes(self) -> bytes:
        """What its pages are about."""
        if self._closes_are_seen:
            self.reload()
        return self._loaded

    def loaded(self) -> list[Seen]:
        """Every account that it has."""
        return self._kind.see(self.read_bytes())

    def reload(self) -> None:
        """Read the file, unless it is deaf."""
        if not self.deaf:
            self._loaded = self._file.read_bytes()

    def get(self, path: str) -> tuple[int, bytes]:
        """A page, as the helper asks for it."""
        if self._kind.protocol == "oscam" and path == "/reload":
            self.reload()
            return 200, b"reloaded"
        if path == "/oscamapi.html?part=userstats":
            shown = "".join(f'<user name="{each.user}" status="{_status(each)}">' for each in self.loaded())
            return 200, shown.encode()
        page = self.answer(path)
        return (0, b"") if page is None else (200, page.encode("latin-1"))


def _status(account: Seen) -> str:
    return "offline" if account.enabled else "offline (disabled)"


@dataclass
class Box:
    """One host, its faults, and whom it has ever let in."""

    name: str
    protocol: Protocol
    folder: Path
    down: bool = False
    trouble: HostError | None = None
    """What is wrong with the host itself, for a person to repair."""
    clock_ahead: float = 0.0
    """Of the ledger's, in seconds."""
    cut: Answer | None = None
    """How the connection of the next batch dies."""
    alarm: asyncio.Event | None = None
    """The next batch oversleeps, between what it has read in the ledger and what it writes, until this goes off."""
    asleep: asyncio.Event = field(default_factory=asyncio.Event)
    set_back: bool = False
    """Whether an old file was put in place of the one that the ledger knows of, and no Reconcile came since."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    first: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """When each line was served here for the first time."""
    let_in: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    kept: list[bytes] = field(default_factory=list[bytes])
    """Earlier contents of the file."""

    def __post_init__(self) -> None:
        self.kind = kind_of(self.protocol)
        self.kind.daemon.deadline = PATIENCE
        self.folder.mkdir()
        self.accounts = self.folder / "accounts"
        self.accounts.write_bytes(FOREIGN[self.protocol])
        self.accounts.chmod(0o600)
        self.daemon = Daemon(self.kind, self.accounts)
        self.others = self.served()

    def writer(self, ledger: Ledger, clock: Callable[[], datetime]) -> HostWriter:
        """The one writer of a worker for this host."""

        books = _Books(ledger, clock)

        async def start() -> Helper:
            # What a writer needs of a helper is its face.
            return cast(Helper, await InProcess.start(self, books))

        return HostWriter(self.name, daemon=self.kind.daemon, ledger=books, start_helper=start)

    def served(self) -> dict[str, Seen]:
        """Whom the daemon lets in, by name."""
        return {each.user: each for each in self.daemon.loaded() if each.enabled and each.user not in self.daemon.off}

    def ours(self) -> dict[str, Seen]:
        """Those of them that twinline wrote."""
        return {name: each for name, each in self.served().items() if name not in self.others}

    def note(self) -> None:
        """Remember whom it serves now, and the file."""
        for name in self.ours():
            self.first.setdefault(name, self.now())
        self.let_in |= {(each.user, each.password) for each in self.served().values()}
        content = self.accounts.read_bytes()
        if not self.kept or self.kept[-1] != content:
            self.kept.append(content)

    def put_back(self, number: int) -> None:
        """Somebody puts an earlier file in place, and starts the daemon again."""
        if len(self.kept) > 1:
            self.accounts.write_bytes(self.kept[number % (len(self.kept) - 1)])
            self.daemon.reload()
            self.set_back = True

    def heal(self) -> None:
        """Take every fault away; an old file stays."""
        self.down, self.trouble, self.cut, self.daemon.deaf, self.clock_ahead = False, None, None, False, 0.0
        self.wake()
        self.daemon.reload()

    def wake(self) -> None:
        """Let the batch that overslept go on."""
        if self.alarm is not None:
            self.alarm.set()
        self.alarm = None
        self.asleep.clear()

    def ends_too_early(self, account: Seen, ends_at: datetime) -> bool:
        """Whether the daemon's own date ends this account before its time; hosts here live in UTC."""
        end = account.end
        if isinstance(end, EndDate):
            return datetime(end.year, end.month, end.day, end.hour, tzinfo=UTC) < ends_at
        return end is not None and int(str(end)) < ends_at.timestamp()


class _Books(LedgerOfHosts):
    """Remembers what time it told: the clock of a life may leap before the host is asked for its own."""

    told: float = 0.0

    async def now(self) -> float:
        self.told = await super().now()
        return self.told


class InProcess:
    """The helper program without a connection, in a thread."""

    def __init__(self, box: Box, books: _Books) -> None:
        self.box = box
        self._books = books
        self.hello: dict[str, Any] = {}
        self._closed = False
        self._turn = asyncio.Lock()
        self._program: helper_program.Helper | None = None

    @classmethod
    async def start(cls, box: Box, books: _Books) -> "InProcess":
        if box.down:
            raise HostUnreachable("no SSH connection")
        if box.trouble is not None:
            raise box.trouble
        helper = cls(box, books)
        setup = {
            "accounts_file": str(box.accounts),
            "state_dir": str(box.folder / "state"),
            "lock_timeout": 5.0,
            "quiet_seconds": 0.0,
            "close_triggers": box.kind.daemon.close_triggers,
            "record_width": box.kind.daemon.width,
            "status": {"url": "http://127.0.0.1:9", "auth": "none", "user": "", "password": ""},
        }
        helper.hello = await helper.ask("hello", {"setup": setup})
        return helper

    async def clock(self) -> float:
        """What the host's clock shows, in POSIX seconds."""
        return self._books.told + self.box.clock_ahead

    @property
    def closed(self) -> bool:
        return self._closed or self.box.down or self.box.trouble is not None

    async def ask(self, do: str, request: Mapping[str, Any] | None = None, *, patience: float = 0.0) -> dict[str, Any]:
        box = self.box
        async with self._turn:
            if do in WRITES:
                if box.alarm is not None and not box.asleep.is_set():
                    box.asleep.set()
                    await box.alarm.wait()
                if box.cut is not None:
                    cut, box.cut = box.cut, None
                    if cut == "lost after":
                        await asyncio.to_thread(self._carry_out, do, request or {})
                        box.note()
                    self._closed = True
                    raise HelperFailed(f"the connection ended during {do}")
            if self.closed:
                self._closed = True
                raise HelperFailed(f"the connection ended during {do}")
            answer = await asyncio.to_thread(self._carry_out, do, request or {})
        box.note()
        if "ok" in answer:
            return answer["ok"]
        if answer["trouble"] == "changed":
            raise Changed(answer["detail"])
        raise trouble(answer["trouble"], answer["detail"])

    def _carry_out(self, do: str, request: Mapping[str, Any]) -> dict[str, Any]:
        # As JSON, because that is how it travels.
        asked = json.loads(json.dumps({"do": do, **request}))
        try:
            self._program, answer = helper_program.answer_to(self._program, asked)
        except helper_program.Trouble as refused:
            return {"trouble": refused.code, "detail": refused.detail}
        if self._program is not None:
            self._program.pages = cast(helper_program.StatusPages, self.box.daemon)
        return {"ok": json.loads(json.dumps(answer))}

    async def close(self) -> None:
        self._closed = True
