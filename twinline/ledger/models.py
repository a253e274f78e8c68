"""The ledger's tables, as design.md names them; every moment is UTC, every secret is sealed.

Nothing outside `twinline.ledger` sees a row: commands and queries hand out frozen models.
"""

from datetime import datetime
from typing import Literal

from sqlalchemy import Index, MetaData, String, Text, UniqueConstraint, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from twinline.bulk import BulkKind, ItemState
from twinline.ledger.rules import LineState
from twinline.ledger.types import Named, UtcDateTime
from twinline.messages import BlockOwner, HalfState, MailKind, MailState, OrderKind, Plan, Protocol

GrantEnding = Literal["ended", "unserved", "overtaken", "cancelled"]
"""`unserved` ended the line before its customer was ever given the credentials."""

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints need names of their own, or a later migration could not find them on PostgreSQL."""

_registry = registry(metadata=MetaData(naming_convention=NAMING))


class Row(SQLModel, registry=_registry):
    """Base of all rows, with metadata of its own: nothing else can slip a table into our migrations."""


class Host(Row, table=True):
    """A host, as the inventory last declared it."""

    name: str = Field(primary_key=True, max_length=32)
    protocol: Protocol = Field(sa_type=String(16))
    created_at: datetime = Field(sa_type=UtcDateTime)
    down_since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when nothing gets through to it; None while it answers."""
    attention: str | None = Field(default=None, max_length=64)
    """Why a person has to look at the host itself; None once a batch gets through."""
    down_code: str | None = Field(default=None, max_length=64)
    """The code of the error for which it is down; None while it answers, and where an older version noted it."""


class HealthSample(Row, table=True):
    """One short look at a host; kept for `twinline.ledger.looks.KEPT`."""

    __tablename__ = "health_sample"  # pyright: ignore[reportAssignmentType] - SQLModel's own way to name a table

    host: str = Field(primary_key=True, max_length=32)
    at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    code: str | None = Field(default=None, max_length=64)
    """What it ended with; None when helper and daemon answered."""
    seconds: float
    """How long it took."""


class Pair(Row, table=True):
    """A pair, as the inventory last declared it."""

    name: str = Field(primary_key=True, max_length=32)
    region: str = Field(max_length=32, index=True)
    multics: str = Field(max_length=32, foreign_key="host.name")
    oscam: str = Field(max_length=32, foreign_key="host.name")
    capacity: int
    created_at: datetime = Field(sa_type=UtcDateTime)


class Line(Row, table=True):
    """A line. `state` and `ends_at` are what the hosts must hold at `revision`; `lines.settle` alone sets them."""

    __table_args__ = (Index(None, "pair", "state"),)

    id: str = Field(primary_key=True, max_length=16)
    username: str = Field(max_length=20, unique=True)
    username_casefold: str = Field(max_length=20, unique=True)
    password_sealed: bytes
    email_sealed: bytes
    person_hash: bytes = Field(index=True)
    pair: str = Field(max_length=32, foreign_key="pair.name")
    revision: int = 0
    state: LineState = Field(default="absent", sa_type=String(16))
    ends_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    created_at: datetime = Field(sa_type=UtcDateTime)
    closed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    erased_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when the row is a tombstone: names, secrets and hashes of the person are gone, see `erasure`."""


class Trial(Row, table=True):
    """A person who had a trial: the primary key is what lets only one of two trials at once through."""

    person_hash: bytes = Field(primary_key=True)
    order_id: str = Field(max_length=16, foreign_key="order.id")
    used_at: datetime = Field(sa_type=UtcDateTime)


class TrialRequest(Row, table=True):
    """A request for a trial that came through the API, whatever became of it."""

    __tablename__ = "trial_request"  # pyright: ignore[reportAssignmentType] - SQLModel's own way to name a table
    __table_args__ = (Index(None, "range_hash", "at"),)

    identity: str = Field(primary_key=True, max_length=255)
    fingerprint: bytes | None = None
    """Keyed; only where the caller was not told what became of it, so that the id stands for this request."""
    person_hash: bytes = Field(index=True)
    range_hash: bytes | None = None
    """From where it came; forgotten after a day."""
    at: datetime = Field(sa_type=UtcDateTime)


class Order(Row, table=True):
    """An order that was taken; refused ones leave nothing."""

    __table_args__ = (Index(None, "caller", "ref"), Index(None, "created_at", "id"))

    id: str = Field(primary_key=True, max_length=16)
    identity: str = Field(max_length=255, unique=True)
    kind: OrderKind = Field(sa_type=Named(OrderKind))
    caller: str = Field(max_length=32)
    ref: str = Field(max_length=128)
    fingerprint: bytes
    """Keyed: the plain digest of an order would let a reader of the database try addresses."""
    line_id: str = Field(max_length=16, foreign_key="line.id", index=True)
    # No foreign keys: those of grant and block point here, and a cycle could not be inserted.
    grant_id: str | None = Field(default=None, max_length=16)
    block_id: str | None = Field(default=None, max_length=16)
    recorded: str = Field(sa_type=Text)
    """The `Recorded` that was given back, as JSON: a repeat gets the same."""
    workflow_id: str = Field(max_length=255)
    created_at: datetime = Field(sa_type=UtcDateTime)
    settled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    receipt: str | None = Field(default=None, sa_type=Text)
    cancelled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When what it gave was taken back; the order that did so tells by whom and why."""


class Withdrawal(Row, table=True):
    """An order that was cancelled before it was taken, and must not be taken any more."""

    identity: str = Field(primary_key=True, max_length=255)
    at: datetime = Field(sa_type=UtcDateTime)
    who: str = Field(max_length=32)
    why: str = Field(max_length=255)


class Grant(Row, table=True):
    """A right to be served. `ended_at` is set once its Term was carried out; `ending` says how."""

    __table_args__ = (
        Index(
            "ix_grant_open",
            "ends_at",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: str = Field(primary_key=True, max_length=16)
    line_id: str = Field(max_length=16, foreign_key="line.id", index=True)
    order_id: str = Field(max_length=16, foreign_key="order.id", unique=True)
    plan: Plan = Field(sa_type=String(16))
    starts_at: datetime = Field(sa_type=UtcDateTime)
    ends_at: datetime = Field(sa_type=UtcDateTime)
    started_late_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When a trial was moved to its first proof; it is moved once."""
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ending: GrantEnding | None = Field(default=None, sa_type=String(16))
    ended_revision: int | None = None


class Block(Row, table=True):
    """A reason why a line must not work; active while `lifted_at` is empty."""

    __table_args__ = (
        Index(
            "uq_block_active",
            "line_id",
            "owner",
            "case",
            unique=True,
            sqlite_where=text("lifted_at IS NULL"),
            postgresql_where=text("lifted_at IS NULL"),
        ),
    )

    id: str = Field(primary_key=True, max_length=16)
    line_id: str = Field(max_length=16, foreign_key="line.id", index=True)
    owner: BlockOwner = Field(sa_type=Named(BlockOwner))
    case: str = Field(max_length=64)
    reason: str = Field(sa_type=Text)
    actor: str = Field(max_length=32)
    order_id: str = Field(max_length=16, foreign_key="order.id")
    set_at: datetime = Field(sa_type=UtcDateTime)
    until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    lifted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    lifted_by_order_id: str | None = Field(default=None, max_length=16, foreign_key="order.id")


class Half(Row, table=True):
    """A line on one host: `wanted` always equals the line's revision, `proven` never goes back.

    During a move the hosts of both pairs have one. Its host must hold what the line's state says until the half has
    left, and nothing from then on. The row stays; a move back takes it up again.
    """

    __table_args__ = (
        Index(
            "ix_half_behind",
            "host",
            sqlite_where=text("wanted > proven"),
            postgresql_where=text("wanted > proven"),
        ),
        Index(
            "ix_half_owed",
            "host",
            sqlite_where=text("owed IS NOT NULL"),
            postgresql_where=text("owed IS NOT NULL"),
        ),
    )

    line_id: str = Field(primary_key=True, max_length=16, foreign_key="line.id")
    host: str = Field(primary_key=True, max_length=32, foreign_key="host.name", index=True)
    protocol: Protocol = Field(sa_type=String(16))
    wanted: int = 0
    proven: int = 0
    state: HalfState = Field(default=HalfState.PENDING, sa_type=Named(HalfState))
    proven_state: HalfState | None = Field(default=None, sa_type=Named(HalfState))
    """What the daemon was last seen to hold: a customer may still watch by it while a change is pending."""
    attempts: int = 0
    """Tries at the revision now wanted, with the one that proved it."""
    last_error: str | None = Field(default=None, max_length=64)
    attention: str | None = Field(default=None, max_length=64)
    """Why a person has to look at this record first; see `twinline.ledger.halves`."""
    next_attempt: datetime | None = Field(default=None, sa_type=UtcDateTime)
    proven_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    behind_since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # No foreign key, as for an order's own references.
    leaving_order: str | None = Field(default=None, max_length=16)
    """The order that moves the line away from this host."""
    leaves_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Until when the customer was promised that it stays; None while the new pair is not ready."""
    left_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when its host must not hold the line, whatever the line's state."""
    owed: str | None = Field(default=None, max_length=128)
    """What promised the customer to hear that it is ready (`Recorded.mail_ref`); None once a mail has said so."""


class Event(Row, table=True):
    """What happened to a line or the inventory; triggers refuse every change and removal of a row."""

    id: int | None = Field(default=None, primary_key=True)
    at: datetime = Field(sa_type=UtcDateTime)
    who: str = Field(max_length=32)
    what: str = Field(max_length=32)
    why: str = Field(max_length=255)
    line_id: str | None = Field(default=None, max_length=16, foreign_key="line.id", index=True)
    before: str | None = Field(default=None, sa_type=Text)
    after: str | None = Field(default=None, sa_type=Text)


class Mail(Row, table=True):
    """A message as it will be handed over, byte for byte; its recipient is the line's."""

    __table_args__ = (
        UniqueConstraint("line_id", "kind", "ref"),
        Index(
            "ix_mail_waiting",
            "created_at",
            sqlite_where=text("state NOT IN ('accepted', 'refused')"),
            postgresql_where=text("state NOT IN ('accepted', 'refused')"),
        ),
        Index(
            "ix_mail_kept",
            "created_at",
            sqlite_where=text("length(body_sealed) > 0"),
            postgresql_where=text("length(body_sealed) > 0"),
        ),
    )

    id: str = Field(primary_key=True, max_length=16)
    line_id: str = Field(max_length=16, foreign_key="line.id")
    kind: MailKind = Field(sa_type=Named(MailKind))
    ref: str = Field(max_length=128)
    message_id: str = Field(max_length=255)
    body_sealed: bytes
    """Empty once it was forgotten, see `mails.forget_texts`; the row stays, so that nothing is said twice."""
    state: MailState = Field(default=MailState.STORED, sa_type=Named(MailState))
    attempts: int = 0
    last_error: str | None = Field(default=None, max_length=64)
    created_at: datetime = Field(sa_type=UtcDateTime)
    accepted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ApiToken(Row, table=True):
    """Who may ask for what over HTTP; rows stay when a token is over."""

    __tablename__ = "api_token"  # pyright: ignore[reportAssignmentType] - SQLModel's own way to name a table

    id: str = Field(primary_key=True, max_length=16)
    secret_mac: bytes
    """Keyed: neither a reader nor a writer of the database alone can make a token."""
    caller: str = Field(max_length=32)
    scopes: str = Field(sa_type=Text)
    """Separated by blanks."""
    reseller: bool
    """Whether it is bound to the lines that its caller opened."""
    rate: int = Field(sa_column_kwargs={"server_default": "600"})
    """Requests a minute."""
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    replaces: str | None = Field(default=None, max_length=16)


class Bulk(Row, table=True):
    """A bulk run that was taken."""

    __table_args__ = (Index(None, "created_at", "id"),)

    id: str = Field(primary_key=True, max_length=16)
    identity: str = Field(max_length=255, unique=True)
    kind: BulkKind = Field(sa_type=Named(BulkKind))
    caller: str = Field(max_length=32)
    run: str = Field(max_length=48)
    fingerprint: bytes
    """Keyed, as an order's: of what was asked for and of every row."""
    job: str = Field(sa_type=Text)
    """What is asked for beside the rows, as JSON; nothing of it is about a person."""
    created_at: datetime = Field(sa_type=UtcDateTime)
    settled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when no item waits to be ordered."""
    cancelled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    cancelled_by: str | None = Field(default=None, max_length=32)


class BulkItem(Row, table=True):
    """One row of a bulk run. What it asks for is sealed; how its order stands is found by `identity`."""

    __tablename__ = "bulk_item"  # pyright: ignore[reportAssignmentType] - SQLModel's own way to name a table
    __table_args__ = (UniqueConstraint("bulk_id", "number"),)

    id: str = Field(primary_key=True, max_length=16)
    bulk_id: str = Field(max_length=16, foreign_key="bulk.id")
    number: int
    row: int
    """Where the file had it."""
    identity: str | None = Field(default=None, max_length=255)
    """That of its order."""
    line_id: str | None = Field(default=None, max_length=16, foreign_key="line.id", index=True)
    person_hash: bytes | None = Field(default=None, index=True)
    """Whose address it holds, so that an erasure finds it."""
    body_sealed: bytes
    state: ItemState = Field(default=ItemState.WAITING, sa_type=Named(ItemState))
    error: str | None = Field(default=None, max_length=64)
    message: str = Field(default="", sa_type=Text)
    hint: str = Field(default="", sa_type=Text)
    retryable: bool = False
    note: str = Field(default="", sa_type=Text)


class Fence(Row, table=True):
    """The last fencing token given out for a host.

    It outlives its host's row: the host itself remembers the token, so one that is declared again must go on
    from here.
    """

    host: str = Field(primary_key=True, max_length=32)
    epoch: int = 1
    n: int = 0
