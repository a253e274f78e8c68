"""The blast guard: who loses access on a host must be told by an event, or it stays as it is.

Removals that an event explains always pass, however many. Unexplained ones are counted over an hour, in events of
their own; above the limit none of them is handed out, while everything else goes on.
"""

import json
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam
from sqlmodel import col, func, or_, select

from twinline.ledger import models, rules
from twinline.ledger.lines import held_by, note
from twinline.ledger.rules import LineState, Told
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.ledger.types import chunks, utc
from twinline.messages import HalfState, Message

UNEXPLAINED: Final = "removal.unexplained"

# Made once, because making such a statement costs as much as carrying it out.
_AWAY: Final = (
    select(models.Line, models.Half)
    .join(models.Half)
    .where(models.Half.host == bindparam("host"))
    .where(or_(models.Line.state != "present", col(models.Half.left_at).is_not(None)))
)
_NEWLY_AWAY: Final = _AWAY.where(
    models.Half.wanted > models.Half.proven,
    or_(col(models.Half.proven_state).is_(None), col(models.Half.proven_state) != HalfState.REMOVED),
)


class _LetThrough(Message):
    """What the event of an unexplained removal that was let through shows."""

    revision: int


@dataclass(frozen=True, kw_only=True)
class Removal:
    """A line that a host should no longer serve, by the ledger."""

    line_id: str
    host: str
    revision: int
    state: LineState


async def pending_removals(tx: ReadTx, host: str, also: AbstractSet[str]) -> list[Removal]:
    """Everybody who would lose access on this host: halves that are behind, and those of `also`."""
    found = {each.id: (each, on) for each, on in await tx.session.exec(_NEWLY_AWAY, params={"host": host})}
    for ids in chunks(sorted(also)):
        query = _AWAY.where(col(models.Line.id).in_(ids))
        found |= {each.id: (each, on) for each, on in await tx.session.exec(query, params={"host": host})}
    return [
        Removal(line_id=each.id, host=host, revision=each.revision, state=held_by(each, on).state)
        for each, on in found.values()
    ]


async def unexplained(tx: ReadTx, removals: Sequence[Removal]) -> list[Removal]:
    """Those of which no event of their line tells."""
    told: dict[str, list[Told]] = {removal.line_id: [] for removal in removals}
    for ids in chunks(list(told)):
        query = select(models.Event.line_id, models.Event.after)
        query = query.where(col(models.Event.line_id).in_(ids), models.Event.what != UNEXPLAINED)
        for line_id, after in await tx.session.exec(query.where(col(models.Event.after).is_not(None))):
            shown = json.loads(after or "{}")
            left = frozenset[str](shown.get("left", ()))
            told[str(line_id)].append(Told(revision=shown.get("revision"), state=shown.get("state"), left=left))
    return [
        removal
        for removal in removals
        if not rules.explained(
            host=removal.host, revision=removal.revision, state=removal.state, told=told[removal.line_id]
        )
    ]


async def stops(tx: ReadTx, host: str, removals: Sequence[Removal], *, now: datetime) -> bool:
    """Whether these unexplained removals, with those of the last hour, are more than the guard lets through."""
    if not removals:
        return False
    lately = {removal.line_id for removal in removals} | {line_id for line_id, _ in await _let_through(tx, host, now)}
    served = select(func.count()).where(models.Half.host == host, models.Half.proven_state == HalfState.APPLIED)
    return rules.blast(unexplained=len(lately), served=(await tx.session.exec(served)).one())


async def let_through(tx: WriteTx, host: str, removals: Sequence[Removal], *, now: datetime) -> None:
    """Note unexplained removals that are handed out, once an hour each."""
    if not removals:
        return
    known = await _let_through(tx, host, now)
    for removal in removals:
        if (removal.line_id, removal.revision) not in known:
            note(
                tx,
                at=utc(now),
                who="writer",
                what=UNEXPLAINED,
                why=host,
                line_id=removal.line_id,
                after=_LetThrough(revision=removal.revision),
            )


async def _let_through(tx: ReadTx, host: str, now: datetime) -> set[tuple[str, int]]:
    event = models.Event
    query = select(event.line_id, event.after).where(event.what == UNEXPLAINED, event.why == host)
    query = query.where(event.at > utc(now) - rules.BLAST_WINDOW)
    return {
        (str(line_id), _LetThrough.model_validate_json(after or "").revision)
        for line_id, after in await tx.session.exec(query)
    }
