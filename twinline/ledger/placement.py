"""Finds the pair for a line."""

from collections.abc import Collection, Iterable
from functools import cache
from typing import Any, Final

from sqlalchemy import bindparam
from sqlmodel import col, exists, func, or_, select
from sqlmodel.sql.expression import Select

from twinline.errors import PairFull, RegionFull, UnknownPair, UnknownRegion
from twinline.ledger import models
from twinline.ledger.lines import listed
from twinline.ledger.rules import PairLoad, pick_pair
from twinline.ledger.tx import LOCKED, ReadTx, WriteTx

# Made once, because making it costs as much as carrying it out.
_OF_REGION: Final = (
    select(models.Pair)
    .where(models.Pair.region == bindparam("region"))
    .order_by(models.Pair.name)
    .with_for_update(key_share=True)
)


async def place(tx: WriteTx, region: str) -> models.Pair:
    """Pick the emptiest pair of the region; raises UnknownRegion, RegionFull.

    Lines that hosts must hold count, blocked ones too; ended ones do not. A line that moves counts on both pairs
    until the old one is broken. The pairs stay locked until the
    transaction ends, so two orders can't both take the last place.
    """
    pairs = {pair.name: pair for pair in await tx.session.exec(_OF_REGION, params={"region": region})}
    return pairs[await _pick(tx, region, pairs)]


async def refuse_without_room(tx: ReadTx, region: str) -> None:
    """Raises UnknownRegion, RegionFull as `place` would now; nothing is kept free by that."""
    names = (await tx.session.exec(select(models.Pair.name).where(models.Pair.region == region))).all()
    await _pick(tx, region, names)


async def _pick(tx: ReadTx, region: str, pairs: Collection[str]) -> str:
    if not pairs:
        regions = (await tx.session.exec(select(models.Pair.region).distinct())).all()
        raise unknown_region(region, regions)
    chosen = pick_pair(loads := await pair_loads(tx, pairs))
    if chosen is None:
        raise RegionFull(
            f'region "{region}" is full: {sum(load.lines for load in loads)} lines on {len(loads)} pair(s)',
            hint="Add a pair to the inventory or raise a pair's capacity, then repeat the order.",
        )
    return chosen


async def room_on(tx: WriteTx, name: str) -> models.Pair:
    """The pair of that name, if it has room; locked and counted as `place` does. Raises UnknownPair, PairFull."""
    pair = await tx.session.get(models.Pair, name, with_for_update=LOCKED)
    if pair is None:
        names = (await tx.session.exec(select(models.Pair.name))).all()
        raise unknown_pair(name, names)
    (load,) = await pair_loads(tx, [name])
    if load.lines >= load.capacity:
        raise PairFull(
            f'pair "{name}" is full: {load.lines} lines, and its capacity is {load.capacity}',
            hint="Name another pair, or raise this one's capacity in the inventory, then repeat the order.",
        )
    return pair


def unknown_region(region: str, known: Iterable[str]) -> UnknownRegion:
    """That the inventory has no pair in that region."""
    return UnknownRegion(f'there is no region "{region}"', hint=f"Known regions: {listed(sorted(set(known)))}.")


def unknown_pair(pair: str, known: Iterable[str]) -> UnknownPair:
    """That the inventory has no pair of that name."""
    return UnknownPair(f'there is no pair "{pair}"', hint=f"Known pairs: {listed(sorted(known))}.")


async def pair_loads(tx: ReadTx, names: Iterable[str]) -> list[PairLoad]:
    """How full each pair is; not asked together with the lock, for the answer must be younger than that."""
    return [
        PairLoad(name=name, capacity=capacity, lines=count, healthy=not is_down)
        for name, capacity, count, is_down in await tx.session.exec(_loads_query(), params={"pairs": list(names)})
    ]


@cache
def _loads_query() -> Select[str, int, Any, bool]:
    """Made once, because making it costs more than carrying it out."""
    pair, line, half, host = models.Pair, models.Line, models.Half, models.Host
    staying = select(func.count()).where(line.pair == pair.name, line.state != "absent").scalar_subquery()
    leaving = (
        select(func.count())
        .select_from(half)
        .join(line)
        .where(half.host == pair.multics, col(half.leaving_order).is_not(None), col(half.left_at).is_(None))
        .where(line.state != "absent")
        .scalar_subquery()
    )
    down = exists().where(
        or_(col(host.name) == pair.multics, col(host.name) == pair.oscam), col(host.down_since).is_not(None)
    )
    query = select(pair.name, pair.capacity, staying + leaving, down)
    return query.where(col(pair.name).in_(bindparam("pairs", expanding=True)))
