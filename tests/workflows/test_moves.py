"""Moves: the new pair first, the customer told, the old pair kept and then left; what comes in between wins."""

from datetime import timedelta
from email.message import EmailMessage

import pytest
from temporalio.client import WorkflowHandle
from temporalio.worker import Replayer

from tests.workflows.house import HOSTS, OTHER_HOSTS, House, text_of
from tests.workflows.test_attention import progress
from tests.workflows.test_orders import order_id, term_of, trial
from twinline.errors import MoveRunning, SamePair, UnknownPair
from twinline.hosts.errors import HostUnreachable
from twinline.messages import (
    TRIAL_LENGTH,
    BlockOrder,
    CloseOrder,
    HalfState,
    MailKind,
    MoveOrder,
    OrderStatus,
    PasswordOrder,
    Receipt,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
    order_workflow_id,
    term_workflow_id,
)
from worker import WORKFLOWS

APPLIED, REMOVED = HalfState.APPLIED, HalfState.REMOVED
ALL = ("mc-eu1", "mc-us1", "os-eu1", "os-us1")
DAY = timedelta(days=1)
SOON = timedelta(seconds=20)
GONE, SERVED = (False, False), (True, True)


def move_of(username: str, **changes: object) -> MoveOrder:
    return MoveOrder.model_validate({"caller": "desk", "order": order_id(), "line": username, "pair": "us1", **changes})


def states(receipt: Receipt) -> list[HalfState]:
    """MultiCS old and new, OSCam old and new."""
    assert [half.host for half in receipt.halves] == list(ALL)
    return [half.state for half in receipt.halves]


async def served(house: House) -> tuple[TrialOrder, str]:
    order = trial()
    return order, (await house.order(order)).username


async def begin(house: House, order: MoveOrder) -> WorkflowHandle[object, OrderStatus]:
    """Place a move whose hours pass only by hand."""
    assert house.skipper is not None
    with house.skipper.with_time_skipping_disabled():
        await house.start(order)
    return house.client.get_workflow_handle(order_workflow_id(order), result_type=OrderStatus)


async def told_of_move(house: House, person: TrialOrder) -> EmailMessage:
    """The mail with the new entries, once it has come."""
    mail = await house.mails.wait_for(
        lambda mail: person.email in str(mail.message["To"]) and "moves" in str(mail.message["Subject"])
    )
    return mail.message


async def in_overlap(
    house: House, username: str, person: TrialOrder, **changes: object
) -> tuple[MoveOrder, WorkflowHandle[object, OrderStatus]]:
    """A move whose new pair is ready, while the old one is kept."""
    order = move_of(username, **changes)
    handle = await begin(house, order)
    await told_of_move(house, person)
    await progress(house, order, lambda receipt: receipt.old_until is not None)
    return order, handle


async def pass_time(house: House, handle: WorkflowHandle[object, OrderStatus]) -> Receipt:
    """Let the overlap pass and the move end."""
    assert house.skipper is not None
    await house.skipper.fast_forward(handle)
    status = await handle.result()
    assert status.receipt is not None
    return status.receipt


def old_left(receipt: Receipt) -> bool:
    return receipt.halves[0].state is REMOVED


async def test_a_move_ends_with_the_line_on_the_new_pair_only(house: House) -> None:
    person, username = await served(house)
    order = move_of(username)

    receipt = await house.order(order)

    assert states(receipt) == [REMOVED, APPLIED, REMOVED, APPLIED]
    assert [half.leaving for half in receipt.halves] == [True, False, True, False]
    assert (house.serves(username), house.serves(username, OTHER_HOSTS)) == (GONE, SERVED)
    assert receipt.mail is not None
    assert receipt.mail.kind is MailKind.MOVED
    mail = text_of(await told_of_move(house, person))
    password = (await house.password(username)).get_secret_value()
    assert f"C: mc-us1.example.net 12001 {username} {password}" in mail
    assert f"C: os-us1.example.net 15001 {username} {password}" in mail
    assert "eu1" not in mail
    assert mail.count("ready now") == 2
    assert len(house.sent_to(person.email)) == 2
    line = await house.line(username)
    assert (line.pair, line.state) == ("us1", "present")
    history = await house.client.get_workflow_handle(order_workflow_id(order)).fetch_history()
    await Replayer(workflows=WORKFLOWS, data_converter=house.client.data_converter).replay_workflow(history)


async def test_the_old_pair_is_kept_for_the_time_that_the_mail_names(house: House) -> None:
    person, username = await served(house)
    before = {name: (house.hosts[name].held[username], house.hosts[name].attempts) for name in HOSTS}
    order, handle = await in_overlap(house, username, person)

    going_on = await progress(house, order, lambda receipt: receipt.mail is not None)

    assert states(going_on) == [APPLIED] * 4
    assert (house.serves(username), house.serves(username, OTHER_HOSTS)) == (SERVED, SERVED)
    assert {name: (house.hosts[name].held[username], house.hosts[name].attempts) for name in HOSTS} == before
    assert going_on.old_until is not None
    mail = text_of(await told_of_move(house, person))
    assert f"The old ones keep working until {going_on.old_until:%A %-d %B %Y, %H:%M} UTC." in " ".join(mail.split())

    assert house.skipper is not None
    assert await house.skipper.fast_forward(handle, DAY - timedelta(minutes=1))
    assert house.serves(username) == SERVED
    assert old_left(await pass_time(house, handle))
    assert house.serves(username) == GONE


async def test_without_an_overlap_the_old_pair_is_left_at_once(house: House) -> None:
    person, username = await served(house)
    receipt = await house.order(move_of(username, overlap_hours=0))
    assert states(receipt) == [REMOVED, APPLIED, REMOVED, APPLIED]
    assert "The old ones stop working now." in " ".join(text_of(await told_of_move(house, person)).split())


async def test_a_line_moves_back(house: House) -> None:
    _, username = await served(house)
    await house.order(move_of(username))
    receipt = await house.order(move_of(username, pair="eu1"))
    assert states(receipt) == [APPLIED, REMOVED, APPLIED, REMOVED]
    assert (house.serves(username), house.serves(username, OTHER_HOSTS)) == (SERVED, GONE)
    renewed = await house.order(RenewalOrder(caller="shop", order=order_id(), line=username, days=30))
    assert [half.host for half in renewed.halves] == list(HOSTS)


async def test_move_against_block(house: House) -> None:
    person, username = await served(house)
    _, handle = await in_overlap(house, username, person)

    blocked = await house.order(BlockOrder(caller="abuse", case="AB-1", line=username, reason="Shared"))

    assert states(blocked) == [REMOVED] * 4
    assert (house.serves(username), house.serves(username, OTHER_HOSTS)) == (GONE, GONE)
    moved = await pass_time(house, handle)
    assert states(moved) == [REMOVED] * 4
    assert (house.serves(username), house.serves(username, OTHER_HOSTS)) == (GONE, GONE)
    unblocked = await house.order(UnblockOrder(caller="abuse", case="AB-1", line=username))
    assert [half.host for half in unblocked.halves] == list(OTHER_HOSTS)
    assert (house.serves(username), house.serves(username, OTHER_HOSTS)) == (GONE, SERVED)


async def test_a_blocked_line_is_moved_and_its_customer_told(house: House) -> None:
    person, username = await served(house)
    await house.order(BlockOrder(caller="abuse", case="AB-1", line=username, reason="Shared"))
    receipt = await house.order(move_of(username))
    assert states(receipt) == [REMOVED] * 4
    mail = text_of(await told_of_move(house, person))
    assert "stays blocked" in mail
    assert "os-us1.example.net" in mail
    assert house.serves(username, OTHER_HOSTS) == GONE


async def test_move_against_the_end(house: House) -> None:
    person = trial()
    trialled = await house.order(person)
    username = trialled.username
    _, handle = await in_overlap(house, username, person)

    assert (await term_of(house, trialled)).outcome == "ended"

    assert (house.serves(username), house.serves(username, OTHER_HOSTS)) == (GONE, GONE)
    assert states(await pass_time(house, handle)) == [REMOVED] * 4
    renewed = await house.order(RenewalOrder(caller="shop", order=order_id(), line=username, days=30))
    assert [half.host for half in renewed.halves] == list(OTHER_HOSTS)
    assert (house.serves(username), house.serves(username, OTHER_HOSTS)) == (GONE, SERVED)


async def test_move_against_close(house: House) -> None:
    person, username = await served(house)
    _, handle = await in_overlap(house, username, person)

    closed = await house.order(CloseOrder(caller="desk", order=order_id(), line=username))

    assert states(closed) == [REMOVED] * 4
    assert states(await pass_time(house, handle)) == [REMOVED] * 4
    assert (house.serves(username), house.serves(username, OTHER_HOSTS)) == (GONE, GONE)


async def test_a_renewal_and_a_new_password_in_the_overlap_reach_all_four(house: House) -> None:
    person, username = await served(house)
    _, handle = await in_overlap(house, username, person)

    await house.order(RenewalOrder(caller="shop", order=order_id(), line=username, days=30))
    changed = await house.order(PasswordOrder(caller="desk", order=order_id(), line=username))

    assert states(changed) == [APPLIED] * 4
    password = (await house.password(username)).get_secret_value()
    held = [house.hosts[name].held[username] for name in ALL]
    assert {half.password for half in held} == {password}
    assert {half.ends_at for half in held} == {(await house.line(username)).ends_at}
    mail = text_of(house.sent_to(person.email)[-1])
    assert f"C: mc-us1.example.net 12001 {username} {password}" in mail
    assert "eu1" not in mail
    assert states(await pass_time(house, handle)) == [REMOVED, APPLIED, REMOVED, APPLIED]


async def test_two_moves_at_once(house: House) -> None:
    person, username = await served(house)
    first, handle = await in_overlap(house, username, person)
    with pytest.raises(MoveRunning, match=first.order):
        await house.order(move_of(username, pair="eu1"))
    with pytest.raises(MoveRunning):
        await house.order(move_of(username))
    await pass_time(house, handle)
    with pytest.raises(SamePair):
        await house.order(move_of(username))
    with pytest.raises(UnknownPair, match="us9"):
        await house.order(move_of(username, pair="us9"))


async def test_host_of_the_new_pair_dead_old_pair_keeps_serving_and_nothing_is_broken(house: House) -> None:
    person, username = await served(house)
    house.hosts["os-us1"].trouble = HostUnreachable("no SSH connection")
    order = move_of(username)
    handle = await begin(house, order)

    waiting = await progress(house, order, lambda receipt: receipt.halves[3].attempts > 1)

    assert [half.state for half in waiting.halves[:3]] == [APPLIED] * 3
    assert (house.serves(username), house.serves(username, OTHER_HOSTS)) == (SERVED, (True, False))
    assert waiting.mail is None
    assert len(house.sent_to(person.email)) == 1
    assert {half.left_at for half in (await house.line(username)).halves} == {None}

    await house.twinline.abandon_half(handle.id, host="os-us1", reason="the box is gone")

    mail = " ".join(text_of(await told_of_move(house, person)).split())
    assert "Entry 1 (MultiCS) is ready now. Entry 2 (OSCam) cannot be reached just now and follows later." in mail
    moved = await pass_time(house, handle)
    assert states(moved) == [REMOVED, APPLIED, REMOVED, HalfState.ABANDONED]


async def test_a_move_whose_new_pair_is_given_up_is_called_off(house: House) -> None:
    person, username = await served(house)
    for name in OTHER_HOSTS:
        house.hosts[name].trouble = HostUnreachable("no SSH connection")
    order = move_of(username)
    handle = await begin(house, order)
    await progress(house, order, lambda receipt: bool(receipt.halves[1].attempts and receipt.halves[3].attempts))

    for name in OTHER_HOSTS:
        await house.twinline.abandon_half(handle.id, host=name, reason="the boxes are gone")

    status = await handle.result()
    assert status.receipt is not None
    assert states(status.receipt) == [APPLIED, HalfState.ABANDONED, APPLIED, HalfState.ABANDONED]
    assert [half.leaving for half in status.receipt.halves] == [False, True, False, True]
    assert house.serves(username) == SERVED
    assert len(house.sent_to(person.email)) == 1
    line = await house.line(username)
    assert (line.pair, {half.revision for half in status.receipt.halves[::2]}) == ("eu1", {line.revision})
    renewed = await house.order(RenewalOrder(caller="shop", order=order_id(), line=username, days=30))
    assert [half.host for half in renewed.halves] == list(HOSTS)


async def test_host_of_the_old_pair_dead_during_the_break_the_others_go_on(house: House) -> None:
    person, username = await served(house)
    order, handle = await in_overlap(house, username, person)
    house.hosts["os-eu1"].trouble = HostUnreachable("no SSH connection")
    assert house.skipper is not None
    await house.skipper.fast_forward(handle, DAY + timedelta(seconds=1))

    def others_done(receipt: Receipt) -> bool:
        line_revisions = {half.revision for half in receipt.halves if half.host != "os-eu1"}
        return old_left(receipt) and len(line_revisions) == 1 and receipt.halves[2].attempts > 1

    going_on = await progress(house, order, others_done)

    assert [half.state for half in going_on.halves if half.host != "os-eu1"] == [REMOVED, APPLIED, APPLIED]
    assert going_on.halves[2].state in (HalfState.PENDING, HalfState.FAILING)
    assert (house.serves(username), house.serves(username, OTHER_HOSTS)) == ((False, True), SERVED)
    # A renewal meanwhile is told and done as far as it can be, and a block would reach that half too.
    status = await house.twinline.place(
        RenewalOrder(caller="shop", order=order_id(), line=username, days=30), patience=timedelta(0)
    )
    assert not status.done

    house.hosts["os-eu1"].heal()
    await house.twinline.retry_now(handle.id, patience=SOON)
    moved = await handle.result()
    assert moved.receipt is not None
    assert states(moved.receipt) == [REMOVED, APPLIED, REMOVED, APPLIED]
    assert house.serves(username) == GONE


async def test_an_old_host_that_is_gone_for_good_is_given_up_and_holds_up_nothing(house: House) -> None:
    person, username = await served(house)
    house.hosts["mc-eu1"].trouble = HostUnreachable("no SSH connection")
    order, handle = await in_overlap(house, username, person)
    assert house.skipper is not None
    await house.skipper.fast_forward(handle, DAY + timedelta(seconds=1))
    await progress(house, order, lambda receipt: bool(receipt.halves[0].last_error))

    await house.twinline.abandon_half(handle.id, host="mc-eu1", reason="the box is gone")

    moved = await handle.result()
    assert moved.receipt is not None
    assert states(moved.receipt) == [HalfState.ABANDONED, APPLIED, REMOVED, APPLIED]
    renewed = await house.order(RenewalOrder(caller="shop", order=order_id(), line=username, days=30))
    assert [half.host for half in renewed.halves] == list(OTHER_HOSTS)


async def test_the_old_pair_is_kept_for_as_long_as_no_new_host_serves(house: House) -> None:
    person, username = await served(house)
    order, handle = await in_overlap(house, username, person)
    for name in OTHER_HOSTS:
        house.hosts[name].trouble = HostUnreachable("no SSH connection")
    waiting = RenewalOrder(caller="shop", order=order_id(), line=username, days=30)
    assert house.skipper is not None
    with house.skipper.with_time_skipping_disabled():
        await house.start(waiting)
    await progress(house, waiting, lambda receipt: all(receipt.halves[number].last_error for number in (1, 3)))

    await house.skipper.fast_forward(handle, DAY + timedelta(seconds=1))

    assert {half.left_at for half in (await house.line(username)).halves} == {None}
    assert house.serves(username) == SERVED
    for name in OTHER_HOSTS:
        house.hosts[name].heal()
    await house.twinline.retry_now(order_workflow_id(waiting), patience=SOON)
    assert states(await pass_time(house, handle)) == [REMOVED, APPLIED, REMOVED, APPLIED]
    assert order.line == username


async def test_a_line_that_ended_before_it_was_told_of_its_move_is_told_once_it_is_renewed(house: House) -> None:
    person = trial()
    trialled = await house.order(person)
    username = trialled.username
    house.hosts["os-us1"].trouble = HostUnreachable("no SSH connection")
    order = move_of(username)
    handle = await begin(house, order)
    await progress(house, order, lambda receipt: receipt.halves[3].attempts > 1)
    term = house.client.get_workflow_handle(
        term_workflow_id(trialled.line, (await house.line(username)).grants[0].grant_id)
    )
    assert house.skipper is not None
    await house.skipper.fast_forward(term, TRIAL_LENGTH + timedelta(seconds=1))
    house.hosts["os-us1"].heal()
    await house.twinline.retry_now(handle.id, patience=SOON)
    await progress(house, order, lambda receipt: receipt.old_until is not None)
    assert not [mail for mail in house.sent_to(person.email) if "moves" in str(mail["Subject"])]

    await house.order(RenewalOrder(caller="shop", order=order_id(), line=username, days=30))

    assert states(await pass_time(house, handle)) == [REMOVED, APPLIED, REMOVED, APPLIED]
    assert f"mc-us1.example.net 12001 {username}" in text_of(await told_of_move(house, person))
