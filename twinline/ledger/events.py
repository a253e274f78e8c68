"""What happened to a line: who, what, why, and how it was before and after."""

import json
import re
from typing import Final

from pydantic import AwareDatetime, JsonValue
from sqlmodel import col, select

from twinline.errors import InvalidOrder
from twinline.ledger import models
from twinline.ledger.lines import line_by_username
from twinline.ledger.tx import ReadTx
from twinline.messages import Message

_POSITION: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_LARGEST_ID: Final = 2**31 - 1
"""PostgreSQL takes no larger number for it, not even to compare."""


class EventView(Message):
    """An event; `before` and `after` show what it changed, a line or one of its halves, without anything secret."""

    at: AwareDatetime
    who: str
    """A caller, or a part of the house: `term`, `reconcile`, `writer`."""
    what: str
    why: str
    """The order, the workflow, or the reason that somebody gave."""
    before: dict[str, JsonValue] | None
    after: dict[str, JsonValue] | None


class EventPage(Message):
    """Events, the newest first; `cursor` leads to older ones, None on the last page."""

    events: tuple[EventView, ...]
    cursor: str | None


async def line_events(tx: ReadTx, username: str, *, cursor: str | None = None, limit: int = 100) -> EventPage:
    """The events of a line, at most `limit` of them, from behind `cursor` on.

    Raises UnknownLine, LineErased, InvalidOrder (no such cursor).
    """
    event, line = models.Event, (await line_by_username(tx, username)).line
    query = select(event).where(event.line_id == line.id).order_by(col(event.id).desc()).limit(limit + 1)
    if cursor is not None:
        if not _POSITION.fullmatch(cursor) or int(cursor) > _LARGEST_ID:
            raise InvalidOrder("the cursor is not one that a list gave", hint="Start again without a cursor.")
        query = query.where(col(event.id) < int(cursor))
    found = (await tx.session.exec(query)).all()
    page = found[:limit]
    return EventPage(events=tuple(map(_view, page)), cursor=str(page[-1].id) if len(found) > limit else None)


def _view(event: models.Event) -> EventView:
    return EventView(
        at=event.at,
        who=event.who,
        what=event.what,
        why=event.why,
        before=None if event.before is None else json.loads(event.before),
        after=None if event.after is None else json.loads(event.after),
    )
