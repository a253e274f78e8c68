"""How far an order is by what the ledger alone knows; it keeps no receipt of an order that still goes on."""

from typing import Final

from twinline.ledger import Ledger
from twinline.ledger.halves import line_progress
from twinline.ledger.mails import stored_mail
from twinline.ledger.queries import OrderView
from twinline.ledger.tx import ReadTx
from twinline.messages import MailKind, MailReceipt, OrderKind, Receipt

# The kinds that an order may send, the latest first.
_MAILS: Final = {
    OrderKind.BLOCK: (MailKind.BLOCKED,),
    OrderKind.UNBLOCK: (MailKind.UNBLOCKED,),
    OrderKind.PASSWORD: (MailKind.SECOND_HALF, MailKind.PASSWORD),
    OrderKind.MOVE: (MailKind.MOVED,),
    OrderKind.CLOSE: (MailKind.CLOSED,),
    OrderKind.CANCEL: (MailKind.CANCELLED,),
    OrderKind.IMPORT: (),
}
_MAILS_ABOUT_TIME: Final = (
    MailKind.UNSERVED,
    MailKind.SECOND_HALF,
    MailKind.CREDENTIALS,
    MailKind.EXTENDED,
    MailKind.DELAYED,
)


async def receipt_from_ledger(ledger: Ledger, view: OrderView) -> Receipt:
    """The halves and the mail as they stand now; raises Unavailable."""
    recorded, own_id = view.recorded, view.ref.partition("/")[0]
    async with ledger.read() as tx:
        halves = await line_progress(tx, recorded.line_id)
        hosts = {half.host for half in recorded.halves}
        mail = await _last_mail(tx, view, recorded.mail_ref)
    return Receipt(
        order=own_id,
        kind=view.kind,
        line=recorded.line_id,
        username=view.username,
        plan=recorded.plan,
        ends_at=recorded.ends_at,
        blocks=recorded.blocks,
        halves=tuple(half.receipt() for half in halves if half.host in hosts),
        mail=mail,
        workflow_id=view.workflow_id,
        cancelled=view.cancelled,
        old_until=next((half.leaves_at for half in halves if half.leaving_order == view.order_id), None),
    )


async def _last_mail(tx: ReadTx, view: OrderView, ref: str) -> MailReceipt | None:
    for kind in _MAILS.get(view.kind, _MAILS_ABOUT_TIME):
        stored = await stored_mail(tx, view.recorded.line_id, kind=kind, ref=ref)
        if stored is not None:
            return MailReceipt(kind=stored.kind, state=stored.state, message_id=stored.message_id)
    return None
