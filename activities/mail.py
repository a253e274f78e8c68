"""Writing the message that is true now, and handing it over."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.errors import translated
from activities.heartbeat import heartbeats
from twinline import mail as mailing
from twinline import metrics
from twinline.errors import Unavailable
from twinline.inventory import Inventory
from twinline.keys import KeyRing
from twinline.ledger import Ledger, mails
from twinline.ledger.halves import HalfProgress
from twinline.ledger.mails import LedgerMailFacts, LoadedMail
from twinline.messages import HalfState, MailChoice, MailKind, MailState, MailTask, NameOf

SMTP_TIMEOUT = 60.0
NOTE_PATIENCE, NOTE_PAUSE = 30.0, 0.5
"""Seconds for which an outcome is recorded again while the ledger is away, and between two tries; with the conversation
that is less than the activity has."""


class MailActivities:
    """Stores messages in the ledger and hands them to the mail server."""

    def __init__(
        self, *, ledger: Ledger, inventory: Inventory, keys: KeyRing, target: mailing.SmtpTarget, tls: Any = None
    ) -> None:
        self._ledger = ledger
        self._inventory = inventory
        self._keys = keys
        self._target = target
        self._tls = tls
        self._composer = mailing.default_composer()

    def local(self) -> Sequence[Callable[..., Any]]:
        """The activities that touch the ledger only."""
        return [self.store_mail]

    def remote(self) -> Sequence[Callable[..., Any]]:
        """The activities that talk to the mail server."""
        return [self.hand_over_mail]

    @activity.defn(name=NameOf.STORE_MAIL)
    async def store_mail(self, task: MailTask) -> MailChoice:
        """Write what is true of the line at this moment, once per (line, kind, grant or block)."""
        with translated():
            async with self._ledger.read() as tx:
                known = await mails.stored_mail(tx, task.line_id, kind=task.kind, ref=task.ref)
                facts = await mails.mail_facts(tx, task.line_id, ref=task.ref)
            told = self._tell(task, facts) if known is None else None
            if told is None:
                return MailChoice(stored=known, unserved=facts.unserved)
            # Composed before the write transaction, which all other orders would wait for.
            message_id = self._message_id(told.kind, task)
            body = self._composer.compose(told, message_id=message_id, date=task.at)
            async with self._ledger.write() as tx:
                stored = await mails.store_mail(
                    tx,
                    task.line_id,
                    kind=told.kind,
                    ref=task.ref,
                    message_id=message_id,
                    body=body,
                    now=task.at,
                    follow=_follow(told, facts),
                )
            return MailChoice(stored=stored)

    def _tell(self, task: MailTask, facts: LedgerMailFacts) -> mailing.MailFacts | None:
        """The message of this kind as far as it is true now; None when there is nothing left to say."""
        gone = task.kind is MailKind.CLOSED or (task.kind is MailKind.CANCELLED and facts.state == "absent")
        told = HalfState.REMOVED if gone else HalfState.APPLIED
        serving = [half for half in facts.halves if half.proven_state is told]
        in_step = {half.host for half in serving if half.proven == half.wanted}
        if task.kind is MailKind.SECOND_HALF:
            # What changed meanwhile may be the password; once the half is in step again, this is told after all.
            ready = in_step & set(task.hosts)
        elif task.kind in mailing.SHOWS_CREDENTIALS:
            # What the order has not seen proven follows in a message of its own, so it must not be told here.
            ready = {half.host for half in serving} & set(task.hosts)
        else:
            ready = in_step
        if facts.blocks and not gone:
            # A block may not have reached every server yet, and no entry of such a line is to be told as ready.
            ready.clear()
        kind = _true_kind(task, facts, ready, serves=bool(serving))
        if kind is None:
            return None
        halves = facts.halves
        if kind is MailKind.SECOND_HALF:
            halves = tuple(half for half in halves if half.host in ready)
            if len(halves) != 1:
                # The line has moved meanwhile, and the mail of the move tells of the other entries.
                return None
        about = (facts.about,) if kind is MailKind.BLOCKED and facts.about is not None else facts.blocks
        service = self._inventory.service
        return mailing.MailFacts(
            kind=kind,
            service=mailing.Service(
                name=service.name,
                rights_holder=service.rights_holder,
                abuse_contact=service.abuse_contact,
                support_email=service.support_email,
                mail_from=_bare(service.mail_from),
                public_url=service.public_url,
            ),
            recipient=facts.recipient.get_secret_value(),
            username=facts.username,
            password=facts.password if kind in mailing.SHOWS_CREDENTIALS else None,
            plan=facts.plan,
            ends_at=facts.ends_at,
            entries=tuple(self._entry(half, ready) for half in halves),
            blocks=tuple(
                mailing.BlockNotice(owner=block.owner, reason=block.reason, case=block.case, until=block.until)
                for block in about
            ),
            reference=task.reference,
            old_until=_old_until(facts, task.at) if kind is MailKind.MOVED else None,
            taken_back=_taken_back(facts) if kind is MailKind.CANCELLED else None,
        )

    def _entry(self, half: HalfProgress, ready: set[str]) -> mailing.Entry:
        public = self._inventory.host(half.host).public
        return mailing.Entry(protocol=half.protocol, host=public.address, port=public.port, ready=half.host in ready)

    def _message_id(self, kind: MailKind, task: MailTask) -> str:
        domain = mailing.parse_address(_bare(self._inventory.service.mail_from)).domain
        return mailing.message_id_for(kind, task.line_id, task.ref, key=self._keys.mac("message-id"), domain=domain)

    @activity.defn(name=NameOf.HAND_OVER_MAIL)
    async def hand_over_mail(self, mail_id: str) -> MailState:
        """Hand a stored message over; the same bytes again only while the outcome is not known to be final."""
        with translated():
            async with self._ledger.read() as tx:
                mail = await mails.load_mail(tx, mail_id)
            if mail.state in (MailState.ACCEPTED, MailState.REFUSED):
                return mail.state
            async with heartbeats():
                if mail.attempts < activity.info().attempt - 1:
                    # An earlier try left no word. A ledger that can't even take this would not take the next one's.
                    await self._note(mail_id, MailState.UNKNOWN, "unrecorded")
                return await self._try(mail)

    async def _try(self, mail: LoadedMail) -> MailState:
        """Hand a message over once, and record what became of it."""
        try:
            await self._hand_over(mail)
        except mailing.MailRefused as error:
            metrics.MAILS.labels(mail.kind, "refused").inc()
            return await self._note(mail.mail_id, MailState.REFUSED, f"{error.stage}:{error.code}")
        except mailing.MailTemporary as error:
            metrics.MAILS.labels(mail.kind, "temporary").inc()
            await self._note(mail.mail_id, MailState.STORED, f"{error.stage}:{error.code}")
            raise _again(error) from None
        except mailing.MailOutcomeUnknown as error:
            metrics.MAILS.labels(mail.kind, "unknown").inc()
            await self._note(mail.mail_id, MailState.UNKNOWN, f"{error.stage}:{error.code}")
            raise _again(error) from None
        metrics.MAILS.labels(mail.kind, "accepted").inc()
        return await self._note(mail.mail_id, MailState.ACCEPTED, None)

    async def _hand_over(self, mail: LoadedMail) -> None:
        await mailing.hand_over(
            self._target,
            sender=_bare(self._inventory.service.mail_from),
            recipient=mail.recipient.get_secret_value(),
            message=mail.body,
            timeout=SMTP_TIMEOUT,
            tls_context=self._tls,
        )

    async def _note(self, mail_id: str, state: MailState, error: str | None) -> MailState:
        """Record what became of a try, although the ledger is away for a while or the worker ends.

        An answer that is forgotten is a mail that comes again. Raises Unavailable when the ledger stays away.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + NOTE_PATIENCE
        while True:
            recording = asyncio.create_task(self._record(mail_id, state, error))
            try:
                return await asyncio.shield(recording)
            except asyncio.CancelledError:
                return await recording
            except Unavailable:
                if loop.time() > until:
                    raise
            await asyncio.sleep(NOTE_PAUSE)

    async def _record(self, mail_id: str, state: MailState, error: str | None) -> MailState:
        async with self._ledger.write() as tx:
            return await mails.record_handover(tx, mail_id, state=state, now=datetime.now(UTC), error=error)


def _true_kind(task: MailTask, facts: LedgerMailFacts, ready: set[str], *, serves: bool) -> MailKind | None:
    """What can truthfully be said by now, since other orders may have come in between.

    `serves` says whether any server was last seen to serve the line.
    """
    kind = task.kind
    if kind is MailKind.BLOCKED:
        return kind if facts.about is not None else None
    if kind in (MailKind.CLOSED, MailKind.CANCELLED):
        return kind
    if kind is MailKind.UNSERVED:
        return kind if facts.unserved else None
    if facts.state == "absent":
        return None
    if kind is MailKind.REMINDER:
        # Who is blocked has other worries than the end, and reads it with the lifting; who was never served has no
        # line that could stop working.
        told = facts.state == "present" and serves and facts.last_grant == task.grant_id
        return kind if told else None
    if kind is MailKind.DELAYED:
        # A block was told of; and what works by now is about to be.
        return None if facts.blocks or serves else kind
    if kind is MailKind.CREDENTIALS and facts.blocks:
        # Who has the credentials hears that the time was added and why the line is off. A new customer has none, and
        # would be left without them once the block is lifted.
        return kind if facts.new else MailKind.EXTENDED
    if kind is MailKind.MOVED or (kind is MailKind.PASSWORD and facts.blocks):
        return kind
    if kind in mailing.SHOWS_CREDENTIALS and (facts.blocks or not ready):
        return None
    return kind


def _follow(told: mailing.MailFacts, facts: LedgerMailFacts) -> frozenset[str] | None:
    """The hosts of which the message says that one more will come; None if it leaves that as it was."""
    if told.kind is MailKind.UNSERVED:
        return frozenset()
    if told.kind not in mailing.SHOWS_CREDENTIALS:
        return None
    waiting = {entry.protocol for entry in told.entries if not entry.ready}
    if told.blocks or len(waiting) != 1:
        return frozenset()
    return frozenset(half.host for half in facts.halves if half.protocol in waiting)


def _taken_back(facts: LedgerMailFacts) -> mailing.TakenBack:
    if not facts.about_time:
        return "move"
    return "line" if facts.state == "absent" else "time"


def _old_until(facts: LedgerMailFacts, now: datetime) -> datetime | None:
    """Until when the entries of before a move work, if they do."""
    if facts.old_until is None or facts.old_until <= now or not facts.old_serves:
        return None
    return min(facts.old_until, facts.ends_at)


def _bare(address: str) -> str:
    """`name@domain` out of `Name <name@domain>`."""
    return address.rpartition("<")[2].rstrip("> ")


def _again(error: mailing.HandOverError) -> ApplicationError:
    return ApplicationError(
        str(error),
        type=type(error).__name__,
        category=ApplicationErrorCategory.BENIGN,
        next_retry_delay=timedelta(seconds=2) if isinstance(error, mailing.MailOutcomeUnknown) else None,
    )
