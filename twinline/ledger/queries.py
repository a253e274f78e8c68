"""Read models of lines and orders for the command line and the API; only `reveal_password` tells a secret."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import AwareDatetime, SecretStr
from sqlmodel import col, func, or_, select

from twinline.errors import InvalidOrder, UnknownOrder
from twinline.ledger import models
from twinline.ledger.filing import identity_of
from twinline.ledger.halves import HalfProgress, progress_of
from twinline.ledger.lines import (
    LineRows,
    held_by,
    line_by_username,
    lines_with_rows,
    mark_of,
    opened_by,
    password_of,
)
from twinline.ledger.models import GrantEnding, Plan
from twinline.ledger.rules import LineState
from twinline.ledger.tx import ReadTx
from twinline.ledger.types import utc
from twinline.messages import BlockInfo, CancelInfo, Message, OrderKind, Receipt, Recorded
from twinline.problems import bounded

# What no reference is can't be looked for either: SQLite refuses long patterns, PostgreSQL a NUL.
_REF: Final = re.compile(r"[A-Za-z0-9._:/-]{1,200}", re.ASCII)


class GrantView(Message):
    """A grant; `ending` is empty while it is open."""

    grant_id: str
    plan: Plan
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    ended_at: AwareDatetime | None
    ending: GrantEnding | None


class LineView(Message):
    """A line as it may be shown; `state` is what its hosts must hold, `blocks` are the active ones."""

    line_id: str
    username: str
    plan: Plan
    state: LineState
    ends_at: AwareDatetime
    pair: str
    region: str
    revision: int
    halves: tuple[HalfProgress, ...]
    blocks: tuple[BlockInfo, ...]
    grants: tuple[GrantView, ...]
    created_at: AwareDatetime
    closed_at: AwareDatetime | None


class LineFilter(Message):
    """Which lines to list; what is left out does not matter."""

    region: str | None = None
    pair: str | None = None
    state: LineState | None = None
    behind: bool | None = None
    """Whether a half has yet to reach the line's revision."""
    opened_by: str | None = None
    """The caller whose order opened the line."""


class LinePage(Message):
    """Lines by name; `cursor` leads to the next page, None on the last."""

    lines: tuple[LineView, ...]
    cursor: str | None


class OrderView(Message):
    """An order as it was recorded; `receipt` is there once its workflow has finished."""

    order_id: str
    kind: OrderKind
    caller: str
    ref: str
    username: str
    workflow_id: str
    created_at: AwareDatetime
    settled_at: AwareDatetime | None
    recorded: Recorded
    receipt: Receipt | None
    cancelled_at: AwareDatetime | None = None
    cancelled: CancelInfo | None = None
    """By whom and why; a list leaves it out."""


class OrderFilter(Message):
    """Which orders to list; what is left out does not matter."""

    kind: OrderKind | None = None
    caller: str | None = None
    username: str | None = None
    settled: bool | None = None
    opened_by: str | None = None
    """The caller whose order opened the line that it is about."""


class OrderPage(Message):
    """Orders, the newest first; `cursor` leads to the next page, None on the last."""

    orders: tuple[OrderView, ...]
    cursor: str | None


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What a host must hold of one line, with the mark that its record must carry once `proven` is `wanted`."""

    line_id: str
    username: str
    state: LineState
    ends_at: datetime | None
    mark: str
    wanted: int
    proven: int


async def line_view(tx: ReadTx, username: str) -> LineView:
    """Show a line; raises UnknownLine."""
    rows = await line_by_username(tx, username)
    (view,) = await _line_views(tx, [rows])
    return view


async def list_lines(tx: ReadTx, wanted: LineFilter, *, cursor: str | None = None, limit: int = 100) -> LinePage:
    """List lines by name, at most `limit` of them, from behind `cursor` on; erased ones have no name any more."""
    query = select(models.Line).where(col(models.Line.erased_at).is_(None)).order_by(models.Line.username)
    query = query.limit(limit + 1)
    if wanted.region is not None:
        query = query.join(models.Pair).where(models.Pair.region == wanted.region)
    if wanted.pair is not None:
        query = query.where(models.Line.pair == wanted.pair)
    if wanted.state is not None:
        query = query.where(models.Line.state == wanted.state)
    if wanted.opened_by is not None:
        query = query.where(opened_by(wanted.opened_by))
    if wanted.behind is not None:
        late = select(models.Half.line_id).where(models.Half.wanted > models.Half.proven)
        behind = col(models.Line.id).in_(late)
        query = query.where(behind if wanted.behind else ~behind)
    if cursor is not None:
        query = query.where(models.Line.username > cursor)
    lines = list(await tx.session.exec(query))
    page = lines[:limit]
    return LinePage(
        lines=tuple(await _line_views(tx, await lines_with_rows(tx, page))),
        cursor=page[-1].username if len(lines) > limit else None,
    )


async def usernames_like(tx: ReadTx, beginning: str, *, limit: int) -> tuple[str, ...]:
    """Names of lines with this beginning."""
    username = col(models.Line.username)
    query = select(username).where(col(models.Line.erased_at).is_(None))
    query = query.where(username.startswith(beginning, autoescape=True)).order_by(username).limit(limit)
    return tuple(await tx.session.exec(query))


async def order_ids_like(
    tx: ReadTx, beginning: str, *, caller: str, settled: bool | None = None, limit: int
) -> tuple[str, ...]:
    """The caller's own ids (cases of blocks too) with this beginning, of the newest orders first."""
    order = models.Order
    query = select(order.ref).where(order.caller == caller, col(order.kind) != OrderKind.CANCEL)
    query = query.where(col(order.ref).startswith(beginning, autoescape=True)).limit(limit)
    if settled is not None:
        query = query.where(col(order.settled_at).is_not(None) == settled)
    found = await tx.session.exec(query.order_by(col(order.created_at).desc()))
    return tuple(dict.fromkeys(ref.partition("/")[0] for ref in found))


async def is_opened_by(tx: ReadTx, line_id: str, caller: str) -> bool:
    """Whether this caller's order opened the line; that never changes, and holds when the line was erased."""
    found = await tx.session.exec(select(models.Line.id).where(models.Line.id == line_id, opened_by(caller)))
    return found.first() is not None


async def reveal_password(tx: ReadTx, username: str) -> SecretStr:
    """The line's password, for a caller that may read credentials; raises UnknownLine, KeyRingError."""
    return password_of(tx.keys, (await line_by_username(tx, username)).line)


async def holdings(tx: ReadTx, host: str) -> tuple[Holding, ...]:
    """What this host must hold of every line that was ever on it, by name; raises KeyRingError."""
    query = (
        select(models.Line, models.Half)
        .join(models.Half)
        .where(models.Half.host == host)
        .order_by(models.Line.username)
    )
    return tuple(
        Holding(
            line_id=line.id,
            username=line.username,
            state=held_by(line, half).state,
            ends_at=held_by(line, half).ends_at,
            mark=mark_of(tx.keys, line, half, password_of(tx.keys, line)),
            wanted=half.wanted,
            proven=half.proven,
        )
        for line, half in await tx.session.exec(query)
    )


async def last_proof(tx: ReadTx, host: str) -> datetime | None:
    """When a change of any line was last seen on the running daemon of this host; None for never."""
    found = await tx.session.exec(select(func.max(models.Half.proven_at)).where(models.Half.host == host))
    moment = found.one()
    return None if moment is None else utc(moment)


async def order_view(tx: ReadTx, ref: str, *, caller: str, kind: OrderKind | None = None) -> OrderView:
    """Show an order by the caller's own id, or a block by its case; raises UnknownOrder, InvalidOrder (ambiguous).

    With `kind` the cancellation of an order is shown by the same id as the order itself.
    """
    if not _REF.fullmatch(ref):
        raise _unknown_order(ref, caller)
    # The reference of a block is its case and a digest of the line; neither order ids nor cases hold a slash.
    case_of = col(models.Order.ref).startswith(f"{ref}/", autoescape=True)
    query = select(models.Order, models.Line.username).join(models.Line)
    query = query.where(models.Order.caller == caller, or_(models.Order.ref == ref, case_of))
    wanted = models.Order.kind != OrderKind.CANCEL if kind is None else models.Order.kind == kind
    found = (await tx.session.exec(query.where(wanted).order_by(models.Order.identity).limit(10))).all()
    if not found:
        raise _unknown_order(ref, caller)
    if len(found) > 1:
        raise InvalidOrder(
            f'"{ref}" of caller "{caller}" is more than one order',
            hint=f"Say which kind, or which line: {', '.join(f'{order.kind} {order.ref}' for order, _ in found)}.",
        )
    return await _with_cancellation(tx, _order_view(*found[0]))


def _unknown_order(ref: str, caller: str) -> UnknownOrder:
    return UnknownOrder(
        # What tells blocks of one case apart is ours, and nothing that was asked for.
        f"there is no order {bounded(ref.partition('/')[0])} of caller {bounded(caller)}",
        hint="Check id and caller; `twinline order list` shows all orders that were taken.",
    )


async def _with_cancellation(tx: ReadTx, view: OrderView) -> OrderView:
    if view.recorded.cancels is not None:
        return view.model_copy(update={"cancelled": view.recorded.cancels.info})
    if view.cancelled_at is None:
        return view
    identity = identity_of(OrderKind.CANCEL, view.caller, f"{view.ref}/{view.kind}")
    query = select(models.Order.recorded).where(models.Order.identity == identity)
    cancels = Recorded.model_validate_json((await tx.session.exec(query)).one()).cancels
    receipt, info = view.receipt, None if cancels is None else cancels.info
    if receipt is not None:
        # The receipt is of the order's own end, and the cancellation may have come long after it.
        receipt = receipt.model_copy(update={"cancelled": info})
    return view.model_copy(update={"cancelled": info, "receipt": receipt})


async def list_orders(tx: ReadTx, wanted: OrderFilter, *, cursor: str | None = None, limit: int = 100) -> OrderPage:
    """List orders, the newest first, at most `limit` of them, from behind `cursor` on; raises InvalidOrder."""
    created_at, order_id = col(models.Order.created_at), col(models.Order.id)
    query = select(models.Order, models.Line.username).join(models.Line)
    query = query.order_by(created_at.desc(), order_id.desc()).limit(limit + 1)
    if wanted.kind is not None:
        query = query.where(models.Order.kind == wanted.kind)
    if wanted.caller is not None:
        query = query.where(models.Order.caller == wanted.caller)
    if wanted.username is not None:
        query = query.where(models.Line.username_casefold == wanted.username.casefold())
    if wanted.opened_by is not None:
        query = query.where(opened_by(wanted.opened_by))
    if wanted.settled is not None:
        settled_at = col(models.Order.settled_at)
        query = query.where(settled_at.is_not(None) if wanted.settled else settled_at.is_(None))
    if cursor is not None:
        before, last_id = _position(cursor)
        query = query.where(or_(created_at < before, (created_at == before) & (order_id < last_id)))
    found = (await tx.session.exec(query)).all()
    page = found[:limit]
    return OrderPage(
        orders=tuple(_order_view(order, username) for order, username in page),
        cursor=_cursor(page[-1][0]) if len(found) > limit else None,
    )


def _cursor(order: models.Order) -> str:
    return f"{order.created_at.isoformat()}~{order.id}"


def _position(cursor: str) -> tuple[datetime, str]:
    moment, _, order_id = cursor.partition("~")
    try:
        return utc(datetime.fromisoformat(moment)), order_id
    except ValueError:
        raise InvalidOrder("the cursor is not one that a list gave", hint="Start again without a cursor.") from None


def _order_view(order: models.Order, username: str) -> OrderView:
    return OrderView(
        order_id=order.id,
        kind=order.kind,
        caller=order.caller,
        ref=order.ref,
        username=username,
        workflow_id=order.workflow_id,
        created_at=order.created_at,
        settled_at=order.settled_at,
        recorded=Recorded.model_validate_json(order.recorded),
        receipt=None if order.receipt is None else Receipt.model_validate_json(order.receipt),
        cancelled_at=order.cancelled_at,
    )


async def _line_views(tx: ReadTx, lines: Sequence[LineRows]) -> list[LineView]:
    pairs = select(models.Pair.name, models.Pair.region)
    pairs = pairs.where(col(models.Pair.name).in_({rows.line.pair for rows in lines}))
    regions = dict((await tx.session.exec(pairs)).all())
    return [_line_view(rows, region=regions[rows.line.pair]) for rows in lines]


def _line_view(rows: LineRows, *, region: str) -> LineView:
    line, last = rows.line, rows.last_grant
    return LineView(
        line_id=line.id,
        username=line.username,
        plan=last.plan,
        state=line.state,
        ends_at=last.ends_at,
        pair=line.pair,
        region=region,
        revision=line.revision,
        halves=tuple(progress_of(half) for half in rows.halves),
        blocks=rows.block_infos(),
        grants=tuple(
            GrantView(
                grant_id=grant.id,
                plan=grant.plan,
                starts_at=grant.starts_at,
                ends_at=grant.ends_at,
                ended_at=grant.ended_at,
                ending=grant.ending,
            )
            for grant in rows.grants
        ),
        created_at=line.created_at,
        closed_at=line.closed_at,
    )
