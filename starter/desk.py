"""What a caller with a token may ask for, and the answers: the same for whoever asks through whatever door."""

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import Field

from starter.checks import check_address
from starter.client import Twinline
from starter.from_ledger import receipt_from_ledger
from twinline.errors import (
    InvalidToken,
    LineErased,
    ScopeMissing,
    TwinlineError,
    UnknownLine,
    UnknownOrder,
)
from twinline.ledger import Ledger, tokens
from twinline.ledger.filing import earlier_order
from twinline.ledger.lines import line_by_username
from twinline.ledger.queries import (
    LineFilter,
    LinePage,
    LineView,
    is_opened_by,
    line_view,
    list_lines,
    order_view,
    reveal_password,
)
from twinline.ledger.schema import is_current
from twinline.ledger.tokens import TokenView
from twinline.ledger.tx import ReadTx
from twinline.messages import (
    BlockOrder,
    BlockOwner,
    CancelOrder,
    Message,
    Order,
    OrderKind,
    Receipt,
    Refusal,
    TrialOrder,
    UnblockOrder,
    order_kind,
    order_ref,
)
from twinline.tokens import Scope, allows, use_is_due

REFUSAL_PATIENCE: Final = timedelta(seconds=5)
"""How long to wait for the reason of an order that Temporal calls failed; it is there already."""

# Not all that a database is asked for can be in one: PostgreSQL takes no NUL.
_ID: Final = re.compile(r"[A-Za-z0-9._:~-]{1,200}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9]{1,20}", re.ASCII)

_SCOPES: Final = {
    OrderKind.TRIAL: Scope.TRIALS_CREATE,
    OrderKind.PURCHASE: Scope.PURCHASES_CREATE,
    OrderKind.RENEWAL: Scope.RENEWALS_CREATE,
    OrderKind.BLOCK: Scope.BLOCKS_WRITE,
    OrderKind.UNBLOCK: Scope.BLOCKS_WRITE,
    OrderKind.PASSWORD: Scope.ADMIN,
    OrderKind.MOVE: Scope.ADMIN,
    OrderKind.CLOSE: Scope.ADMIN,
    OrderKind.CANCEL: Scope.ADMIN,
}


class OrderAnswer(Message):
    """How far an order is. `receipt` is empty until the ledger has taken it; `refused` says why it never will."""

    id: str
    """Names this order among all of its caller, cases of blocks included."""
    order: str
    kind: OrderKind
    done: bool
    receipt: Receipt | None = None
    refused: Refusal | None = None


class LineAnswer(LineView):
    """A line; `password` is there for a caller with `credentials:read` alone."""

    password: str | None = Field(default=None, repr=False)


class Readiness(Message):
    """Whether orders can be taken, and what keeps them from being taken."""

    ready: bool
    ledger: str
    temporal: str


@dataclass(frozen=True, kw_only=True)
class OrderId:
    """An order's id as `OrderAnswer.id` gives it (kind~ref, a block's with its line's digest), or the caller's own."""

    kind: OrderKind | None
    ref: str

    @classmethod
    def of(cls, order: Order) -> "OrderId":
        """The id of an order."""
        return cls(kind=order_kind(order), ref=order_ref(order))

    @classmethod
    def parse(cls, text: str) -> "OrderId":
        """Read an id; raises UnknownOrder for one that can't be."""
        if not _ID.fullmatch(text):
            raise _unknown_order()
        first, tilde, rest = text.partition("~")
        if tilde and first in set(OrderKind):
            return cls(kind=OrderKind(first), ref=rest.replace("~", "/"))
        return cls(kind=None, ref=text)

    @property
    def text(self) -> str:
        """As a part of a URL: neither order ids nor cases hold a tilde."""
        return f"{self.kind}~{self.ref.replace('/', '~')}"

    def workflow_ids(self, caller: str) -> dict[OrderKind, str]:
        """The workflows that it may be."""
        kinds = tuple(kind for kind in OrderKind if self.kind in (None, kind))
        # A cancellation is never meant by the bare id: that is the id of what it takes back.
        kinds = tuple(kind for kind in kinds if self.kind is not None or kind is not OrderKind.CANCEL)
        return {kind: f"{kind}/{caller}/{self.ref}" for kind in kinds}


class Desk:
    """Takes orders and questions of callers that showed a token."""

    def __init__(self, ledger: Ledger, twinline: Twinline) -> None:
        self._ledger = ledger
        self._twinline = twinline

    async def who(self, token: str | None) -> TokenView:
        """Whose token that is; raises InvalidToken, Unavailable."""
        if token is None:
            raise InvalidToken("this needs a token", hint="Send it as  Authorization: Bearer twl_…")
        now = datetime.now(UTC)
        async with self._ledger.read() as tx:
            found = await tokens.check_token(tx, token, now=now)
        if use_is_due(found.last_used_at, now):
            async with self._ledger.write() as tx:
                await tokens.note_use(tx, found.token_id, now=now)
        return found

    async def place(self, order: Order, who: TokenView, *, patience: timedelta) -> tuple[OrderAnswer, bool]:
        """Place an order as `Twinline.place` does; also tells whether it was taken before.

        Raises what refused it, ScopeMissing, and UnknownLine for a line of somebody else.
        """
        _require(who, _SCOPES[order_kind(order)])
        _refuse_others_blocks(who, order)
        check_address(order)
        name = OrderId.of(order)
        async with self._ledger.read() as tx:
            line = None if isinstance(order, TrialOrder | CancelOrder) else order.line
            if line is not None:
                await _own_line(tx, line, who)
            known = await earlier_order(tx, order) is not None
        status = await self._twinline.place(order, patience=patience)
        answer = OrderAnswer(
            id=name.text, order=_own_id(name), kind=order_kind(order), done=status.done, receipt=status.receipt
        )
        return answer, known

    async def order(self, text: str, who: TokenView) -> OrderAnswer:
        """How far an order of this caller is; raises UnknownOrder, InvalidOrder (ambiguous), ScopeMissing."""
        name = OrderId.parse(text)
        async with self._ledger.read() as tx:
            try:
                view = await order_view(tx, name.ref, caller=who.caller, kind=name.kind)
            except UnknownOrder:
                view = None
            if view is not None and who.reseller and not await is_opened_by(tx, view.recorded.line_id, who.caller):
                raise _unknown_order()
        if view is None:
            return await self._not_taken(name, who)
        _require_look(who, view.kind)
        receipt, done = view.receipt, view.receipt is not None
        if receipt is None:
            live = await self._twinline.progress(view.workflow_id)
            receipt = None if live is None else live.receipt
            done = live is not None and live.done
        if receipt is None:
            receipt = await receipt_from_ledger(self._ledger, view)
        full = OrderId(kind=view.kind, ref=view.ref)
        return OrderAnswer(id=full.text, order=_own_id(full), kind=view.kind, done=done, receipt=receipt)

    async def line(self, username: str, who: TokenView) -> LineAnswer:
        """Show a line; raises UnknownLine (also for one of somebody else), LineErased, ScopeMissing."""
        _require(who, Scope.LINES_READ)
        if not _NAME.fullmatch(username):
            raise _unknown_line()
        async with self._ledger.read() as tx:
            await _own_line(tx, username, who)
            view = await line_view(tx, username)
            password = None
            if allows(who.scopes, Scope.CREDENTIALS_READ):
                password = (await reveal_password(tx, username)).get_secret_value()
        return LineAnswer(**dict(view), password=password)

    async def lines(self, wanted: LineFilter, who: TokenView, *, cursor: str | None, limit: int) -> LinePage:
        """List lines, a reseller's own ones only; raises ScopeMissing."""
        _require(who, Scope.LINES_READ)
        if who.reseller:
            wanted = wanted.model_copy(update={"opened_by": who.caller})
        async with self._ledger.read() as tx:
            return await list_lines(tx, wanted, cursor=cursor, limit=limit)

    async def readiness(self) -> Readiness:
        """Whether orders can be taken now."""
        ledger, answers = await asyncio.gather(self._ledger_in_words(), self._twinline.answers())
        temporal = "ok" if answers else "does not answer"
        return Readiness(ready=ledger == temporal == "ok", ledger=ledger, temporal=temporal)

    async def _ledger_in_words(self) -> str:
        try:
            current = await is_current(self._ledger)
        except TwinlineError:
            return "does not answer"
        return "ok" if current else "is not of this version: start this version's worker"

    async def _not_taken(self, name: OrderId, who: TokenView) -> OrderAnswer:
        """An order that stands in Temporal alone: nobody has worked on it, or it was refused."""
        ids = name.workflow_ids(who.caller)
        found = await asyncio.gather(*(self._twinline.standing(workflow_id) for workflow_id in ids.values()))
        for (kind, workflow_id), standing in zip(ids.items(), found, strict=True):
            if standing not in ("running", "refused") or (who.reseller and not _may_open(kind)):
                continue
            _require_look(who, kind)
            full = OrderId(kind=kind, ref=name.ref)
            answer = OrderAnswer(id=full.text, order=_own_id(full), kind=kind, done=False)
            if standing == "running":
                return answer
            try:
                await self._twinline.outcome(workflow_id, patience=REFUSAL_PATIENCE)
            except TwinlineError as error:
                refused = Refusal(type=error.type, message=error.message, hint=error.hint, retryable=error.retryable)
                return answer.model_copy(update={"done": True, "refused": refused})
        raise _unknown_order()


def _require(who: TokenView, scope: Scope) -> None:
    if not allows(who.scopes, scope):
        raise ScopeMissing(f"this token does not allow {scope}", hint="Ask the operator for a token that does.")


def _require_look(who: TokenView, kind: OrderKind) -> None:
    """Who may place an order may see what became of it."""
    if not allows(who.scopes, _SCOPES[kind]):
        _require(who, Scope.LINES_READ)


def _refuse_others_blocks(who: TokenView, order: Order) -> None:
    """A reseller sets and lifts its own blocks: it must not lift one of the abuse desk."""
    if who.reseller and isinstance(order, BlockOrder | UnblockOrder) and order.owner is not BlockOwner.RESELLER:
        raise ScopeMissing(
            "this token sets and lifts blocks of the owner reseller only", hint='Send "owner": "reseller".'
        )


async def _own_line(tx: ReadTx, username: str, who: TokenView) -> None:
    """Raises UnknownLine for a line that a reseller did not open, in the words for one that there is not."""
    if not who.reseller:
        return
    try:
        line_id = (await line_by_username(tx, username)).line.id
    except LineErased as erased:
        line_id = erased.line_id
    except UnknownLine:
        line_id = ""
    if not await is_opened_by(tx, line_id, who.caller):
        raise _unknown_line()


def _may_open(kind: OrderKind) -> bool:
    """Whether it may be about no line yet: of others a reseller is told only once the ledger knows whose line it is."""
    return kind in (OrderKind.TRIAL, OrderKind.PURCHASE)


def _own_id(name: OrderId) -> str:
    return name.ref.partition("/")[0]


def _unknown_line() -> UnknownLine:
    return UnknownLine("there is no such line", hint="Check the spelling; a list of lines shows those that there are.")


def _unknown_order() -> UnknownOrder:
    return UnknownOrder("there is no such order of this caller", hint="Check the id; ids count per caller.")
