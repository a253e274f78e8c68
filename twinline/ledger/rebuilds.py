"""Who asked for the rebuild of a host, who stopped it, and that it is done."""

from twinline.ledger.lines import note
from twinline.ledger.stuck import require_host
from twinline.ledger.tx import WriteTx
from twinline.ledger.types import utc
from twinline.messages import Message
from twinline.rebuild import RebuildNote


class RebuildSnapshot(Message):
    """What an event shows of a rebuild."""

    host: str
    held: int | None
    should_hold: int | None


async def note_rebuild(tx: WriteTx, told: RebuildNote) -> None:
    """Keep it as an event; raises UnknownHost."""
    await require_host(tx, told.host)
    after = RebuildSnapshot(host=told.host, held=told.held, should_hold=told.should_hold)
    why = told.reason or told.host
    note(tx, at=utc(told.at), who=told.actor, what=f"host.rebuild_{told.what}", why=why, after=after)
