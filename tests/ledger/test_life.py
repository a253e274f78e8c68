"""Random lives of lines against a model that knows no database: whatever the order of events, the invariants hold."""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from random import Random
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlmodel import col, select

from tests.ledger.stores import Shelf, SqliteShelf, Store
from tests.ledger.support import DAY, HOUR, Desk, Pairing
from twinline.errors import (
    CannotCancel,
    LineClosed,
    LineEnded,
    MoveRunning,
    OrderCancelled,
    OrderConflict,
    TrialAlreadyUsed,
    UnknownBlock,
)
from twinline.keys import KeyRing
from twinline.ledger import Ledger, guard, halves, models
from twinline.ledger.halves import StaleToken
from twinline.ledger.queries import LineFilter, list_lines, reveal_password
from twinline.messages import (
    BlockOrder,
    BlockOwner,
    CancelOrder,
    CloseOrder,
    HalfState,
    MoveOrder,
    Order,
    PasswordOrder,
    PurchaseOrder,
    Recorded,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
    order_kind,
    order_workflow_id,
)

T = TypeVar("T")
PAIRS = {"eu1": ("mc-eu1", "os-eu1"), "us1": ("mc-us1", "os-us1")}
HOSTS = [host for pair in PAIRS.values() for host in pair]
PEOPLE = ("ann.miller", "bob.baker", "cid.cooper")

CANCELLABLE = (TrialOrder, PurchaseOrder, RenewalOrder, MoveOrder)

people = st.sampled_from(PEOPLE)
picks = st.integers(0, 10**6)
hosts = st.sampled_from(HOSTS)
owners = st.sampled_from([BlockOwner.ABUSE, BlockOwner.PAYMENT])
cases = st.sampled_from(["case-1", "case-2"])


@dataclass
class ModelGrant:
    recorded: Recorded
    trial: bool
    starts_at: datetime
    ends_at: datetime
    moved: bool = False
    outcome: str = "later"


@dataclass
class ModelLine:
    grants: list[ModelGrant] = field(default_factory=list[ModelGrant])
    blocks: set[tuple[BlockOwner, str]] = field(default_factory=set[tuple[BlockOwner, str]])
    password: str = ""
    closed: bool = False
    pair: str = "eu1"
    pairs: set[str] = field(default_factory=lambda: {"eu1"})
    """Where it has halves."""
    move: Recorded | None = None
    """The one that still keeps it on two pairs."""
    left: set[str] = field(default_factory=set[str])
    """Pairs that it was moved away from."""

    def state_on(self, host: str) -> str:
        gone = any(host in PAIRS[pair] for pair in self.left)
        return "absent" if gone else self.state

    @property
    def ends_at(self) -> datetime | None:
        ends = [grant.ends_at for grant in self.grants if grant.outcome == "later"]
        return max(ends) if ends else None

    @property
    def state(self) -> str:
        if self.ends_at is None or self.closed:
            return "absent"
        return "blocked" if self.blocks else "present"


class LivesOfLines(RuleBasedStateMachine):
    """Orders, ends, batches and failures in any order; the model says what must come of each."""

    def __init__(self, store: Store, keys: KeyRing) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        # Ids decide ties, so they must come out the same when hypothesis repeats a life.
        random = Random(1)  # noqa: S311 - nothing here is a real secret
        ledger = self.run(Ledger.open(store.url, keys=keys, random=random))
        self.desk = Desk(ledger=ledger, keys=keys, store=store)
        self.run(self.desk.sync(Pairing(name="eu1"), Pairing(name="us1", region="us")))
        self.refs: Iterator[int] = count()
        self.lines: dict[str, ModelLine] = {}
        self.tried: set[str] = set()
        self.taken: list[tuple[Order, Recorded]] = []
        self.revisions: dict[str, int] = {}
        self.cancelled: set[str] = set()
        self.proven: dict[tuple[str, str], int] = {}
        self.batches: list[halves.Batch] = []
        self.tokens: dict[str, int] = dict.fromkeys(HOSTS, 0)

    def run(self, call: Coroutine[None, None, T]) -> T:
        return self.loop.run_until_complete(call)

    def order(self) -> str:
        return f"o{next(self.refs)}"

    def line(self, pick: int) -> tuple[str, ModelLine]:
        return list(self.lines.items())[pick % len(self.lines)]

    def grant(self, pick: int) -> tuple[ModelLine, ModelGrant]:
        grants = [(line, grant) for line in self.lines.values() for grant in line.grants]
        return grants[pick % len(grants)]

    def take(self, order: Order) -> Recorded:
        recorded = self.run(self.desk.take(order))
        self.taken.append((order, recorded))
        return recorded

    def refused(self, line: ModelLine, order: Order) -> bool:
        """Whether the line is closed, which every order for it must then hear."""
        if line.closed:
            with pytest.raises(LineClosed):
                self.run(self.desk.take(order))
        return line.closed

    def opened(self, recorded: Recorded, *, trial: bool, ends_at: datetime) -> None:
        assert recorded.username not in self.lines
        assert recorded.ends_at == ends_at
        line = ModelLine([ModelGrant(recorded, trial, self.desk.now, ends_at)])
        line.password = self.run(self.desk.password(recorded.username))
        self.lines[recorded.username] = line

    # --- what happens -------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([0, 1, 7, 24, 47, 48, 200]), instants=st.integers(-1, 1))
    def time_passes(self, hours: int, instants: int) -> None:
        self.desk.now += max(timedelta(), hours * HOUR + timedelta(microseconds=instants))

    @rule(person=people)
    def somebody_tries(self, person: str) -> None:
        order = TrialOrder(order=self.order(), email=f"{person}@example.com", region="eu")
        if person in self.tried:
            with pytest.raises(TrialAlreadyUsed):
                self.run(self.desk.take(order))
            return
        self.tried.add(person)
        self.opened(self.take(order), trial=True, ends_at=self.desk.now + 48 * HOUR)

    @rule(person=people, days=st.integers(1, 3))
    def somebody_buys(self, person: str, days: int) -> None:
        order = PurchaseOrder(order=self.order(), email=f"{person}@example.com", region="eu", days=days)
        self.opened(self.take(order), trial=False, ends_at=self.desk.now + days * DAY)

    @precondition(lambda self: self.lines)
    @rule(pick=picks, days=st.integers(1, 3), bought=st.booleans())
    def a_line_is_extended(self, pick: int, days: int, *, bought: bool) -> None:
        username, line = self.line(pick)
        kind = PurchaseOrder if bought else RenewalOrder
        starts_at = max(self.desk.now, line.ends_at or self.desk.now)
        ends_at = starts_at + days * DAY
        order = kind(order=self.order(), line=username, days=days)
        if self.refused(line, order):
            return
        recorded = self.take(order)
        assert (recorded.plan, recorded.ends_at) == ("paid", ends_at)
        line.grants.append(ModelGrant(recorded, trial=False, starts_at=starts_at, ends_at=ends_at))

    @precondition(lambda self: self.lines)
    @rule(pick=picks, owner=owners, case=cases)
    def a_line_is_blocked(self, pick: int, owner: BlockOwner, case: str) -> None:
        username, line = self.line(pick)
        caller = f"c{next(self.refs)}"
        order = BlockOrder(case=case, line=username, owner=owner, reason="shared", caller=caller)
        if self.refused(line, order):
            return
        recorded = self.take(order)
        line.blocks.add((owner, case))
        assert {(block.owner, block.case) for block in recorded.blocks} == line.blocks

    @precondition(lambda self: self.lines)
    @rule(pick=picks, owner=owners, case=cases)
    def a_block_is_lifted(self, pick: int, owner: BlockOwner, case: str) -> None:
        username, line = self.line(pick)
        order = UnblockOrder(case=case, line=username, owner=owner, caller=f"c{next(self.refs)}")
        if self.refused(line, order):
            return
        if (owner, case) not in line.blocks:
            with pytest.raises(UnknownBlock):
                self.run(self.desk.take(order))
            return
        self.take(order)
        line.blocks.remove((owner, case))

    @precondition(lambda self: self.lines)
    @rule(pick=picks)
    def a_password_is_changed(self, pick: int) -> None:
        username, line = self.line(pick)
        order = PasswordOrder(order=self.order(), line=username)
        if self.refused(line, order):
            return
        if line.state == "absent":
            with pytest.raises(LineEnded):
                self.run(self.desk.take(order))
            return
        recorded = self.take(order)
        assert recorded.revision == self.revisions[username] + 1
        password = self.run(self.desk.password(username))
        assert password != line.password
        line.password = password

    @precondition(lambda self: self.lines)
    @rule(pick=picks)
    def a_line_is_moved(self, pick: int) -> None:
        username, line = self.line(pick)
        (other,) = PAIRS.keys() - {line.pair}
        order = MoveOrder(order=self.order(), line=username, pair=other)
        if self.refused(line, order):
            return
        halves = {half.host: half for half in self.run(self.desk.view(username)).halves}
        gone = all(halves[host].proven == halves[host].wanted for host in PAIRS[other]) if other in line.left else True
        if line.state == "absent" or line.move is not None or not gone:
            with pytest.raises(LineEnded if line.state == "absent" else MoveRunning):
                self.run(self.desk.take(order))
            return
        line.move = self.take(order)
        assert line.move.revision == self.revisions[username] + (other in line.left)
        leaving = {half.host for half in line.move.halves if half.leaving}
        assert leaving == set(PAIRS[line.pair])
        assert {half.host for half in line.move.halves} - leaving == set(PAIRS[other])
        line.pair = other
        line.pairs.add(other)
        line.left.discard(other)

    @precondition(lambda self: any(line.move for line in self.lines.values()))
    @rule(pick=picks, again=st.booleans(), give_up=st.sampled_from([False, False, False, True]))
    def a_move_leaves_a_pair(self, pick: int, *, again: bool, give_up: bool) -> None:
        moving = [(username, line) for username, line in self.lines.items() if line.move is not None]
        username, line = moving[pick % len(moving)]
        move, (old,) = line.move, PAIRS.keys() - {line.pair}
        assert move is not None
        ask = self.desk.call_off_move if give_up else self.desk.break_move
        decision = self.run(ask(move))
        raised = line.state != "absent" and decision.outcome != "later"
        assert decision.revision == self.revisions[username] + raised
        if decision.outcome == "later":
            assert line.state == "present"
            halves = [half for half in self.run(self.desk.view(username)).halves if half.host in PAIRS[line.pair]]
            down = {host.name for host in self.run(self.desk.rows(models.Host)) if host.down_since is not None}
            assert not [half for half in halves if half.proven_state is HalfState.APPLIED and half.host not in down]
            return
        assert decision.outcome == ("called_off" if give_up else "broken")
        line.move = None
        line.left.add(line.pair if give_up else old)
        line.pair = old if give_up else line.pair
        if again:
            assert self.run(ask(move)) == decision

    @precondition(lambda self: self.lines)
    @rule(pick=picks, really=st.sampled_from([False, False, True]))
    def a_line_is_closed(self, pick: int, *, really: bool) -> None:
        username, line = self.line(pick)
        order = CloseOrder(order=self.order(), line=username)
        if not really or self.refused(line, order):
            return
        self.take(order)
        line.closed = True

    @precondition(lambda self: self.taken)
    @rule(pick=picks, again=st.booleans())
    def an_order_is_cancelled(self, pick: int, *, again: bool) -> None:
        orders = [(order, recorded) for order, recorded in self.taken if isinstance(order, CANCELLABLE)]
        order, recorded = orders[pick % len(orders)]
        line = self.lines[recorded.username]
        cancel = CancelOrder(order=order.order, of=order_kind(order), reason="refunded")
        if order_workflow_id(order) in self.cancelled:
            (first,) = (earlier for asked, earlier in self.taken if asked == cancel)
            assert self.run(self.desk.take(cancel)) == first
            return
        take_back = self.move_back if isinstance(order, MoveOrder) else self.time_back
        if line.closed or not take_back(line, recorded):
            with pytest.raises(LineClosed if line.closed else CannotCancel):
                self.run(self.desk.take(cancel))
            return
        self.cancelled.add(order_workflow_id(order))
        done = self.take(cancel)
        assert done.blocks == tuple(block for block in done.blocks if (block.owner, block.case) in line.blocks)
        if again:
            other = cancel.model_copy(update={"reason": "another", "actor": "ivan"})
            assert self.run(self.desk.take(other)) == done

    def time_back(self, line: ModelLine, recorded: Recorded) -> bool:
        """Take the rest of a grant back, if there is one."""
        (grant,) = (grant for grant in line.grants if grant.recorded is recorded)
        now, old_end = self.desk.now, grant.ends_at
        left = old_end - max(now, grant.starts_at)
        if grant.outcome != "later" or left <= timedelta():
            return False
        grant.starts_at, grant.ends_at, grant.outcome = min(now, grant.starts_at), now, "cancelled"
        for other in line.grants:
            if other.outcome == "later" and other.starts_at >= old_end:
                other.starts_at, other.ends_at = other.starts_at - left, other.ends_at - left
            if other.outcome == "later" and other.ends_at <= now:
                other.outcome = "overtaken"
        return True

    @staticmethod
    def move_back(line: ModelLine, recorded: Recorded) -> bool:
        """Call a move off, if it is not over."""
        if line.move is not recorded:
            return False
        (old,) = PAIRS.keys() - {line.pair}
        line.move = None
        line.left.add(line.pair)
        line.pair = old
        return True

    @precondition(lambda self: self.taken)
    @rule(pick=picks)
    def an_order_comes_again(self, pick: int) -> None:
        order, recorded = self.taken[pick % len(self.taken)]
        if order_workflow_id(order) in self.cancelled:
            with pytest.raises(OrderCancelled):
                self.run(self.desk.take(order))
        elif isinstance(order, BlockOrder) and (order.owner, order.case) not in self.lines[order.line].blocks:
            with pytest.raises(OrderConflict):
                self.run(self.desk.take(order))
        else:
            assert self.run(self.desk.take(order)) == recorded

    @precondition(lambda self: self.taken)
    @rule(pick=picks)
    def an_order_id_comes_again_for_something_else(self, pick: int) -> None:
        order, _ = self.taken[pick % len(self.taken)]
        if isinstance(order, BlockOrder | UnblockOrder):
            other = BlockOwner.OPERATOR
            changed: Order = order.model_copy(update={"owner": other})
        else:
            changed = TrialOrder(order=order.order, email="eve@example.com", region="eu")
        with pytest.raises(OrderConflict):
            self.run(self.desk.take(changed))

    @precondition(lambda self: self.lines)
    @rule(pick=picks)
    def a_term_wakes(self, pick: int) -> None:
        line, grant = self.grant(pick)
        decision = self.run(self.desk.end(grant.recorded))
        if grant.outcome == "later" and self.desk.now >= grant.ends_at:
            others = [other for other in line.grants if other is not grant]
            grant.outcome = "overtaken" if any(other.ends_at > grant.ends_at for other in others) else "ended"
            if grant.outcome == "ended":
                for other in others:
                    if other.outcome == "later":
                        other.outcome = "overtaken"
        assert (decision.outcome, decision.ends_at) == (grant.outcome, grant.ends_at)

    @precondition(lambda self: self.lines)
    @rule(pick=picks)
    def a_first_proof_comes_late(self, pick: int) -> None:
        line, grant = self.grant(pick)
        late = self.run(self.desk.start_late(grant.recorded))
        still_last = grant.outcome == "later" and grant.ends_at == line.ends_at and not line.closed
        if grant.trial and not grant.moved and still_last and self.desk.now + 48 * HOUR > grant.ends_at:
            grant.moved, grant.starts_at, grant.ends_at = True, self.desk.now, self.desk.now + 48 * HOUR
        assert (late.moved, late.ends_at) == (grant.moved, grant.ends_at)

    @rule(host=hosts, limit=st.sampled_from([1, 2, 100]))
    def a_batch_is_opened(self, host: str, limit: int) -> None:
        batch = self.run(self.desk.open_batch(host, limit))
        self.tokens[host] += 1
        assert batch.token.n == self.tokens[host]
        kept_out = [half.state != "present" for half in batch.halves]
        assert kept_out == sorted(kept_out, reverse=True)
        for half in batch.halves:
            line = self.lines[half.username]
            state = line.state_on(host)
            assert (half.state, half.ends_at) == (state, None if state == "absent" else line.ends_at)
            assert half.password.get_secret_value() == line.password
        self.batches.append(batch)

    @precondition(lambda self: self.batches)
    @rule(pick=picks, share=st.integers(0, 100))
    def a_batch_is_proven(self, pick: int, share: int) -> None:
        batch = self.batches.pop(pick % len(self.batches))
        only = [half.line_id for half in batch.halves][: len(batch.halves) * share // 100]
        if batch.token.n < self.tokens[batch.host]:
            with pytest.raises(StaleToken):
                self.run(self.desk.close_batch(batch, only))
        else:
            self.run(self.desk.close_batch(batch, only))

    @precondition(lambda self: self.batches)
    @rule(pick=picks)
    def a_batch_fails(self, pick: int) -> None:
        batch = self.batches.pop(pick % len(self.batches))
        self.run(self.desk.fail(batch.host, *(half.line_id for half in batch.halves)))

    @precondition(lambda self: self.batches)
    @rule(pick=picks)
    def a_batch_finds_what_a_person_must_see(self, pick: int) -> None:
        batch = self.batches.pop(pick % len(self.batches))
        for half in batch.halves:
            self.run(self.desk.stop(batch.host, half.line_id, revision=half.revision))

    # --- what always holds --------------------------------------------------------------------------

    @invariant()
    def the_ledger_is_as_the_model_says(self) -> None:
        self.run(self.check())

    async def check(self) -> None:
        line, block, half = models.Line, models.Block, models.Half
        async with self.desk.ledger.read() as tx:
            lines = (
                await tx.session.exec(
                    select(line.username, line.state, line.ends_at, line.revision).order_by(line.username)
                )
            ).all()
            active = (
                await tx.session.exec(
                    select(line.username, block.owner, block.case).join(block).where(col(block.lifted_at).is_(None))
                )
            ).all()
            all_halves = (await tx.session.exec(select(half, line.revision).join(line))).all()
            orders = (await tx.session.exec(select(models.Order.id, models.Order.recorded))).all()
        assert [row[:3] for row in lines] == [
            (username, line.state, None if line.closed else line.ends_at)
            for username, line in sorted(self.lines.items())
        ]
        assert sorted(active) == sorted((name, *block) for name, line in self.lines.items() for block in line.blocks)
        for username, _, _, revision in lines:
            assert revision >= self.revisions.get(username, 1)
            self.revisions[username] = revision
        assert len(all_halves) == sum(2 * len(line.pairs) for line in self.lines.values())
        for one, revision in all_halves:
            assert one.wanted == revision
            assert self.proven.get((one.line_id, one.host), 0) <= one.proven <= one.wanted
            self.proven[one.line_id, one.host] = one.proven
            in_step = one.proven == one.wanted
            assert in_step == (one.state in {HalfState.APPLIED, HalfState.REMOVED})
            assert in_step == (one.behind_since is None)
            assert not (in_step and one.attention)
        assert dict(orders) == {recorded.order_id: recorded.model_dump_json() for _, recorded in self.taken}

    def teardown(self) -> None:
        try:
            self.run(self.converge())
            self.no_secret_is_legible()
        finally:
            self.run(self.desk.ledger.close())
            self.loop.close()

    async def converge(self) -> None:
        for host in HOSTS:
            for half in await self.desk.rows(models.Half):
                await self.desk.ask_again(half.host, half.line_id)
            await self.desk.prove(host)
        assert guard.UNEXPLAINED not in {event.what for event in await self.desk.rows(models.Event)}
        for host in HOSTS:
            assert (await self.desk.open_batch(host)).halves == ()
        async with self.desk.ledger.read() as tx:
            page = await list_lines(tx, LineFilter(), limit=1000)
            assert [view.username for view in page.lines] == sorted(self.lines)
            for view in page.lines:
                line = self.lines[view.username]
                assert (await reveal_password(tx, view.username)).get_secret_value() == line.password
                assert view.pair == line.pair
                for half in view.halves:
                    serves = line.state_on(half.host) == "present"
                    assert half.state is (HalfState.APPLIED if serves else HalfState.REMOVED)

    def no_secret_is_legible(self) -> None:
        raw = self.desk.raw()
        for username, line in self.lines.items():
            assert username.encode() in raw, "the search looks in the wrong place"
            assert line.password.encode() not in raw
        for person in PEOPLE:
            assert person.encode() not in raw


def live(lives: int, shelf: Shelf, keys: KeyRing) -> None:
    class WithFixtures(LivesOfLines):
        def __init__(self) -> None:
            super().__init__(shelf.new(), keys)

    run_state_machine_as_test(
        WithFixtures,
        settings=settings(
            max_examples=lives,
            stateful_step_count=30,
            deadline=None,
            database=None,
            # Shrinking a failed life takes minutes, more than a test may; add Phase.shrink to look into one.
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_lives_of_lines(shelf: Shelf, keys: KeyRing) -> None:
    live(10 if isinstance(shelf, SqliteShelf) else 2, shelf, keys)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_lives_of_lines(shelf: Shelf, keys: KeyRing) -> None:
    live(1000 if isinstance(shelf, SqliteShelf) else 300, shelf, keys)
