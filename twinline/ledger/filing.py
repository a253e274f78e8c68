"""How an order gets into the ledger: known by its identity, and filed with all that it changes."""

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam
from sqlmodel import select

from twinline.errors import LineErased, OrderCancelled, OrderConflict
from twinline.ledger import models, rules
from twinline.ledger.lines import LineRows, Snapshot, note, settle
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.ledger.types import utc
from twinline.messages import (
    AnyOrder,
    BlockOrder,
    Cancels,
    OrderKind,
    Recorded,
    UnblockOrder,
    order_kind,
    order_ref,
)

_BY_IDENTITY: Final = select(models.Order).where(models.Order.identity == bindparam("identity"))
"""Made once, because making it costs as much as carrying it out."""


@dataclass(frozen=True, kw_only=True)
class Filing:
    """An order on its way into the ledger, under the id that it gets there."""

    order: AnyOrder
    order_id: str
    identity: str
    fingerprint: bytes
    now: datetime
    workflow_id: str

    @property
    def kind(self) -> OrderKind:
        """What the order asks for."""
        return order_kind(self.order)


def identity_of(kind: OrderKind, caller: str, ref: str) -> str:
    """What makes an order the same one again."""
    # A caller numbers its orders once for all that it sells; blocks and their lifting share a case.
    series = kind.value if kind in {OrderKind.BLOCK, OrderKind.UNBLOCK, OrderKind.CANCEL} else "order"
    return f"{series}/{caller}/{ref}"


def filing_of(tx: WriteTx, order: AnyOrder, *, now: datetime, workflow_id: str) -> Filing:
    """Give an order an id of ours."""
    return Filing(
        order=order,
        order_id=rules.new_id(tx.random),
        identity=_identity(order),
        fingerprint=fingerprint_of(tx, order),
        now=utc(now),
        workflow_id=workflow_id,
    )


async def repeated_order(tx: WriteTx, filing: Filing) -> Recorded | None:
    """What was recorded when the same order came before; raises OrderConflict, OrderCancelled, LineErased."""
    await tx.alone("order", filing.identity)
    return await earlier_order(tx, filing.order)


async def earlier_order(tx: ReadTx, order: AnyOrder) -> Recorded | None:
    """What was recorded when this very order came before; raises as `repeated_order` does."""
    identity = _identity(order)
    earlier = (await tx.session.exec(_BY_IDENTITY, params={"identity": identity})).one_or_none()
    if earlier is None:
        if await tx.row(models.Withdrawal, identity) is not None:
            raise _cancelled(order)
        return None
    if not earlier.fingerprint:
        raise LineErased(line_id=earlier.line_id)
    if not hmac.compare_digest(earlier.fingerprint, fingerprint_of(tx, order)):
        raise OrderConflict(
            f'the order id "{_own_id(order)}" of caller "{order.caller}" was used before for '
            f"something else (a {earlier.kind})",
            hint="Repeat an order with exactly the same fields; give a new order its own id.",
        )
    if earlier.cancelled_at is not None:
        raise _cancelled(order)
    return Recorded.model_validate_json(earlier.recorded)


def _identity(order: AnyOrder) -> str:
    return identity_of(order_kind(order), order.caller, order_ref(order))


def fingerprint_of(tx: ReadTx, order: AnyOrder) -> bytes:
    """What tells an order from another one of the same id; without the key ring it can't be computed."""
    return tx.keys.mac("order", order_kind(order).value, order.fingerprint())


def _cancelled(order: AnyOrder) -> OrderCancelled:
    return OrderCancelled(
        f'order "{_own_id(order)}" of caller "{order.caller}" was cancelled', hint="Order again under a new id."
    )


def _mail_ref(filing: Filing, grant: models.Grant | None, block: models.Block | None) -> str:
    if grant is not None:
        return grant.id
    # Not the case: two owners may give the same one, and the customer hears of each.
    return block.id if block is not None else filing.order_id


def _own_id(order: AnyOrder) -> str:
    return order.case if isinstance(order, BlockOrder | UnblockOrder) else order.order


async def file_order(
    tx: WriteTx,
    filing: Filing,
    rows: LineRows,
    *,
    before: Snapshot | None,
    what: str,
    grant: models.Grant | None = None,
    block: models.Block | None = None,
    cancels: Cancels | None = None,
    mail_ref: str | None = None,
    anew: bool = False,
) -> Recorded:
    """Write everything down, parents first: without relationships the session does not know their order.

    `mail_ref` is what the messages are about, unless that is the grant, the block or the order.
    """
    settle(rows, now=filing.now, anew=anew)
    last = rows.last_grant
    recorded = Recorded(
        order_id=filing.order_id,
        line_id=rows.line.id,
        username=rows.line.username,
        plan=last.plan,
        ends_at=last.ends_at,
        revision=rows.line.revision,
        halves=rows.half_refs(),
        blocks=rows.block_infos(),
        grant_id=None if grant is None else grant.id,
        cancels=cancels,
        mail_ref=mail_ref or _mail_ref(filing, grant, block),
    )
    tx.session.add(rows.line)
    await tx.session.flush()
    tx.session.add(
        models.Order(
            id=filing.order_id,
            identity=filing.identity,
            kind=filing.kind,
            caller=filing.order.caller,
            ref=order_ref(filing.order),
            fingerprint=filing.fingerprint,
            line_id=rows.line.id,
            grant_id=recorded.grant_id,
            block_id=None if block is None else block.id,
            recorded=recorded.model_dump_json(),
            workflow_id=filing.workflow_id,
            created_at=filing.now,
        )
    )
    await tx.session.flush()
    tx.session.add_all([*rows.grants, *rows.blocks, *rows.halves])
    note(
        tx,
        at=filing.now,
        who=filing.order.caller if cancels is None else cancels.info.actor,
        what=what,
        why=filing.identity if cancels is None else cancels.info.reason,
        line_id=rows.line.id,
        before=before,
        after=rows.snapshot(),
    )
    return recorded
