"""Looks at a host over SSH without writing or reloading anything, and has `check` judge what it finds.

Of the host's state only `state_dir` is made if it is missing, and its lock is held while the file is read.
"""

import asyncio
import html
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from twinline.hosts import check
from twinline.hosts.check import About, Accounts, ClockFacts, Expected, FileFacts, Finding
from twinline.hosts.daemon import Daemon
from twinline.hosts.errors import FileTrouble, HostError, LockHeld, StatusTrouble
from twinline.hosts.factory import daemon_for, helper_for, setup_for
from twinline.hosts.ssh import Helper, decode
from twinline.inventory import Host

SHORTEST_PAUSE: Final = 0.5
"""Seconds before a second look at a daemon that does not hold the file: it may be reloading just now."""


async def inspect_host(host: Host, *, expected: Sequence[Expected] | None) -> list[Finding]:
    """Look at everything that a half needs there; `expected` is None when the ledger can't be asked."""
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
        look = _Look(host, about, helper, daemon_for(host))
        return [*findings, *await look.clock(), *await look.file(), *await look.daemon_and_accounts(expected)]
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

    async def clock(self) -> list[Finding]:
        """A second hello is the shortest question, so its answer tells the time best."""
        asked = time.time()
        hello = await self.helper.ask("hello", {"setup": setup_for(self.host).as_request()})
        facts = ClockFacts(asked=asked, theirs=float(hello["clock"]), answered=time.time())
        return [check.clock_finding(self.about, facts)]

    async def file(self) -> list[Finding]:
        try:
            answer = await self.helper.ask("inspect")
        except FileTrouble as error:
            return check.no_file(self.about, error)
        facts = FileFacts(
            user=int(answer["user"]),
            owner=int(answer["owner"]),
            mode=int(answer["mode"]),
            size=int(answer["size"]),
            writable=bool(answer["writable"]),
            free_bytes=int(answer["free_bytes"]),
        )
        return check.file_findings(self.about, facts, may_replace=self.daemon.may_replace)

    async def daemon_and_accounts(self, expected: Sequence[Expected] | None) -> list[Finding]:
        findings = await self._compare(expected)
        if not check.in_step(findings):
            await asyncio.sleep(max(self.daemon.deadline, self.host.quiet_seconds, SHORTEST_PAUSE))
            findings = await self._compare(expected)
        return findings

    async def _compare(self, expected: Sequence[Expected] | None) -> list[Finding]:
        status, loaded = await self._loaded()
        try:
            answer = await self.helper.ask("read")
        except FileTrouble:
            return [status]  # told by `file` already
        except LockHeld as error:
            return [status, self.about.fail("lock", str(error), hint=error.hint, retryable=True)]
        accounts = Accounts.read(self.daemon, zlib.decompress(decode(answer["body"])))
        return [
            status,
            *check.account_findings(
                self.about, accounts, protocol=self.host.protocol, loaded=loaded, expected=expected
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
