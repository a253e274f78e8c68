"""Everything that can happen to a twinline, and what must hold then; the model test drives it.

Invariants are those of design.md, by number. What a customer can use is judged by the stand-ins' parsers, what should
be so by `picture`, which learns from the ledger only what was committed and when.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sqlmodel import col, func, select
from temporalio.service import RPCError

from starter.client import Twinline
from tests.whole.box import Box
from tests.whole.house import FIRST, FORGETFUL, House
from tests.whole.picture import PAIRS, Broken, Line, Picture, Told, identity, lifting, target
from twinline.errors import NothingToRetry, TwinlineError, Unavailable, UnknownHalf, UnknownOrder
from twinline.ledger import models
from twinline.ledger.filing import fingerprint_of
from twinline.ledger.lines import password_of
from twinline.ledger.mails import load_mail
from twinline.messages import (
    BlockOrder,
    BlockOwner,
    CancelOrder,
    CloseOrder,
    HalfState,
    MailKind,
    MailState,
    MoveOrder,
    NameOf,
    Order,
    OrderStatus,
    PasswordOrder,
    PurchaseOrder,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
    order_kind,
    order_ref,
    order_workflow_id,
)
from twinline.sandbox.mailcatcher import CaughtMail

OrderKind = Literal[
    "trial", "trial again", "buy", "buy line", "renew", "block", "block until", "unblock", "password", "move", "close",
    "cancel", "cancel here", "cancel any", "cancel last", "cancel in Temporal",
    "again", "by many", "other body", "forgotten",
]  # fmt: skip

BY_MANY: Final[Sequence[OrderKind]] = ("trial", "renew", "block", "move")
MOST_LINES: Final = 5
MILLISECOND: Final = timedelta(milliseconds=1)
FOREVER: Final = timedelta(hours=1)
ORDER_EVENTS: Final = frozenset(
    {
        "line.opened",
        "grant.given",
        "block.set",
        "block.joined",
        "block.lifted",
        "password.changed",
        "move.begun",
        "line.closed",
        "order.cancelled",
    }
)
SILENT: Final = frozenset({"order.settled", "half.retried", "half.abandoned"})


@dataclass
class Placed:
    """An order on its way, or done with."""

    order: Order
    outcome: asyncio.Task[OrderStatus]
    since: int
    """How many versions of the picture there were when it was placed."""
    judged: bool = False


@dataclass
class World:
    """One house, the picture of what it should be, and everything that was asked of it."""

    house: House
    versions: list[Picture] = field(default_factory=lambda: [Picture()])
    placed: list[Placed] = field(default_factory=list[Placed])
    pressed: list[CancelOrder] = field(default_factory=list[CancelOrder])
    """Cancellations that were asked for on Temporal's own pages."""
    counts: Counter[str] = field(default_factory=Counter[str])
    changes: list[tuple[datetime, int, str]] = field(default_factory=list[tuple[datetime, int, str]])
    """When each version began, and of which line it tells something new."""
    doubled: set[str] = field(default_factory=set[str])
    """Lines whose ends are kept, and mails handed over, in two Temporals that know nothing of each other."""
    answers_lost: int = 0
    """How often a mail server may have kept a mail without saying so."""
    refusing: bool = False
    """Whether a mail server ever refused a recipient for good."""
    disturbed: bool = False
    """Whether something may have kept the workers from being on time."""
    _numbers: int = 0
    _seen_events: int = 0
    _proven: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    _given_up: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """Halves that were given up, each with the revision that was wanted then."""
    _mails: set[str] = field(default_factory=set[str])
    _bodies: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """What was stored, by Message-ID."""
    _message_ids: list[str] = field(default_factory=list[str])
    """Of the mails that arrived, in that order."""

    @property
    def picture(self) -> Picture:
        return self.versions[-1]

    # -- orders

    def order(self, kind: OrderKind, which: int) -> Order | None:
        """Make an order up, if there is something that it can be about."""
        self._numbers += 1
        ref = f"o-{self._numbers}"
        lines = list(self.picture.lines.values())
        if kind in ("trial", "buy", "trial again"):
            if len(lines) >= MOST_LINES and kind != "trial again":
                return None
            email = f"person{self._numbers}@example.org"
            if kind == "buy":
                return PurchaseOrder(order=ref, email=email, region="eu", days=1 + which % 9)
            tried = sorted(self.picture.tried)
            if kind == "trial again" and tried:
                email = tried[which % len(tried)].upper()
            return TrialOrder(order=ref, email=email, region="eu")
        if not lines:
            return None
        return self._about(lines[which % len(lines)], kind, which, ref)

    def cancellation(self, kind: OrderKind, which: int) -> CancelOrder | None:
        """Take back something that was ordered: what gives time or moves by preference, the last order, or any."""
        if not self.placed:
            return None
        candidates = [placed.order for placed in self.placed]
        lines = list(self.picture.lines.values())
        if kind == "cancel last":
            return _cancelling(candidates[-1], self._numbers)
        if kind in ("cancel", "cancel here") and lines:
            if kind == "cancel here":
                which, at = divmod(which, len(lines))
                lines = [lines[at]]
            counts = {grant.order for line in lines for grant in line.open_grants}
            counts |= {identity(line.move.order) for line in lines if line.move is not None}
            candidates = [order for order in candidates if identity(order) in counts] or candidates
        return _cancelling(candidates[which % len(candidates)], self._numbers)

    def _about(self, line: Line, kind: OrderKind, which: int, ref: str) -> Order | None:
        owner = list(BlockOwner)[which % 4]
        match kind:
            case "buy line":
                return PurchaseOrder(order=ref, line=line.name, days=1 + which % 9)
            case "renew":
                return RenewalOrder(order=ref, line=line.name, days=1 + which % 9)
            case "block":
                return BlockOrder(case=f"c-{self._numbers}", line=line.name, reason="shared", owner=owner)
            case "block until":
                until = self.house.clock.now() + timedelta(minutes=1 + which * 37)
                return BlockOrder(case=f"c-{self._numbers}", line=line.name, reason="late", owner=owner, until=until)
            case "unblock":
                blocks = list(line.blocks.values())
                if not blocks:
                    return UnblockOrder(case="none", line=line.name)
                return lifting(blocks[which % len(blocks)])
            case "password":
                return PasswordOrder(order=ref, line=line.name)
            case "move":
                pair = next(name for name in PAIRS if name != line.pair)
                return MoveOrder(order=ref, line=line.name, pair=pair, overlap_hours=(0.0, 1.0, 24.0)[which % 3])
            case "close":
                return CloseOrder(order=ref, line=line.name)
            case _:
                return None

    async def place(self, kind: OrderKind, which: int) -> Placed | None:
        """Hand an order in, and do not wait for what becomes of it; None if there was none to be handed in."""
        if kind in ("again", "forgotten", "other body"):
            if not self.placed:
                return None
            chosen = self.placed[which % len(self.placed)]
            order = chosen.order
            if kind == "forgotten":
                if not chosen.outcome.done():
                    # No Temporal forgets what runs.
                    return None
                self.doubled.add(self.picture.lines_of.get(identity(order), ""))
                await self.house.start("orders", FORGETFUL)
                await self.house.start("hosts", FORGETFUL)
            elif kind == "other body":
                order = _another(order)
        elif kind == "by many":
            order = self.order(BY_MANY[which % len(BY_MANY)], which // len(BY_MANY))
        elif kind == "cancel in Temporal":
            await self._press_cancel(which)
            return None
        elif kind in ("cancel", "cancel here", "cancel any", "cancel last"):
            order = self.cancellation(kind, which)
        else:
            order = self.order(kind, which)
        if order is None:
            return None
        self.counts[f"order {kind}"] += 1
        twinline = self.house.forgetful if kind == "forgotten" else self.house.twinline
        for _ in range(7 if kind == "by many" else 1):
            waiting = asyncio.create_task(_placed(twinline, order))
            self.placed.append(Placed(order, waiting, len(self.versions) - 1))
        return self.placed[-1]

    async def is_taken(self, placed: Placed, *, within: float = 5.0) -> bool:
        """Wait until an order is in the ledger, or refused; whether it is there and not done."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not placed.outcome.done():
                    status = await self.house.twinline.progress(order_workflow_id(placed.order))
                    if status is not None and status.receipt is not None:
                        return not status.done
        return False

    async def _press_cancel(self, which: int) -> None:
        """Have a workflow that runs cancelled on Temporal's own pages."""
        running = [placed.order for placed in self.placed if not placed.outcome.done()]
        if not running:
            return
        order = running[which % len(running)]
        self.counts["order cancel in Temporal"] += 1
        asked = _cancelling(order, self._numbers)
        self.pressed.append(asked.model_copy(update={"actor": "temporal", "reason": "asked for in Temporal"}))
        with contextlib.suppress(RPCError):
            await self.house.clients[FIRST].get_workflow_handle(order_workflow_id(order)).cancel()

    def body(self, mail: models.Mail) -> bytes:
        """A message as it was stored."""
        return self._bodies[mail.message_id]

    @property
    def asked(self) -> Sequence[Order]:
        """Everything that was ever asked for."""
        return [*(placed.order for placed in self.placed), *self.pressed]

    async def ask(self, which: int, *, give_up: bool) -> None:
        """An operator has a waiting order tried again, or gives up one of its halves."""
        waiting = [placed for placed in self.placed if not placed.outcome.done()]
        if not waiting:
            return
        order = waiting[which % len(waiting)].order
        workflow_id = order_workflow_id(order)
        soon = timedelta(seconds=20)
        with contextlib.suppress(NothingToRetry, UnknownOrder, UnknownHalf):
            if give_up:
                self.counts["abandon"] += 1
                host = list(self.house.boxes)[which % 4]
                await self.house.twinline.abandon_half(workflow_id, host=host, reason="gone", patience=soon)
            else:
                self.counts["retry"] += 1
                await self.house.twinline.retry_now(workflow_id, patience=soon)

    async def give_up(self) -> None:
        """Let every order end without the halves that fail."""
        for order in [placed.order for placed in self.placed if not placed.outcome.done()]:
            status = await self.house.twinline.progress(order_workflow_id(order))
            halves = () if status is None or status.receipt is None else status.receipt.halves
            for half in halves:
                if half.state is HalfState.FAILING:
                    with contextlib.suppress(NothingToRetry, UnknownOrder):
                        await self.house.twinline.abandon_half(
                            order_workflow_id(order), host=half.host, reason="gone", patience=timedelta(seconds=20)
                        )
                        self.counts["halves given up"] += 1

    # -- what has to hold

    async def check(self) -> None:
        """Everything that holds at any moment."""
        first = len(self.versions) - 1
        ended = [placed for placed in self.placed if placed.outcome.done() and not placed.judged]
        await self._check_mails(first)
        self._check_outcomes(ended)
        # What is committed while we look is looked at once more.
        while await self._check_halves():
            pass

    async def _follow(self) -> None:
        """Take over what was committed since, each event by its own rule."""
        async with self.house.ledger.read() as tx:
            orders = {row.identity: row for row in await tx.session.exec(select(models.Order))}
            names = {row.id: (row.username, row.pair) for row in await tx.session.exec(select(models.Line))}
            query = select(models.Event).where(col(models.Event.id) > self._seen_events)
            events = list(await tx.session.exec(query.order_by(col(models.Event.id))))
            withdrawn = {row.identity for row in await tx.session.exec(select(models.Withdrawal))}
            bodies = {fingerprint_of(tx, order): order for order in self.asked}
        self._withdraw(withdrawn - self.picture.withdrawn)
        for event in events:
            self._seen_events = event.id or 0
            if event.what == "half.abandoned" and event.line_id is not None:
                half = json.loads(event.after or "{}")
                self._given_up[event.line_id, half["host"]] = half["wanted"]
            if event.line_id is None or event.what in SILENT:
                continue
            row = self._cancelling_row(event, orders) if event.what == "order.cancelled" else orders.get(event.why)
            why = event.why if row is None else row.identity
            grant_id = event.why.rpartition("/")[2] if event.what.startswith("grant.") else None
            if row is not None:
                grant_id = row.grant_id
            after: dict[str, Any] = json.loads(event.after or "{}")
            told = Told(event.what, why, event.at, names[event.line_id][0], grant_id, after)
            self._note_nearness(told)
            picture = self.picture.copy()
            self.versions.append(self._apply(picture, told, None if row is None else bodies.get(row.fingerprint)))
            self.changes.append((told.at, len(self.versions) - 1, told.username))
            self.counts[f"event {told.what}"] += 1

    def _note_nearness(self, told: Told) -> None:
        """Count what is ordered at the very moment of an end."""
        line = self.picture.lines.get(told.username)
        if line is None or told.what not in ORDER_EVENTS:
            return
        ends = [*(grant.ends_at for grant in line.grants.values() if grant.moved_at != grant.ends_at)]
        ends += [block.until for block in line.blocks.values() if block.until is not None]
        if any(abs(told.at - end) <= MILLISECOND for end in ends):
            self.counts[f"near: {told.what} within 1 ms of an end"] += 1

    def _withdraw(self, orders: Set[str]) -> None:
        if orders:
            self.counts["withdrawn"] += len(orders)
            picture = self.picture.copy()
            for order in orders:
                picture.withdraw(order)
            self.versions.append(picture)

    def _cancelling_row(self, event: models.Event, orders: Mapping[str, models.Order]) -> models.Order:
        """The cancellation that this event is about, which gives its reason where others name their order."""
        for row in orders.values():
            mine = row.kind == "cancel" and (row.line_id, row.created_at) == (event.line_id, event.at)
            if mine and row.identity not in self.picture.taken:
                return row
        raise Broken(f"I10: no order was cancelled at {event.at}")

    def _apply(self, picture: Picture, told: Told, body: Order | None) -> Picture:
        asked = {identity(order) for order in self.asked}
        match told.what:
            case "grant.ended" | "grant.unserved" | "grant.overtaken":
                picture.end(told)
            case "grant.started_late":
                picture.start_late(told)
            case "move.broken" | "move.called_off":
                picture.leave(told)
            case "block.lifted" if told.why not in asked:
                picture.lift(told)
            case _ if told.what in ORDER_EVENTS:
                picture = self._take(picture, told, body)
            case _:
                raise Broken(f"I10: no rule brings about {told.what} of {told.username}")
        line = picture.lines[told.username]
        shown = _readable(told.after)
        if line.shown() != shown:
            raise Broken(f"after {told.what} ({told.why}) {line.name} should be {line.shown()}, and is {shown}")
        return picture

    def _take(self, before: Picture, told: Told, body: Order | None) -> Picture:
        """An order was committed: of several bodies under one id the ledger's, or the one that explains what came."""
        asked = {order.fingerprint(): order for order in self.asked if identity(order) == told.why}
        if not asked:
            raise Broken(f"I10: nobody asked for {told.why}")
        if body is not None and body.fingerprint() in asked:
            asked = {body.fingerprint(): body}
        shown = _readable(told.after)
        picture = before
        for order in asked.values():
            picture = before.copy()
            try:
                picture.take(order, told, pair=str(told.after["pair"]))
            except Broken:
                if len(asked) == 1:
                    raise
                continue
            if picture.lines[told.username].shown() == shown:
                break
        return picture

    def _check_outcomes(self, ended: Sequence[Placed]) -> None:
        for placed in ended:
            placed.judged = True
            error = placed.outcome.exception()
            if error is None:
                self._check_receipt(placed.order, placed.outcome.result())
            elif isinstance(error, TwinlineError) and not isinstance(error, Unavailable):
                self._check_refusal(placed, error.type)
            else:
                raise Broken(f"{identity(placed.order)} came to nothing") from error

    def _check_receipt(self, order: Order, status: OrderStatus) -> None:
        receipt = status.receipt
        if isinstance(order, CancelOrder) and status.done and receipt is None:
            if target(order) not in self.picture.withdrawn:
                raise Broken(f"{identity(order)} was said to be done, and nothing was withdrawn")
            return
        taken = self.picture.taken.get(identity(order))
        if taken is None or taken.fingerprint() != order.fingerprint():
            raise Broken(f"{identity(order)} was said to be done, and nothing was committed")
        if not status.done or receipt is None:
            raise Broken(f"{identity(order)} ended without a receipt")
        cancelled = target(order) if isinstance(order, CancelOrder) else identity(order)
        if (receipt.cancelled is not None) and cancelled not in self.picture.cancelled:
            raise Broken(f"{identity(order)} was said to be cancelled, and it was not")
        if receipt.cancelled is not None and not isinstance(order, CancelOrder):
            # Its halves are the cancellation's by now.
            return
        for half in receipt.halves:
            if half.state not in (HalfState.APPLIED, HalfState.REMOVED, HalfState.ABANDONED):
                raise Broken(f"{identity(order)} is done, and its half on {half.host} is {half.state}")

    def _check_refusal(self, placed: Placed, why: str) -> None:
        order, now = placed.order, self.house.clock.now()
        at_some_time = {version.refusal(order, now) for version in self.versions[placed.since :]}
        rivals = [other for other in self.placed if other is not placed and other.order != order]
        if why == "OrderConflict":
            same = (identity(other.order) == identity(order) for other in rivals)
            at_some_time |= {"OrderConflict"} if any(same) else set()
        if isinstance(order, MoveOrder) and why == "MoveRunning":
            # Moved away from there, and not proven to be gone: what is proven is not in the picture.
            known = [version.lines[order.line] for version in self.versions if order.line in version.lines]
            was_there = any(set(PAIRS[order.pair]) <= line.left for line in known)
            at_some_time |= {"MoveRunning"} if was_there else set()
        if why not in at_some_time:
            raise Broken(f"{identity(order)} was refused as {why}, and never had to be: {at_some_time}")

    async def _check_halves(self) -> bool:
        """What is proven is so; True when too much happens meanwhile to say that."""
        await self._follow()
        async with self.house.ledger.read() as tx:
            last = (await tx.session.exec(select(func.max(models.Event.id)))).one()
            if last != self._seen_events:
                return True
            lines = {line.id: line for line in await tx.session.exec(select(models.Line))}
            halves = list(await tx.session.exec(select(models.Half)))
            passwords = {line.id: password_of(tx.keys, line).get_secret_value() for line in lines.values()}
        for half in halves:
            name, key = lines[half.line_id].username, (half.line_id, half.host)
            if half.proven < self._proven.get(key, 0):
                raise Broken(f"I11: {name} is proven less on {half.host} than before")
            self._proven[key] = half.proven
            if self._given_up.get(key) == half.wanted > half.proven and half.state is not HalfState.ABANDONED:
                raise Broken(f"{name} was given up on {half.host}, and its half is {half.state}")
            box = self.house.boxes[half.host]
            if half.proven == half.wanted and not box.set_back and name in self.picture.lines:
                self.check_served(box, name, passwords[half.line_id], "is proven")
        for box in self.house.boxes.values():
            strangers = box.ours().keys() - {line.username for line in lines.values()}
            if strangers:
                raise Broken(f"I10: {box.name} serves {strangers}")
            if box.others.keys() - box.served().keys():
                raise Broken(f"I3: {box.name} lost somebody else's account")
        return False

    def check_served(self, box: Box, name: str, password: str, why: str) -> None:
        """What a customer can use on a box is what the picture says; `why` it has to be so by now."""
        line = self.picture.lines[name]
        account = box.ours().get(name)
        if not line.served_on(box.name):
            if account is not None:
                raise Broken(f"I1: {name} {why} {line.state} on {box.name}, and can log in there")
            return
        if account is None or account.password != password:
            found = "no" if account is None else "another password in the"
            raise Broken(f"I11: {name} {why} present on {box.name}, and there is {found} account")
        if line.ends_at is not None and box.ends_too_early(account, line.ends_at):
            raise Broken(f"{box.name} itself ends {name} at {account.end}, before {line.ends_at}")

    # -- mails

    async def _check_mails(self, first: int) -> None:
        # Before the ledger, which may store and hand over another one meanwhile.
        caught = self._caught()
        async with self.house.ledger.read() as tx:
            rows = list(await tx.session.exec(select(models.Mail)))
            for row in rows:
                if row.message_id not in self._bodies:
                    self._bodies[row.message_id] = (await load_mail(tx, row.id)).body
            names = {row.id: row.username for row in await tx.session.exec(select(models.Line))}
            orders = list(await tx.session.exec(select(models.Order)))
        await self._follow()
        if len(self._bodies) != len(rows):
            raise Broken("I5: two messages with one Message-ID")
        once = {row.message_id for row in rows if names[row.line_id] not in self.doubled}
        copies = Counter(message_id for message_id, _ in caught if message_id in once)
        for message_id, mail in caught:
            if self._bodies.get(message_id) != mail.raw:
                raise Broken(f"I5: a mail that is not the one that was stored: {mail.subject}")
        more = sum(copies.values()) - len(copies)
        lost = self.answers_lost + self.house.times.watch.cut_off[NameOf.HAND_OVER_MAIL]
        if more > lost:
            raise Broken(f"I5: {more} mails were handed over again, and at most {lost} answers were lost")
        about = {each for order in orders for each in (order.id, order.grant_id, order.block_id)}
        ordered = {order.grant_id or order.id: order.identity for order in orders}
        for row in rows:
            if row.state is MailState.ACCEPTED and row.message_id not in self._message_ids:
                raise Broken(f"a {row.kind} mail was said to be accepted, and nobody has it")
            if row.state is MailState.REFUSED and not self.refusing:
                raise Broken(f"a {row.kind} mail was given up, and nobody refused it")
            if row.ref.partition("/")[0] not in about:
                raise Broken(f"I5: a {row.kind} mail about nothing that was ordered: {row.ref}")
            if row.id not in self._mails:
                self._mails.add(row.id)
                self.counts[f"mail {row.kind}"] += 1
                self._check_truth(row, names[row.line_id], first, order=ordered.get(row.ref.partition("/")[0]))

    def _caught(self) -> Sequence[tuple[str, CaughtMail]]:
        """What arrived, each mail with its id; a mail is read once, for that takes its time."""
        mails = self.house.mails.mails
        self._message_ids += [str(mail.message["Message-ID"]) for mail in mails[len(self._message_ids) :]]
        return list(zip(self._message_ids, mails, strict=True))

    def _check_truth(self, mail: models.Mail, name: str, first: int, *, order: str | None) -> None:
        """What a new mail says was so at some moment since we looked last."""
        was_cancelled = {order in version.cancelled for version in self.versions[first:]}
        if (mail.kind is MailKind.CANCELLED) not in was_cancelled:
            raise Broken(f"{name} was told {mail.kind} of {order}, and was it cancelled? {was_cancelled}")
        lately = [version.lines[name] for version in self.versions[first:] if name in version.lines]
        states = {line.state for line in lately}
        match mail.kind:
            case MailKind.CREDENTIALS:
                # Who is new and blocked needs them for the time after.
                new = any(mail.ref == next(iter(line.grants)) for line in lately)
                true = "present" in states or (new and "blocked" in states)
            case MailKind.SECOND_HALF:
                true = "present" in states
            case MailKind.BLOCKED:
                true = any(line.blocks for line in lately)
            case MailKind.CLOSED:
                true = any(line.closed for line in lately)
            case MailKind.UNSERVED:
                true = any(line.unserved for line in lately)
            case MailKind.CANCELLED:
                true = True
            case MailKind.REMINDER:
                grant = mail.ref.partition("/")[0]
                true = any(line.state == "present" and line.last is line.grants.get(grant) for line in lately)
            case _:
                true = states != {"absent"}
        if not true:
            raise Broken(f"{name} was told {mail.kind} while it was {states}")


async def _placed(twinline: Twinline, order: Order) -> OrderStatus:
    """Place an order as its own caller does."""
    if not isinstance(order, CancelOrder):
        return await twinline.place(order, patience=FOREVER)
    return await twinline.cancel(
        order.order,
        kind=order.of,
        reason=order.reason,
        caller=order.caller,
        actor=order.actor,
        patience=FOREVER,
    )


def _cancelling(order: Order, number: int) -> CancelOrder:
    """The order that takes another one back."""
    return CancelOrder(
        caller=order.caller,
        order=order_ref(order).partition("/")[0],
        of=order_kind(order),
        reason=f"refunded {number}",
        actor="olga",
    )


def _another(order: Order) -> Order:
    """The same id with another body."""
    match order:
        case TrialOrder() | PurchaseOrder(email=str()):
            return order.model_copy(update={"email": "somebody.else@example.org"})
        case RenewalOrder() | PurchaseOrder():
            return order.model_copy(update={"days": order.days + 1})
        case BlockOrder():
            return order.model_copy(update={"reason": "another one"})
        case MoveOrder():
            return order.model_copy(update={"overlap_hours": order.overlap_hours + 1})
        case CancelOrder():
            return order.model_copy(update={"actor": "ivan", "reason": "once more"})
        case _:
            return RenewalOrder(caller=order.caller, order=getattr(order, "order", "u-1"), line=order.line, days=1)


def _readable(after: dict[str, Any]) -> dict[str, object]:
    """What an event says of a line, to be compared."""
    ends_at = after["ends_at"]
    return {
        **{name: after[name] for name in ("revision", "pair", "state", "plan")},
        "ends_at": None if ends_at is None else datetime.fromisoformat(ends_at).astimezone(UTC),
        "blocks": set(after["blocks"]),
        "left": set(after["left"]),
    }
