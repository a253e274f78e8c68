"""What crosses a process boundary: orders, receipts, and what workflows and activities tell each other.

Imports nothing heavy, so that a storefront, a workflow and a worker can all share it. No message carries a
password; mail addresses travel only inside orders, which the payload codec encrypts.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

ORDERS_QUEUE = "twinline"
"""Task queue of the order workflows and of the activities that belong to no host."""


TRIAL_LENGTH = timedelta(hours=48)
GRACE = timedelta(seconds=90)
DELAY_NOTICE = timedelta(minutes=15)


def host_queue(host: str) -> str:
    """Name the task queue on which only this host's half activities run."""
    return f"host.{host}"


CALLER_FORM = r"[a-z0-9][a-z0-9._-]{0,31}"
CallerName = Annotated[str, StringConstraints(pattern=f"^{CALLER_FORM}$")]
# No "@" and nothing else that could carry a person's address into a workflow id, which is never encrypted.
OrderId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
RegionName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
PairName = RegionName
HostName = RegionName
Username = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{4,20}$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
# Kept for ever beside the actor: no address may slip in.
LastingReason = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f@]+$")]
EmailText = Annotated[str, StringConstraints(min_length=3, max_length=254, pattern=r"^[^\x00-\x20\x7f]+$")]
Days = Annotated[int, Field(ge=1, le=3660)]
OverlapHours = Annotated[float, Field(ge=0, le=31 * 24, allow_inf_nan=False)]

Protocol = Literal["multics", "oscam"]
Plan = Literal["trial", "paid"]

REMINDERS: dict[Plan, tuple[timedelta, ...]] = {
    "trial": (timedelta(hours=24), timedelta(hours=2)),
    "paid": (timedelta(days=7), timedelta(days=1)),
}
"""How long before its end a customer is reminded of it, the longest first."""


class Message(BaseModel):
    """Base of all messages: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OrderKind(StrEnum):
    """What an order asks for."""

    TRIAL = "trial"
    PURCHASE = "purchase"
    RENEWAL = "renewal"
    BLOCK = "block"
    UNBLOCK = "unblock"
    PASSWORD = "password"
    MOVE = "move"
    CLOSE = "close"
    CANCEL = "cancel"
    EXTENSION = "extension"
    IMPORT = "import"


class BlockOwner(StrEnum):
    """Who set a block; blocks of different owners are independent."""

    ABUSE = "abuse"
    PAYMENT = "payment"
    RESELLER = "reseller"
    OPERATOR = "operator"


class _Order(Message):
    caller: CallerName = "cli"

    def fingerprint(self) -> str:
        """Digest of the whole body: the same order id with another fingerprint is a conflict."""
        return _digest(self.model_dump(mode="json"))


def _digest(body: object) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class TrialOrder(_Order):
    """48 hours for a new customer, free, once per person."""

    order: OrderId
    email: EmailText
    region: RegionName


class PurchaseOrder(_Order):
    """Paid days: for a new customer (email and region) or for an existing line, trials included (line)."""

    order: OrderId
    days: Days
    email: EmailText | None = None
    region: RegionName | None = None
    line: Username | None = None

    @model_validator(mode="after")
    def _one_customer(self) -> "PurchaseOrder":
        for_new = self.email is not None and self.region is not None and self.line is None
        for_line = self.line is not None and self.email is None and self.region is None
        if not (for_new or for_line):
            raise ValueError("give either an email with a region, or a line")
        return self


class RenewalOrder(_Order):
    """Further paid days for an existing line: max(now, its end) + days."""

    order: OrderId
    line: Username
    days: Days


class BlockOrder(_Order):
    """A reason why a line must not work, kept until its owner lifts it or `until` has passed."""

    case: OrderId
    line: Username
    reason: Reason
    owner: BlockOwner = BlockOwner.ABUSE
    until: AwareDatetime | None = None


class UnblockOrder(_Order):
    """Lifts the block that this owner set for this case, and no other."""

    case: OrderId
    line: Username
    owner: BlockOwner = BlockOwner.ABUSE


class PasswordOrder(_Order):
    """A new password for a line, made by us; sessions that were opened with the old one are closed."""

    order: OrderId
    line: Username


class MoveOrder(_Order):
    """Another pair for a line: the old one is kept for `overlap_hours` after the new one was proven."""

    order: OrderId
    line: Username
    pair: PairName
    overlap_hours: OverlapHours = 24.0


class CloseOrder(_Order):
    """The end of a line for good, whatever was paid for; its name is never used again."""

    order: OrderId
    line: Username


class CancelOrder(_Order):
    """An order of before taken back: what is left of the time that it gave, or a move that is not over."""

    order: OrderId
    """The caller's own id of the order that is cancelled."""
    of: OrderKind
    """What that order asked for."""
    reason: LastingReason
    actor: CallerName = "cli"
    """Who asks; `caller` is whose order it is."""

    def fingerprint(self) -> str:
        """An order is cancelled once, whoever asks and for whatever reason."""
        return _digest(self.model_dump(mode="json", exclude={"reason", "actor"}))


class ExtensionOrder(_Order):
    """Days that nobody paid for, such as for an outage: a line that runs keeps its plan and ends so much later."""

    order: OrderId
    line: Username
    days: Days
    tell: bool = False
    """Whether the customer gets a mail about it."""


class ImportOrder(_Order):
    """A line as another system had it, with its username and password, which the ledger alone knows."""

    order: OrderId
    item: str
    """The ledger's id of what is to be imported."""


Order = (
    TrialOrder
    | PurchaseOrder
    | RenewalOrder
    | BlockOrder
    | UnblockOrder
    | PasswordOrder
    | MoveOrder
    | CloseOrder
    | CancelOrder
)
"""What a caller asks for by itself."""
AnyOrder = Order | ExtensionOrder | ImportOrder
"""With what only bulk runs ask for."""
OrderT = TypeVar("OrderT", bound=AnyOrder)

ORDER_TYPES: Mapping[OrderKind, type[Order]] = {
    OrderKind.TRIAL: TrialOrder,
    OrderKind.PURCHASE: PurchaseOrder,
    OrderKind.RENEWAL: RenewalOrder,
    OrderKind.BLOCK: BlockOrder,
    OrderKind.UNBLOCK: UnblockOrder,
    OrderKind.PASSWORD: PasswordOrder,
    OrderKind.MOVE: MoveOrder,
    OrderKind.CLOSE: CloseOrder,
    OrderKind.CANCEL: CancelOrder,
}
"""Every kind of order that a caller asks for by itself."""
_ALL_TYPES: Mapping[OrderKind, type[AnyOrder]] = {
    **ORDER_TYPES,
    OrderKind.EXTENSION: ExtensionOrder,
    OrderKind.IMPORT: ImportOrder,
}


def _opaque(username: str) -> str:
    return hashlib.blake2b(username.encode(), digest_size=8).hexdigest()


def order_kind(order: AnyOrder) -> OrderKind:
    """Name what this order asks for."""
    return next(kind for kind, model in _ALL_TYPES.items() if isinstance(order, model))


def order_ref(order: AnyOrder) -> str:
    """The caller's own id of the order: an order id, or case and line; of a cancellation, which order it takes back.

    The line stands in it as a digest, because everybody who sees the Temporal UI can read workflow ids.
    """
    if isinstance(order, BlockOrder | UnblockOrder):
        return case_ref(order.case, line=order.line)
    if isinstance(order, CancelOrder):
        return f"{order.order}/{order.of}"
    return order.order


def case_ref(case: str, *, line: str) -> str:
    """What `order_ref` is of the block, and of the unblock, of that case and line."""
    return f"{case}/{_opaque(line)}"


def order_workflow_id(order: AnyOrder) -> str:
    """The workflow id: kind/caller/order, so that the same order twice is one workflow."""
    return f"{order_kind(order)}/{order.caller}/{order_ref(order)}"


def cancelled_workflow_id(order: CancelOrder) -> str:
    """The workflow id of the order that this one cancels."""
    return f"{order.of}/{order.caller}/{order.order}"


def term_workflow_id(line_id: str, grant_id: str) -> str:
    """The workflow id of a grant's Term."""
    return f"term/{line_id}/{grant_id}"


def block_end_workflow_id(order: BlockOrder) -> str:
    """The workflow id of a block's own end."""
    return until_workflow_id(order_workflow_id(order))


def until_workflow_id(block: str) -> str:
    """The workflow id of a block's own end, from that of its order."""
    return f"until/{block}"


def tell_workflow_id(line_id: str, kind: "MailKind", ref: str) -> str:
    """The workflow id of a message that no order sends any more."""
    return f"tell/{line_id}/{kind}/{ref}"


def erase_workflow_id(line_id: str) -> str:
    """The workflow id of a line's erasure."""
    return f"erase/{line_id}"


# --- what the ledger tells a workflow ---------------------------------------------------------------


class HalfRef(Message):
    """Which half: its host and the daemon there."""

    host: str
    protocol: Protocol
    leaving: bool = False
    """Whether a move takes the line away from this host."""


class BlockInfo(Message):
    """An active block, as a receipt shows it."""

    owner: BlockOwner
    case: str
    reason: str
    since: AwareDatetime
    until: AwareDatetime | None = None


class CancelInfo(Message):
    """That an order was cancelled: by whom, when and why."""

    at: AwareDatetime
    actor: str
    reason: str


class GrantEnd(Message):
    """Where a cancellation has put a grant's end; `open` while that is still to come."""

    grant_id: str
    plan: Plan
    ends_at: AwareDatetime
    open: bool
    reference: str
    """The caller's own id of the order that gave the grant."""


class Cancels(Message):
    """What a cancellation has changed, for its workflow."""

    info: CancelInfo
    told: bool
    """Whether a mail about the cancelled order had gone, so that another one has to follow."""
    ends: tuple[GrantEnd, ...]


class Recorded(Message):
    """An order as the ledger took it: what the workflow needs to drive the halves and nothing secret."""

    order_id: str
    line_id: str
    username: str
    plan: Plan
    ends_at: AwareDatetime
    revision: int
    halves: tuple[HalfRef, ...]
    blocks: tuple[BlockInfo, ...] = ()
    grant_id: str | None = None
    """The grant that this order gave; None for orders that give none."""
    cancels: Cancels | None = None
    """Only for a cancellation."""
    mail_ref: str
    """What this order's messages are about (a grant, a case, or the order itself): one of a kind for each."""
    grace_seconds: float = GRACE.total_seconds()
    """How long the first mail waits for the second half."""
    delay_notice_seconds: float = DELAY_NOTICE.total_seconds()
    """After how long without any half the customer is told that it takes longer."""


class TakeOrder(Message, Generic[OrderT]):
    """An order on its way into the ledger, with the time at which Temporal took it."""

    order: OrderT
    at: AwareDatetime
    workflow_id: str


class TakeCancel(Message):
    """A cancellation on its way into the ledger; `running` when the cancelled order's workflow has not ended."""

    order: CancelOrder
    at: AwareDatetime
    running: bool


class CancelTaken(Message):
    """What the ledger recorded; None when the order was cancelled before it had been taken itself."""

    recorded: Recorded | None


class EndMoved(Message):
    """Tell a Term where its grant's end is now."""

    ends_at: AwareDatetime


class TermStart(Message):
    """Input of a Term: the grant whose end it keeps."""

    line_id: str
    grant_id: str
    ends_at: AwareDatetime
    reminders: tuple[timedelta, ...] = ()
    """How long before the end the customer is reminded of it, the longest first."""
    reference: str = ""
    """The caller's own id of the order, by which a customer can ask about it."""


class EndGrant(Message):
    """Ask the ledger whether this grant's end has come."""

    term: TermStart
    at: AwareDatetime


class TermDecision(Message):
    """What the ledger says when a grant's end seems to have come."""

    outcome: Literal["ended", "overtaken", "cancelled", "later"]
    ends_at: AwareDatetime
    revision: int = 0
    halves: tuple[HalfRef, ...] = ()


class MoveMade(Message):
    """Tell the ledger that a move's new pair is ready, and until when the old one is to be kept."""

    order_id: str
    at: AwareDatetime
    keep_until: AwareDatetime


class OldPairKept(Message):
    """Until when a move keeps the old pair: what the customer is told."""

    until: AwareDatetime


class MoveStep(Message):
    """Ask the ledger to take a move's last step, now."""

    order_id: str
    at: AwareDatetime


class MoveDecision(Message):
    """What became of a move's last step, and the revision that its halves must reach because of it.

    `later`: no server of the new pair is known to serve the line just now, so the old one must not be broken.
    """

    outcome: Literal["broken", "called_off", "later"]
    revision: int


# --- halves -----------------------------------------------------------------------------------------


class HalfState(StrEnum):
    """How far one half is."""

    PENDING = "pending"
    APPLIED = "applied"
    FAILING = "failing"
    ABANDONED = "abandoned"
    REMOVED = "removed"


class HalfTask(Message):
    """Bring one line on one host to at least this revision, whatever the ledger wants by then."""

    line_id: str
    host: str
    revision: int
    recheck: bool = False
    """A half that waits for a person is looked at only if that is due; otherwise it is tried in full."""


class Attention(StrEnum):
    """What a person has to look at before a half can go on: this line's record there, or the host itself."""

    LINE = "line"
    HOST = "host"


class HalfTrouble(Message):
    """What an error of a host tells the workflow beside its name and text."""

    hint: str
    attention: Attention | None = None


class HalfProven(Message):
    """The running daemon was seen to hold this revision."""

    revision: int
    state: HalfState
    proven_at: AwareDatetime


class HalfReceipt(Message):
    """One half as a receipt shows it."""

    host: str
    protocol: Protocol
    state: HalfState
    revision: int
    attempts: int
    last_error: str | None = None
    next_attempt: AwareDatetime | None = None
    leaving: bool = Field(default=False, exclude_if=lambda leaving: not leaving)
    """Whether a move takes the line away from this host; left out where there is none."""


class RetryNow(Message):
    """Try the halves that are not proven now, whatever they wait for."""

    actor: CallerName = "cli"


class AbandonHalf(Message):
    """Give a half up: the order ends without it; Reconcile repairs it when it can."""

    host: str
    reason: LastingReason
    actor: CallerName = "cli"


class HalvesStatus(Message):
    """Answer to `retry_now` and `abandon_half`: how the halves stand by now."""

    halves: tuple[HalfReceipt, ...]


class HalvesAsked(Message):
    """For the ledger: somebody wants this line's halves looked at now."""

    line_id: str
    actor: str
    at: AwareDatetime


class HalfAbandoned(Message):
    """For the ledger: somebody gave this half up."""

    line_id: str
    host: str
    reason: str
    actor: str
    at: AwareDatetime


class HalfSoFar(Message):
    """A half on its way into the workflow's next run."""

    receipt: HalfReceipt
    attention: Attention | None
    hint: str
    waits_since: AwareDatetime | None


# --- mail -------------------------------------------------------------------------------------------


class MailKind(StrEnum):
    """Which message a customer gets."""

    CREDENTIALS = "credentials"
    SECOND_HALF = "second_half"
    DELAYED = "delayed"
    EXTENDED = "extended"
    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"
    PASSWORD = "password"
    MOVED = "moved"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    REMINDER = "reminder"
    UNSERVED = "unserved"


class MailState(StrEnum):
    """How far a message is: stored, handed over (accepted), refused for good, or its outcome unknown."""

    STORED = "stored"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class MailTask(Message):
    """Write the message of this kind about this line, once per `ref` (`Recorded.mail_ref`)."""

    line_id: str
    kind: MailKind
    ref: str
    reference: str
    """The caller's own id of the order, by which a customer can ask about it."""
    at: AwareDatetime
    hosts: tuple[str, ...] = ()
    """Credentials, password, moved: the hosts that the order has seen proven. Second half: those ready since then."""
    grant_id: str | None = None
    """Reminder: the grant whose end is near; there is nothing to say when another one outlives it."""


class MailStored(Message):
    """A message that stands in the ledger, byte for byte as it will be handed over."""

    mail_id: str
    kind: MailKind
    message_id: str
    state: MailState


class MailChoice(Message):
    """The message that was stored, or none when by now there is nothing true to say."""

    stored: MailStored | None = None
    unserved: bool = False
    """Whether that is so because the line has ended before its customer was given the credentials."""


class MailReceipt(Message):
    """The message as a receipt shows it."""

    kind: MailKind
    state: MailState
    message_id: str


# --- receipts ---------------------------------------------------------------------------------------


class Receipt(Message):
    """What became of an order; stable outside contract."""

    order: str
    kind: OrderKind
    line: str
    username: str
    plan: Plan
    ends_at: AwareDatetime
    blocks: tuple[BlockInfo, ...]
    halves: tuple[HalfReceipt, ...]
    mail: MailReceipt | None
    workflow_id: str
    cancelled: CancelInfo | None = Field(default=None, exclude_if=lambda cancelled: cancelled is None)
    """Left out unless the order was cancelled, or is a cancellation."""
    old_until: AwareDatetime | None = Field(default=None, exclude_if=lambda until: until is None)
    """A move whose new pair is ready: until when the old one is kept; left out of other receipts."""
    unserved: bool = Field(default=False, exclude_if=lambda unserved: not unserved)
    """Only where the time of a new line was over before any server could be told of: a trial does not count then."""


class OrderStatus(Message):
    """Answer of the `progress` query and result of an order workflow."""

    fingerprint: str
    done: bool
    receipt: Receipt | None = None
    """None until the ledger has taken the order; of a cancellation that is done, when the order was never taken."""
    ended_at: AwareDatetime | None = Field(default=None, exclude_if=lambda ended_at: ended_at is None)
    """Of an order that is done: when it ended as `receipt` says. What came later is not in it."""


class OrderSoFar(Message, Generic[OrderT]):
    """An order that goes on for so long that its history has to begin anew: what its next run must know."""

    order: OrderT
    recorded: Recorded
    driven_since: AwareDatetime
    seen_working: bool
    """Whether a first half was proven once."""
    halves: tuple[HalfSoFar, ...]
    mail: MailReceipt | None
    told: bool
    """Whether the message that waits for the halves was sent."""
    told_ready: tuple[str, ...]
    """Which hosts it named as ready."""
    unserved: bool = False
    """Whether the line had ended by then, and nothing was left to tell of it."""


class TermSoFar(Message):
    """The same for a Term whose end is still being carried out."""

    start: TermStart
    decision: TermDecision
    halves: tuple[HalfSoFar, ...]


class TermStatus(Message):
    """Answer of a Term's `progress` query; `outcome` is None until the end has come."""

    line_id: str
    grant_id: str
    ends_at: AwareDatetime
    outcome: Literal["ended", "overtaken", "cancelled"] | None
    halves: tuple[HalfReceipt, ...]


class BlockEndStatus(Message):
    """Answer of a BlockEnd's `progress` query."""

    case: str
    until: AwareDatetime
    lifted_by: str | None
    """The workflow id of the unblock that it placed; `retry_now` and `abandon_half` go there."""


class Refusal(Message):
    """An error on its way to the caller."""

    type: str
    message: str
    hint: str
    retryable: bool


class OrderOutcome(Message):
    """What the ledger keeps of a finished order, for when Temporal has forgotten it."""

    order_id: str
    receipt: Receipt


class LateTrial(Message):
    """A trial whose first half was proven only now: its time starts at the proof."""

    line_id: str
    grant_id: str
    proven_at: AwareDatetime


class LateTrialMoved(Message):
    """Where the end of a late trial is now, and the revision that carries it."""

    ends_at: AwareDatetime
    revision: int


# --- reconcile --------------------------------------------------------------------------------------

RECONCILE_EVERY = timedelta(minutes=10)


def reconcile_workflow_id(host: str) -> str:
    """The workflow id of a Reconcile on demand, and the id of the schedule that starts the others."""
    return f"reconcile/{host}"


class ReconcileTask(Message):
    """Bring one host in step with the ledger; `accept_loss` when its file may have lost accounts for good."""

    host: str
    asked: bool = False
    """Whether a person asks: what waits for a person is tried too, and every line is looked at closely."""
    accept_loss: bool = False


class Sweep(Message):
    """Ask the ledger to end grants of a host's lines that are past their end and not ended."""

    host: str
    at: AwareDatetime


class DriftedLine(Message):
    """A line that was not as the ledger wants it; `error` says why it still is not, None once it is again."""

    username: str
    kinds: tuple[str, ...]
    error: str | None


class HostReconciled(Message):
    """What was done on a host, and what is left: by error code, how many halves are still behind."""

    brought: int
    behind: dict[str, int]
    drifted: int
    """How many lines were not as the ledger wants them; `drift` names the first of them."""
    drift: tuple[DriftedLine, ...]
    daemon_told: bool
    """Whether the daemon could be asked what it has loaded."""


class Reconciled(Message):
    """What came of one Reconcile; `error` is the code of what kept us from the host."""

    host: str
    ended: int
    found: HostReconciled | None
    error: str | None = None


# --- health -----------------------------------------------------------------------------------------

HEALTH_EVERY = timedelta(minutes=1)


def health_workflow_id(host: str) -> str:
    """The workflow id of the one Health that watches a host."""
    return f"health/{host}"


class HealthStanding(StrEnum):
    """Whether a host, its helper and its daemon answer; not known until the first look, or where one proved little."""

    WELL = "well"
    AWAY = "away"
    UNKNOWN = "unknown"


class HealthSoFar(Message):
    """What is known of a host after the last look at it, and carried from look to look."""

    standing: HealthStanding = HealthStanding.UNKNOWN
    since: AwareDatetime | None = None
    """Since when it stands like that."""
    looked_at: AwareDatetime | None = None
    code: str | None = None
    """What the last look ended with; None when all answered."""
    failing_since: AwareDatetime | None = None
    """The first of the failures in a row that the last look ended."""
    attention: str | None = None
    """Why a person has to look at the host, as the code of the error."""
    hint: str = ""


class HealthStart(Message):
    """Watch a host, for the first time or going on with what an earlier run knew."""

    host: str
    first_in: timedelta
    """How long to wait before the first look, so that many hosts are not looked at in the same second."""
    so_far: HealthSoFar = HealthSoFar()


class HealthTask(Message):
    """Look at a host once."""

    host: str
    so_far: HealthSoFar


class HealthLooked(Message):
    """What is known after a look, and when the next one is due."""

    so_far: HealthSoFar
    again_in: timedelta


class HealthStatus(Message):
    """Answer of a Health's `progress` query and of `retry_now`, and its result once it was stopped."""

    host: str
    standing: HealthStanding
    so_far: HealthSoFar
    missed: str | None
    """Why nobody looked when it was due; then nothing is known of the host, whatever was seen before."""
    next_look: AwareDatetime | None
    """None while somebody looks, and after it was stopped."""


# --- erasure ----------------------------------------------------------------------------------------


class EraseTask(Message):
    """Forget whose this line was; nothing in it tells."""

    line_id: str
    actor: CallerName = "cli"


class HostGone(Message):
    """Somebody answers for it that a host and its disk are no more, so that nobody can be asked what is left there."""

    host: str
    actor: CallerName


class ErasureStep(Message):
    """For the ledger: a step of an erasure, with the time at which it is taken."""

    task: EraseTask
    at: AwareDatetime
    gone: tuple[HostGone, ...] = ()


class EraseBegun(Message):
    """The hosts that must be seen to hold nothing of the line: all that it was ever on."""

    hosts: tuple[str, ...]


class HostToEmpty(Message):
    """Which host is to be seen to hold nothing of which line."""

    host: str
    line_id: str


class EraseStatus(Message):
    """Answer of an erasure's `progress` query, and its result."""

    line: str
    done: bool
    hosts: tuple[str, ...]
    """The hosts that the line was on."""
    empty: tuple[str, ...]
    """Those of them that were seen to hold nothing of it."""
    gone: tuple[str, ...] = ()
    """Those of them that somebody said are no more."""


class NameOf:
    """Names by which Temporal knows workflows and activities; nothing else may spell them."""

    TRIAL = "Trial"
    PURCHASE = "Purchase"
    RENEWAL = "Renewal"
    BLOCK = "Block"
    UNBLOCK = "Unblock"
    CHANGE_PASSWORD = "ChangePassword"
    MOVE = "Move"
    CLOSE = "Close"
    CANCEL = "Cancel"
    EXTENSION = "Extension"
    IMPORT = "Import"
    TERM = "Term"
    BLOCK_END = "BlockEnd"
    RECONCILE = "Reconcile"
    HEALTH = "Health"
    ERASE = "Erase"
    TELL = "Tell"
    BULK = "Bulk"
    REBUILD = "Rebuild"

    UPDATE_RETRY = "retry_now"
    UPDATE_ABANDON = "abandon_half"
    SIGNAL_CANCEL = "cancel_order"
    SIGNAL_END_MOVED = "end_moved"
    SIGNAL_BULK = "look_again"
    SIGNAL_HOST_GONE = "host_gone"
    SIGNAL_REBUILD = "ask_again"
    SIGNAL_STOP_REBUILD = "stop_rebuild"

    RECORD_TRIAL = "record_trial"
    RECORD_PURCHASE = "record_purchase"
    RECORD_RENEWAL = "record_renewal"
    RECORD_BLOCK = "record_block"
    RECORD_UNBLOCK = "record_unblock"
    RECORD_PASSWORD = "record_password"
    RECORD_CLOSE = "record_close"
    RECORD_MOVE = "record_move"
    RECORD_CANCEL = "record_cancel"
    RECORD_EXTENSION = "record_extension"
    RECORD_IMPORT = "record_import"
    KEEP_OLD_PAIR = "keep_old_pair"
    BREAK_MOVE = "break_move"
    CALL_OFF_MOVE = "call_off_move"
    START_LATE_TRIAL = "start_late_trial"
    END_GRANT = "end_grant"
    RETRY_HALVES = "retry_halves"
    ABANDON_HALF = "abandon_half"
    SETTLE_ORDER = "settle_order"
    BRING_HALF = "bring_half"
    END_OVERDUE = "end_overdue"
    RECONCILE_HOST = "reconcile_host"
    REBUILD_STEP = "rebuild_step"
    NOTE_REBUILD = "note_rebuild"
    PROBE_HOST = "probe_host"
    STORE_MAIL = "store_mail"
    HAND_OVER_MAIL = "hand_over_mail"
    BEGIN_ERASURE = "begin_erasure"
    PROVE_EMPTY = "prove_empty"
    FORGET_HISTORIES = "forget_histories"
    ERASE_LINE = "erase_line"
    PLACE_ITEMS = "place_items"
    STOP_BULK = "stop_bulk"
