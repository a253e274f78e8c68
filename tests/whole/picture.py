"""What lines should be, in plain Python: told in which order things were committed, it says what each must lead to.

It shares no rule with the ledger. An event that the rules do not allow, or whose outcome is another one, is a fault.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from twinline.messages import (
    BlockOrder,
    CancelOrder,
    CloseOrder,
    MoveOrder,
    Order,
    OrderKind,
    PasswordOrder,
    PurchaseOrder,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
    order_kind,
    order_ref,
)

State = Literal["present", "blocked", "absent"]
TRIAL: Final = timedelta(hours=48)
GRACE: Final = timedelta(seconds=90)
PAIRS: Final = {"eu1": ("mc-eu1", "os-eu1"), "us1": ("mc-us1", "os-us1")}


@dataclass
class Grant:
    """A right to be served."""

    plan: str
    starts_at: datetime
    ends_at: datetime
    given_at: datetime
    order: str
    """The identity of the order that gave it."""
    open: bool = True
    late: bool = False
    unserved: bool = False
    """Whether it was over before its customer could use it."""
    moved_at: datetime | None = None
    """When its end was last moved by a cancellation, its own or that of an earlier one."""


@dataclass(frozen=True)
class Move:
    """A line that lives on two pairs."""

    order: MoveOrder
    begun_at: datetime
    old: str


@dataclass
class Line:
    """One line, as it should be."""

    name: str
    person: str
    pair: str
    opened_at: datetime
    revision: int = 0
    closed: bool = False
    grants: dict[str, Grant] = field(default_factory=dict[str, Grant])
    blocks: dict[str, BlockOrder] = field(default_factory=dict[str, BlockOrder])
    """By owner and case."""
    passwords: int = 1
    move: Move | None = None
    left: set[str] = field(default_factory=set[str])
    known: set[str] = field(default_factory=set[str])
    """Hosts that it was ever on."""

    def copy(self) -> "Line":
        return replace(
            self,
            grants={grant_id: replace(grant) for grant_id, grant in self.grants.items()},
            blocks=dict(self.blocks),
            left=set(self.left),
            known=set(self.known),
        )

    @property
    def open_grants(self) -> list[Grant]:
        return [grant for grant in self.grants.values() if grant.open]

    @property
    def last(self) -> Grant:
        return max(self.open_grants or self.grants.values(), key=lambda grant: grant.ends_at)

    @property
    def ends_at(self) -> datetime | None:
        """Until when it is served; None when it is not."""
        ends = [grant.ends_at for grant in self.open_grants]
        return None if self.closed or not ends else max(ends)

    @property
    def state(self) -> State:
        """What its hosts must hold."""
        if self.ends_at is None:
            return "absent"
        return "blocked" if self.blocks else "present"

    @property
    def hosts(self) -> set[str]:
        """Where it lives: on both pairs while it moves."""
        return {*PAIRS[self.pair], *(PAIRS[self.move.old] if self.move is not None else ())}

    def given_by(self, order: str) -> Grant:
        """What an order gave."""
        return next(grant for grant in self.grants.values() if grant.order == order)

    def stay(self) -> bool:
        """Call the move off; whether its hosts must be told."""
        assert self.move is not None
        self.left |= set(PAIRS[self.pair])
        self.pair, self.move = self.move.old, None
        return self.state != "absent"

    @property
    def unserved(self) -> bool:
        """Whether it has ended before its customer could use it."""
        return self.state == "absent" and self.last.unserved

    def served_on(self, host: str) -> bool:
        """Whether that host must let it in."""
        return self.state == "present" and host in self.hosts

    def shown(self) -> dict[str, object]:
        """What the ledger's own record of an event says of a line."""
        return {
            "revision": self.revision,
            "pair": self.pair,
            "state": self.state,
            "ends_at": self.ends_at,
            "plan": self.last.plan,
            "blocks": set(self.blocks),
            "left": set(self.left),
        }


@dataclass(frozen=True)
class Told:
    """One committed event: what happened, why, when, and how the ledger says the line was afterwards."""

    what: str
    why: str
    at: datetime
    username: str
    grant_id: str | None
    """The grant that an order gave, or whose Term this is."""
    after: dict[str, object]


OF_TIME: Final = frozenset({OrderKind.TRIAL, OrderKind.PURCHASE, OrderKind.RENEWAL})


class Broken(AssertionError):
    """A law was broken."""


def block_key(order: BlockOrder | UnblockOrder) -> str:
    """How the ledger names a block in its events."""
    return f"{order.owner}/{order.case}"


def identity(order: Order) -> str:
    """What makes an order one of a kind, as the ledger names it."""
    own_series = isinstance(order, BlockOrder | UnblockOrder | CancelOrder)
    return f"{order_kind(order).value if own_series else 'order'}/{order.caller}/{order_ref(order)}"


def target(order: CancelOrder) -> str:
    """The identity of what a cancellation takes back; of nothing that is never taken back."""
    return f"order/{order.caller}/{order.order}"


@dataclass
class Picture:
    """All lines, and every order that was taken."""

    lines: dict[str, Line] = field(default_factory=dict[str, Line])
    taken: dict[str, Order] = field(default_factory=dict[str, Order])
    """By identity."""
    tried: set[str] = field(default_factory=set[str])
    """Persons who had their trial."""
    lines_of: dict[str, str] = field(default_factory=dict[str, str])
    """The line that each of the orders taken is about."""
    cancelled: set[str] = field(default_factory=set[str])
    """Orders that were taken and taken back."""
    withdrawn: set[str] = field(default_factory=set[str])
    """Orders that were cancelled before they were taken."""

    def copy(self) -> "Picture":
        """Another one, of which nothing that may change is shared."""
        return Picture(
            lines={name: line.copy() for name, line in self.lines.items()},
            taken=dict(self.taken),
            tried=set(self.tried),
            lines_of=dict(self.lines_of),
            cancelled=set(self.cancelled),
            withdrawn=set(self.withdrawn),
        )

    # -- orders

    def refusal(self, order: Order, at: datetime) -> str | None:
        """Why this order must be refused now; None if it must be taken, or is one that was."""
        if isinstance(order, CancelOrder):
            return self._uncancellable(order, at)
        earlier = self.taken.get(identity(order))
        if earlier is None and identity(order) in self.withdrawn:
            return "OrderCancelled"
        if earlier is not None:
            if earlier != order:
                return "OrderConflict"
            if identity(order) in self.cancelled:
                return "OrderCancelled"
            lifted = isinstance(order, BlockOrder) and block_key(order) not in self.lines[order.line].blocks
            return "OrderConflict" if lifted else None
        if isinstance(order, TrialOrder):
            return "TrialAlreadyUsed" if order.email.lower() in self.tried else None
        if isinstance(order, PurchaseOrder) and order.line is None:
            return None
        if isinstance(order, BlockOrder) and order.until is not None and order.until <= at:
            return "InvalidOrder"
        assert order.line is not None
        line = self.lines[order.line]
        if line.closed:
            return "LineClosed"
        return self._refused_by(line, order)

    def _uncancellable(self, order: CancelOrder, at: datetime) -> str | None:
        if order.of not in {*OF_TIME, OrderKind.MOVE}:
            return "CannotCancel"
        earlier = self.taken.get(target(order))
        if target(order) in self.cancelled or (earlier is None and target(order) in self.withdrawn):
            return None
        if earlier is None or order_kind(earlier) is not order.of:
            return "UnknownOrder"
        line = self.lines[self.lines_of[target(order)]]
        if line.closed:
            return "LineClosed"
        if isinstance(earlier, MoveOrder):
            return None if line.move is not None and line.move.order == earlier else "CannotCancel"
        grant = line.given_by(target(order))
        return None if grant.open and grant.ends_at > at else "CannotCancel"

    @staticmethod
    def _refused_by(line: Line, order: Order) -> str | None:
        match order:
            case UnblockOrder() if block_key(order) not in line.blocks:
                return "UnknownBlock"
            case PasswordOrder() | MoveOrder() if line.state == "absent":
                return "LineEnded"
            case MoveOrder() if line.move is not None:
                return "MoveRunning"
            case MoveOrder() if order.pair == line.pair:
                return "SamePair"
            case _:
                return None

    def take(self, order: Order, told: Told, *, pair: str) -> None:
        """An order was committed."""
        key = identity(order)
        if key in self.taken:
            raise Broken(f"I7: {key} was taken twice")
        if (refused := self.refusal(order, told.at)) is not None:
            raise Broken(f"{key} was taken, and had to be refused: {refused}")
        self.taken[key] = order
        if isinstance(order, TrialOrder) or (isinstance(order, PurchaseOrder) and order.line is None):
            assert order.email is not None
            line = Line(told.username, order.email, pair, told.at, known=set(PAIRS[pair]))
            self.lines[told.username] = line
        elif isinstance(order, CancelOrder):
            line = self.lines[self.lines_of[target(order)]]
        else:
            assert order.line is not None
            line = self.lines[order.line]
        self.lines_of[key] = line.name
        before = (line.state, line.ends_at)
        anew = self._carry_out(line, order, told)
        self._raise(line, before, anew=anew)

    def _carry_out(self, line: Line, order: Order, told: Told) -> bool:
        match order:
            case TrialOrder():
                self.tried.add(order.email.lower())
                given = Grant("trial", told.at, told.at + TRIAL, told.at, identity(order))
                line.grants[str(told.grant_id)] = given
            case PurchaseOrder() | RenewalOrder():
                start = max([told.at, *(grant.ends_at for grant in line.grants.values())])
                given = Grant("paid", start, start + timedelta(days=order.days), told.at, identity(order))
                line.grants[str(told.grant_id)] = given
            case BlockOrder():
                line.blocks.setdefault(block_key(order), order)
            case UnblockOrder():
                del line.blocks[block_key(order)]
            case PasswordOrder():
                line.passwords += 1
                return True
            case MoveOrder():
                line.move = Move(order, told.at, line.pair)
                line.pair = order.pair
                back = set(PAIRS[order.pair])
                known = bool(back & line.known)
                line.left -= back
                line.known |= back
                return known
            case CloseOrder():
                line.closed = True
            case CancelOrder():
                self.cancelled.add(target(order))
                return self._take_back(line, order, told.at)
        return False

    @staticmethod
    def _take_back(line: Line, order: CancelOrder, now: datetime) -> bool:
        """What is still to come of a period goes, and those after it begin as much earlier; or a move is called off."""
        if order.of is OrderKind.MOVE:
            return line.stay()
        grant = line.given_by(target(order))
        left = grant.ends_at - max(now, grant.starts_at)
        for other in line.open_grants:
            if other is not grant and other.starts_at >= grant.ends_at:
                other.starts_at, other.ends_at, other.moved_at = other.starts_at - left, other.ends_at - left, now
        grant.starts_at, grant.ends_at, grant.moved_at = min(grant.starts_at, now), now, now
        for other in line.open_grants:
            # One whose own end is overdue must not keep the line up.
            other.open = other.open and other.ends_at > now
        return False

    @staticmethod
    def _raise(line: Line, before: tuple[State, datetime | None], *, anew: bool = False) -> None:
        if anew or before != (line.state, line.ends_at):
            line.revision += 1

    # -- what comes of them by itself

    def end(self, told: Told) -> None:
        """A grant's end was carried out."""
        line = self.lines[told.username]
        grant = line.grants[str(told.grant_id)]
        outlived = any(other.ends_at > grant.ends_at for other in line.grants.values())
        if told.at < grant.ends_at:
            raise Broken(f"{line.name} was ended {grant.ends_at - told.at} before its time")
        if not grant.open:
            raise Broken(f"{line.name} was ended twice")
        if (told.what == "grant.overtaken") != outlived:
            raise Broken(f"{told.what} of a grant that is {'' if outlived else 'not '}outlived, on {line.name}")
        before = (line.state, line.ends_at)
        grant.open, grant.unserved = False, told.what == "grant.unserved"
        if grant.unserved and any(each.plan == "trial" for each in line.grants.values()):
            self.tried.discard(line.person.lower())
        if not outlived:
            for other in line.open_grants:
                other.open = False
        self._raise(line, before)

    def start_late(self, told: Told) -> None:
        """A trial began with its first proof."""
        line = self.lines[told.username]
        grant = line.grants[str(told.grant_id)]
        if grant.plan != "trial" or grant.late or not grant.open or line.closed or line.last is not grant:
            raise Broken(f"a grant of {line.name} was started late that must not be")
        if told.at - grant.given_at < GRACE:
            raise Broken(f"the trial of {line.name} was started late after only {told.at - grant.given_at}")
        before = (line.state, line.ends_at)
        grant.late, grant.starts_at, grant.ends_at = True, told.at, told.at + TRIAL
        self._raise(line, before)

    def leave(self, told: Told) -> None:
        """A move left the old pair, or was called off."""
        line = self.lines[told.username]
        move = line.move
        if move is None:
            raise Broken(f"{told.what} of {line.name}, which does not move")
        if told.what == "move.broken":
            if told.at < move.begun_at + timedelta(hours=move.order.overlap_hours):
                raise Broken(f"{line.name} left its old pair before the time that was promised")
            line.left |= set(PAIRS[move.old])
            line.move = None
        else:
            line.stay()
        self._raise(line, (line.state, line.ends_at), anew=line.state != "absent")

    def withdraw(self, order: str) -> None:
        """An order was cancelled that was not taken yet."""
        self.withdrawn.add(order)

    def lift(self, told: Told) -> None:
        """A block's own time came."""
        line = self.lines[told.username]
        found = [
            key
            for key, order in line.blocks.items()
            if told.why == identity(lifting(order)) and order.until is not None and order.until <= told.at
        ]
        if not found:
            raise Broken(f"I2: a block of {line.name} was lifted, and nobody asked for it: {told.why} at {told.at}")
        before = (line.state, line.ends_at)
        self.taken[told.why] = lifting(line.blocks.pop(found[0]))
        self._raise(line, before)


def lifting(order: BlockOrder) -> UnblockOrder:
    """The order that lifts a block."""
    return UnblockOrder(caller=order.caller, case=order.case, line=order.line, owner=order.owner)
