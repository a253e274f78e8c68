"""What the rows of a bulk run would do, by the rules that their orders will be taken by; nothing is changed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlmodel import col, or_, select

from twinline.bulk import BlockItem, BulkChange, Item, LineGlimpse, NewBulk, RowProblem, case_of, item_order
from twinline.errors import InvalidOrder, LineErased, TwinlineError
from twinline.ledger import models
from twinline.ledger.filing import earlier_order, identity_of
from twinline.ledger.lines import LineRows, lines_with_rows, name_hash, unknown_line
from twinline.ledger.orders import active_block, refuse_closed, refuse_lifted, refuse_past
from twinline.ledger.tx import ReadTx
from twinline.ledger.types import chunks
from twinline.messages import order_kind, order_ref

_SEVERAL: Final = 400


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A row as a caller gave it: an item, or why it is none."""

    row: int
    item: Item | None
    problem: RowProblem | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """An item with what it would change, or why it can't be carried out."""

    number: int
    row: int
    item: Item | None
    line_id: str | None = None
    identity: str | None = None
    change: BulkChange | None = None
    problem: RowProblem | None = None


async def judge(tx: ReadTx, new: NewBulk, asked: Sequence[Asked], *, now: datetime) -> tuple[Judged, ...]:
    """Look at every row; raises InvalidOrder for what is wrong with the run as a whole."""
    refuse_past(new.job.until, now=now)
    known = await _Lines.load(tx, {one.item.line for one in asked if one.item is not None})
    earlier = await _earlier(tx, new, asked, known)
    judged: list[Judged] = []
    seen: dict[str, int] = {}
    for number, one in enumerate(asked, start=1):
        if one.item is None:
            judged.append(Judged(number=number, row=one.row, item=None, problem=one.problem))
            continue
        try:
            judged.append(_judged(number, one.row, new, one.item, known, earlier, seen))
        except TwinlineError as error:
            judged.append(Judged(number=number, row=one.row, item=one.item, problem=_problem(one.row, error)))
    return tuple(judged)


def _judged(
    number: int,
    row: int,
    new: NewBulk,
    item: Item,
    known: "_Lines",
    earlier: Mapping[str, TwinlineError | None],
    seen: dict[str, int],
) -> Judged:
    rows = known.line(item.line)
    named = item.model_copy(update={"line": rows.line.username})
    identity = _identity(new, named)
    if (first := seen.setdefault(identity, row)) != row:
        raise InvalidOrder(f"it asks for the same as row {first}", hint="Leave one of them out.")
    if (conflict := earlier.get(identity)) is not None:
        raise conflict
    refuse_closed(rows)
    if identity in earlier:
        refuse_lifted(rows, named.owner, case_of(new))
    return Judged(
        number=number,
        row=row,
        item=named,
        line_id=rows.line.id,
        identity=identity,
        change=_block_change(row, case_of(new), named, rows),
    )


def _block_change(row: int, case: str, item: BlockItem, rows: LineRows) -> BulkChange:
    before = _glimpse(rows)
    name = f"{item.owner}/{case}"
    if active_block(rows, item.owner, case) is not None:
        return BulkChange(
            row=row, line=rows.line.username, before=before, after=before, note="this block stands on it already"
        )
    notes: list[str] = []
    if before.blocks:
        notes.append(f"already blocked by {', '.join(before.blocks)}")
    if before.state == "absent":
        notes.append("its time is over: the block counts once it is renewed")
    after = before.model_copy(
        update={"blocks": (*before.blocks, name), "state": "absent" if before.state == "absent" else "blocked"}
    )
    return BulkChange(row=row, line=rows.line.username, before=before, after=after, note="; ".join(notes))


def _glimpse(rows: LineRows) -> LineGlimpse:
    last = rows.last_grant
    blocks = tuple(f"{block.owner}/{block.case}" for block in rows.active_blocks)
    return LineGlimpse(state=rows.line.state, plan=last.plan, ends_at=last.ends_at, blocks=blocks)


def _identity(new: NewBulk, item: Item) -> str:
    order = item_order(new, item)
    return identity_of(order_kind(order), order.caller, order_ref(order))


def _problem(row: int, error: TwinlineError) -> RowProblem:
    return RowProblem(row=row, type=error.type, message=error.message, hint=error.hint)


async def _earlier(
    tx: ReadTx, new: NewBulk, asked: Sequence[Asked], known: "_Lines"
) -> Mapping[str, TwinlineError | None]:
    """The orders of these items that were taken before, by identity, with what speaks against taking them again."""
    items: dict[str, Item] = {}
    for one in asked:
        if one.item is not None and (rows := known.found(one.item.line)) is not None:
            named = one.item.model_copy(update={"line": rows.line.username})
            items.setdefault(_identity(new, named), named)
    found: dict[str, TwinlineError | None] = {}
    for some in chunks(list(items), _SEVERAL):
        query = select(models.Order.identity).where(col(models.Order.identity).in_(some))
        for identity in (await tx.session.exec(query)).all():
            try:
                await earlier_order(tx, item_order(new, items[identity]))
                found[identity] = None
            except TwinlineError as error:
                found[identity] = error
    return found


class _Lines:
    """Lines by username or id, loaded together."""

    def __init__(self, lines: Mapping[str, LineRows], erased: Collection[str]) -> None:
        self._lines = lines
        self._erased = erased

    @classmethod
    async def load(cls, tx: ReadTx, names: Collection[str]) -> "_Lines":
        line, found = models.Line, dict[str, LineRows]()
        wanted = sorted({name.casefold() for name in names})
        for some in chunks(wanted, _SEVERAL):
            query = select(line).where(
                or_(col(line.username_casefold).in_(some), col(line.id).in_(some)), col(line.erased_at).is_(None)
            )
            loaded = await lines_with_rows(tx, (await tx.session.exec(query)).all())
            # A name counts before an id: names are what people mean.
            found = {rows.line.id: rows for rows in loaded} | found
            found |= {rows.line.username_casefold: rows for rows in loaded}
        hashes = {name_hash(tx.keys, name): name for name in wanted if name not in found}
        erased: set[str] = set()
        for some in chunks(list(hashes), _SEVERAL):
            gone = await tx.session.exec(select(line.username_casefold).where(col(line.username_casefold).in_(some)))
            erased |= {hashes[each] for each in gone}
        return cls(found, erased)

    def found(self, name: str) -> LineRows | None:
        return self._lines.get(name.casefold())

    def line(self, name: str) -> LineRows:
        """Raises UnknownLine, LineErased."""
        rows = self.found(name)
        if rows is None and name.casefold() in self._erased:
            raise LineErased
        if rows is None:
            raise unknown_line(name)
        return rows
