"""Finds the pair for a new line."""

from sqlmodel import col, exists, func, or_, select

from twinline.errors import RegionFull, UnknownRegion
from twinline.ledger import models
from twinline.ledger.lines import listed
from twinline.ledger.rules import PairLoad, pick_pair
from twinline.ledger.tx import WriteTx


async def place(tx: WriteTx, region: str) -> models.Pair:
    """Pick the emptiest pair of the region; raises UnknownRegion, RegionFull.

    Lines that hosts must hold count, blocked ones too; ended ones do not. The pairs stay locked until the
    transaction ends, so two orders can't both take the last place.
    """
    query = select(models.Pair).where(models.Pair.region == region).with_for_update()
    pairs = {pair.name: pair for pair in await tx.session.exec(query)}
    if not pairs:
        regions = (await tx.session.exec(select(models.Pair.region).distinct())).all()
        raise UnknownRegion(f'there is no region "{region}"', hint=f"Known regions: {listed(regions)}.")
    chosen = pick_pair(loads := await _loads(tx, region))
    if chosen is None:
        raise RegionFull(
            f'region "{region}" is full: {sum(load.lines for load in loads)} lines on {len(loads)} pair(s)',
            hint="Add a pair to the inventory or raise a pair's capacity, then repeat the order.",
        )
    return pairs[chosen]


async def _loads(tx: WriteTx, region: str) -> list[PairLoad]:
    """How full each pair is; not asked together with the lock, for the answer must be younger than that."""
    pair, line, host = models.Pair, models.Line, models.Host
    lines = select(func.count()).where(line.pair == pair.name, line.state != "absent").scalar_subquery()
    down = exists().where(
        or_(col(host.name) == pair.multics, col(host.name) == pair.oscam), col(host.down_since).is_not(None)
    )
    query = select(pair.name, pair.capacity, lines, down).where(pair.region == region)
    return [
        PairLoad(name=name, capacity=capacity, lines=count, healthy=not is_down)
        for name, capacity, count, is_down in await tx.session.exec(query)
    ]
