"""Random orders, faults, duplicates, restarts and hours on the whole of twinline, held to the invariants of design.md.

TWINLINE_SEED chooses other lives than the usual ones; TWINLINE_LIVES says how many `make soak` goes through, in pieces
that can be kept (`tally`).
"""

import asyncio
import contextlib
import shutil
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.lives import Story, Surroundings, chosen_lives, chosen_seed, go_through, life_folder
from tests.whole.at_rest import check_secrets, rest
from tests.whole.box import Answer, Box
from tests.whole.clock import ServerHangs
from tests.whole.house import House, Lapse, run_house
from tests.whole.picture import PAIRS
from tests.whole.quick import make_quick
from tests.whole.tally import Piece, Tally, missing
from tests.whole.world import OrderKind, World
from twinline.hosts.errors import HostKeyMismatch

SEED: Final = 7
LIVES, STEPS = 4, 8
"""The first two of hypothesis are always the simplest that there can be."""
SOAK_LIVES: Final = 2_000
PIECE: Final = 50
"""Lives of one seed; the next piece has the next seed."""
REACHED: Final = (
    "near: grant.given within 1 ms of an end",
    "near: order.cancelled within 1 ms of an end",
    "near: block.set within 1 ms of an end",
    "met: block while renew is being written",
    "met: renew while block is being written",
    "met: block while move is being written",
    "met: move while block is being written",
    "met: cancel here while renew is being written",
    "met: cancel here while move is being written",
    "orders restart",
    "orders relieved",
    "late: renew tried again after a block",
    "order cancel in Temporal",
    "withdrawn",
    "event grant.started_late",
    "event grant.overtaken",
    "mail cancelled",
    "mail unserved",
    "second halves told last",
)
"""What must have happened somewhere in so many lives."""

T = TypeVar("T")
Orders = Sequence[tuple[OrderKind, int]]

numbers = st.integers(0, 11)
hosts = st.integers(0, 3)
kinds: st.SearchStrategy[OrderKind] = st.sampled_from(
    (
        *("trial", "trial", "trial again", "buy", "buy line", "renew", "renew", "renew"),
        *("block", "block", "block until", "block until", "unblock", "unblock", "password", "password"),
        *("move", "move", "close", "again", "by many", "other body", "forgotten"),
        *("cancel", "cancel", "cancel", "cancel any", "cancel last", "cancel in Temporal"),
    )
)
few = st.lists(st.tuples(kinds, numbers), max_size=3)
some = st.lists(st.tuples(kinds, numbers), min_size=1, max_size=4)
spans = st.sampled_from(
    (timedelta(seconds=61), timedelta(minutes=16), timedelta(hours=2), timedelta(hours=23), timedelta(days=3))
)
at_ends: st.SearchStrategy[OrderKind] = st.sampled_from(
    ("renew", "buy line", "cancel here", "block", "unblock", "password", "move", "close")
)
renewals: st.SearchStrategy[OrderKind] = st.sampled_from(("renew", "buy line"))
cancellations: st.SearchStrategy[OrderKind] = st.sampled_from(("cancel here", "cancel here", "cancel last"))
nearly = st.sampled_from([timedelta(milliseconds=each) for each in (-60_000, -15, -1, -1, 0, 0, 1, 1)])
writes: st.SearchStrategy[OrderKind] = st.sampled_from(("renew", "renew", "buy line", "password", "move", "unblock"))
Meeting = tuple[OrderKind, OrderKind]
with_a_block: st.SearchStrategy[Meeting] = st.sampled_from(
    (("block", "renew"), ("renew", "block"), ("block", "buy line"), ("unblock", "renew"), ("password", "block"))
)
of_a_move: st.SearchStrategy[Meeting] = st.sampled_from(
    (("block", "move"), ("move", "block"), ("move", "renew"), ("close", "move"), ("move", "password"))
)
of_a_cancellation: st.SearchStrategy[Meeting] = st.tuples(
    st.sampled_from(("renew", "move", "block", "trial", "buy")),
    st.sampled_from(("cancel here", "cancel last", "cancel in Temporal")),
)
lapses: st.SearchStrategy[list[tuple[int, Lapse]]] = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(("before", "after"))), min_size=1, max_size=3
)


@contextmanager
def surroundings(folder: Path, caplog: pytest.LogCaptureFixture) -> Generator[Surroundings]:
    with asyncio.Runner() as runner:
        yield Surroundings.within(runner, folder, caplog)


class Life(RuleBasedStateMachine):
    """One life of a twinline with two pairs."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__()
        self.around = around
        self.folder = life_folder()
        self.stack = AsyncExitStack()
        self.steps: list[str] = []
        self.lawful = True
        self.void = False
        """Whether the test server has failed us, so that nothing can be said any more."""

    @initialize()
    def begin(self) -> None:
        opening = run_house(self.folder, blank=self.around.blank, keys=self.around.keys)
        self.world = World(self.around.run(self.stack.enter_async_context(opening)))
        self.step("begin", (("trial", 0), ("buy", 3)), self.house.clock.settle)

    @property
    def house(self) -> House:
        return self.world.house

    def box(self, host: int) -> Box:
        return list(self.house.boxes.values())[host]

    def step(self, what: str, orders: Orders, *work: Callable[[], Awaitable[object]]) -> None:
        """Hand in some orders, do something, and let what is under way come to its end."""

        async def all_of_it() -> None:
            for kind, which in orders:
                await self.world.place(kind, which)
            # So that they are on their way when the rest happens.
            await asyncio.sleep(0.02 if orders else 0)
            for each in work:
                await each()
            await self.house.clock.settle()
            await self.world.check()

        self.steps.append(f"{what} {list(orders)}")
        self.around.counts[what.partition(":")[0]] += 1
        self.keep_law(all_of_it())

    def keep_law(self, work: Coroutine[Any, Any, object]) -> None:
        """Do it; what then breaks a law is kept with its story."""
        if self.void:
            work.close()
            return
        try:
            self.around.run(work)
        except ServerHangs as hangs:
            self.void = True
            self.around.counts[f"lives given up: the test server hangs, {hangs.how}"] += 1
        except BaseException as error:
            self.lawful = False
            self.around.broken = Story(error, tuple(self.steps))
            raise

    # -- orders and time

    @rule(orders=some)
    def orders(self, orders: Orders) -> None:
        self.step("orders", orders)

    @rule(orders=few, span=spans)
    def time_passes(self, orders: Orders, span: timedelta) -> None:
        self.step(f"time passes: {span}", orders, lambda: self.pass_time(span))

    @rule(order=renewals, which=numbers, off=nearly)
    def renewal_at_an_end(self, order: OrderKind, which: int, off: timedelta) -> None:
        self.at_an_end([order], which, off)

    @rule(order=cancellations, which=numbers, off=nearly)
    def cancellation_at_an_end(self, order: OrderKind, which: int, off: timedelta) -> None:
        self.at_an_end([order], which, off)

    @rule(orders=st.lists(at_ends, min_size=1, max_size=3), which=numbers, off=nearly)
    def orders_at_an_end(self, orders: Sequence[OrderKind], which: int, off: timedelta) -> None:
        self.at_an_end(orders, which, off)

    def at_an_end(self, orders: Sequence[OrderKind], which: int, off: timedelta) -> None:
        """Place orders about a line at the end of a period or a block of it, or just beside."""
        moments = self.moments()
        if moments and not self.void:
            moment, line = moments[which % len(moments)]
            self.step("to an end", (), lambda: self.pass_to(moment + off - timedelta(seconds=3)))
            if moment - self.house.clock.now() > timedelta(minutes=1):
                return
            ordered: Orders = [(kind, line) for kind in orders]
            self.step(f"at an end: {off} {ordered}", (), lambda: self.orders_at(moment + off, ordered))

    async def orders_at(self, moment: datetime, orders: Orders) -> None:
        await self.house.clock.pass_to(moment)
        self.house.moment = moment
        for kind, which in orders:
            await self.world.place(kind, which)
        await asyncio.sleep(0.02)

    def moments(self) -> list[tuple[datetime, int]]:
        """Ends of grants and blocks that are still to come, each with the number of its line."""
        lines = list(enumerate(self.world.picture.lines.values()))
        ends = [(grant.ends_at, at) for at, line in lines for grant in line.open_grants if not line.closed]
        ends += [(block.until, at) for at, line in lines for block in line.blocks.values() if block.until is not None]
        return sorted(each for each in ends if each[0] > self.house.clock.now() + timedelta(minutes=2))

    @rule(meeting=with_a_block, which=numbers, host=hosts)
    def block_meets_another_order(self, meeting: Meeting, which: int, host: int) -> None:
        self.step(f"meet: {meeting} {which} {host}", (), lambda: self.meet(*meeting, which, host))

    @rule(meeting=of_a_move, which=numbers, host=hosts)
    def move_meets_another_order(self, meeting: Meeting, which: int, host: int) -> None:
        self.step(f"meet: {meeting} {which} {host}", (), lambda: self.meet(*meeting, which, host))

    @rule(meeting=of_a_cancellation, which=numbers, host=hosts)
    def cancellation_meets_its_order(self, meeting: Meeting, which: int, host: int) -> None:
        self.step(f"meet: {meeting} {which} {host}", (), lambda: self.meet(*meeting, which, host))

    async def meet(self, first: OrderKind, second: OrderKind, which: int, host: int) -> None:
        """The batch of one order has read the ledger, and writes only when another order of the line is there."""
        box = self.box_of(which, host, moving=first == "move")
        box.alarm = asyncio.Event()
        if await self.world.place(first, which) is not None and await self.is_asleep(box):
            other = await self.world.place(second, which)
            if other is not None and await self.world.is_taken(other):
                self.around.counts[f"met: {second} while {first} is being written"] += 1
        box.wake()

    @rule(kind=writes, which=numbers, host=hosts)
    def retry_comes_late(self, kind: OrderKind, which: int, host: int) -> None:
        self.step(f"late: {kind} {which} {host}", (), lambda: self.retry_late(kind, which, host))

    async def retry_late(self, kind: OrderKind, which: int, host: int) -> None:
        """An order waits for a host when a block comes, and is tried again once the host is back."""
        box = self.box_of(which, host)
        box.down = True
        order = await self.world.place(kind, which)
        await self.house.clock.settle()
        block = await self.world.place("block", which)
        if order is None or block is None:
            return
        if await self.world.is_taken(block) and not order.outcome.done():
            self.around.counts[f"late: {kind} tried again after a block"] += 1
        box.heal()
        await self.pass_time(timedelta(minutes=2))

    def box_of(self, which: int, host: int, *, moving: bool = False) -> Box:
        """One of the hosts on which a line lives, or to which it is about to move."""
        lines = list(self.world.picture.lines.values())
        if not lines:
            return self.box(host)
        pair = lines[which % len(lines)].pair
        if moving:
            pair = next(name for name in PAIRS if name != pair)
        return self.house.boxes[PAIRS[pair][host % 2]]

    @staticmethod
    async def is_asleep(box: Box) -> bool:
        """Wait until a batch has overslept."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await box.asleep.wait()
        return box.asleep.is_set()

    async def pass_time(self, span: timedelta) -> None:
        await self.pass_to(self.house.clock.now() + span)

    async def pass_to(self, moment: datetime) -> None:
        """Hours with a host that is away are long: each try takes its time."""
        waiting = {placed.order.fingerprint() for placed in self.world.placed if not placed.outcome.done()}
        if waiting:
            moment = min(moment, self.house.clock.now() + timedelta(hours=1) / len(waiting))
        await self.house.clock.pass_to(moment)

    # -- faults

    @rule(orders=few, host=hosts, waits=st.booleans())
    def host_goes_down(self, orders: Orders, host: int, waits: bool) -> None:  # noqa: FBT001 - drawn by name
        self.box(host).down = True
        self.step(f"host down: {host} {waits}", orders, *([] if waits else [self.give_up]))

    @rule(orders=few, host=hosts)
    def host_comes_back(self, orders: Orders, host: int) -> None:
        self.box(host).heal()
        self.step(f"host back: {host}", orders)

    @rule(orders=some, minutes=st.sampled_from((0, 2, 2, 17)), waits=st.booleans())
    def both_are_down(self, orders: Orders, minutes: int, waits: bool) -> None:  # noqa: FBT001 - drawn by name
        for host in (0, 1):
            self.box(host).down = True
        passing = [] if waits else [self.give_up]
        self.step(f"both down: {minutes} {waits}", orders, lambda: self.pass_time(timedelta(minutes=minutes)), *passing)

    async def give_up(self) -> None:
        """An operator lets every order end without the halves that fail."""
        await self.house.clock.settle()
        await self.world.give_up()

    @rule(orders=few, host=hosts)
    def host_shows_another_key(self, orders: Orders, host: int) -> None:
        self.box(host).trouble = HostKeyMismatch("another key")
        self.step(f"another key: {host}", orders)

    @rule(orders=some, host=hosts, ahead=st.sampled_from((-86_400.0, 300.0)))
    def clock_of_a_host_is_wrong(self, orders: Orders, host: int, ahead: float) -> None:
        self.box(host).clock_ahead = ahead
        self.step(f"wrong clock: {host} {ahead}", orders)

    @rule(orders=some, host=hosts)
    def daemon_is_deaf(self, orders: Orders, host: int) -> None:
        self.box(host).daemon.deaf = True
        self.step(f"deaf: {host}", orders)

    @rule(orders=some, host=hosts, how=st.sampled_from(("lost before", "lost after")))
    def connection_dies(self, orders: Orders, host: int, how: Answer) -> None:
        self.box(host).cut = how
        self.step(f"connection dies: {host} {how}", orders)

    @rule(orders=some, later=some, host=hosts)
    def worker_oversleeps(self, orders: Orders, later: Orders, host: int) -> None:
        box = self.box(host)
        box.alarm = asyncio.Event()
        self.step(f"oversleeps: {host}, then {list(later)}", orders, lambda: self.oversleep(box, later))

    async def oversleep(self, box: Box, later: Orders) -> None:
        """A worker that is taken for dead writes after its successor has, what it had read before."""
        if not await self.is_asleep(box):
            box.wake()
            return
        old = await self.house.relieve("hosts")
        for kind, which in later:
            await self.world.place(kind, which)
        await asyncio.sleep(0.2)
        box.wake()
        if old is not None:
            await self.house.retire(old)

    @rule(orders=few, host=hosts, which=numbers)
    def host_is_set_back(self, orders: Orders, host: int, which: int) -> None:
        self.box(host).put_back(which)
        self.step(f"set back: {host} {which}", orders)

    @rule(orders=some, lapses=lapses)
    def ledger_lapses(self, orders: Orders, lapses: list[tuple[int, Lapse]]) -> None:
        self.house.lapses.ahead += lapses
        self.world.disturbed = True
        self.step(f"ledger lapses: {lapses}", orders)

    @rule(orders=some, stage=st.sampled_from(("banner", "mail", "rcpt", "data", "content")), lasting=st.booleans())
    def mail_is_deferred(self, orders: Orders, stage: str, lasting: bool) -> None:  # noqa: FBT001 - drawn by name
        self.house.mails.answer(stage, 451, once=not lasting)
        self.step(f"mail deferred: {stage} {lasting}", orders)

    @rule(orders=some)
    def mail_is_refused(self, orders: Orders) -> None:
        self.world.refusing = True
        self.house.mails.answer("rcpt", 550)
        self.step("mail refused", orders)

    @rule(orders=some, keep=st.booleans())
    def answer_is_lost(self, orders: Orders, keep: bool) -> None:  # noqa: FBT001 - drawn by name
        self.world.answers_lost += keep
        self.house.mails.drop_after_data(keep=keep)
        self.step(f"answer lost: {keep}", orders)

    @rule(orders=few)
    def mail_works(self, orders: Orders) -> None:
        self.house.mails.heal()
        self.step("mail works", orders)

    @rule(orders=few)
    def workers_of_hosts_restart(self, orders: Orders) -> None:
        self.step("hosts restart", orders, self.restart_hosts)

    async def restart_hosts(self) -> None:
        await self.house.end("hosts")
        await self.house.start("hosts")

    @rule(orders=some, meanwhile=few)
    def worker_of_orders_restarts(self, orders: Orders, meanwhile: Orders) -> None:
        self.step(f"orders restart: {list(meanwhile)}", orders, lambda: self.restart_orders(meanwhile))

    async def restart_orders(self, meanwhile: Orders) -> None:
        """The worker ends in the middle of it, and what is ordered then waits for its successor."""
        await self.house.end("orders")
        for kind, which in meanwhile:
            await self.world.place(kind, which)
        await asyncio.sleep(0.02 if meanwhile else 0)
        await self.house.start("orders")

    @rule(orders=some, later=few)
    def worker_of_orders_is_relieved(self, orders: Orders, later: Orders) -> None:
        self.step(f"orders relieved: {list(later)}", orders, lambda: self.relieve_orders(later))

    async def relieve_orders(self, later: Orders) -> None:
        """A second worker works beside the first for a while, and then alone."""
        old = await self.house.relieve("orders")
        for kind, which in later:
            await self.world.place(kind, which)
        await asyncio.sleep(0.02 if later else 0)
        if old is not None:
            await self.house.retire(old)

    @rule(orders=some)
    def ledger_is_opened_anew(self, orders: Orders) -> None:
        self.step("ledger anew", orders, self.house.connect_anew)

    # -- operators

    @rule(orders=few, which=numbers)
    def operator_retries(self, orders: Orders, which: int) -> None:
        self.step("retry", orders, lambda: self.world.ask(which, give_up=False))

    @rule(orders=few, which=numbers)
    def operator_gives_up(self, orders: Orders, which: int) -> None:
        self.step("give up", orders, lambda: self.world.ask(which, give_up=True))

    @rule(orders=few, host=hosts)
    def reconcile(self, orders: Orders, host: int) -> None:
        self.step(f"reconcile: {host}", orders, lambda: self.house.reconcile(self.box(host).name))

    @rule(orders=few, host=hosts)
    def all_but_one_host_is_repaired(self, orders: Orders, host: int) -> None:
        self.step(f"one dead: {host}", orders, lambda: rest(self.world, dead=self.box(host).name))

    @invariant()
    def no_secret_is_logged(self) -> None:
        """A password of a line in what was logged since."""
        texts = self.around.logged()
        secrets = {password for box in self.house.boxes.values() for _, password in box.let_in}
        if any(secret in text for text in texts for secret in secrets):
            self.lawful = False
            raise AssertionError("I6: a password was logged")

    def teardown(self) -> None:
        try:
            if self.lawful:
                self.step("end", (), lambda: rest(self.world))
                self.keep_law(check_secrets(self.world))
        finally:
            self.around.counts.update(self.world.counts)
            self.around.counts["clock helped on"] += self.house.clock.helped
            for activity, times in self.house.times.watch.cut_off.items():
                self.around.counts[f"cut off: {activity}"] += times
            self.around.run(self.end())
            shutil.rmtree(self.folder)

    async def end(self) -> None:
        for placed in self.world.placed:
            placed.outcome.cancel()
        await asyncio.gather(*(placed.outcome for placed in self.world.placed), return_exceptions=True)
        await self.stack.aclose()


@pytest.fixture(autouse=True)
def _small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    make_quick(monkeypatch)


def test_a_few_lives_keep_every_law(tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture) -> None:
    with surroundings(tmp_path_factory.mktemp("lives"), caplog) as around:
        lives, number = chosen_lives(LIVES), chosen_seed(SEED)
        go_through("lives", around, lambda: Life(around), lives=lives, steps=STEPS, number=number)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_lives_keep_every_law(tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture) -> None:
    tally, first, lives = Tally(), chosen_seed(), chosen_lives(SOAK_LIVES)
    for at, begun in enumerate(range(0, lives, PIECE)):
        if first + at not in tally.seeds():
            tally.add(a_piece(tmp_path_factory, caplog, lives=min(PIECE, lives - begun), number=first + at))
    assert tally.broken() == []
    # In fewer lives one of them may well be missing.
    if tally.lives() >= SOAK_LIVES:
        assert missing(tally.counts(), REACHED) == []


def a_piece(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture, *, lives: int, number: int
) -> Piece:
    """Go through some lives; the next piece is gone through whatever becomes of this one."""
    started, broken = time.monotonic(), None
    with surroundings(tmp_path_factory.mktemp("lives"), caplog) as around:
        try:
            go_through("lives", around, lambda: Life(around), lives=lives, steps=STEPS, number=number)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test fails by it
            broken = "".join(traceback.format_exception(error))
    seconds = round(time.monotonic() - started)
    return Piece(seed=number, lives=around.lives, seconds=seconds, counts=around.counts, broken=broken)
