"""Races and outages that everybody asks about, each on one clock and in the order in which it was meant."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from email.message import EmailMessage
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollActivityTaskQueueRequest, RespondActivityTaskFailedRequest

from tests.whole.box import Box
from tests.whole.clock import Clock, ServerHangs
from tests.whole.house import House, run_house
from tests.whole.quick import make_quick
from tests.workflows.house import text_of
from twinline.errors import CannotCancel, Unavailable
from twinline.keys import KeyRing
from twinline.ledger import migrate
from twinline.ledger.queries import LineView, OrderFilter, line_view, list_orders, order_view
from twinline.messages import (
    BlockOrder,
    HalfState,
    MailKind,
    MailState,
    MoveOrder,
    NameOf,
    Order,
    OrderKind,
    OrderStatus,
    PurchaseOrder,
    Receipt,
    RenewalOrder,
    TakeCancel,
    TakeOrder,
    TrialOrder,
    UnblockOrder,
    host_queue,
    order_workflow_id,
)

MILLISECOND = timedelta(milliseconds=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OLD, NEW = ("mc-eu1", "os-eu1"), ("mc-us1", "os-us1")
LATER = timedelta(minutes=11)
"""After which whatever waits for its next try has had it."""

TRIES = 3
Houses = Callable[[], AbstractAsyncContextManager[House]]

_numbers = count(1)


@pytest_asyncio.fixture(scope="session")
async def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty ledger to copy; nobody opens it."""
    path = tmp_path_factory.mktemp("blank") / "ledger.db"
    await migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def house(tmp_path: Path, blank: Path, key_ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> Houses:
    """Opens a house of its own for each try."""
    make_quick(monkeypatch)

    @asynccontextmanager
    async def opened() -> AsyncGenerator[House]:
        folder = tmp_path / f"house{next(_numbers)}"
        folder.mkdir()
        async with run_house(folder, blank=blank, keys=key_ring) as running:
            yield running

    return opened


def on_one_clock(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Run a test in a house of its own, and in another one when the test server has lost a task."""

    @functools.wraps(test)
    async def tried(house: Houses, **values: object) -> None:
        for _ in range(TRIES):
            with contextlib.suppress(ServerHangs):
                async with house() as running:
                    await test(running, **values)
                return
        raise AssertionError(f"the test server hung {TRIES} times in a row")

    return tried


def ref() -> str:
    return f"o-{next(_numbers)}"


def a_trial() -> TrialOrder:
    number = next(_numbers)
    return TrialOrder(order=f"t-{number}", email=f"person{number}@example.org", region="eu")


def a_purchase() -> PurchaseOrder:
    number = next(_numbers)
    return PurchaseOrder(order=f"p-{number}", email=f"person{number}@example.org", region="eu", days=30)


def placed(house: House, order: Order) -> asyncio.Task[OrderStatus]:
    """An order that was handed in; its end may be awaited."""
    return asyncio.create_task(house.twinline.place(order, patience=timedelta(seconds=60)))


async def done(house: House, order: Order) -> Receipt:
    """An order, handed in and done."""
    status = await placed(house, order)
    assert status.receipt is not None
    assert status.done
    return status.receipt


async def handed_in(house: House, order: Order) -> asyncio.Task[OrderStatus]:
    """An order that has gone as far as it can."""
    waiting = placed(house, order)
    await until(lambda: recorded(house, order))
    await house.clock.settle()
    return waiting


async def recorded(house: House, order: Order) -> bool:
    status = await house.twinline.progress(order_workflow_id(order))
    return status is not None and status.receipt is not None


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await reached():
            pass


async def opened_by(house: House, order: TrialOrder) -> str:
    """The name of the line that a trial gave."""
    async with house.ledger.read() as tx:
        return (await order_view(tx, order.order, caller=order.caller)).username


async def line(house: House, username: str) -> LineView:
    async with house.ledger.read() as tx:
        return await line_view(tx, username)


def serving(house: House, username: str) -> list[str]:
    """The hosts on which this customer may log in."""
    return [box.name for box in house.boxes.values() if username in box.ours()]


def sent(house: House, order: TrialOrder) -> list[EmailMessage]:
    """What reached this customer, in order."""
    return [mail.message for mail in house.mails.mails if order.email in str(mail.message["To"])]


async def asleep_over(house: House, box: Box, order: Order) -> asyncio.Task[OrderStatus]:
    """Place an order, and wait until the host sleeps in the middle of its batch."""
    box.alarm = asyncio.Event()
    placing = placed(house, order)
    await box.asleep.wait()
    return placing


async def in_order(house: House, first: Order, second: Order, box: Box) -> None:
    """The batch of the first order sleeps on one host until the second order is in the ledger."""
    one = await asleep_over(house, box, first)
    other = placed(house, second)
    await until(lambda: recorded(house, second))
    box.wake()
    await asyncio.gather(one, other)


@pytest.mark.parametrize(("sleeper", "block_first"), [("mc-eu1", True), ("os-eu1", True), ("mc-eu1", False)])
@on_one_clock
async def test_block_against_renewal(house: House, *, sleeper: str, block_first: bool) -> None:
    opened = await done(house, a_trial())
    name = opened.username
    block: Order = BlockOrder(case="AB-1", line=name, reason="shared")
    renewal: Order = RenewalOrder(order=ref(), line=name, days=30)

    await in_order(house, *((block, renewal) if block_first else (renewal, block)), house.boxes[sleeper])

    assert serving(house, name) == []
    now = await line(house, name)
    assert (now.state, now.ends_at) == ("blocked", opened.ends_at + 30 * DAY)
    assert (await done(house, UnblockOrder(case="AB-1", line=name))).blocks == ()
    assert serving(house, name) == list(OLD)


@pytest.mark.parametrize("offset", [-MILLISECOND, timedelta(0), MILLISECOND], ids=["before", "at", "after"])
@pytest.mark.parametrize("end_first", [True, False])
@on_one_clock
async def test_an_end_against_a_renewal_of_the_same_millisecond(
    house: House,
    *,
    offset: timedelta,
    end_first: bool,
) -> None:
    opened = await done(house, a_trial())
    name, ends_at = opened.username, opened.ends_at
    ended, renewed = asyncio.Event(), asyncio.Event()
    watch = house.times.watch

    async def renew(task: TakeOrder[RenewalOrder]) -> Any:
        if end_first:
            await ended.wait()
        return task.model_copy(update={"at": ends_at + offset})

    async def end(question: Any) -> Any:
        if not end_first:
            await renewed.wait()
        return question

    watch.before |= {NameOf.RECORD_RENEWAL: renew, NameOf.END_GRANT: end}
    await house.clock.pass_to(ends_at - timedelta(seconds=1))
    renewal = placed(house, RenewalOrder(order=ref(), line=name, days=30))
    if end_first:
        # The order of the renewal waits on its way into the ledger until the end was carried out.
        await until(lambda: is_ended(house, name))
        ended.set()
    else:
        await until(lambda: has_grants(house, name, 2))
        renewed.set()
    await renewal
    await house.clock.pass_to(ends_at + timedelta(seconds=2))

    now = await line(house, name)
    assert (now.state, now.ends_at) == ("present", max(ends_at, ends_at + offset) + 30 * DAY)
    assert serving(house, name) == list(OLD)
    assert [grant.ending for grant in now.grants] == ["ended" if end_first else "overtaken", None]


@pytest.mark.parametrize("offset", [-MILLISECOND, timedelta(0), MILLISECOND], ids=["before", "at", "after"])
@pytest.mark.parametrize("end_first", [True, False])
@on_one_clock
async def test_a_cancellation_against_the_end_of_the_same_millisecond(
    house: House,
    *,
    offset: timedelta,
    end_first: bool,
) -> None:
    order = a_trial()
    opened = await done(house, order)
    name, ends_at = opened.username, opened.ends_at
    ended, decided = asyncio.Event(), asyncio.Event()
    watch = house.times.watch

    async def take_back(task: TakeCancel) -> Any:
        if end_first:
            await ended.wait()
        return task.model_copy(update={"at": ends_at + offset})

    async def end(question: Any) -> Any:
        if not end_first:
            await decided.wait()
        return question

    watch.before |= {NameOf.RECORD_CANCEL: take_back, NameOf.END_GRANT: end}
    await house.clock.pass_to(ends_at - timedelta(seconds=1))
    cancellation = asyncio.create_task(
        house.twinline.cancel(order.order, kind=OrderKind.TRIAL, reason="refunded", patience=timedelta(seconds=60))
    )
    in_time = offset < timedelta(0) and not end_first
    if end_first:
        await until(lambda: is_ended(house, name))
        ended.set()
    elif in_time:
        await until(lambda: is_ended(house, name))
        decided.set()
    else:
        await asyncio.wait((cancellation,))
        decided.set()
    if in_time:
        receipt = (await cancellation).receipt
        assert receipt is not None
        assert receipt.ends_at == ends_at + offset
    else:
        with pytest.raises(CannotCancel):
            await cancellation
    await house.clock.pass_to(ends_at + timedelta(seconds=2))

    # One end, whoever brought it, and a word of the cancellation only when it was one.
    now = await line(house, name)
    assert (now.state, now.revision) == ("absent", 2)
    assert [grant.ending for grant in now.grants] == ["cancelled" if in_time else "ended"]
    assert serving(house, name) == []
    told = [mail for mail in sent(house, order) if "cancelled" in str(mail["Subject"])]
    assert len(told) == in_time


@pytest.mark.parametrize("block_first", [True, False])
@on_one_clock
async def test_move_against_block(house: House, *, block_first: bool) -> None:
    name = (await done(house, a_trial())).username
    block: Order = BlockOrder(case="AB-1", line=name, reason="shared")
    move: Order = MoveOrder(order=ref(), line=name, pair="us1", overlap_hours=1)
    # Of a block the old pair is written first, of a move the new one.
    first, second, sleeper = (block, move, "mc-eu1") if block_first else (move, block, "mc-us1")
    box = house.boxes[sleeper]
    one = await asleep_over(house, box, first)
    other = placed(house, second)
    await until(lambda: recorded(house, second))
    box.wake()
    await house.clock.settle()

    assert serving(house, name) == []
    await house.clock.pass_time(HOUR + LATER)
    for waiting in (one, other):
        assert (await waiting).done
    assert serving(house, name) == []
    now = await line(house, name)
    assert (now.state, now.pair) == ("blocked", "us1")
    await done(house, UnblockOrder(case="AB-1", line=name))
    assert serving(house, name) == list(NEW)


async def is_ended(house: House, name: str) -> bool:
    return (await line(house, name)).grants[0].ending is not None


async def has_grants(house: House, name: str, number: int) -> bool:
    return len((await line(house, name)).grants) == number


@on_one_clock
async def test_a_late_retry_after_a_block_writes_what_is_wanted_by_then(house: House) -> None:
    name = (await done(house, a_trial())).username
    house.boxes["mc-eu1"].down = True
    renewal = await handed_in(house, RenewalOrder(order=ref(), line=name, days=30))
    block = await handed_in(house, BlockOrder(case="AB-1", line=name, reason="shared"))
    assert serving(house, name) == ["mc-eu1"]

    house.boxes["mc-eu1"].heal()
    await house.clock.pass_time(LATER)

    assert serving(house, name) == []
    for order in (renewal, block):
        receipt = (await order).receipt
        assert receipt is not None
        assert receipt.halves[0].state is HalfState.REMOVED


@on_one_clock
async def test_a_worker_that_oversleeps_a_block_does_not_undo_it(house: House) -> None:
    name = (await done(house, a_trial())).username
    box = house.boxes["mc-eu1"]
    renewal = await asleep_over(house, box, RenewalOrder(order=ref(), line=name, days=30))
    asleep = await house.relieve("hosts")
    assert asleep is not None
    block = await done(house, BlockOrder(case="AB-1", line=name, reason="shared"))
    assert {half.state for half in block.halves} == {HalfState.REMOVED}

    box.wake()
    await renewal
    await asleep.stop()

    assert serving(house, name) == []


@on_one_clock
async def test_the_next_worker_brings_to_its_end_what_the_last_one_had_begun(house: House) -> None:
    name = (await done(house, a_trial())).username
    box = house.boxes["mc-eu1"]
    renewal = await asleep_over(house, box, RenewalOrder(order=ref(), line=name, days=1))

    await house.end("orders")
    box.wake()
    block = placed(house, BlockOrder(case="AB-1", line=name, reason="shared"))
    await house.start("orders")

    assert (await renewal).done
    assert (await block).done
    assert serving(house, name) == []
    await house.clock.pass_time(timedelta(days=4))
    assert all(grant.ended_at for grant in (await line(house, name)).grants)


@on_one_clock
async def test_an_activity_that_was_given_to_a_dead_worker_holds_the_clock_until_it_is_given_out_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let go on by hand, it would run ahead of everything that came later: mails were handed over twice by that."""
    looks = asyncio.Semaphore(0)
    look = Clock.stuck

    async def looked(clock: Clock) -> Any:
        looks.release()
        return await look(clock)

    monkeypatch.setattr(Clock, "stuck", looked)
    monkeypatch.setattr("tests.whole.clock.PATIENCE", 0.05)
    service = house.clients["default"].workflow_service
    await house.end("hosts")
    trial = placed(house, a_trial())
    queue = TaskQueue(name=host_queue(OLD[0]))
    taken = await service.poll_activity_task_queue(PollActivityTaskQueueRequest(namespace="default", task_queue=queue))
    await house.start("hosts")
    begun = await house.clock.ask()
    passing = asyncio.create_task(house.clock.pass_time(HOUR))

    for _ in range(5):
        await looks.acquire()
    assert await house.clock.ask() < begun + HOUR

    failure = Failure(application_failure_info=ApplicationFailureInfo(type="WorkerLost"))
    lost = RespondActivityTaskFailedRequest(namespace="default", task_token=taken.task_token, failure=failure)
    await service.respond_activity_task_failed(lost)
    await passing
    assert (await trial).done
    assert house.clock.helped == 0


@pytest.mark.parametrize("dead", OLD)
@on_one_clock
async def test_a_host_that_is_dead_for_ever_stops_nothing_on_the_other(house: House, dead: str) -> None:
    alive = next(host for host in OLD if host != dead)
    house.boxes[dead].down = True
    order = a_trial()
    trial = await handed_in(house, order)
    await house.clock.pass_time(timedelta(minutes=2))
    name = await opened_by(house, order)
    first = text_of(sent(house, order)[0])
    assert f"{alive}.example.net" in first
    assert "follows" in first

    await handed_in(house, RenewalOrder(order=ref(), line=name, days=1))
    assert (await line(house, name)).ends_at == (await line(house, name)).grants[0].ends_at + DAY
    await handed_in(house, BlockOrder(case="AB-1", line=name, reason="shared"))
    assert serving(house, name) == []
    await handed_in(house, UnblockOrder(case="AB-1", line=name))
    assert serving(house, name) == [alive]
    assert not trial.done()
    # What waits for the dead host is given up, so that days with it pass in no time; the end needs nobody's word.
    await give_up_all(house, dead)
    await house.clock.pass_to((await line(house, name)).ends_at + timedelta(seconds=2))
    assert serving(house, name) == []


async def give_up_all(house: House, host: str) -> None:
    async with house.ledger.read() as tx:
        waiting = (await list_orders(tx, OrderFilter(settled=False))).orders
    for order in waiting:
        await give_up(house, order.workflow_id, host)


async def give_up(house: House, workflow_id: str, host: str) -> None:
    """As a person does, who asks again when no worker has taken the request.

    The test server loses one when it refuses the task with which it was accepted ("invalid history builder state").
    """
    for left in reversed(range(TRIES)):
        try:
            await house.twinline.abandon_half(workflow_id, host=host, reason="dead", patience=timedelta(seconds=20))
        except Unavailable:
            if not left:
                raise
        else:
            return


@on_one_clock
async def test_both_hosts_down_for_hours(house: House) -> None:
    for host in OLD:
        house.boxes[host].down = True
    order = a_trial()
    trial = await handed_in(house, order)
    await house.clock.pass_time(2 * HOUR)
    (delayed,) = sent(house, order)
    assert await opened_by(house, order) not in text_of(delayed)

    for host in OLD:
        house.boxes[host].heal()
    await house.clock.pass_time(LATER)

    receipt = (await trial).receipt
    assert receipt is not None
    assert serving(house, receipt.username) == list(OLD)
    proven = min(house.boxes[host].first[receipt.username] for host in OLD)
    assert proven + 48 * HOUR <= receipt.ends_at < proven + 48 * HOUR + timedelta(seconds=30)
    credentials = text_of(sent(house, order)[1])
    assert all(f"C: {host}.example.net" in credentials for host in OLD)


@on_one_clock
async def test_a_host_that_comes_back_with_an_old_file_is_put_right_and_lets_nobody_in_who_was_blocked(
    house: House,
) -> None:
    served, blocked = [(await done(house, a_purchase())).username for _ in range(2)]
    box = house.boxes["os-eu1"]
    old = box.accounts.read_bytes()
    await done(house, BlockOrder(case="AB-1", line=blocked, reason="shared"))
    await done(house, RenewalOrder(order=ref(), line=served, days=30))
    box.accounts.write_bytes(old)
    box.daemon.reload()
    assert blocked in box.ours()

    result = await house.reconcile("os-eu1")

    assert result.found is not None
    assert result.found.drifted >= 2
    assert blocked not in box.ours()
    assert not box.ends_too_early(box.ours()[served], (await line(house, served)).ends_at)


@on_one_clock
async def test_a_trial_that_moves_before_its_first_proof_counts_from_the_new_pair(house: House) -> None:
    for host in OLD:
        house.boxes[host].down = True
    order = a_trial()
    trial = await handed_in(house, order)
    await house.clock.pass_time(HOUR)
    name = await opened_by(house, order)
    await handed_in(house, MoveOrder(order=ref(), line=name, pair="us1", overlap_hours=1))
    told = await house.clock.ask()
    assert serving(house, name) == list(NEW)

    moved = await line(house, name)
    assert abs(moved.ends_at - (told + 48 * HOUR)) < timedelta(minutes=1)

    await house.clock.pass_time(HOUR)
    for host in OLD:
        house.boxes[host].heal()
    await house.clock.pass_time(LATER)
    # That the old pair does not hold it is no proof from which a time could count.
    assert (await line(house, name)).ends_at == moved.ends_at
    assert serving(house, name) == list(NEW)
    await trial
    await house.clock.pass_to(moved.ends_at - timedelta(minutes=5))
    assert serving(house, name) == list(NEW)
    await house.clock.pass_to(moved.ends_at + timedelta(seconds=2))
    assert serving(house, name) == []


@pytest.mark.parametrize(
    ("stage", "code"), [("banner", 421), ("mail", 451), ("mail", 530), ("rcpt", 450), ("data", 451), ("content", 452)]
)
@on_one_clock
async def test_a_mail_server_that_defers_for_an_hour_gets_each_mail_once(house: House, stage: str, code: int) -> None:
    house.mails.answer(stage, code, once=False)
    order = a_trial()
    trial = await handed_in(house, order)
    await house.clock.pass_time(HOUR)
    assert sent(house, order) == []
    assert not trial.done()

    house.mails.heal()
    await house.clock.pass_time(LATER)

    receipt = (await trial).receipt
    assert receipt is not None
    assert receipt.mail is not None
    assert (receipt.mail.kind, receipt.mail.state) == (MailKind.CREDENTIALS, MailState.ACCEPTED)
    (mail,) = sent(house, order)
    assert mail["Message-ID"] == receipt.mail.message_id


@on_one_clock
async def test_greylisting_delays_a_mail_and_doubles_none(house: House) -> None:
    house.mails.answer("rcpt", 451, "4.7.1 greylisted")
    order = a_trial()
    trial = await handed_in(house, order)
    await house.clock.pass_time(timedelta(minutes=1))
    assert (await trial).done
    assert len(sent(house, order)) == 1
