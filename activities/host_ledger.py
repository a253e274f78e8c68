"""The ledger as the writers of hosts see it."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from twinline import metrics
from twinline.hosts.drift import Expected
from twinline.hosts.errors import ClocksApart, Fenced, HostError, named
from twinline.hosts.ports import Batch, Half, Named, Proven, Token, Wanted
from twinline.ledger import Ledger, erasure, fences, halves
from twinline.messages import HalfState

NEXT_LOOK = timedelta(minutes=10)
"""When a half that waits for a person is looked at again, so that a repair is noticed even if nobody says so."""


def _now() -> datetime:
    return datetime.now(UTC)


class LedgerOfHosts:
    """Implements `twinline.hosts.ports.HostLedger` with one short transaction per call."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime] = _now) -> None:
        self._ledger = ledger
        self._clock = clock

    async def open_batch(self, host: str, limit: int, also: AbstractSet[str] = frozenset()) -> Batch:
        """Raise the host's fencing token and take what is behind there, and the lines of `also`."""
        async with self._ledger.write() as tx:
            batch = await halves.open_batch(tx, host, limit=limit, now=self._clock(), also=also)
        return Batch(
            Token(batch.token.epoch, batch.token.n),
            tuple(as_half(half) for half in batch.halves),
            batch.withheld,
        )

    async def close_batch(self, host: str, token: Token, proven: Sequence[Proven]) -> None:
        """Record what was proven; raises Fenced when a later batch of this host was opened since."""
        results = [
            halves.ProvenHalf(line_id=one.line_id, revision=one.revision, state=_state(one.wanted)) for one in proven
        ]
        try:
            async with self._ledger.write() as tx:
                fence = fences.FenceToken(epoch=token.epoch, n=token.number)
                waits = await halves.close_batch(tx, host, fence, results, now=self._clock())
        except halves.StaleToken:
            raise Fenced("another writer opened a later batch of this host") from None
        for wait in waits:
            metrics.HALF_SECONDS.labels(host).observe(wait.total_seconds())

    async def report_failure(self, host: str, tried: Mapping[str, int], code: str) -> None:
        """Record why these halves could not be brought up to date this time, and who has to wait for a person."""
        kind = named(code) or HostError
        now = self._clock()
        async with self._ledger.write() as tx:
            await halves.report_failure(
                tx,
                host,
                list(tried),
                code=code,
                now=now,
                next_attempt=None,
                host_down=not kind.of_one_line and kind is not Fenced,
                host_asks=kind.attention,
            )
            if kind.attention and kind.of_one_line:
                next_look = now + NEXT_LOOK
                for line_id, revision in tried.items():
                    await halves.stop_half(tx, host, line_id, revision=revision, code=code, next_look=next_look)

    async def ask_again(self, line_id: str, host: str, *, due_only: bool) -> bool:
        """Let a half that waits for a person into batches again; False if `due_only` and it is not due yet."""
        async with self._ledger.write() as tx:
            return await halves.ask_again(tx, line_id, host, now=self._clock(), due_only=due_only)

    async def fence(self, host: str) -> Token:
        """The last fencing token that was given out for the host; raises Misconfigured."""
        async with self._ledger.read() as tx:
            token = await fences.fence_token(tx, host)
        return Token(token.epoch, token.n)

    async def now(self) -> float:
        """What the ledger's clock shows, in POSIX seconds."""
        return (await self._ledger.now()).timestamp()

    async def note_clock(self, host: str, *, right: bool) -> None:
        """Remember that the host's clock is too far from the ledger's, or that it is right again."""
        code = ClocksApart.__name__
        if right:
            # Nearly always, and then there is nothing to write.
            async with self._ledger.read() as tx:
                if await halves.attention_of(tx, host) != code:
                    return
        async with self._ledger.write() as tx:
            await halves.note_host(tx, host, code=code, wrong=not right, now=self._clock())

    async def note_well(self, host: str) -> None:
        """Remember that host and daemon answer; a host for which halves wait is well when a batch gets through."""
        # Nearly always, and then there is nothing to write.
        async with self._ledger.read() as tx:
            if not await halves.is_down(tx, host):
                return
        async with self._ledger.write() as tx:
            await halves.note_well(tx, host)

    async def proven(self, host: str, line_ids: Sequence[str]) -> dict[str, Proven]:
        """What is proven by now of these lines' halves, by line id; a half that does not exist is left out."""
        async with self._ledger.read() as tx:
            known = await halves.host_progress(tx, host, line_ids)
        return {
            line_id: Proven(line_id, one.proven, _wanted(one.proven_state), one.attention)
            for line_id, one in known.items()
        }

    async def behind(self, host: str) -> dict[str, int]:
        """Every half that is behind, abandoned ones too: the revision that is wanted, by line id."""
        async with self._ledger.read() as tx:
            return await halves.behind_on(tx, host)

    async def expected(self, host: str) -> list[Expected]:
        """What this host must hold of every line that was ever on it; raises KeyRingError."""
        async with self._ledger.read() as tx:
            return [Expected(as_half(held.half), behind=held.behind) for held in await halves.held_on(tx, host)]

    async def to_erase(self, host: str, line_id: str) -> Half:
        """A line that is to be forgotten, as this host must be seen to hold nothing of it; raises UnknownLine."""
        async with self._ledger.read() as tx:
            return as_half(await erasure.half_to_erase(tx, line_id, host))

    async def still(self, host: str, expected: Sequence[Expected]) -> list[Expected]:
        """The same, read again after a look at the host: what changed meanwhile is behind, and no drift."""
        async with self._ledger.read() as tx:
            settled = await halves.settled_on(tx, host)
        return [
            replace(each, behind=each.behind or settled.get(each.half.line_id) != each.half.revision)
            for each in expected
        ]

    async def lines_named(self, host: str, usernames: Sequence[str]) -> dict[str, Named]:
        """Those of these names that are lines on this host."""
        async with self._ledger.read() as tx:
            found = await halves.lines_named(tx, host, usernames)
        return {name: Named(line.line_id, Wanted(line.state)) for name, line in found.items()}

    async def absent_usernames(self, host: str, usernames: Sequence[str]) -> set[str]:
        """Which of these are lines of ours whose absence from the host is wanted and proven."""
        async with self._ledger.read() as tx:
            return set(await halves.absent_usernames(tx, host, usernames))


def as_half(half: halves.BatchHalf) -> Half:
    """What the ledger wants of a line, as the writer of its host knows it."""
    return Half(
        line_id=half.line_id,
        username=half.username,
        password=half.password.get_secret_value(),
        wanted=Wanted(half.state),
        ends_at=half.ends_at,
        revision=half.revision,
        mark=half.mark,
    )


def _wanted(state: HalfState | None) -> Wanted:
    return Wanted.PRESENT if state is HalfState.APPLIED else Wanted.ABSENT


def _state(wanted: Wanted) -> HalfState:
    return HalfState.APPLIED if wanted is Wanted.PRESENT else HalfState.REMOVED
