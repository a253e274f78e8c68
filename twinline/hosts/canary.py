"""Proves a host's reload from end to end, with a record that nobody can use: written, seen, taken away, seen gone.

It goes through the same writer as every order, with a fencing token of the ledger, so whatever holds for orders holds
for it: recovery, foreign bytes, the inode, who stays connected. A record that a killed proof has left is taken over.
On MultiCS it loads with an end in the past and a password that nobody knows, on OSCam it stays `disabled = 1`.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from twinline.hosts.daemon import CANARY
from twinline.hosts.errors import HostError
from twinline.hosts.factory import daemon_for, helper_for
from twinline.hosts.ports import Batch, Half, HostLedger, Named, Proven, Token, Wanted
from twinline.hosts.writer import HostWriter
from twinline.inventory import Host

LONG_AGO: Final = datetime(2001, 1, 1, tzinfo=UTC)
_PASSWORD_BYTES: Final = 12


@dataclass(frozen=True)
class ReloadProven:
    """How many seconds the writer needed until the record was seen, and until it was seen gone."""

    seen: float
    gone: float


class ReloadNotProven(Exception):
    """The proof failed for the reason that `cause` gives; `left` says that the record may still be there."""

    def __init__(self, cause: HostError, *, left: bool) -> None:
        super().__init__(cause.code)
        self.cause = cause
        self.left = left


async def prove_reload(host: Host, ledger: HostLedger) -> ReloadProven:
    """Write the record, see it loaded, take it away, see it gone; raises ReloadNotProven, and the ledger's errors."""
    wanted = _OneHalf(ledger)
    writer = HostWriter(
        host.name, daemon=daemon_for(host).canary(), ledger=wanted, start_helper=partial(helper_for, host)
    )
    try:
        try:
            seen = await _bring(writer, wanted.want(Wanted.PRESENT))
        finally:
            # Also when the first half failed, or somebody pressed Ctrl-C: nothing may stay behind that can go.
            gone = await _taken_away(writer, wanted)
    except HostError as error:
        raise ReloadNotProven(error, left=not wanted.absent) from None
    finally:
        await writer.close()
    if isinstance(gone, HostError):
        raise ReloadNotProven(gone, left=True)
    return ReloadProven(seen, gone)


async def _bring(writer: HostWriter, half: Half) -> float:
    started = time.monotonic()
    await writer.bring(half.line_id, half.revision)
    return time.monotonic() - started


async def _taken_away(writer: HostWriter, wanted: "_OneHalf") -> float | HostError:
    try:
        return await _bring(writer, wanted.want(Wanted.ABSENT))
    except HostError as error:
        return error


class _OneHalf:
    """A ledger for the writer that holds one half, never kept anywhere; only the fencing tokens are the real one's."""

    def __init__(self, ledger: HostLedger) -> None:
        self._ledger = ledger
        password = secrets.token_hex(_PASSWORD_BYTES)
        self._half = Half(CANARY, CANARY, password, Wanted.ABSENT, LONG_AGO, 0, "")
        self._proven = Proven(CANARY, 0, Wanted.ABSENT)

    def want(self, state: Wanted) -> Half:
        """Change what is wanted; no two proofs bear the same mark, so none is taken for another."""
        revision = self._half.revision + 1
        mark = f"{revision}-{secrets.token_hex(4)}"
        self._half = replace(self._half, wanted=state, revision=revision, mark=mark)
        return self._half

    @property
    def absent(self) -> bool:
        """Whether the record was seen gone."""
        return self._proven.wanted is Wanted.ABSENT and self._proven.revision == self._half.revision

    async def open_batch(self, host: str, limit: int, also: AbstractSet[str] = frozenset()) -> Batch:
        # The record is written by rules of its own, which real lines must not share a batch with.
        del also
        batch = await self._ledger.open_batch(host, 0)
        behind = limit > 0 and self._proven.revision < self._half.revision
        return Batch(batch.token, (self._half,) if behind else ())

    async def close_batch(self, host: str, token: Token, proven: Sequence[Proven]) -> None:
        del host, token
        for one in proven:
            self._proven = max(self._proven, one, key=lambda proven: proven.revision)

    async def report_failure(self, host: str, tried: Mapping[str, int], code: str) -> None:
        del host, tried, code

    async def ask_again(self, line_id: str, host: str, *, due_only: bool) -> bool:
        del line_id, host
        return not due_only

    async def fence(self, host: str) -> Token:
        return await self._ledger.fence(host)

    async def now(self) -> float:
        return await self._ledger.now()

    async def note_clock(self, host: str, *, right: bool) -> None:
        # What a check finds its findings tell.
        del host, right

    async def note_well(self, host: str) -> None:
        del host

    async def proven(self, host: str, line_ids: Sequence[str]) -> Mapping[str, Proven]:
        del host
        return {CANARY: self._proven} if CANARY in line_ids else {}

    async def lines_named(self, host: str, usernames: Sequence[str]) -> Mapping[str, Named]:
        return await self._ledger.lines_named(host, usernames)

    async def absent_usernames(self, host: str, usernames: Sequence[str]) -> set[str]:
        del host, usernames
        return set()
