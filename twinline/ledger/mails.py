"""Messages to customers: the facts they tell, the stored bytes, and how far each is."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import SecretStr
from sqlalchemy import bindparam, text
from sqlmodel import col, select, update

from twinline.errors import UnknownOrder
from twinline.ledger import models, rules
from twinline.ledger.halves import HalfProgress, progress_of
from twinline.ledger.lines import (
    block_info,
    email_of,
    halves_to_change,
    line_by_id,
    password_of,
    recipient_of,
    seal,
    unseal,
)
from twinline.ledger.rules import LineState
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.ledger.types import chunks, error_code, utc
from twinline.messages import BlockInfo, HalfState, MailKind, MailState, MailStored, Plan

_CERTAINTY: Final = (MailState.STORED, MailState.UNKNOWN, MailState.REFUSED, MailState.ACCEPTED)
"""What became of a message, each knowing more than the one before; it only ever moves to the right."""

KEPT: Final = timedelta(days=30)
"""How long the text of a message is kept: it names the password."""
FORGOTTEN_AT_ONCE: Final = 1_000
# Word for word as the index has it, or no database would use that.
_HAS_TEXT: Final = text("length(body_sealed) > 0")

# Made once, because making it costs as much as carrying it out.
_THIS: Final = select(models.Mail).where(
    models.Mail.line_id == bindparam("line_id"),
    models.Mail.kind == bindparam("kind"),
    models.Mail.ref == bindparam("ref"),
)


@dataclass(frozen=True, kw_only=True)
class LedgerMailFacts:
    """What is true about a line at this moment, for a message about it."""

    recipient: SecretStr
    username: str
    password: SecretStr
    plan: Plan
    ends_at: datetime
    state: LineState
    last_grant: str
    """Id of the grant that tells plan and end."""
    halves: tuple[HalfProgress, ...]
    """Those that the customer is told of."""
    old_until: datetime | None
    """While a move keeps the old pair: until when."""
    old_serves: bool
    """Whether a server of the old pair was last seen to serve the line."""
    blocks: tuple[BlockInfo, ...]
    """The active ones."""
    about: BlockInfo | None
    """The active block that the message is about."""
    about_time: bool
    """Whether the message is about a grant."""
    new: bool
    """Whether the customer has no credentials yet, or the message is about the grant with which the line was opened."""
    unserved: bool
    """Whether the line has ended before its customer was given the credentials."""


@dataclass(frozen=True, kw_only=True)
class LoadedMail:
    """A stored message, ready to be handed over."""

    mail_id: str
    line_id: str
    kind: MailKind
    message_id: str
    state: MailState
    attempts: int
    recipient: SecretStr
    body: bytes = field(repr=False)


async def mail_facts(tx: ReadTx, line_id: str, *, ref: str) -> LedgerMailFacts:
    """Read what a message about this line may tell; `ref` is its grant or block. Raises UnknownLine, KeyRingError."""
    rows = await line_by_id(tx, line_id)
    # Orders that were taken by earlier releases name their block by its case.
    about = [block for block in rows.active_blocks if ref in (block.id, block.case)]
    return LedgerMailFacts(
        recipient=email_of(tx.keys, rows.line),
        username=rows.line.username,
        password=password_of(tx.keys, rows.line),
        plan=rows.last_grant.plan,
        ends_at=rows.last_grant.ends_at,
        state=rows.line.state,
        last_grant=rows.last_grant.id,
        halves=tuple(progress_of(half) for half in rows.told_halves),
        old_until=next((half.leaves_at for half in rows.leaving_halves), None),
        old_serves=any(half.proven_state is HalfState.APPLIED for half in rows.leaving_halves),
        blocks=rows.block_infos(),
        about=block_info(about[-1]) if about else None,
        about_time=any(grant.id == ref for grant in rows.grants),
        new=rows.untold or min(rows.grants, key=lambda grant: grant.starts_at).id == ref,
        unserved=rows.unserved,
    )


async def stored_mail(tx: ReadTx, line_id: str, *, kind: MailKind, ref: str) -> MailStored | None:
    """The message of this kind for this grant or block, if one was stored."""
    mail = await _find(tx, line_id, kind, ref)
    return None if mail is None else _stored(mail)


async def store_mail(
    tx: WriteTx,
    line_id: str,
    *,
    kind: MailKind,
    ref: str,
    message_id: str,
    body: bytes,
    now: datetime,
    follow: AbstractSet[str] | None = None,
) -> MailStored | None:
    """Keep a message before it is handed over; the first writer wins, and everybody gets what it stored.

    `follow` are the hosts of which it promises to tell later, and by it nothing else of the line is owed any more; None
    for a message that changes nothing of that. None is given back when the order that it is about was cancelled
    meanwhile: whoever cancels it tells the customer, if need be.
    """
    await tx.alone("mail", line_id, kind, ref)
    halves = () if follow is None else await halves_to_change(tx, line_id)
    mail = await _find(tx, line_id, kind, ref)
    if mail is None and kind is not MailKind.CANCELLED and await _was_cancelled(tx, ref):
        return None
    if mail is None:
        mail_id = rules.new_id(tx.random)
        mail = models.Mail(
            id=mail_id,
            line_id=line_id,
            kind=kind,
            ref=ref,
            message_id=message_id,
            body_sealed=seal(tx.keys, "mail", mail_id, "body", body),
            created_at=utc(now),
        )
        tx.session.add(mail)
        for half in halves:
            half.owed = ref if follow and half.host in follow else None
    return _stored(mail)


async def load_mail(tx: ReadTx, mail_id: str) -> LoadedMail:
    """Read a stored message with its recipient; raises UnknownOrder, UnknownLine, KeyRingError."""
    mail = await _get(tx, mail_id)
    return LoadedMail(
        mail_id=mail.id,
        line_id=mail.line_id,
        kind=mail.kind,
        message_id=mail.message_id,
        state=mail.state,
        attempts=mail.attempts,
        recipient=await recipient_of(tx, mail.line_id),
        body=unseal(tx.keys, "mail", mail.id, "body", mail.body_sealed) if mail.body_sealed else b"",
    )


async def forget_texts(tx: WriteTx, *, now: datetime) -> int:
    """Forget what messages said that were handed over, or refused for good, once they are `KEPT` old; how many.

    A bounded number at a time. One that still waits keeps its text, or it could never be handed over.
    """
    # Every host's sweep does this: two that lock the same rows in another order would wait for each other.
    await tx.alone("mail-texts")
    mail = models.Mail
    over = col(mail.state).in_((MailState.ACCEPTED, MailState.REFUSED))
    old = select(mail.id).where(_HAS_TEXT, col(mail.created_at) <= utc(now) - KEPT, over)
    ids = (await tx.session.exec(old.order_by(col(mail.created_at)).limit(FORGOTTEN_AT_ONCE))).all()
    for some in chunks(ids):
        await tx.session.exec(update(mail).where(col(mail.id).in_(some)).values(body_sealed=b""))
    return len(ids)


async def record_handover(
    tx: WriteTx, mail_id: str, *, state: MailState, now: datetime, error: str | None = None
) -> MailState:
    """Record one try to hand a message over, and give what is known of it now; raises UnknownOrder, ValueError.

    `stored` means that the try failed and may be repeated. Knowledge never gets less: what was accepted stays
    accepted, and a try after an unknown outcome that fails leaves it unknown.
    """
    mail = await _get(tx, mail_id)
    if mail.state is MailState.ACCEPTED:
        return mail.state
    mail.attempts += 1
    mail.last_error = None if error is None else error_code(error)
    mail.state = max(mail.state, state, key=_CERTAINTY.index)
    if mail.state is MailState.ACCEPTED:
        mail.accepted_at = utc(now)
    return mail.state


async def _was_cancelled(tx: WriteTx, ref: str) -> bool:
    """Whether this is about a grant or an order that was taken back, keeping it from that until we are through."""
    about = ref.partition("/")[0]
    grant = await tx.row(models.Grant, about)
    if grant is not None:
        return grant.ending == "cancelled"
    order = await tx.row(models.Order, about)
    return order is not None and order.cancelled_at is not None


async def _find(tx: ReadTx, line_id: str, kind: MailKind, ref: str) -> models.Mail | None:
    asked = {"line_id": line_id, "kind": kind, "ref": ref}
    return (await tx.session.exec(_THIS, params=asked)).one_or_none()


async def _get(tx: ReadTx, mail_id: str) -> models.Mail:
    mail = await tx.row(models.Mail, mail_id)
    if mail is None:
        raise UnknownOrder(
            f"there is no message with the id {mail_id}",
            hint="Was its line erased, or the ledger restored from a backup?",
        )
    return mail


def _stored(mail: models.Mail) -> MailStored:
    return MailStored(mail_id=mail.id, kind=mail.kind, message_id=mail.message_id, state=mail.state)
