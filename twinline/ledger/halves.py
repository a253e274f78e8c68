"""What hosts need: batches of the halves that are behind, and what came of them.

What a person has to look at is remembered where it is wrong. Trouble with one record stands at its half
(`Half.attention`): the half takes no part in batches, so that it costs others no reload, until somebody asks for
it, until it is due to be looked at, or until a newer revision makes it another matter; a proof ends it. Trouble
with the host itself stands at the host (`Host.attention`) and marks no half: the first batch that gets through
ends it, and takes along everything that is behind.
"""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import AwareDatetime, SecretStr
from sqlalchemy import Integer, bindparam, exists
from sqlmodel import and_, case, col, or_, select, true, update

from twinline.errors import UnknownLine
from twinline.ledger import guard, models
from twinline.ledger.fences import FenceToken, fence_row
from twinline.ledger.lines import held_by, line_by_id, mark_of, note, password_of
from twinline.ledger.rules import LineState
from twinline.ledger.tx import LOCKED, ReadTx, WriteTx
from twinline.ledger.types import chunks, error_code, utc
from twinline.messages import HalfProven, HalfReceipt, HalfState, Message, Protocol

# Made once, because making such a statement costs as much as carrying it out.
_OF_LINES: Final = select(models.Half).where(
    models.Half.host == bindparam("host"), col(models.Half.line_id).in_(bindparam("lines", expanding=True))
)
_OF_LINES_LOCKED: Final = _OF_LINES.order_by(models.Half.line_id).with_for_update(key_share=True)
_BEHIND: Final = (
    select(models.Line, models.Half)
    .join(models.Half)
    .where(models.Half.host == bindparam("host"), models.Half.wanted > models.Half.proven)
    .where(col(models.Half.attention).is_(None))
    .order_by(
        case((and_(models.Line.state == "present", col(models.Half.left_at).is_(None)), 1), else_=0),
        case((col(models.Half.next_attempt) > bindparam("now"), 1), else_=0),
        col(models.Half.behind_since),
        col(models.Half.line_id),
    )
    .limit(bindparam("limit", type_=Integer))
)
_THROUGH: Final = (
    update(models.Host)
    .where(col(models.Host.name) == bindparam("host"))
    .values(down_since=None, attention=None, down_code=None)
    # Whoever uses it has loaded no host.
    .execution_options(synchronize_session=False)
)


class StaleToken(Exception):
    """A later batch of this host was opened since; retrying cannot help, opening a new batch does."""


@dataclass(frozen=True, kw_only=True)
class BatchHalf:
    """One half that is behind, and what its host must hold."""

    line_id: str
    username: str
    password: SecretStr
    state: LineState
    ends_at: datetime | None
    revision: int
    mark: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one writer may now write to one host."""

    host: str
    token: FenceToken
    halves: tuple[BatchHalf, ...]
    withheld: Mapping[str, int]
    """Lines that the blast guard stops, because they would lose access and no event says why, with their revision."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the ledger wants of one line on one host; `behind` while its host is still to be seen to hold it."""

    half: BatchHalf
    behind: bool


@dataclass(frozen=True, kw_only=True)
class Named:
    """A line by its name: which one it is, and whether this host must hold it."""

    line_id: str
    state: LineState


@dataclass(frozen=True, kw_only=True)
class ProvenHalf:
    """The running daemon was seen to hold this revision: `applied` for a present line, else `removed`."""

    line_id: str
    revision: int
    state: HalfState

    def __post_init__(self) -> None:
        if self.state not in {HalfState.APPLIED, HalfState.REMOVED}:
            raise ValueError(f"no proof shows the state {self.state}")


class HalfProgress(Message):
    """How far one half is; `proven_state` is what its daemon was last seen to hold."""

    line_id: str
    host: str
    protocol: Protocol
    state: HalfState
    wanted: int
    proven: int
    proven_state: HalfState | None
    proven_at: AwareDatetime | None
    attempts: int
    last_error: str | None
    attention: str | None
    next_attempt: AwareDatetime | None
    behind_since: AwareDatetime | None
    leaving_order: str | None = None
    leaves_at: AwareDatetime | None = None
    left_at: AwareDatetime | None = None

    @property
    def done_with(self) -> bool:
        """Whether a move took the line off this host, as `twinline.ledger.lines.done_with` says."""
        return self.left_at is not None and (self.proven >= self.wanted or self.state is HalfState.ABANDONED)

    def receipt(self) -> HalfReceipt:
        """The half as a receipt shows it."""
        return HalfReceipt(
            host=self.host,
            protocol=self.protocol,
            state=self.state,
            revision=self.proven,
            attempts=self.attempts,
            last_error=self.last_error,
            next_attempt=self.next_attempt,
            leaving=self.leaving_order is not None,
        )

    def proof(self) -> HalfProven | None:
        """What was proven last; None when nothing was yet."""
        if self.proven_state is None or self.proven_at is None:
            return None
        return HalfProven(revision=self.proven, state=self.proven_state, proven_at=self.proven_at)


def progress_of(half: models.Half) -> HalfProgress:
    """The half's row as others may see it."""
    return HalfProgress.model_validate(half.model_dump(exclude={"owed"}))


async def host_progress(tx: ReadTx, host: str, line_ids: Sequence[str]) -> dict[str, HalfProgress]:
    """How far these lines' halves on this host are, by line id; a half that does not exist is left out."""
    found: dict[str, HalfProgress] = {}
    for ids in chunks(line_ids):
        asked = {"host": host, "lines": list(ids)}
        found.update((half.line_id, progress_of(half)) for half in await tx.session.exec(_OF_LINES, params=asked))
    return found


async def _half(tx: WriteTx, line_id: str, host: str, *, lock: bool = True) -> models.Half:
    half = await tx.session.get(models.Half, (line_id, host), with_for_update=LOCKED if lock else None)
    if half is None:
        raise _no_half(line_id, host)
    return half


def _no_half(line_id: str, host: str) -> UnknownLine:
    return UnknownLine(
        f'line {line_id} has no half on host "{host}"',
        hint="Was the ledger restored from an older backup? Repeat the order.",
    )


async def line_progress(tx: ReadTx, line_id: str) -> tuple[HalfProgress, ...]:
    """How far every half of a line is, MultiCS first."""
    query = select(models.Half).where(models.Half.line_id == line_id)
    halves = await tx.session.exec(query.order_by(col(models.Half.protocol), col(models.Half.host)))
    return tuple(progress_of(half) for half in halves)


async def managed_usernames(tx: ReadTx, host: str) -> frozenset[str]:
    """Every name that was ever ours on this host: what else stands there is foreign."""
    query = select(models.Line.username).join(models.Half).where(models.Half.host == host)
    return frozenset(await tx.session.exec(query))


async def lines_named(tx: ReadTx, host: str, usernames: Sequence[str]) -> dict[str, Named]:
    """Those of these names that are lines on this host."""
    found: dict[str, Named] = {}
    for names in chunks(usernames):
        query = select(models.Line, models.Half).join(models.Half)
        query = query.where(models.Half.host == host, col(models.Line.username).in_(names))
        for line, half in await tx.session.exec(query):
            found[line.username] = Named(line_id=line.id, state=held_by(line, half).state)
    return found


async def behind_on(tx: ReadTx, host: str) -> dict[str, int]:
    """Every half of this host that is behind, abandoned ones too: the revision that is wanted, by line id."""
    query = select(models.Half.line_id, models.Half.wanted)
    query = query.where(models.Half.host == host, models.Half.wanted > models.Half.proven)
    return dict((await tx.session.exec(query)).all())


async def settled_on(tx: ReadTx, host: str) -> dict[str, int]:
    """Every half of this host that is in step: the revision that is proven, by line id."""
    query = select(models.Half.line_id, models.Half.proven)
    query = query.where(models.Half.host == host, models.Half.wanted <= models.Half.proven)
    return dict((await tx.session.exec(query)).all())


async def held_on(tx: ReadTx, host: str) -> tuple[Held, ...]:
    """What this host must hold of every line that was ever on it, by name; raises KeyRingError."""
    query = select(models.Line, models.Half).join(models.Half).where(models.Half.host == host)
    return tuple(
        Held(half=_batch_half(tx, line, half), behind=half.wanted > half.proven)
        for line, half in await tx.session.exec(query.order_by(models.Line.username))
    )


async def held_half(tx: ReadTx, line_id: str, host: str) -> BatchHalf:
    """What this host must hold of one line; raises UnknownLine, KeyRingError."""
    found = await _lines_on(tx, host, [line_id])
    if not found:
        raise _no_half(line_id, host)
    return _batch_half(tx, *found[0])


async def absent_usernames(tx: ReadTx, host: str, usernames: Sequence[str]) -> frozenset[str]:
    """Which of these names belong to lines that this host must not hold and was seen not to hold."""
    found: set[str] = set()
    for names in chunks(usernames):
        query = (
            select(models.Line.username)
            .join(models.Half)
            .where(col(models.Line.username).in_(names))
            .where(or_(models.Line.state == "absent", col(models.Half.left_at).is_not(None)))
            .where(models.Half.host == host, models.Half.proven == models.Half.wanted)
        )
        found.update(await tx.session.exec(query))
    return frozenset(found)


async def open_batch(
    tx: WriteTx, host: str, *, limit: int, now: datetime, also: AbstractSet[str] = frozenset()
) -> Batch:
    """Give out a new fencing token and the halves of this host that are behind; raises Misconfigured.

    First those that must lose access, then those whose next attempt is due, then the oldest: what keeps
    failing waits behind, but only what waits for a person is left out while there is room. `also` names lines to
    hand out although they are proven, because their host was seen to have lost them.
    """
    fence = await fence_row(tx, host)
    fence.n += 1
    unexplained = await guard.unexplained(tx, await guard.pending_removals(tx, host, also))
    stopped = await guard.stops(tx, host, unexplained, now=now)
    withheld = {removal.line_id: removal.revision for removal in unexplained} if stopped else dict[str, int]()
    found = await _behind(tx, host, limit=limit + len(withheld), now=now)
    found += await _lines_on(tx, host, sorted(also - {line.id for line, _ in found}))
    found = [(line, half) for line, half in found if line.id not in withheld][:limit]
    taken = {line.id for line, _ in found}
    await guard.let_through(tx, host, [removal for removal in unexplained if removal.line_id in taken], now=now)
    return Batch(
        host=host,
        token=FenceToken(epoch=fence.epoch, n=fence.n),
        halves=tuple(_batch_half(tx, line, half) for line, half in found),
        withheld=withheld,
    )


async def _behind(tx: ReadTx, host: str, *, limit: int, now: datetime) -> list[tuple[models.Line, models.Half]]:
    asked = {"host": host, "now": utc(now), "limit": limit}
    return list(await tx.session.exec(_BEHIND, params=asked))


async def _lines_on(tx: ReadTx, host: str, line_ids: Sequence[str]) -> list[tuple[models.Line, models.Half]]:
    found: list[tuple[models.Line, models.Half]] = []
    for ids in chunks(line_ids):
        query = select(models.Line, models.Half).join(models.Half)
        found += await tx.session.exec(query.where(models.Half.host == host, col(models.Line.id).in_(ids)))
    return found


def _batch_half(tx: ReadTx, line: models.Line, half: models.Half) -> BatchHalf:
    password = password_of(tx.keys, line)
    held = held_by(line, half)
    return BatchHalf(
        line_id=line.id,
        username=line.username,
        password=password,
        state=held.state,
        ends_at=held.ends_at,
        revision=line.revision,
        mark=mark_of(tx.keys, line, half, password),
    )


async def close_batch(
    tx: WriteTx, host: str, token: FenceToken, results: Sequence[ProvenHalf], *, now: datetime
) -> tuple[timedelta, ...]:
    """Record what was proven, where it is higher than before; the host counts as up again.

    Gives how long each half had waited that is in step now.

    Raises StaleToken (nothing is recorded: the later batch holds the same halves), Misconfigured, ValueError
    (a proof of a revision that no line ever had).
    """
    fence = await fence_row(tx, host)
    if token != FenceToken(epoch=fence.epoch, n=fence.n):
        raise StaleToken(f'host "{host}" has a batch later than {token.epoch}/{token.n}')
    proofs = {proof.line_id: proof for proof in results}
    waits: list[timedelta] = []
    for line_ids in chunks(sorted(proofs)):
        asked = {"host": host, "lines": list(line_ids)}
        for half in await tx.session.exec(_OF_LINES_LOCKED, params=asked):
            behind_since = half.behind_since
            _prove(half, proofs[half.line_id], now=utc(now))
            if behind_since is not None and half.behind_since is None:
                waits.append(utc(now) - behind_since)
    await tx.session.exec(_THROUGH, params={"host": host})
    return tuple(waits)


def _prove(half: models.Half, proof: ProvenHalf, *, now: datetime) -> None:
    if proof.revision > half.wanted:
        raise ValueError(f"revision {proof.revision} proven on {half.host}, but only {half.wanted} was ever wanted")
    if proof.revision <= half.proven:
        return
    half.proven, half.proven_state, half.proven_at = proof.revision, proof.state, now
    half.last_error = half.next_attempt = half.attention = None
    if proof.revision < half.wanted:
        half.state = HalfState.PENDING
        return
    half.state, half.behind_since = proof.state, None
    half.attempts += 1


async def report_failure(
    tx: WriteTx,
    host: str,
    line_ids: Sequence[str],
    *,
    code: str,
    now: datetime,
    next_attempt: datetime | None,
    host_down: bool,
    host_asks: bool = False,
) -> None:
    """Record a try that proved nothing for these lines' halves, as far as they are still behind.

    `host_down` says that the host itself did not take the batch, so that new lines go elsewhere until one
    gets through; `host_asks` that a person has to look at it. Raises ValueError when `code` is more than a code.
    """
    code = error_code(code)
    await fence_row(tx, host)
    half = models.Half
    for ids in chunks(line_ids):
        await tx.session.exec(
            update(half)
            .where(col(half.host) == host, col(half.line_id).in_(ids), col(half.wanted) > col(half.proven))
            .values(
                attempts=col(half.attempts) + 1,
                last_error=code,
                next_attempt=next_attempt,
                # An operator's decision to give a half up outlives further failures.
                state=case(
                    (col(half.state) == HalfState.ABANDONED, HalfState.ABANDONED.value), else_=HalfState.FAILING.value
                ),
            )
        )
    if host_down:
        row = await tx.session.get_one(models.Host, host, with_for_update=LOCKED)
        row.down_since = row.down_since or utc(now)
        row.attention, row.down_code = code if host_asks else None, code


async def attention_of(tx: ReadTx, host: str) -> str | None:
    """Why a person has to look at this host itself."""
    return (await tx.session.exec(select(models.Host.attention).where(models.Host.name == host))).one()


async def note_host(tx: WriteTx, host: str, *, code: str, wrong: bool, now: datetime) -> None:
    """Remember that a person has to look at this host because of that, or that this is over; nothing else about it.

    Until then new lines go elsewhere. Raises ValueError when `code` is more than a code.
    """
    row = await tx.session.get_one(models.Host, host, with_for_update=LOCKED)
    if wrong:
        row.down_since = row.down_since or utc(now)
        row.attention = row.down_code = error_code(code)
    elif row.attention == code:
        row.down_since = row.attention = row.down_code = None


async def is_down(tx: ReadTx, host: str) -> bool:
    """Whether this host counts as one that can't be brought up to date, be it that a person has to look at it."""
    return (await tx.session.exec(select(models.Host.down_since).where(models.Host.name == host))).one() is not None


async def note_well(tx: WriteTx, host: str, *, of: Collection[str] | None = None) -> None:
    """Note that the host answers, unless a half that could be tried is behind there: then only a batch can tell.

    With `of` only if it is down for one of these errors: who saw nothing else can't tell that anything else is over.
    """
    half, row = models.Half, models.Host
    behind = exists().where(col(half.host) == host, col(half.wanted) > col(half.proven), col(half.attention).is_(None))
    through = _THROUGH.where(~behind)
    if of is not None:
        # Nearly always it is up, and no row is written.
        through = through.where(col(row.down_since).is_not(None))
        through = through.where(or_(col(row.down_code).is_(None), col(row.down_code).in_(of)))
    await tx.session.exec(through, params={"host": host})


async def note_away(
    tx: WriteTx, host: str, *, code: str, since: datetime, host_asks: bool, of: Collection[str]
) -> None:
    """Note since when the host does not answer, unless it is down for an error that is none of `of`: that stays true.

    Raises ValueError when `code` is more than a code.
    """
    row = await tx.session.get_one(models.Host, host, with_for_update=LOCKED)
    if row.down_since is not None and row.down_code is not None and row.down_code not in of:
        return
    row.down_since = row.down_since or utc(since)
    row.down_code = error_code(code)
    row.attention = row.down_code if host_asks else None


async def stop_half(
    tx: WriteTx, host: str, line_id: str, *, revision: int, code: str, next_look: datetime | None = None
) -> None:
    """Let a half wait for a person, unless a newer revision than the one that was tried is wanted by now.

    `next_look` is when it may be tried again without being asked for. Raises ValueError when `code` is more than
    a code.
    """
    await fence_row(tx, host)
    half = models.Half
    await tx.session.exec(
        update(half)
        .where(col(half.host) == host, col(half.line_id) == line_id)
        .where(col(half.wanted) == revision, col(half.wanted) > col(half.proven))
        .values(attention=error_code(code), next_attempt=next_look)
    )


async def ask_again(tx: WriteTx, line_id: str, host: str, *, now: datetime, due_only: bool) -> bool:
    """Let a half into batches again; False when `due_only`, and it is not due to be looked at yet.

    With one that is due all that wait on this host go along: one reload serves them all, and a host gets no more of
    them for many lines than for one. Raises UnknownLine.
    """
    await _half(tx, line_id, host, lock=False)
    await fence_row(tx, host)
    half = await _half(tx, line_id, host)
    due = half.next_attempt is not None and half.next_attempt <= utc(now)
    if half.attention is not None and due_only and not due:
        return False
    row = models.Half
    await tx.session.exec(
        update(row)
        .where(col(row.host) == host, col(row.attention).is_not(None))
        .where(true() if due_only else col(row.line_id) == line_id)
        .values(attention=None, next_attempt=None)
    )
    return True


async def retry_halves(tx: WriteTx, line_id: str, *, actor: str, now: datetime) -> None:
    """Note that a person wants this line's halves looked at now, whatever stopped them. Raises UnknownLine."""
    rows = await line_by_id(tx, line_id)
    for half in rows.halves:
        if half.attention is not None:
            half.next_attempt = utc(now)
    note(tx, at=utc(now), who=actor, what="half.retried", why=rows.line.id, line_id=line_id)


async def abandon_half(tx: WriteTx, line_id: str, host: str, *, actor: str, reason: str, now: datetime) -> None:
    """Give a half up until a newer revision or a proof; the event keeps who and why. Raises UnknownLine.

    Does nothing to a half that is in step, or given up already.
    """
    half = await _half(tx, line_id, host)
    if half.proven >= half.wanted or half.state is HalfState.ABANDONED:
        return
    before = _snapshot(half)
    half.state = HalfState.ABANDONED
    note(
        tx,
        at=utc(now),
        who=actor,
        what="half.abandoned",
        why=reason,
        line_id=line_id,
        before=before,
        after=_snapshot(half),
    )


class HalfSnapshot(Message):
    """What an event shows of a half."""

    host: str
    state: HalfState
    wanted: int
    proven: int
    last_error: str | None


def _snapshot(half: models.Half) -> HalfSnapshot:
    return HalfSnapshot(
        host=half.host, state=half.state, wanted=half.wanted, proven=half.proven, last_error=half.last_error
    )
