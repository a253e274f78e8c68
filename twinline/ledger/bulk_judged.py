"""What the rows of a bulk run would do, by the rules that their orders will be taken by; nothing is changed."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement
from sqlmodel import col, or_, select, true

from twinline.bulk import (
    BlockItem,
    BulkBlock,
    BulkChange,
    BulkExtend,
    ExtendItem,
    ImportItem,
    Item,
    LineGlimpse,
    NewBulk,
    RowProblem,
    case_of,
    item_order,
    name_of,
)
from twinline.errors import InvalidOrder, LineErased, TwinlineError
from twinline.ledger import models, rules
from twinline.ledger.filing import earlier_order, identity_of
from twinline.ledger.imports import refuse_over, username_taken
from twinline.ledger.lines import LineRows, lines_with_rows, name_hash, opened_by, unknown_line
from twinline.ledger.orders import active_block, refuse_closed, refuse_ended, refuse_lifted, refuse_past
from twinline.ledger.placement import unknown_pair, unknown_region
from twinline.ledger.tx import ReadTx
from twinline.ledger.types import chunks, utc
from twinline.messages import order_kind, order_ref

_SEVERAL: Final = 400
_AT_A_TIME: Final = 200


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A row as a caller gave it: an item, or why it is none."""

    row: int
    item: Item | None
    person: str | None = None
    """Whose address an import has, normalised."""
    problem: RowProblem | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """An item with what it would change, or why it can't be carried out."""

    number: int
    row: int
    item: Item | None
    person: str | None = None
    line_id: str | None = None
    identity: str | None = None
    change: BulkChange | None = None
    problem: RowProblem | None = None


async def running_lines(tx: ReadTx, job: BulkExtend, *, caller: str) -> tuple[Asked, ...]:
    """Every line that an extension of a region or pair is for, by name. Raises UnknownRegion, UnknownPair."""
    line, pair = models.Line, models.Pair
    pairs = dict((await tx.session.exec(select(pair.name, pair.region))).all())
    if job.region not in pairs.values():
        raise unknown_region(job.region, pairs.values())
    if job.pair is not None and pairs.get(job.pair) != job.region:
        raise unknown_pair(job.pair, [name for name, region in pairs.items() if region == job.region])
    wanted = [name for name, region in pairs.items() if region == job.region and job.pair in (None, name)]
    query = select(line.username).where(col(line.pair).in_(wanted), line.state != "absent").order_by(line.username)
    if job.own:
        query = query.where(opened_by(caller))
    found = (await tx.session.exec(query)).all()
    return tuple(Asked(row=row, item=ExtendItem(line=name)) for row, name in enumerate(found, start=1))


async def judge(tx: ReadTx, new: NewBulk, asked: Sequence[Asked], *, now: datetime) -> tuple[Judged, ...]:
    """Look at every row; raises InvalidOrder for what is wrong with the run as a whole."""
    if isinstance(new.job, BulkBlock):
        refuse_past(new.job.until, now=now)
    judge = await _Judge.prepare(tx, new, asked, now=utc(now))
    judged: list[Judged] = []
    for number, one in enumerate(asked, start=1):
        judged.append(await judge.look_at(number, one))
        if number % _AT_A_TIME == 0:
            # Thousands take seconds, and whoever else is served by this process must not wait for them.
            await asyncio.sleep(0)
    return tuple(judged)


class _Judge:
    def __init__(self, tx: ReadTx, new: NewBulk, now: datetime, known: "_Lines", places: Mapping[str, str]) -> None:
        self._tx = tx
        self._new = new
        self._now = now
        self._known = known
        self._pairs = places
        self._seen: dict[str, int] = {}
        self._earlier: Collection[str] = ()

    @classmethod
    async def prepare(cls, tx: ReadTx, new: NewBulk, asked: Sequence[Asked], *, now: datetime) -> "_Judge":
        """Load what is needed about all rows at once."""
        names = {name_of(one.item) for one in asked if one.item is not None}
        pairs = dict((await tx.session.exec(select(models.Pair.name, models.Pair.region))).all())
        judge = cls(tx, new, now, await _Lines.load(tx, names, _seen(new)), pairs)
        judge._earlier = await judge._taken_before(asked)
        return judge

    async def look_at(self, number: int, one: Asked) -> Judged:
        """What an item would change, or why it can't be carried out."""
        judged = Judged(number=number, row=one.row, item=one.item, person=one.person, problem=one.problem)
        if one.item is None:
            return judged
        try:
            return await self._judged(judged, one.item)
        except TwinlineError as error:
            problem = RowProblem(row=one.row, type=error.type, message=error.message, hint=error.hint)
            return Judged(number=number, row=one.row, item=one.item, person=one.person, problem=problem)

    async def _judged(self, judged: Judged, item: Item) -> Judged:
        if isinstance(item, ImportItem):
            self._once(item.username.casefold(), judged.row)
            change = self._import(judged.row, item)
            line_id = None
        else:
            rows = self._known.line(item.line)
            item = item.model_copy(update={"line": rows.line.username})
            line_id = rows.line.id
            refuse_closed(rows)
            if isinstance(item, BlockItem):
                change = self._block(judged.row, item, rows)
            else:
                change = self._extend(judged.row, rows)
        identity = _identity(self._new, judged.number, item)
        if not isinstance(item, ImportItem):
            self._once(identity, judged.row)
        if identity in self._earlier:
            await earlier_order(self._tx, item_order(self._new, judged.number, "", item))
            self._still_so(item)
        return Judged(
            number=judged.number,
            row=judged.row,
            item=item,
            person=judged.person,
            line_id=line_id,
            identity=identity,
            change=change,
        )

    def _once(self, what: str, row: int) -> None:
        if (first := self._seen.setdefault(what, row)) != row:
            raise InvalidOrder(f"it asks for the same as row {first}", hint="Leave one of them out.")

    def _still_so(self, item: Item) -> None:
        if isinstance(item, BlockItem) and isinstance(self._new.job, BulkBlock):
            refuse_lifted(self._known.line(item.line), item.owner, case_of(self._new.run, self._new.job))

    def _block(self, row: int, item: BlockItem, rows: LineRows) -> BulkChange:
        before, job = _glimpse(rows), self._new.job
        case = case_of(self._new.run, job) if isinstance(job, BulkBlock) else self._new.run
        if active_block(rows, item.owner, case) is not None:
            note = "this block stands on it already"
            return BulkChange(row=row, line=rows.line.username, before=before, after=before, note=note)
        notes: list[str] = []
        if before.blocks:
            notes.append(f"already blocked by {', '.join(before.blocks)}")
        if before.state == "absent":
            notes.append("its time is over: the block counts once it is renewed")
        state = "absent" if before.state == "absent" else "blocked"
        after = before.model_copy(update={"blocks": (*before.blocks, f"{item.owner}/{case}"), "state": state})
        return BulkChange(row=row, line=rows.line.username, before=before, after=after, note="; ".join(notes))

    def _extend(self, row: int, rows: LineRows) -> BulkChange:
        refuse_ended(rows)
        before, job = _glimpse(rows), self._new.job
        days = job.days if isinstance(job, BulkExtend) else 0
        ends_at = rules.renewed_end(now=self._now, ends_at=rows.runs_until, days=days)
        note = f"stays blocked by {', '.join(before.blocks)}" if before.blocks else ""
        after = before.model_copy(update={"ends_at": ends_at})
        return BulkChange(row=row, line=rows.line.username, before=before, after=after, note=note)

    def _import(self, row: int, item: ImportItem) -> BulkChange:
        refuse_over(item.ends_at, now=self._now)
        if self._known.has(item.username):
            raise username_taken(item.username)
        if item.region is not None and item.region not in self._pairs.values():
            raise unknown_region(item.region, self._pairs.values())
        if item.pair is not None and item.pair not in self._pairs:
            raise unknown_pair(item.pair, self._pairs)
        after = LineGlimpse(state="present", plan="paid", ends_at=item.ends_at, blocks=())
        return BulkChange(row=row, line=item.username, before=None, after=after)

    async def _taken_before(self, asked: Sequence[Asked]) -> Collection[str]:
        """The orders of these items that were taken before, by identity."""
        wanted: list[str] = []
        for number, one in enumerate(asked, start=1):
            item = one.item
            if item is not None and not isinstance(item, ImportItem):
                if not self._known.has(item.line) or self._known.found(item.line) is None:
                    continue
                item = item.model_copy(update={"line": self._known.line(item.line).line.username})
            if item is not None:
                wanted.append(_identity(self._new, number, item))
        found: set[str] = set()
        for some in chunks(wanted, _SEVERAL):
            query = select(models.Order.identity).where(col(models.Order.identity).in_(some))
            found |= set((await self._tx.session.exec(query)).all())
        return found


def _seen(new: NewBulk) -> ColumnElement[bool]:
    """Which lines there are for the caller."""
    return opened_by(new.caller) if new.job.own else true()


def _glimpse(rows: LineRows) -> LineGlimpse:
    last = rows.last_grant
    blocks = tuple(f"{block.owner}/{block.case}" for block in rows.active_blocks)
    return LineGlimpse(state=rows.line.state, plan=last.plan, ends_at=last.ends_at, blocks=blocks)


def _identity(new: NewBulk, number: int, item: Item) -> str:
    order = item_order(new, number, "", item)
    return identity_of(order_kind(order), order.caller, order_ref(order))


class _Lines:
    """Lines by username or id, loaded together."""

    def __init__(self, lines: Mapping[str, LineRows], erased: Collection[str]) -> None:
        self._lines = lines
        self._erased = erased

    @classmethod
    async def load(cls, tx: ReadTx, names: Collection[str], seen: ColumnElement[bool]) -> "_Lines":
        """Load those of these names that may be `seen`; the rest are not there, or were erased."""
        line, found = models.Line, dict[str, LineRows]()
        wanted = sorted({name.casefold() for name in names})
        for some in chunks(wanted, _SEVERAL):
            query = select(line).where(
                or_(col(line.username_casefold).in_(some), col(line.id).in_(some)), col(line.erased_at).is_(None), seen
            )
            loaded = await lines_with_rows(tx, (await tx.session.exec(query)).all())
            # A name counts before an id: names are what people mean.
            found = {rows.line.id: rows for rows in loaded} | found
            found |= {rows.line.username_casefold: rows for rows in loaded}
        hashes = {name_hash(tx.keys, name): name for name in wanted if name not in found}
        erased: set[str] = set()
        for some in chunks(list(hashes), _SEVERAL):
            query = select(line.username_casefold).where(col(line.username_casefold).in_(some), seen)
            gone = await tx.session.exec(query)
            erased |= {hashes[each] for each in gone}
        return cls(found, erased)

    def has(self, name: str) -> bool:
        """Whether a line has this name or id, or had it until it was erased."""
        return name.casefold() in self._lines or name.casefold() in self._erased

    def found(self, name: str) -> LineRows | None:
        """The line, if there is one."""
        return self._lines.get(name.casefold())

    def line(self, name: str) -> LineRows:
        """Raises UnknownLine, LineErased."""
        rows = self.found(name)
        if rows is None and name.casefold() in self._erased:
            raise LineErased
        if rows is None:
            raise unknown_line(name)
        return rows
