"""A host that holds many records of ours: real sshd, stand-in daemon or none, and a ledger kept in memory."""

import random
import string
import sys
import time
import zlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from tests.support.sshd import Sshd
from twinline.hosts.factory import daemon_for
from twinline.hosts.image import Image
from twinline.hosts.ports import Batch, Half, Named, Proven, Token, Wanted
from twinline.inventory import Host
from twinline.messages import Protocol
from twinline.sandbox.processes import Program, free_port, inherited_environment
from twinline.sandbox.sites import ADDRESS, ZONE, ZONE_RULE, Login, Site

FOREIGN: Final = (Login("anna", "sunflower7"), Login("bob", "waterwheel3"))
QUIET_SECONDS: Final = 3.0
FIRST_END: Final = datetime(2031, 5, 6, 13, 30, tzinfo=UTC)

ReloadCost = Literal["none", "measured"]
"""Whether a stand-in's reload takes no time of its own, or what the real daemon's was measured to take."""


class Lines:
    """The lines of one host and what is proven of them; a ledger without a database."""

    def __init__(self, count: int, rng: random.Random) -> None:
        self._halves = [_half(f"line{number:06d}", _password(rng), FIRST_END, revision=1) for number in range(count)]
        self._places = {half.line_id: place for place, half in enumerate(self._halves)}
        self._proven = {half.line_id: Proven(half.line_id, 1, half.wanted) for half in self._halves}
        self._behind: dict[str, Half] = {}
        self._rng = rng
        self._number = 0

    @property
    def all(self) -> Sequence[Half]:
        """Every half as it is wanted now."""
        return self._halves

    def renew(self, count: int) -> list[Half]:
        """Move the end of some lines, picked at random, by 30 days."""
        renewed: list[Half] = []
        for place in self._rng.sample(range(len(self._halves)), count):
            old = self._halves[place]
            end = (old.ends_at or FIRST_END) + timedelta(days=30)
            half = _half(old.username, old.password, end, revision=old.revision + 1)
            self._halves[place] = self._behind[half.line_id] = half
            renewed.append(half)
        return renewed

    def add(self, count: int) -> list[Half]:
        """Lines that were not there before."""
        added: list[Half] = []
        for place in range(len(self._halves), len(self._halves) + count):
            half = _half(f"line{place:06d}", _password(self._rng), FIRST_END, revision=1)
            self._halves.append(half)
            self._places[half.line_id] = place
            self._proven[half.line_id] = Proven(half.line_id, 0, half.wanted)
            self._behind[half.line_id] = half
            added.append(half)
        return added

    async def open_batch(self, host: str, limit: int, also: AbstractSet[str] = frozenset()) -> Batch:
        """Everything that is behind; nothing is ever lost here."""
        del host, also
        return Batch(self.next_token(), tuple(self._behind.values())[:limit])

    def next_token(self) -> Token:
        """A higher token than any before."""
        self._number += 1
        return Token(1, self._number)

    async def close_batch(self, host: str, token: Token, proven: Sequence[Proven]) -> None:
        """Note what was proven."""
        del host, token
        for one in proven:
            self._proven[one.line_id] = one
            if self._halves[self._places[one.line_id]].revision <= one.revision:
                self._behind.pop(one.line_id, None)

    async def report_failure(self, host: str, tried: Mapping[str, int], code: str) -> None:
        """Nothing: `bring` raises the failure as well, and that ends the measurement."""
        del host, tried, code

    async def ask_again(self, line_id: str, host: str, *, due_only: bool) -> bool:
        """Yes: nothing waits for a person here."""
        del line_id, host, due_only
        return True

    async def fence(self, host: str) -> Token:
        """The last token."""
        del host
        return Token(1, self._number)

    async def now(self) -> float:
        """This machine's clock."""
        return time.time()

    async def note_clock(self, host: str, *, right: bool) -> None:
        """Everything here goes by one clock."""
        del host, right

    async def note_well(self, host: str) -> None:
        """It was never anything else."""
        del host

    async def proven(self, host: str, line_ids: Sequence[str]) -> Mapping[str, Proven]:
        """What is proven of these lines."""
        del host
        return {line_id: self._proven[line_id] for line_id in line_ids if line_id in self._proven}

    async def lines_named(self, host: str, usernames: Sequence[str]) -> dict[str, Named]:
        """Those of these names that are lines."""
        del host
        lines = {half.username: Named(half.line_id, half.wanted) for half in self._halves}
        return {name: lines[name] for name in usernames if name in lines}

    async def absent_usernames(self, host: str, usernames: Sequence[str]) -> set[str]:
        """None: no line ends here."""
        del host, usernames
        return set()


def _password(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_letters + string.digits, k=16))


def _half(username: str, password: str, ends_at: datetime, *, revision: int) -> Half:
    mark = f"{revision}-{zlib.crc32(f'{username}{revision}'.encode()):08x}"
    return Half(username, username, password, Wanted.PRESENT, ends_at, revision, mark)


@dataclass(frozen=True)
class BigHost:
    """One prepared host."""

    host: Host
    lines: Lines


def prepare(
    protocol: Protocol, folder: Path, sshd: Sshd, *, records: int, timescale: float, seed: int
) -> tuple[BigHost, Site]:
    """Write the accounts file, as the engine would have, below two records that are not ours.

    A `timescale` of 0 is that of a host without a daemon: nobody there is deaf after an edit.
    """
    site = Site(
        name="mc-big" if protocol == "multics" else "os-big",
        protocol=protocol,
        folder=folder,
        client_port=free_port(),
        status_port=free_port(),
        status_password="statuspass",
        foreign=FOREIGN,
    )
    for part in (site.daemon_folder, site.state_dir):
        part.mkdir(parents=True)
    host = _host(site, sshd, timescale)
    lines = Lines(records, random.Random(seed))
    image = Image(daemon_for(host), site.accounts_text().encode(), [], recover=False)
    image.plan(lines.all, ())
    site.main_file.write_text(site.main_text())
    site.accounts_file.write_bytes(image.data)
    return BigHost(host, lines), site


@asynccontextmanager
async def serving(site: Site, cost: ReloadCost, *, timescale: float) -> AsyncGenerator[None]:
    """Run the host's stand-in daemon; a `timescale` of 1 is true time."""
    options = {"multics": ("--parse-cost",), "oscam": ("--parse-cost", "--merge-cost")}[site.protocol]
    costs = [word for option in options for word in (option, "0")] if cost == "none" else []
    daemon = Program(
        f"the {site.protocol} stand-in",
        (
            *(sys.executable, "-P", "-m", f"twinline.sandbox.{site.protocol}", *site.arguments),
            *("--timescale", str(timescale), *costs),
        ),
        environment=inherited_environment() | {"TZ": ZONE_RULE},
        folder=site.daemon_folder,
    )
    await daemon.start()
    try:
        yield
    finally:
        await daemon.stop()


def _host(site: Site, sshd: Sshd, timescale: float) -> Host:
    multics = site.protocol == "multics"
    return Host.model_validate(
        {
            "name": site.name,
            "protocol": site.protocol,
            "ssh": {
                "address": ADDRESS,
                "port": sshd.port,
                "user": sshd.user,
                "key": sshd.key,
                "known_hosts": sshd.known_hosts,
            },
            "accounts_file": str(site.accounts_file),
            "state_dir": str(site.state_dir),
            "timezone": ZONE,
            "public": {"address": ADDRESS, "port": site.client_port},
            "status": {
                "url": f"http://{ADDRESS}:{site.status_port}",
                "user": "admin",
                "password": site.status_password,
            },
            "quiet_seconds": QUIET_SECONDS * timescale if multics else 0.0,
            **({} if multics else {"groups": (1,)}),
        }
    )
