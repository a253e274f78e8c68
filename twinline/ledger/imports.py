"""Taking lines over from another system, with the username and password that their receivers have."""

from datetime import datetime, timedelta
from typing import Final

from sqlmodel import select

from twinline.bulk import ImportItem
from twinline.errors import InvalidOrder, LineErased, UsernameTaken
from twinline.ledger import models
from twinline.ledger.bulk_bodies import Body, body_of, seal_body
from twinline.ledger.filing import file_order, filing_of, repeated_order
from twinline.ledger.lines import erased_line
from twinline.ledger.orders import give, line_on
from twinline.ledger.placement import place, room_on
from twinline.ledger.tx import LOCKED, WriteTx
from twinline.ledger.types import utc
from twinline.messages import ImportOrder, Recorded

LONGEST: Final = timedelta(days=3660)
"""How far off an end may be: as far as a purchase can set it."""


async def record_import(tx: WriteTx, order: ImportOrder, *, now: datetime, workflow_id: str) -> Recorded:
    """Open a line as another system had it, once; what the item held is forgotten then.

    Raises OrderConflict, UsernameTaken, InvalidOrder (its end has passed), UnknownRegion, RegionFull, UnknownPair,
    PairFull, LineErased (its customer was erased meanwhile).
    """
    filing = filing_of(tx, order, now=now, workflow_id=workflow_id)
    if (repeated := await repeated_order(tx, filing)) is not None:
        return repeated
    row = await tx.session.get(models.BulkItem, order.item, with_for_update=LOCKED)
    body = None if row is None or not row.body_sealed else body_of(tx, row)
    if row is None or body is None or body.item is None or row.person_hash is None:
        raise LineErased("what was to be imported was erased", hint="Import the line again, if it is to be had again.")
    item = ImportItem.model_validate(body.item)
    refuse_over(item.ends_at, now=filing.now)
    await tx.alone("username", item.username.casefold())
    query = select(models.Line.id).where(models.Line.username_casefold == item.username.casefold())
    taken = (await tx.session.exec(query)).one_or_none() or await erased_line(tx, item.username)
    if taken is not None:
        raise username_taken(item.username)
    pair = await room_on(tx, item.pair) if item.pair is not None else await place(tx, item.region or "")
    rows = line_on(
        tx,
        filing,
        pair,
        username=item.username,
        password=item.password,
        email=item.email,
        person_hash=row.person_hash,
    )
    grant = give(tx, filing, rows, plan="paid", ends_at=utc(item.ends_at))
    recorded = await file_order(tx, filing, rows, grant=grant, before=None, what="line.opened")
    row.line_id = rows.line.id
    seal_body(tx, row, Body(line=item.username))
    return recorded


def refuse_over(ends_at: datetime, *, now: datetime) -> None:
    """Raises InvalidOrder for a line whose time is over, or never would be."""
    if not utc(now) < utc(ends_at) <= utc(now) + LONGEST:
        raise InvalidOrder(
            "its end has passed, or is more than ten years off", hint="Leave it out, or correct ends_at."
        )


def username_taken(username: str) -> UsernameTaken:
    """That no new line may have this name."""
    return UsernameTaken(
        f'there is or was a line "{username}"',
        hint="Names are never given twice: `twinline line show` tells whether it is the same customer's.",
    )
