"""Bulk runs: many orders that somebody asks for at once, under one id, and what becomes of each.

What an item asks for stands sealed in the ledger and nowhere else: a run's workflow knows the run's id alone, so that
no history grows with it, and an import's passwords are in no payload.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from twinline.messages import (
    AnyOrder,
    BlockOrder,
    BlockOwner,
    CallerName,
    Days,
    EmailText,
    ExtensionOrder,
    ImportOrder,
    Message,
    OrderId,
    PairName,
    Plan,
    Reason,
    Refusal,
    RegionName,
    Username,
)

MOST_ITEMS: Final = 10_000
"""Of one run: about an hour's work for two hosts, and a list that a person can still look through."""

# What both daemons take (daemons.md, *Account and password rules*), of the length that a record has room for.
PASSWORD: Final = r"^[!$%()*+,./:?@^_|~-]*[A-Za-z0-9][A-Za-z0-9!$%()*+,./:?@^_|~-]*$"
# The order of an item has the run's id, a colon and the item's number.
RunId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,47}$")]


class BulkKind(StrEnum):
    """What a run asks for, of each of its lines."""

    BLOCK = "block"
    EXTEND = "extend"
    IMPORT = "import"


class ItemState(StrEnum):
    """How far an item is, as the ledger keeps it; how its order stands is asked of the order."""

    WAITING = "waiting"
    PLACED = "placed"
    REFUSED = "refused"
    CANCELLED = "cancelled"


Standing = Literal["waiting", "going", "stuck", "done", "refused", "cancelled"]
"""How far an item is, with its order: `going` until every half is proven, `stuck` while a person has to look at one."""
RunState = Literal["running", "over", "cancelled"]
"""How far a run is: `running` until every item was ordered, which orders may outlast."""


class _Job(Message):
    # Left out where it is not so: fingerprints of runs from before there was this must stay what they are.
    own: bool = Field(default=False, exclude_if=lambda own: not own)
    """Whether all lines but those that the caller opened are for it as if there were none."""


class BulkBlock(_Job):
    """Block lines, each with the reason and owner of its row."""

    kind: Literal[BulkKind.BLOCK] = BulkKind.BLOCK
    case: OrderId | None = None
    """The caller's own id of the case; that of the run if there is none."""
    until: AwareDatetime | None = None


class BulkExtend(_Job):
    """Give days to every line of a region that runs when the run begins, or to those of one of its pairs."""

    kind: Literal[BulkKind.EXTEND] = BulkKind.EXTEND
    days: Days
    region: RegionName
    pair: PairName | None = None
    tell: bool = False
    """Whether each customer gets a mail about it."""


class BulkImport(_Job):
    """Take lines over from another system, each with its username, password, address and end."""

    kind: Literal[BulkKind.IMPORT] = BulkKind.IMPORT


Job = Annotated[BulkBlock | BulkExtend | BulkImport, Field(discriminator="kind")]
"""What a run asks for, beside its rows."""


class BlockItem(Message):
    """One line to block."""

    line: Username
    reason: Reason
    owner: BlockOwner = BlockOwner.ABUSE


class ExtendItem(Message):
    """One line to give days to."""

    line: Username


class ImportItem(Message):
    """One line to take over: on the pair that its receiver knows, or on the emptiest of a region."""

    username: Username
    password: Annotated[str, Field(repr=False), StringConstraints(pattern=PASSWORD, max_length=24)]
    email: EmailText
    ends_at: AwareDatetime
    region: RegionName | None = None
    pair: PairName | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "ImportItem":
        if (self.region is None) is (self.pair is None):
            raise ValueError("give either a region or a pair")
        return self


Item = BlockItem | ExtendItem | ImportItem


def name_of(item: Item) -> str:
    """How the line of an item is called, or will be."""
    return item.username if isinstance(item, ImportItem) else item.line


class NewBulk(Message):
    """A run on its way into the ledger; the same id with the same contents is the same run."""

    caller: CallerName = "cli"
    run: RunId
    job: Job


def bulk_workflow_id(caller: str, run: str) -> str:
    """The workflow id of a run."""
    return f"bulk/{caller}/{run}"


def case_of(run: str, job: BulkBlock) -> str:
    """The case of a run of blocks."""
    return job.case or run


def item_order(new: NewBulk, number: int, item_id: str, item: Item | None) -> AnyOrder:
    """The ordinary order that carries an item out; the same whenever it is asked for.

    Of an import the item itself is not needed: its order names it, and it is forgotten once the order is taken.
    """
    job, caller, order = new.job, new.caller, f"{new.run}:{number}"
    match item, job:
        case BlockItem(), BulkBlock():
            case = case_of(new.run, job)
            return BlockOrder(
                caller=caller, case=case, line=item.line, reason=item.reason, owner=item.owner, until=job.until
            )
        case ExtendItem(), BulkExtend():
            return ExtensionOrder(caller=caller, order=order, line=item.line, days=job.days, tell=job.tell)
        case ImportItem() | None, BulkImport():
            return ImportOrder(caller=caller, order=order, item=item_id)
        case _:
            raise ValueError("an item of another kind of run")


# --- what is told of a run --------------------------------------------------------------------------


class LineGlimpse(Message):
    """What counts of a line before and after an item."""

    state: Literal["present", "blocked", "absent"]
    plan: Plan
    ends_at: AwareDatetime
    blocks: tuple[str, ...]
    """Owner and case of each active block."""


class BulkChange(Message):
    """What an item would change; `row` is where its file has it."""

    row: int
    line: str
    before: LineGlimpse | None
    """None for a line that is not there yet."""
    after: LineGlimpse
    note: str = ""


class RowProblem(Message):
    """Why a row can't be carried out."""

    row: int
    type: str
    message: str
    hint: str


class BulkPlan(Message):
    """What a run would do; nothing was changed."""

    run: RunId
    kind: BulkKind
    known: bool
    """Whether this very run was taken before: then it is looked at, and not begun again."""
    changes: tuple[BulkChange, ...]
    problems: tuple[RowProblem, ...]


class BulkCounts(Message):
    """How many items of a run stand how."""

    items: int = 0
    waiting: int = 0
    going: int = 0
    stuck: int = 0
    done: int = 0
    refused: int = 0
    cancelled: int = 0

    @property
    def placed(self) -> int:
        """Those that were ordered or refused: the run itself has nothing more to do for them."""
        return self.items - self.waiting

    @property
    def open(self) -> int:
        """Those of which something is still to come."""
        return self.waiting + self.going + self.stuck


class BulkView(Message):
    """A run, and how many of its items stand how."""

    run: str
    caller: str
    kind: BulkKind
    job: Job
    state: RunState
    counts: BulkCounts
    created_at: datetime
    settled_at: datetime | None
    cancelled_at: datetime | None
    cancelled_by: str | None
    workflow_id: str


class BulkFilter(Message):
    """Which runs to list; what is left out does not matter."""

    caller: str | None = None
    kind: BulkKind | None = None
    state: RunState | None = None
    own: bool = False
    """Only those for which all lines but the caller's own were as if there were none."""


class BulkPage(Message):
    """Runs, the newest first; `cursor` leads to the next page, None on the last."""

    runs: tuple[BulkView, ...]
    cursor: str | None


class ItemView(Message):
    """What became of one item; `line` is empty once it was erased."""

    number: int
    row: int
    line: str
    state: Standing
    order: str | None
    """The workflow id of its order, if there is one."""
    problem: Refusal | None = None
    note: str = ""


class ItemPage(Message):
    """Items by number; `cursor` leads to the next page, None on the last."""

    items: tuple[ItemView, ...]
    cursor: str | None


# --- what a run's workflow and activities tell each other -------------------------------------------


class BulkStart(Message):
    """Which run; nothing else of it leaves the ledger."""

    bulk_id: str


class StopBulk(Message):
    """Somebody stops a run."""

    bulk_id: str
    actor: str
    at: AwareDatetime
