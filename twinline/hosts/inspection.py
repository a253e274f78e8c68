"""Looks at a host over SSH, and has `check`, `around` and `check_accounts` judge what it finds.

Nothing is written or reloaded, unless a proof of the reload is asked for. Of the host's state only `state_dir` is made
if it is missing, and its lock is held while the file is read.
"""

import asyncio
import html
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from twinline.errors import TwinlineError
from twinline.hosts import around, check, check_accounts
from twinline.hosts.around import Around
from twinline.hosts.canary import ReloadNotProven, prove_reload
from twinline.hosts.check import About, FileFacts, Finding
from twinline.hosts.check_accounts import Accounts, Ledgered
from twinline.hosts.clocks import ClockFacts
from twinline.hosts.daemon import Daemon
from twinline.hosts.errors import FileTrouble, HostError, LockHeld, StatusTrouble
from twinline.hosts.factory import daemon_for, doubts_about, helper_for
from twinline.hosts.oscam import READ_ONLY, READ_ONLY_PAGE
from twinline.hosts.ports import HostLedger
from twinline.hosts.ssh import Helper, decode
from twinline.inventory import Host, Reload

SHORTEST_PAUSE: Final = 0.5
"""Seconds before a second look at a daemon that does not hold the file: it may be reloading just now."""


async def inspect_host(
    host: Host, *, ledgered: Ledgered | None, capacity: int | None, prove_with: HostLedger | None = None
) -> list[Finding]:
    """Look at everything that a half needs there.

    `ledgered` is None when the ledger can't be asked, `capacity` that of the host's pair if it is in one. With
    `prove_with` the reload is proven from end to end, by a record that nobody can use.
    """
    about = About(host.name)
    try:
        helper = await helper_for(host)
    except HostError as error:
        return check.stopped(about, error)
    try:
        hello = helper.hello
        findings = check.arrived(
            about, python=str(hello["python"]), unfinished=bool(hello["pending"]), bound=bool(hello["bound"])
        )
        look = _Look(host, about, helper, daemon_for(host), ledgered, capacity, prove_with)
        return [*findings, *await look.clock(), *await look.file_and_around(), *await look.daemon_and_accounts()]
    except HostError as error:
        return check.stopped(about, error)
    finally:
        await helper.close()


@dataclass(frozen=True)
class _Look:
    host: Host
    about: About
    helper: Helper
    daemon: Daemon
    ledgered: Ledgered | None
    capacity: int | None
    prove_with: HostLedger | None

    async def clock(self) -> list[Finding]:
        """A second hello is the shortest question, so its answer tells the time best."""
        asked = time.time()
        facts = ClockFacts(asked=asked, theirs=await self.helper.clock(), answered=time.time())
        return [check.clock_finding(self.about, facts)]

    async def file_and_around(self) -> list[Finding]:
        now = datetime.now(UTC)
        asked = around.instants(self.host.timezone, now)
        reload = self.host.reload or Reload()
        try:
            answer = await self.helper.ask("inspect", {"around": self._around(asked)})
        except FileTrouble as error:
            return check.no_file(self.about, error)
        file = FileFacts(
            user=int(answer["user"]),
            owner=int(answer["owner"]),
            mode=int(answer["mode"]),
            size=int(answer["size"]),
            writable=bool(answer["writable"]),
            free_bytes=int(answer["free_bytes"]),
        )
        seen = Around.model_validate(answer)
        return [
            around.zone_finding(self.about, seen.zone, zone=self.host.timezone, asked=asked),
            *check.file_findings(self.about, file, may_replace=self.daemon.may_replace),
            *await self._settings(seen, reload),
            *around.writers_findings(self.about, seen, protocol=self.host.protocol),
            *around.beside_findings(self.about, seen.beside),
            *around.listeners_findings(self.about, seen.listeners),
            await self._reload(seen.reload, now=now),
        ]

    async def _reload(self, facts: around.Reload, *, now: datetime) -> Finding:
        if self.prove_with is None:
            last_proof = None if self.ledgered is None else self.ledgered.last_proof
            return around.reload_finding(self.about, facts, last_proof=last_proof, now=now)
        try:
            proof = await prove_reload(self.host, self.prove_with)
        except ReloadNotProven as error:
            return around.not_proven_finding(self.about, error.cause, left=error.left)
        except TwinlineError as error:
            return self.about.fail(around.RELOAD, error.message, hint=error.hint, retryable=error.retryable)
        answer = await self.helper.ask("inspect", {"around": self._around(())})
        visible = Around.model_validate(answer).reload.visible
        return around.proven_finding(self.about, seconds=proof.seen + proof.gone, visible=visible)

    def _around(self, instants: Sequence[float]) -> dict[str, Any]:
        """What the helper has to look around for."""
        return {
            "daemon": self.host.protocol,
            "ports": [urlsplit(self.host.status.url).port or 80, self.host.public.port],
            "instants": instants,
            "pid_file": None if self.host.reload is None else self.host.reload.pid_file,
        }

    async def _settings(self, seen: Around, reload: Reload) -> list[Finding]:
        if self.host.protocol == "multics":
            return [around.multics_finding(self.about, seen.config)]
        read_only = around.read_only(seen.config, said=await self._read_only())
        proven = seen.reload.proven is not None
        return [
            around.folder_finding(self.about, seen.folder, rewritten=not read_only),
            *around.oscam_findings(self.about, seen.config, method=reload.method, read_only=read_only, proven=proven),
            *([] if seen.pid_file is None else [around.pid_file_finding(self.about, seen.pid_file)]),
        ]

    async def _read_only(self) -> str | None:
        """What OSCam's own API says of `httpreadonly`; None if it does not answer, which is told elsewhere."""
        try:
            answer = await self.helper.ask("scan", {"path": READ_ONLY_PAGE, "pattern": READ_ONLY})
        except StatusTrouble:
            return None
        return next(iter(answer["found"]), None)

    async def daemon_and_accounts(self) -> list[Finding]:
        findings = await self._compare()
        if not check_accounts.in_step(findings):
            await asyncio.sleep(max(self.daemon.deadline, self.host.quiet_seconds, SHORTEST_PAUSE))
            findings = await self._compare()
        return findings

    async def _compare(self) -> list[Finding]:
        status, loaded = await self._loaded()
        try:
            answer = await self.helper.ask("read")
        except FileTrouble:
            return [status]  # told by `file_and_around` already
        except LockHeld as error:
            return [status, self.about.fail("lock", str(error), hint=error.hint, retryable=True)]
        data = zlib.decompress(decode(answer["body"]))
        accounts = Accounts.read(self.daemon, data, doubts=doubts_about(self.host.protocol, data))
        return [
            status,
            *check_accounts.account_findings(
                self.about,
                accounts,
                protocol=self.host.protocol,
                loaded=loaded,
                expected=None if self.ledgered is None else self.ledgered.lines,
                capacity=self.capacity,
            ),
        ]

    async def _loaded(self) -> tuple[Finding, frozenset[str] | None]:
        listing = self.daemon.listing()
        url = self.host.status.url
        try:
            answer = await self.helper.ask("scan", {"path": listing.path, "pattern": listing.pattern})
        except StatusTrouble as error:
            return check.no_status(self.about, error, url=url), None
        finding = check.status_finding(self.about, code=int(answer["code"]), url=url)
        # OSCam's pages are XML, which escapes names; no name that MultiCS can load looks like an entity.
        loaded = frozenset(html.unescape(name) for name, _ in answer["found"])
        return finding, loaded if finding.verdict is check.Verdict.OK else None
