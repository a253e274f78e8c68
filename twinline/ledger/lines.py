"""One line with all its rows: loading it, telling what its hosts must hold, and raising its revision."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import AwareDatetime, SecretStr
from sqlalchemy import BindParameter, ColumnElement, bindparam
from sqlmodel import col, select

from twinline.errors import LineErased, UnknownLine
from twinline.keys import KeyRing
from twinline.ledger import models, rules
from twinline.ledger.rules import Desired, LineState
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.messages import BlockInfo, HalfRef, HalfState, Message, Plan
from twinline.problems import bounded

# Made once, because making such a statement costs as much as carrying it out.
_LINES: Final[BindParameter[Any]] = bindparam("lines", expanding=True)
_GRANTS: Final = select(models.Grant).where(col(models.Grant.line_id).in_(_LINES)).order_by(col(models.Grant.ends_at))
_BLOCKS: Final = (
    select(models.Block)
    .where(col(models.Block.line_id).in_(_LINES))
    .order_by(col(models.Block.set_at), col(models.Block.id))
)
_HALVES: Final = (
    select(models.Half)
    .where(col(models.Half.line_id).in_(_LINES))
    .order_by(col(models.Half.protocol), col(models.Half.host))
)
_ID_BY_NAME: Final = select(models.Line.id).where(models.Line.username_casefold == bindparam("casefold"))
_HALVES_LOCKED: Final = _HALVES.with_for_update(key_share=True)


class Snapshot(Message):
    """What an event shows of a line before and after: no name, no address, no password, no free text."""

    revision: int
    pair: str
    state: LineState
    ends_at: AwareDatetime | None
    plan: Plan | None
    blocks: tuple[str, ...]
    left: tuple[str, ...] = ()
    """The hosts that it was moved away from: they must not hold it, whatever its state."""


@dataclass(frozen=True, kw_only=True)
class LineRows:
    """A line, its grants by end, its blocks (lifted ones too) by age, its halves with MultiCS first."""

    line: models.Line
    grants: list[models.Grant]
    blocks: list[models.Block]
    halves: list[models.Half]

    @property
    def open_grants(self) -> list[models.Grant]:
        """Grants that are not ended."""
        return [grant for grant in self.grants if grant.ended_at is None]

    @property
    def active_blocks(self) -> list[models.Block]:
        """Blocks that are not lifted."""
        return [block for block in self.blocks if block.lifted_at is None]

    @property
    def last_grant(self) -> models.Grant:
        """The grant that tells plan and end: the last one still open, or else the last there was."""
        return max(self.open_grants or self.grants, key=lambda grant: grant.ends_at)

    @property
    def runs_until(self) -> datetime | None:
        """The last end that is to come or was reached: an order that was placed before it loses nothing of it."""
        counted = [grant for grant in self.grants if grant.ended_at is None or grant.ended_at >= grant.ends_at]
        return max((grant.ends_at for grant in counted), default=None)

    def grant(self, grant_id: str) -> models.Grant:
        """Find a grant of this line; raises UnknownLine."""
        for grant in self.grants:
            if grant.id == grant_id:
                return grant
        raise UnknownLine(
            f"line {self.line.id} has no grant {grant_id}",
            hint="Was the ledger restored from an older backup? Repeat the order.",
        )

    def desired(self) -> Desired:
        """What hosts must hold, computed from the rows."""
        return rules.desired_state(
            closed=self.line.closed_at is not None,
            blocked=bool(self.active_blocks),
            open_ends=[grant.ends_at for grant in self.open_grants],
        )

    @property
    def standing_halves(self) -> list[models.Half]:
        """The halves that orders are about: all but those that a move has done with."""
        return [half for half in self.halves if not done_with(half)]

    @property
    def leaving_halves(self) -> list[models.Half]:
        """The halves on the old pair while a move runs: they hold the line until it breaks them."""
        return [half for half in self.halves if half.leaving_order is not None and half.left_at is None]

    @property
    def staying_halves(self) -> list[models.Half]:
        """The halves on the line's own pair, which is the new one as soon as a move was ordered."""
        return [half for half in self.halves if half.leaving_order is None]

    @property
    def told_halves(self) -> list[models.Half]:
        """The halves that the customer is told of: a move's new ones once the old ones' last moment is set."""
        leaving = self.leaving_halves
        return leaving if leaving and leaving[0].leaves_at is None else self.staying_halves

    @property
    def untold(self) -> bool:
        """Whether the customer was never given the credentials."""
        halves = self.told_halves
        return bool(halves) and all(half.owed is not None for half in halves)

    @property
    def unserved(self) -> bool:
        """Whether the line has ended before its customer was given the credentials."""
        # A ledger that has lost rows may know of no grant.
        return bool(self.grants) and self.line.state == "absent" and self.last_grant.ending == "unserved"

    def half_refs(self) -> tuple[HalfRef, ...]:
        """The standing halves as workflows know them."""
        return tuple(
            HalfRef(host=half.host, protocol=half.protocol, leaving=half.leaving_order is not None)
            for half in self.standing_halves
        )

    def block_infos(self) -> tuple[BlockInfo, ...]:
        """The active blocks as receipts show them."""
        return tuple(block_info(block) for block in self.active_blocks)

    def snapshot(self) -> Snapshot:
        """The line as an event shows it."""
        return Snapshot(
            revision=self.line.revision,
            pair=self.line.pair,
            state=self.line.state,
            ends_at=self.line.ends_at,
            plan=self.last_grant.plan if self.grants else None,
            blocks=tuple(f"{block.owner}/{block.case}" for block in self.active_blocks),
            left=tuple(half.host for half in self.halves if half.left_at is not None),
        )


def block_info(block: models.Block) -> BlockInfo:
    """A block as a receipt shows it."""
    return BlockInfo(owner=block.owner, case=block.case, reason=block.reason, since=block.set_at, until=block.until)


async def line_by_username(tx: ReadTx, username: str) -> LineRows:
    """Load a line by its name, locked when `tx` writes; raises UnknownLine, LineErased."""
    query = select(models.Line).where(models.Line.username_casefold == username.casefold())
    locked = query.with_for_update(key_share=True) if isinstance(tx, WriteTx) else query
    line = (await tx.session.exec(locked)).one_or_none()
    if line is None and (erased := await erased_line(tx, username)) is not None:
        raise LineErased(line_id=erased)
    if line is None:
        raise unknown_line(username)
    return (await lines_with_rows(tx, [line]))[0]


def unknown_line(username: str) -> UnknownLine:
    """That no line has this name."""
    return UnknownLine(
        f"there is no line {bounded(username)}", hint="Check the spelling; `twinline line list` shows all lines."
    )


def opened_by(caller: str) -> ColumnElement[bool]:
    """Whether a line was opened by an order of this caller; that never changes, and holds when it was erased."""
    event = models.Event
    opening = select(event.what).where(event.what == "line.opened", event.who == caller)
    return opening.where(event.line_id == models.Line.id).exists()


def name_hash(keys: KeyRing, username: str) -> str:
    """What is kept of an erased line's name, so that no other line ever gets it; no name looks like it."""
    return f"~{keys.mac('username', username.casefold()).hex()[:19]}"


async def erased_line(tx: ReadTx, username: str) -> str | None:
    """The id of the line that had this name until it was erased."""
    asked = {"casefold": name_hash(tx.keys, username)}
    return (await tx.session.exec(_ID_BY_NAME, params=asked)).one_or_none()


async def line_by_id(tx: ReadTx, line_id: str) -> LineRows:
    """Load a line by its id, locked when `tx` writes; raises UnknownLine."""
    return (await lines_with_rows(tx, [await _line(tx, line_id)]))[0]


async def recipient_of(tx: ReadTx, line_id: str) -> SecretStr:
    """The address of a line's customer; raises UnknownLine, KeyRingError."""
    return email_of(tx.keys, await _line(tx, line_id))


async def _line(tx: ReadTx, line_id: str) -> models.Line:
    line = await tx.row(models.Line, line_id)
    if line is None:
        raise UnknownLine(
            f"there is no line with the id {line_id}",
            hint="Was the ledger restored from an older backup? Repeat the order.",
        )
    return line


async def lines_with_rows(tx: ReadTx, lines: Sequence[models.Line]) -> list[LineRows]:
    """Add their grants, blocks and halves to lines that were loaded together (a page of them, not all).

    What belongs to a line alone its lock protects; halves are locked too when `tx` writes, for writers of hosts
    change them without a look at the line.
    """
    ids = {"lines": [line.id for line in lines]}
    halves = _HALVES_LOCKED if isinstance(tx, WriteTx) else _HALVES
    loaded = {line.id: LineRows(line=line, grants=[], blocks=[], halves=[]) for line in lines}
    for grant in await tx.session.exec(_GRANTS, params=ids):
        loaded[grant.line_id].grants.append(grant)
    for block in await tx.session.exec(_BLOCKS, params=ids):
        loaded[block.line_id].blocks.append(block)
    for half in await tx.session.exec(halves, params=ids):
        loaded[half.line_id].halves.append(half)
    return list(loaded.values())


async def halves_to_change(tx: WriteTx, line_id: str) -> Sequence[models.Half]:
    """The halves of a line without the rest of it, locked."""
    return (await tx.session.exec(_HALVES_LOCKED, params={"lines": [line_id]})).all()


def done_with(half: models.Half) -> bool:
    """Whether a move took the line off this host: its absence was proven, or the half was given up."""
    return half.left_at is not None and (half.proven >= half.wanted or half.state is HalfState.ABANDONED)


def settle(rows: LineRows, *, now: datetime, anew: bool = False) -> bool:
    """Raise the revision when what hosts must hold has changed; the only place that does.

    `anew` says that it has although the line's state and end are the same: a new password, or another set of hosts.

    A half that falls behind is pending again, unless its host is failing: that stays true. It waits for no person
    any more: a block must not wait behind a renewal that is stuck.
    """
    line, desired = rows.line, rows.desired()
    if (line.state, line.ends_at) == (desired.state, desired.ends_at) and not anew:
        return False
    line.state, line.ends_at = desired.state, desired.ends_at
    line.revision += 1
    for half in rows.halves:
        if done_with(half):
            # It must hold nothing at every revision from now on, so what was proven of the last one goes for this.
            in_step = half.proven >= half.wanted
            half.wanted = line.revision
            half.proven = line.revision if in_step else half.proven
            continue
        half.behind_since = half.behind_since or now
        half.wanted = line.revision
        half.attempts = 0
        half.attention = half.next_attempt = None
        if half.state is not HalfState.FAILING:
            half.state = HalfState.PENDING
    return True


def note(
    tx: WriteTx,
    *,
    at: datetime,
    who: str,
    what: str,
    why: str,
    line_id: str | None = None,
    before: Message | None = None,
    after: Message | None = None,
) -> None:
    """Append an event; events can't be erased, so nothing in it may be secret or about a person."""
    tx.session.add(
        models.Event(
            at=at,
            who=who,
            what=what,
            why=why,
            line_id=line_id,
            before=None if before is None else before.model_dump_json(),
            after=None if after is None else after.model_dump_json(),
        )
    )


def seal(keys: KeyRing, table: str, row_id: str, column: str, plain: bytes) -> bytes:
    """Seal a value to its place: moved to another row or column it does not open."""
    return keys.seal(plain, aad=_place(table, row_id, column))


def unseal(keys: KeyRing, table: str, row_id: str, column: str, sealed: bytes) -> bytes:
    """Open what `seal` made for this place; raises KeyRingError."""
    return keys.open(sealed, aad=_place(table, row_id, column))


def _place(table: str, row_id: str, column: str) -> bytes:
    return f"{table}/{row_id}/{column}".encode()


def password_of(keys: KeyRing, line: models.Line) -> SecretStr:
    """The line's password; raises KeyRingError."""
    return SecretStr(unseal(keys, "line", line.id, "password", line.password_sealed).decode())


def email_of(keys: KeyRing, line: models.Line) -> SecretStr:
    """The customer's address; raises KeyRingError."""
    return SecretStr(unseal(keys, "line", line.id, "email", line.email_sealed).decode())


def held_by(line: models.Line, half: models.Half) -> Desired:
    """What this half's host must hold at the line's revision."""
    return rules.on_host(Desired(state=line.state, ends_at=line.ends_at), left=half.left_at is not None)


def mark_of(keys: KeyRing, line: models.Line, half: models.Half, password: SecretStr) -> str:
    """The mark of the line's revision on this half's host."""
    return rules.mark(
        keys,
        line_id=line.id,
        username=line.username,
        password=password.get_secret_value(),
        desired=held_by(line, half),
        revision=line.revision,
    )


def listed(names: Sequence[str]) -> str:
    """Names as a sentence shows them."""
    return ", ".join(sorted(names)) if names else "none"
