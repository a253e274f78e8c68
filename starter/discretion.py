"""What a reseller reads of what others did to its lines: that it was done, and by what kind of owner; nobody's words.

Reasons, cases and names of those who run the house are written for the house. What a reseller wrote itself it reads.
"""

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from twinline.bulk import BulkPlan, LineGlimpse
from twinline.ledger.events import EventView
from twinline.ledger.queries import LineView
from twinline.messages import BlockInfo, BlockOwner, CancelInfo, Receipt

OPERATOR: Final = str(BlockOwner.OPERATOR)
PARTS_OF_THE_HOUSE: Final = frozenset({"inventory", "move", "reconcile", "term", "trial", "writer"})
"""Who acts by itself; why it does so is the name of a workflow or a host."""


def event_for(caller: str, event: EventView) -> EventView:
    """An event of one of its lines."""
    before, after = _blocks_told(event.before), _blocks_told(event.after)
    if event.who == caller or event.who in PARTS_OF_THE_HOUSE:
        return event.model_copy(update={"before": before, "after": after})
    owner = _owner_of(event)
    return event.model_copy(update={"who": owner, "why": owner, "before": before, "after": after})


def line_for(line: LineView) -> dict[str, object]:
    """What differs in one of its lines."""
    return {"blocks": _blocks_for(line.blocks)}


def receipt_for(caller: str, receipt: Receipt) -> Receipt:
    """A receipt of one of its orders."""
    cancelled = None if receipt.cancelled is None else _cancelled_for(caller, receipt.cancelled)
    return receipt.model_copy(update={"blocks": _blocks_for(receipt.blocks), "cancelled": cancelled})


def plan_for(plan: BulkPlan) -> BulkPlan:
    """What one of its bulk runs would do."""
    changes = tuple(
        change.model_copy(
            update={
                "before": None if change.before is None else _glimpse_for(change.before),
                "after": _glimpse_for(change.after),
            }
        )
        for change in plan.changes
    )
    return plan.model_copy(update={"changes": changes})


def _glimpse_for(line: LineGlimpse) -> LineGlimpse:
    return line.model_copy(update={"blocks": tuple(_block_told(block) for block in line.blocks)})


def _cancelled_for(caller: str, info: CancelInfo) -> CancelInfo:
    return info if info.actor == caller else info.model_copy(update={"actor": OPERATOR, "reason": OPERATOR})


def _blocks_for(blocks: tuple[BlockInfo, ...]) -> tuple[BlockInfo, ...]:
    return tuple(
        block
        if block.owner is BlockOwner.RESELLER
        else block.model_copy(update={"case": str(block.owner), "reason": str(block.owner)})
        for block in blocks
    )


def _owner_of(event: EventView) -> str:
    """Of a block, whose it is; of anything else that is not its own, the house's."""
    if not event.what.startswith("block."):
        return OPERATOR
    changed = set(_blocks_in(event.before)) ^ set(_blocks_in(event.after))
    return min((block.partition("/")[0] for block in changed), default=OPERATOR)


def _blocks_in(seen: Mapping[str, JsonValue] | None) -> list[str]:
    blocks = None if seen is None else seen.get("blocks")
    return [str(block) for block in blocks] if isinstance(blocks, list) else []


def _blocks_told(seen: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
    if seen is None or "blocks" not in seen:
        return seen
    told: list[JsonValue] = [_block_told(block) for block in _blocks_in(seen)]
    return {**seen, "blocks": told}


def _block_told(block: str) -> str:
    return block if block.startswith(f"{BlockOwner.RESELLER}/") else block.partition("/")[0]
