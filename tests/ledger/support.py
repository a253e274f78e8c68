"""A desk at which tests hand in orders: every call is a transaction of its own, and time moves only by hand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from sqlmodel import SQLModel, col, delete, select, update

from tests.ledger.stores import SqliteStore, Store
from twinline.inventory import Inventory
from twinline.keys import KeyRing
from twinline.ledger import Ledger, cancels, halves, models, moves, orders, setup, terms
from twinline.ledger.queries import LineView, line_view, reveal_password
from twinline.messages import (
    GRACE,
    BlockOrder,
    BlockOwner,
    CancelOrder,
    CancelTaken,
    CloseOrder,
    HalfState,
    LateTrial,
    MoveDecision,
    MoveMade,
    MoveOrder,
    MoveStep,
    Order,
    OrderKind,
    PasswordOrder,
    PurchaseOrder,
    Recorded,
    RenewalOrder,
    TakeCancel,
    TermDecision,
    TermStart,
    TrialOrder,
    UnblockOrder,
    order_workflow_id,
)

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
Row = TypeVar("Row", bound=SQLModel)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TOGETHER = 10


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """A pair for an inventory, with the hosts `mc-<name>` and `os-<name>`."""

    name: str
    region: str = "eu"
    capacity: int = 1000

    @property
    def hosts(self) -> tuple[str, str]:
        return (f"mc-{self.name}", f"os-{self.name}")


def an_inventory(*pairs: Pairing) -> Inventory:
    """An inventory of these pairs."""
    protocols = ("multics", "oscam")
    hosts = [
        {
            "name": host,
            "protocol": protocol,
            "ssh": {"address": f"{host}.example.com", "user": "twinline", "key": "id", "known_hosts": "known_hosts"},
            "accounts_file": "/var/etc/accounts",
            "state_dir": "/var/lib/twinline",
            "timezone": "UTC",
            "public": {"address": f"{host}.example.com", "port": 12000},
            "status": {"url": "http://127.0.0.1:8888", "user": "admin", "password": "status-password"},
        }
        | ({"groups": [1]} if protocol == "oscam" else {})
        for pair in pairs
        for host, protocol in zip(pair.hosts, protocols, strict=True)
    ]
    return Inventory.model_validate(
        {
            "service": {
                "name": "Example Lines",
                "rights_holder": "Example Broadcasting Ltd.",
                "abuse_contact": "abuse@example.com",
                "support_email": "support@example.com",
                "mail_from": "lines@example.com",
                "public_url": "https://lines.example.com",
            },
            "hosts": hosts,
            "pairs": [
                {
                    "name": pair.name,
                    "region": pair.region,
                    "multics": pair.hosts[0],
                    "oscam": pair.hosts[1],
                    "capacity": pair.capacity,
                }
                for pair in pairs
            ],
        }
    )


async def take(ledger: Ledger, order: Order, *, now: datetime) -> Recorded:
    """Hand in any order; the person behind an address is the address in lower case."""
    workflow_id = order_workflow_id(order)
    async with ledger.write() as tx:
        match order:
            case TrialOrder():
                return await orders.record_trial(
                    tx, order, person=order.email.lower(), now=now, workflow_id=workflow_id
                )
            case PurchaseOrder():
                person = None if order.email is None else order.email.lower()
                return await orders.record_purchase(tx, order, person=person, now=now, workflow_id=workflow_id)
            case RenewalOrder():
                return await orders.record_renewal(tx, order, now=now, workflow_id=workflow_id)
            case BlockOrder():
                return await orders.record_block(tx, order, now=now, workflow_id=workflow_id)
            case PasswordOrder():
                return await orders.record_password(tx, order, now=now, workflow_id=workflow_id)
            case MoveOrder():
                return await orders.record_move(tx, order, now=now, workflow_id=workflow_id)
            case CloseOrder():
                return await orders.record_close(tx, order, now=now, workflow_id=workflow_id)
            case CancelOrder():
                taken = await cancels.record_cancel(tx, TakeCancel(order=order, at=now, running=False))
                assert taken.recorded is not None
                return taken.recorded
            case UnblockOrder():
                return await orders.record_unblock(tx, order, now=now, workflow_id=workflow_id)


@dataclass
class Desk:
    """A migrated ledger with the region `eu` of one pair, and a clock."""

    ledger: Ledger
    keys: KeyRing
    store: Store
    now: datetime = START
    _count: int = field(default=0)

    @property
    def path(self) -> Path:
        """The file of a ledger on SQLite."""
        assert isinstance(self.store, SqliteStore)
        return self.store.path

    def ref(self) -> str:
        """An order id that was not used yet."""
        self._count += 1
        return f"o-{self._count}"

    async def sync(self, *pairs: Pairing) -> None:
        """Declare these pairs and no others."""
        async with self.ledger.write() as tx:
            await setup.sync_inventory(tx, an_inventory(*pairs), now=self.now)

    async def take(self, order: Order) -> Recorded:
        """Hand in an order."""
        return await take(self.ledger, order, now=self.now)

    async def trial(self, email: str = "ann@example.com", region: str = "eu") -> Recorded:
        """Order a trial."""
        return await self.take(TrialOrder(order=self.ref(), email=email, region=region))

    async def trials(self, count: int) -> list[Recorded]:
        """Order trials for so many people, some to a transaction because each waits for the disk."""
        taken: list[Recorded] = []
        for start in range(0, count, TOGETHER):
            async with self.ledger.write() as tx:
                for _ in range(start, min(start + TOGETHER, count)):
                    ref = self.ref()
                    order = TrialOrder(order=ref, email=f"guest-{ref}@example.com", region="eu")
                    workflow_id = order_workflow_id(order)
                    taken.append(
                        await orders.record_trial(tx, order, person=order.email, now=self.now, workflow_id=workflow_id)
                    )
        return taken

    async def end_all(self, orders: Sequence[Recorded]) -> None:
        """Ask for the ends of the grants that these orders gave, now."""
        for start in range(0, len(orders), TOGETHER):
            async with self.ledger.write() as tx:
                for one in orders[start : start + TOGETHER]:
                    assert one.grant_id is not None
                    term = TermStart(line_id=one.line_id, grant_id=one.grant_id, ends_at=one.ends_at)
                    await terms.end_grant(tx, term, now=self.now)

    async def purchase(self, email: str = "ann@example.com", region: str = "eu", days: int = 30) -> Recorded:
        """Order paid days for a new customer."""
        return await self.take(PurchaseOrder(order=self.ref(), email=email, region=region, days=days))

    async def renew(self, username: str, days: int = 30) -> Recorded:
        """Order further paid days."""
        return await self.take(RenewalOrder(order=self.ref(), line=username, days=days))

    async def block(
        self, username: str, case: str = "case-1", owner: BlockOwner = BlockOwner.ABUSE, caller: str = "cli"
    ) -> Recorded:
        """Set a block."""
        return await self.take(
            BlockOrder(case=case, line=username, owner=owner, reason="shared with others", caller=caller)
        )

    async def unblock(
        self, username: str, case: str = "case-1", owner: BlockOwner = BlockOwner.ABUSE, caller: str = "cli"
    ) -> Recorded:
        """Lift a block."""
        return await self.take(UnblockOrder(case=case, line=username, owner=owner, caller=caller))

    async def move(self, username: str, pair: str = "eu2") -> Recorded:
        """Order a move."""
        return await self.take(MoveOrder(order=self.ref(), line=username, pair=pair))

    async def cancel(self, order: str, of: OrderKind, *, running: bool = False) -> CancelTaken:
        """Take an order back."""
        cancel = CancelOrder(order=order, of=of, reason="refunded", actor="olga")
        async with self.ledger.write() as tx:
            return await cancels.record_cancel(tx, TakeCancel(order=cancel, at=self.now, running=running))

    async def keep_old_pair(self, moved: Recorded) -> datetime:
        """Say that the new pair is ready; until when the old one is kept."""
        made = MoveMade(order_id=moved.order_id, at=self.now, keep_until=self.now + DAY)
        async with self.ledger.write() as tx:
            return (await moves.keep_old_pair(tx, made, grace=GRACE)).until

    async def break_move(self, moved: Recorded) -> MoveDecision:
        """Ask for a move's break, now."""
        async with self.ledger.write() as tx:
            return await moves.break_move(tx, MoveStep(order_id=moved.order_id, at=self.now))

    async def call_off_move(self, moved: Recorded) -> MoveDecision:
        """Give a move up."""
        async with self.ledger.write() as tx:
            return await moves.call_off_move(tx, MoveStep(order_id=moved.order_id, at=self.now))

    async def end(self, recorded: Recorded) -> TermDecision:
        """Ask for the end of the grant that this order gave, now."""
        assert recorded.grant_id is not None
        term = TermStart(line_id=recorded.line_id, grant_id=recorded.grant_id, ends_at=recorded.ends_at)
        async with self.ledger.write() as tx:
            return await terms.end_grant(tx, term, now=self.now)

    async def start_late(self, recorded: Recorded) -> terms.LateStart:
        """Let the trial that this order gave start now."""
        assert recorded.grant_id is not None
        late = LateTrial(line_id=recorded.line_id, grant_id=recorded.grant_id, proven_at=self.now)
        async with self.ledger.write() as tx:
            return await terms.start_late_trial(tx, late, now=self.now)

    async def open_batch(self, host: str, limit: int = 1000, also: frozenset[str] = frozenset()) -> halves.Batch:
        """Open a batch as the host's writer does."""
        async with self.ledger.write() as tx:
            return await halves.open_batch(tx, host, limit=limit, now=self.now, also=also)

    async def close_batch(self, batch: halves.Batch, only: Iterable[str] | None = None) -> None:
        """Prove the batch, or the named lines of it."""
        results = [proof_of(half) for half in batch.halves if only is None or half.line_id in set(only)]
        async with self.ledger.write() as tx:
            await halves.close_batch(tx, batch.host, batch.token, results, now=self.now)

    async def prove(self, host: str) -> halves.Batch:
        """Bring everything on this host in step."""
        batch = await self.open_batch(host)
        await self.close_batch(batch)
        return batch

    async def fail(
        self, host: str, *line_ids: str, host_down: bool = True, code: str = "ConnectionLost", host_asks: bool = False
    ) -> None:
        """Report that a batch did not get through."""
        async with self.ledger.write() as tx:
            await halves.report_failure(
                tx,
                host,
                line_ids,
                code=code,
                now=self.now,
                next_attempt=self.now + timedelta(seconds=30),
                host_down=host_down,
                host_asks=host_asks,
            )

    async def stop(self, host: str, line_id: str, *, revision: int = 1, code: str = "RecordConflict") -> None:
        """Let a half wait for a person; it is looked at again after ten minutes."""
        async with self.ledger.write() as tx:
            next_look = self.now + timedelta(minutes=10)
            await halves.stop_half(tx, host, line_id, revision=revision, code=code, next_look=next_look)

    async def ask_again(self, host: str, line_id: str, *, due_only: bool = False) -> bool:
        """Ask for a half that waits for a person."""
        async with self.ledger.write() as tx:
            return await halves.ask_again(tx, line_id, host, now=self.now, due_only=due_only)

    async def abandon(self, host: str, line_id: str, *, actor: str = "cli", reason: str = "it is gone") -> None:
        """Give a half up."""
        async with self.ledger.write() as tx:
            await halves.abandon_half(tx, line_id, host, actor=actor, reason=reason, now=self.now)

    async def view(self, username: str) -> LineView:
        """Look at a line."""
        async with self.ledger.read() as tx:
            return await line_view(tx, username)

    async def password(self, username: str) -> str:
        """The line's password."""
        async with self.ledger.read() as tx:
            return (await reveal_password(tx, username)).get_secret_value()

    async def rows(self, table: type[Row]) -> list[Row]:
        """All rows of a table."""
        async with self.ledger.read() as tx:
            return list(await tx.session.exec(select(table)))

    def raw(self) -> bytes:
        """What a thief of the files would have."""
        return self.store.raw()


def proof_of(half: halves.BatchHalf) -> halves.ProvenHalf:
    """The proof of exactly what the batch asked for."""
    state = HalfState.APPLIED if half.state == "present" else HalfState.REMOVED
    return halves.ProvenHalf(line_id=half.line_id, revision=half.revision, state=state)


async def lose_grants(desk: Desk, lines: Sequence[Recorded]) -> None:
    """What a ledger looks like that lost these lines' grants and was settled by somebody who tells no event."""
    ids = [line.line_id for line in lines]
    line, half = models.Line, models.Half
    async with desk.ledger.write() as tx:
        await tx.session.exec(delete(models.Grant).where(col(models.Grant.line_id).in_(ids)))
        await tx.session.exec(
            update(line).where(col(line.id).in_(ids)).values(state="absent", ends_at=None, revision=line.revision + 1)
        )
        await tx.session.exec(update(half).where(col(half.line_id).in_(ids)).values(wanted=half.wanted + 1))
