"""What a caller with a token may ask for, and the answers: the same for whoever asks through whatever door."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import AwareDatetime, Field

from starter import discretion, order_lookup, taking
from starter.access import (
    SCOPES,
    is_untold,
    may_be_about_no_line,
    refuse_others_blocks,
    require,
    require_look,
    require_own_line,
    require_whole_house,
    runs_the_house,
    unknown_line,
    whose_orders,
)
from starter.attention import RunningWorkflow, StuckList, linked, what_waits, with_links, with_temporal
from starter.bulk_desk import BulkDesk
from starter.checks import check_address
from starter.client import FoundOrder, Twinline
from starter.limits import FAILURES_A_MINUTE, Allowance, Buckets
from starter.order_ids import OrderId, unknown_order
from starter.trial_door import ACCEPTED, TrialDoor, TrialRules
from twinline.errors import (
    InvalidOrder,
    InvalidToken,
    LineErased,
    OrderCancelled,
    TooManyRequests,
    TwinlineError,
    Unavailable,
    UnknownOrder,
)
from twinline.ledger import Ledger, tokens
from twinline.ledger.events import EventPage, line_events
from twinline.ledger.filing import earlier_order
from twinline.ledger.queries import (
    LineFilter,
    LinePage,
    LineView,
    OrderFilter,
    OrderView,
    is_opened_by,
    line_view,
    list_lines,
    list_orders,
    reveal_password,
)
from twinline.ledger.schema import is_current
from twinline.ledger.stuck import running_workflows
from twinline.ledger.tokens import TokenView
from twinline.ledger.trial_door import refuse_taken_id, was_asked_for
from twinline.messages import (
    GRACE,
    CancelOrder,
    Message,
    Order,
    OrderKind,
    Receipt,
    Refusal,
    TrialOrder,
    order_kind,
    order_workflow_id,
)
from twinline.tokens import Scope, allows, parse_token, use_is_due
from twinline.ui import Page

# Not all that a database is asked for can be in one: PostgreSQL takes no NUL.
_NAME: Final = re.compile(r"[A-Za-z0-9]{1,20}", re.ASCII)


class OrderAnswer(Message):
    """How far an order is. `receipt` is empty until the ledger has taken it; `refused` says why it never will."""

    id: str
    """Names this order among all of its caller, cases of blocks included."""
    order: str
    kind: OrderKind
    done: bool
    receipt: Receipt | None = None
    refused: Refusal | None = None
    repaired: tuple[str, ...] = ()
    """Hosts that the order ended without, and that were brought in step since."""
    changed: bool = Field(default=False, exclude_if=lambda changed: not changed)
    """Whether the line has changed since the order ended as `receipt` says: ask for the line."""
    temporal_ui: str | None = Field(default=None, exclude_if=lambda page: page is None)
    """Its page in Temporal's web interface, for a token with `admin` where the operator told where that is."""
    note: str | None = None
    """All there is to be told of a trial to a caller who may not know what becomes of it."""


class OrderSummary(Message):
    """An order in a list; `GET /v1/orders/{id}` tells more."""

    id: str
    order: str
    kind: OrderKind
    caller: str
    line: str
    done: bool
    taken_at: AwareDatetime
    settled_at: AwareDatetime | None
    cancelled_at: AwareDatetime | None
    temporal_ui: str | None = Field(default=None, exclude_if=lambda page: page is None)


class OrderList(Message):
    """Orders, the newest first; `cursor` leads to the next page, None on the last."""

    orders: tuple[OrderSummary, ...]
    cursor: str | None


class LineAnswer(LineView):
    """A line; `password` is there for a caller with `credentials:read` alone."""

    password: str | None = Field(default=None, repr=False)
    workflows: tuple[RunningWorkflow, ...] | None = Field(default=None, exclude_if=lambda found: found is None)
    """What goes on for the line, for a token with `admin` alone."""


class Readiness(Message):
    """Whether orders can be taken, and what keeps them from being taken."""

    ready: bool
    ledger: str
    temporal: str
    workers: str
    """Orders are safe without one, and nobody works on them."""


@dataclass(frozen=True)
class Admitted:
    """Whose token it is, and how many requests may follow with it."""

    who: TokenView
    allowance: Allowance


@dataclass(frozen=True)
class Placed:
    """An order that was placed; `known` when it had been before."""

    answer: OrderAnswer
    known: bool


class Desk:
    """Takes orders and questions of callers that showed a token.

    Rates are counted in the memory of this process; `clock` gives seconds, and never goes back. One sender may fail
    `failures` times a minute to show a token that counts.
    """

    def __init__(
        self,
        ledger: Ledger,
        twinline: Twinline,
        *,
        trials: TrialRules | None = None,
        page: Page | None = None,
        grace: timedelta = GRACE,
        clock: Callable[[], float] = time.monotonic,
        failures: int = FAILURES_A_MINUTE,
    ) -> None:
        self._ledger = ledger
        self._twinline = twinline
        self._page = page
        self._grace = grace
        self.bulk = BulkDesk(ledger, twinline)
        self._trial_door = TrialDoor(ledger, trials or TrialRules())
        self._requests = Buckets(clock=clock)
        self._failures = Buckets(clock=clock)
        self._failure_rate = failures

    async def admit(self, token: str | None, *, sender: str) -> Admitted:
        """Whose token that is; `sender` is who sends it, as far as an address tells.

        Who failed too often is not even looked at, unless a token of that id was seen to count by this process.
        Raises InvalidToken, TooManyRequests, Unavailable.
        """
        shown = None if token is None else parse_token(token)
        failures = self._failures.look(sender, self._failure_rate)
        if failures.exceeded and (shown is None or shown.token_id not in self._requests):
            raise TooManyRequests(
                "too many requests without a token that counts came from this address",
                hint="Wait as long as Retry-After says, then send a token that counts.",
                wait=failures.wait,
            )
        try:
            who = await self._who(token)
        except InvalidToken:
            self._failures.take(sender, self._failure_rate)
            raise
        allowance = self._requests.take(who.token_id, who.rate)
        if allowance.exceeded:
            raise TooManyRequests(
                f"this token may send {who.rate} requests a minute",
                hint="Wait as long as Retry-After says; nothing was done.",
                wait=allowance.wait,
            )
        return Admitted(who, allowance)

    async def _who(self, token: str | None) -> TokenView:
        if token is None:
            raise InvalidToken("this needs a token", hint="Send it as  Authorization: Bearer twl_…")
        now = datetime.now(UTC)
        async with self._ledger.read() as tx:
            found = await tokens.check_token(tx, token, now=now)
        if use_is_due(found.last_used_at, now):
            # A ledger whose disk is full still answers who only reads.
            with contextlib.suppress(Unavailable):
                async with self._ledger.write() as tx:
                    await tokens.note_use(tx, found.token_id, now=now)
        return found

    async def place(
        self, order: Order, who: TokenView, *, patience: timedelta | None, client: str | None = None
    ) -> Placed:
        """Place an order and wait for its end, or without `patience` until it is taken; `client` is from where a
        customer asks for a trial, if that is told.

        Raises what refused it, ScopeMissing, and UnknownLine for a line of somebody else. Of a trial a caller who may
        not read lines is told only what would refuse it whoever asks.
        """
        require(who, SCOPES[order_kind(order)])
        refuse_others_blocks(who, order)
        address = check_address(order)
        untold = isinstance(order, TrialOrder) and is_untold(who)
        as_taken = order
        if isinstance(order, TrialOrder) and address is not None:
            # The ledger keeps it in its plain form.
            as_taken = order.model_copy(update={"email": address.text})
        known = await self._is_known(as_taken, who, untold=untold)
        if isinstance(as_taken, TrialOrder) and address is not None:
            await self._trial_door.admit(as_taken, address, who, client=client, known=known)
        if untold:
            await self._twinline.hand_in(order)
            return Placed(_untold_answer(OrderId.of(order)), known=False)
        return await self._placed(order, who, patience, as_taken=as_taken, known=known)

    async def _placed(
        self, order: Order, who: TokenView, patience: timedelta | None, *, as_taken: Order, known: bool
    ) -> Placed:
        status = await taking.place(
            self._ledger, self._twinline, order, as_taken=as_taken, new=not known, patience=patience
        )
        answer = _answer(OrderId.of(order), done=status.done, receipt=_receipt_for(who, status.receipt))
        later = await self._since(status.receipt, done=status.done) if known else {}
        page = self._page_for(who, order_workflow_id(order))
        return Placed(answer.model_copy(update={**later, "temporal_ui": page}), known=known)

    async def _since(self, receipt: Receipt | None, *, done: bool) -> dict[str, object]:
        """What an answer tells beside a receipt, because it came later."""
        if receipt is None:
            return {}
        found = await order_lookup.since(self._ledger, receipt)
        return {"repaired": tuple(half.host for half in found.repaired), "changed": done and found.changed}

    async def _is_known(self, order: Order, who: TokenView, *, untold: bool) -> bool:
        """Whether the ledger has this order; raises what speaks against it there."""
        line = None if isinstance(order, TrialOrder | CancelOrder) else order.line
        async with self._ledger.read() as tx:
            if line is not None:
                await require_own_line(tx, line, who)
            await refuse_taken_id(tx, order)
            try:
                return await earlier_order(tx, order) is not None
            except (LineErased, OrderCancelled):
                if not untold:
                    raise
                return True

    async def cancel(self, text: str, who: TokenView, *, reason: str, patience: timedelta | None) -> Placed:
        """Take an order of this caller back, and wait as `place` does; gives the cancellation, an order of its own.

        `reason` is kept for ever. Raises UnknownOrder, CannotCancel, InvalidOrder (ambiguous), ScopeMissing.
        """
        name = OrderId.parse(text)
        if is_untold(who) and allows(who.scopes, Scope.TRIALS_CREATE) and name.may_be_trial:
            require(who, Scope.LINES_READ)
        view = await self._view(name, who, who.caller)
        if view is None:
            found = await self._untaken(name, who, who.caller)
            if found is None or found.standing != "running":
                raise unknown_order()
            own_id, kind = found.order, found.kind
        else:
            own_id, kind = OrderId(kind=view.kind, ref=view.ref).own, view.kind
        require(who, SCOPES[kind])
        order = CancelOrder(caller=who.caller, order=own_id, of=kind, reason=reason, actor=who.caller)
        known = view is not None and view.cancelled_at is not None
        return await self._placed(order, who, patience, as_taken=order, known=known)

    async def order(self, text: str, who: TokenView, *, caller: str | None = None) -> OrderAnswer:
        """How far an order is of this caller, or for who runs the house of another `caller`.

        Raises UnknownOrder, InvalidOrder (ambiguous), ScopeMissing.
        """
        name, whose = OrderId.parse(text), whose_orders(who, caller) or who.caller
        if is_untold(who) and name.kind is OrderKind.CANCEL and name.may_be_trial:
            raise unknown_order()
        view = await self._view(name, who, whose)
        if view is None:
            return await self._not_taken(name, who, whose)
        full = OrderId(kind=view.kind, ref=view.ref)
        require_look(who, full)
        if view.kind is OrderKind.TRIAL and is_untold(who):
            return _untold_answer(full)
        told = await order_lookup.tell(self._ledger, self._twinline, view)
        later = await self._since(told.receipt, done=told.done)
        answer = _answer(full, done=told.done, receipt=_receipt_for(who, told.receipt))
        page = self._page_for(who, view.workflow_id)
        return answer.model_copy(update={**later, "temporal_ui": page})

    async def orders(self, wanted: OrderFilter, who: TokenView, *, cursor: str | None, limit: int) -> OrderList:
        """List orders that were taken: the caller's own, or for who runs the house of all callers.

        Raises ScopeMissing, InvalidOrder (no such cursor).
        """
        require(who, Scope.LINES_READ)
        narrowed = {"caller": whose_orders(who, wanted.caller), "opened_by": who.caller if who.reseller else None}
        async with self._ledger.read() as tx:
            page = await list_orders(tx, wanted.model_copy(update=narrowed), cursor=cursor, limit=limit)
        return OrderList(orders=tuple(self._summary(view, who) for view in page.orders), cursor=page.cursor)

    async def attention(self, who: TokenView, *, host: str | None, line: str | None, limit: int) -> StuckList:
        """What waits for a person, and what is late, as `order list --stuck` has it.

        Raises ScopeMissing, UnknownHost.
        """
        require_whole_house(who)
        now = datetime.now(UTC)
        found = await what_waits(self._ledger, now=now, grace=self._grace, host=host, line=line, limit=limit)
        if host is None and line is None:
            try:
                found = await with_temporal(found, self._twinline, now=now, grace=self._grace)
            except Unavailable:
                found = found.model_copy(update={"temporal": "does not answer"})
        return with_links(found, self._page)

    def _summary(self, view: OrderView, who: TokenView) -> OrderSummary:
        name = OrderId(kind=view.kind, ref=view.ref)
        return OrderSummary(
            id=name.text,
            order=name.own,
            kind=view.kind,
            caller=view.caller,
            line=view.username,
            done=view.settled_at is not None,
            taken_at=view.created_at,
            settled_at=view.settled_at,
            cancelled_at=view.cancelled_at,
            temporal_ui=self._page_for(who, view.workflow_id),
        )

    def _page_for(self, who: TokenView, workflow_id: str) -> str | None:
        return self._page(workflow_id) if self._page is not None and runs_the_house(who) else None

    async def _view(self, name: OrderId, who: TokenView, caller: str) -> OrderView | None:
        """The order, if the ledger has taken it; raises UnknownOrder for one about somebody else's line."""
        try:
            view = await order_lookup.taken(self._ledger, name, caller=caller)
        except UnknownOrder:
            return None
        except InvalidOrder:
            raise InvalidOrder(
                "this caller has more than one order of that id",
                hint="Ask for the `id` that the order's answer had, such as block~C-7~….",
            ) from None
        if who.reseller:
            async with self._ledger.read() as tx:
                if not await is_opened_by(tx, view.recorded.line_id, who.caller):
                    raise unknown_order()
        return view

    async def line(self, username: str, who: TokenView) -> LineAnswer:
        """Show a line; raises UnknownLine (also for one of somebody else), LineErased, ScopeMissing."""
        require(who, Scope.LINES_READ)
        if not _NAME.fullmatch(username):
            raise unknown_line()
        async with self._ledger.read() as tx:
            await require_own_line(tx, username, who)
            view = await line_view(tx, username)
            running = await running_workflows(tx, view.line_id) if runs_the_house(who) else None
            password = None
            if allows(who.scopes, Scope.CREDENTIALS_READ):
                password = (await reveal_password(tx, username)).get_secret_value()
        workflows = None if running is None else linked(running, self._page)
        view = _line_for(who, view)
        return LineAnswer(**dict(view), password=password, workflows=workflows)

    async def events(self, username: str, who: TokenView, *, cursor: str | None, limit: int) -> EventPage:
        """What happened to a line, the newest first; raises as `line` does, and InvalidOrder (no such cursor)."""
        require(who, Scope.LINES_READ)
        if not _NAME.fullmatch(username):
            raise unknown_line()
        async with self._ledger.read() as tx:
            await require_own_line(tx, username, who)
            page = await line_events(tx, username, cursor=cursor, limit=limit)
        if not who.reseller:
            return page
        told = tuple(discretion.event_for(who.caller, event) for event in page.events)
        return page.model_copy(update={"events": told})

    async def lines(self, wanted: LineFilter, who: TokenView, *, cursor: str | None, limit: int) -> LinePage:
        """List lines, a reseller's own ones only; raises ScopeMissing."""
        require(who, Scope.LINES_READ)
        if who.reseller:
            wanted = wanted.model_copy(update={"opened_by": who.caller})
        async with self._ledger.read() as tx:
            page = await list_lines(tx, wanted, cursor=cursor, limit=limit)
        return page.model_copy(update={"lines": tuple(_line_for(who, line) for line in page.lines)})

    async def readiness(self) -> Readiness:
        """Whether orders can be taken now."""
        ledger, answers, polled = await asyncio.gather(
            self._ledger_in_words(), self._twinline.answers(), self._twinline.workers_poll()
        )
        temporal = "ok" if answers else "does not answer"
        workers = "ok" if polled else "nobody works on orders: start `twinline worker`"
        return Readiness(ready=ledger == temporal == "ok", ledger=ledger, temporal=temporal, workers=workers)

    async def _ledger_in_words(self) -> str:
        try:
            current = await is_current(self._ledger)
        except TwinlineError:
            return "does not answer"
        return "ok" if current else "is not of this version: start this version's worker"

    async def _not_taken(self, name: OrderId, who: TokenView, caller: str) -> OrderAnswer:
        """An order that stands in Temporal alone: nobody has worked on it, or it came to nothing."""
        if is_untold(who) and name.may_be_trial:
            async with self._ledger.read() as tx:
                if await was_asked_for(tx, caller=who.caller, ref=name.ref):
                    asked = OrderId(kind=OrderKind.TRIAL, ref=name.ref)
                    require_look(who, asked)
                    return _untold_answer(asked)
        found = await self._untaken(name, who, caller)
        if found is None:
            raise unknown_order()
        full = OrderId.parse(found.id)
        require_look(who, full)
        if full.kind is OrderKind.TRIAL and is_untold(who):
            return _untold_answer(full)
        answer = _answer(full, done=found.standing != "running", receipt=None)
        answer = answer.model_copy(update={"temporal_ui": self._page_for(who, found.workflow_id)})
        error = await order_lookup.refusal(self._twinline, found)
        if error is None:
            return answer
        refused = Refusal(type=error.type, message=error.message, hint=error.hint, retryable=error.retryable)
        return answer.model_copy(update={"refused": refused})

    async def _untaken(self, name: OrderId, who: TokenView, caller: str) -> FoundOrder | None:
        """The order that nobody has taken, among those that this caller may know of."""

        def may_be(full: OrderId) -> bool:
            return not who.reseller or may_be_about_no_line(full)

        return await order_lookup.untaken(self._twinline, name, caller=caller, may_be=may_be)


def _answer(name: OrderId, *, done: bool, receipt: Receipt | None) -> OrderAnswer:
    if name.kind is None:
        raise ValueError("an order without a kind")
    return OrderAnswer(id=name.text, order=name.own, kind=name.kind, done=done, receipt=receipt)


def _receipt_for(who: TokenView, receipt: Receipt | None) -> Receipt | None:
    return receipt if receipt is None or not who.reseller else discretion.receipt_for(who.caller, receipt)


def _line_for(who: TokenView, line: LineView) -> LineView:
    return line.model_copy(update=discretion.line_for(line)) if who.reseller else line


def _untold_answer(name: OrderId) -> OrderAnswer:
    return _answer(name, done=False, receipt=None).model_copy(update={"note": ACCEPTED})
