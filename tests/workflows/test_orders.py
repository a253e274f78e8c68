"""What becomes of orders, hours and days included: the virtual clock skips what nobody waits for."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from starter.client import Twinline
from tests.support.temporal import dev_server
from tests.workflows.house import HOSTS, House, run_house, text_of
from twinline.errors import (
    InvalidOrder,
    LineClosed,
    OrderConflict,
    TrialAlreadyUsed,
    UnknownBlock,
    UnknownLine,
    UnknownRegion,
)
from twinline.hosts.errors import HostUnreachable
from twinline.keys import KeyRing
from twinline.messages import (
    TRIAL_LENGTH,
    BlockOrder,
    BlockOwner,
    CloseOrder,
    HalfReceipt,
    HalfState,
    MailKind,
    MailState,
    OrderStatus,
    PasswordOrder,
    PurchaseOrder,
    Receipt,
    RenewalOrder,
    TermDecision,
    TrialOrder,
    UnblockOrder,
    block_end_workflow_id,
    order_workflow_id,
    term_workflow_id,
)

_numbers = count(1)


def trial(**changes: str) -> TrialOrder:
    number = next(_numbers)
    return TrialOrder.model_validate(
        {"caller": "shop", "order": f"t-{number}", "email": f"person{number}@example.org", "region": "eu", **changes}
    )


def order_id() -> str:
    return f"o-{next(_numbers)}"


async def order_while_down(house: House, order: TrialOrder, *hosts: str) -> Receipt:
    """Place an order while these hosts are down, and let them be back once the customer has heard of it."""
    for host in hosts:
        house.hosts[host].trouble = HostUnreachable("no SSH connection")
    ordered = asyncio.create_task(house.order(order))
    await house.mails.wait_for(lambda mail: order.email in str(mail.message["To"]))
    for host in hosts:
        house.hosts[host].heal()
    return await ordered


async def term_handle(house: House, receipt: Receipt) -> WorkflowHandle[Any, TermDecision]:
    """The Term of the line's only grant."""
    line = await house.line(receipt.username)
    return house.client.get_workflow_handle(
        term_workflow_id(receipt.line, line.grants[0].grant_id), result_type=TermDecision
    )


async def term_of(house: House, receipt: Receipt) -> TermDecision:
    """Wait for the end of the line's only grant, however far away."""
    handle = await term_handle(house, receipt)
    assert house.skipper is not None
    await house.skipper.fast_forward(handle)
    return await handle.result()


async def test_a_trial_serves_on_both_halves_and_mails_both_entries(house: House) -> None:
    order = trial()

    receipt = await house.order(order)

    assert [half.state for half in receipt.halves] == [HalfState.APPLIED, HalfState.APPLIED]
    assert house.serves(receipt.username) == (True, True)
    assert receipt.mail is not None
    assert (receipt.mail.kind, receipt.mail.state) == (MailKind.CREDENTIALS, MailState.ACCEPTED)
    (mail,) = house.sent_to(order.email)
    password = (await house.password(receipt.username)).get_secret_value()
    assert f"C: mc-eu1.example.net 12000 {receipt.username} {password}" in text_of(mail)
    assert f"C: os-eu1.example.net 15000 {receipt.username} {password}" in text_of(mail)
    assert mail["Message-ID"] == receipt.mail.message_id
    assert f"Reference: {order.order}" in text_of(mail)


async def test_a_trial_ends_after_48_hours_on_both_halves(house: House) -> None:
    receipt = await house.order(trial())

    decision = await term_of(house, receipt)

    assert decision.outcome == "ended"
    assert house.serves(receipt.username) == (False, False)
    line = await house.line(receipt.username)
    assert line.grants[0].ends_at - line.grants[0].starts_at == TRIAL_LENGTH


def reminders(house: House, address: str) -> list[timedelta]:
    """How long before the end that it names each reminder was written, to the hour."""
    mails = [mail for mail in house.sent_to(address) if "ends soon" in str(mail["Subject"])]
    ends = [re.search(r"Until: (.*) UTC", text_of(mail)) for mail in mails]
    moments = [datetime.strptime(end[1], "%A %d %B %Y, %H:%M").replace(tzinfo=UTC) for end in ends if end is not None]
    written = [parsedate_to_datetime(str(mail["Date"])) for mail in mails]
    return [
        round((end - date) / timedelta(hours=1)) * timedelta(hours=1)
        for end, date in zip(moments, written, strict=True)
    ]


async def test_a_trial_is_reminded_of_its_end_twice(house: House) -> None:
    order = trial()
    receipt = await house.order(order)

    await term_of(house, receipt)

    assert reminders(house, order.email) == [timedelta(hours=24), timedelta(hours=2)]
    assert f"Reference: {order.order}" in text_of(house.sent_to(order.email)[-1])


@pytest.mark.parametrize(("days", "ahead"), [(30, [7, 1]), (5, [1]), (1, [])])
async def test_paid_days_are_reminded_of_unless_they_are_shorter_than_that(
    house: House, days: int, ahead: list[int]
) -> None:
    number = next(_numbers)
    email = f"person{number}@example.org"
    receipt = await house.order(PurchaseOrder(order=order_id(), email=email, region="eu", days=days))

    await term_of(house, receipt)

    assert reminders(house, email) == [timedelta(days=each) for each in ahead]


async def test_a_grant_that_was_overtaken_a_blocked_and_a_closed_line_get_no_reminder(house: House) -> None:
    orders = [trial() for _ in range(3)]
    opened = [await house.order(order) for order in orders]
    await house.order(RenewalOrder(order=order_id(), line=opened[0].username, days=90))
    await house.order(BlockOrder(case="AB-8", line=opened[1].username, reason="shared"))
    await house.order(CloseOrder(order=order_id(), line=opened[2].username))

    for receipt in opened:
        await term_of(house, receipt)

    assert [reminders(house, order.email) for order in orders] == [[], [], []]


async def test_a_reminder_that_the_mail_server_never_takes_does_not_hold_up_the_end(house: House) -> None:
    order = trial()
    receipt = await house.order(order)
    # Only of the last two hours: each try costs real time, which the hours between two of them do not.
    assert house.skipper is not None
    await house.skipper.fast_forward(await term_handle(house, receipt), TRIAL_LENGTH - timedelta(hours=3))
    assert reminders(house, order.email) == [timedelta(hours=24)]
    house.mails.answer("banner", 421, "busy", once=False)

    assert (await term_of(house, receipt)).outcome == "ended"

    house.mails.heal()
    assert reminders(house, order.email) == [timedelta(hours=24)]
    assert house.serves(receipt.username) == (False, False)


async def test_one_half_that_is_late_gets_its_own_short_mail(impatient_house: House) -> None:
    house, order = impatient_house, trial()

    receipt = await order_while_down(house, order, "os-eu1")

    first, second = house.sent_to(order.email)
    assert "mc-eu1.example.net 12000" in text_of(first)
    assert "os-eu1.example.net 15000" in text_of(second)
    assert "mc-eu1.example.net 12000" not in text_of(second)
    assert receipt.mail is not None
    assert receipt.mail.kind is MailKind.SECOND_HALF
    multics, oscam = receipt.halves
    assert multics.attempts == 1 < oscam.attempts


async def test_with_both_halves_down_the_customer_hears_of_it_and_the_trial_starts_late(
    impatient_house: House,
) -> None:
    house, order = impatient_house, trial()

    receipt = await order_while_down(house, order, *HOSTS)

    delayed, credentials = house.sent_to(order.email)
    assert receipt.username not in text_of(delayed)
    assert receipt.username in text_of(credentials)
    line = await house.line(receipt.username)
    assert line.ends_at is not None
    assert line.ends_at - line.created_at > TRIAL_LENGTH
    assert line.ends_at == receipt.ends_at
    assert {half.revision for half in receipt.halves} == {line.revision}


async def test_progress_tells_attempts_error_and_next_attempt_of_a_half_that_fails(impatient_house: House) -> None:
    house, order = impatient_house, trial()
    house.hosts["os-eu1"].trouble = HostUnreachable("no SSH connection")
    done = asyncio.create_task(house.order(order))
    await house.mails.wait_for(lambda mail: order.email in str(mail.message["To"]))

    multics, oscam = await _halves(house, order)
    while oscam.next_attempt is None:
        # It is just being tried.
        multics, oscam = await _halves(house, order)

    assert (multics.state, multics.last_error, multics.next_attempt) == (HalfState.APPLIED, None, None)
    assert (oscam.state, oscam.last_error) == (HalfState.FAILING, "HostUnreachable")
    house.hosts["os-eu1"].heal()
    await done


async def _halves(house: House, order: TrialOrder) -> Sequence[HalfReceipt]:
    status = await house.twinline.progress(order_workflow_id(order))
    assert status is not None
    assert status.receipt is not None
    return status.receipt.halves


async def test_the_same_order_at_once_and_again_is_one_order_and_one_mail(house: House) -> None:
    order = trial()

    receipts = await asyncio.gather(*(house.order(order) for _ in range(50)))
    receipts.append(await house.order(order))

    assert len({receipt.line for receipt in receipts}) == 1
    assert len(house.sent_to(order.email)) == 1


async def test_an_order_that_temporal_forgot_is_still_one_order(tmp_path: Path, key_ring: KeyRing) -> None:
    order = trial()
    async with dev_server() as server, run_house(tmp_path, key_ring, await server.connect(key_ring)) as house:
        first = await house.order(order)
        assert len(house.sent_to(order.email)) == 1

    async with dev_server() as server, run_house(tmp_path, key_ring, await server.connect(key_ring)) as house:
        again = await house.order(order)

        assert (again.line, again.mail) == (first.line, first.mail)
        assert house.sent_to(order.email) == []
        with pytest.raises(OrderConflict):
            await house.order(PurchaseOrder(caller="shop", order=order.order, days=3, email=order.email, region="eu"))


async def _is_known(house: House, workflow_id: str) -> bool:
    """Whether Temporal knows the workflow, whoever could answer for it."""
    try:
        await house.client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def test_an_order_whose_history_was_deleted_is_still_one_order(house: House) -> None:
    order = trial()
    first = await house.order(order)
    workflow = WorkflowExecution(workflow_id=order_workflow_id(order))
    await house.client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(namespace="default", workflow_execution=workflow)
    )
    async with asyncio.timeout(60):
        while await _is_known(house, workflow.workflow_id):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.05)
    before = await house.line(first.username)

    again = await asyncio.gather(*(house.order(order, seconds=60) for _ in range(5)))

    assert {(receipt.line, receipt.ends_at, receipt.mail) for receipt in again} == {
        (first.line, first.ends_at, first.mail)
    }
    assert await house.line(first.username) == before
    assert len(house.sent_to(order.email)) == 1


@pytest.mark.parametrize("repeated", ["{0}", "{0}+again", "{0}".upper()])
async def test_a_person_gets_one_trial(house: House, repeated: str) -> None:
    order = trial()
    await house.order(order)
    local, domain = order.email.split("@")

    with pytest.raises(TrialAlreadyUsed):
        await house.order(trial(email=f"{repeated.format(local)}@{domain}"))

    assert len(house.sent_to(order.email)) == 1


async def test_a_refused_order_leaves_nothing_and_its_id_can_be_used_corrected(house: House) -> None:
    order = trial(region="atlantis")
    with pytest.raises(UnknownRegion, match="atlantis"):
        await house.order(order)
    with pytest.raises(InvalidOrder):
        await house.order(order.model_copy(update={"region": "eu", "email": "not-an-address"}))

    receipt = await house.order(order.model_copy(update={"region": "eu"}))

    assert receipt.order == order.order


class Waiting(Twinline):
    """Tells when it has placed an order and waits for its end."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.waits = asyncio.Event()

    async def _awaited(
        self, handle: WorkflowHandle[object, OrderStatus], patience: timedelta, *, ask_worker: bool = True
    ) -> OrderStatus | None:
        self.waits.set()
        return await super()._awaited(handle, patience, ask_worker=ask_worker)


async def test_nobody_gets_the_refusal_of_another_order_that_had_the_same_id(house: House) -> None:
    used = trial()
    await house.order(used)
    refused = trial(email=used.email)
    corrected = refused.model_copy(update={"email": "somebody.else@example.org"})

    first, second = Waiting(house.client), Waiting(house.client)
    # Nothing is decided while the ledger is held.
    async with house.ledger.write():
        refusal = asyncio.create_task(first.place(refused))
        await first.waits.wait()
        receipt = asyncio.create_task(second.place(corrected))
        await second.waits.wait()

    with pytest.raises(TrialAlreadyUsed):
        await refusal
    assert (await receipt).fingerprint == corrected.fingerprint()


async def test_an_order_id_again_with_another_body_is_a_conflict(house: House) -> None:
    order = trial()
    await house.order(order)

    with pytest.raises(OrderConflict):
        await house.order(order.model_copy(update={"email": "another.person@example.org"}))
    with pytest.raises(OrderConflict):
        await house.order(PurchaseOrder(caller="shop", order=order.order, days=3, email=order.email, region="eu"))


async def test_a_bought_trial_keeps_its_credentials_and_gets_its_days_after_the_trial(house: House) -> None:
    tried = await house.order(trial())
    password = await house.password(tried.username)

    bought = await house.order(PurchaseOrder(caller="shop", order=order_id(), days=30, line=tried.username))

    assert bought.username == tried.username
    assert bought.plan == "paid"
    assert bought.ends_at == tried.ends_at + timedelta(days=30)
    assert await house.password(tried.username) == password
    assert (await term_of(house, tried)).outcome == "overtaken"
    assert house.serves(tried.username) == (True, True)


async def test_a_block_stops_both_halves_and_a_renewal_does_not_lift_it(house: House) -> None:
    order = trial()
    username = (await house.order(order)).username

    blocked = await house.order(BlockOrder(caller="abuse", case="AB-7", line=username, reason="Two receivers at once"))
    renewed = await house.order(RenewalOrder(caller="shop", order=order_id(), line=username, days=30))

    assert [half.state for half in blocked.halves] == [HalfState.REMOVED, HalfState.REMOVED]
    assert house.serves(username) == (False, False)
    assert [block.case for block in renewed.blocks] == ["AB-7"]
    _, notice, extended = house.sent_to(order.email)
    assert "Two receivers at once" in text_of(notice)
    assert "Two receivers at once" in text_of(extended)

    await house.order(UnblockOrder(caller="abuse", case="AB-7", line=username))

    assert house.serves(username) == (True, True)
    assert len(house.sent_to(order.email)) == 4


async def test_a_block_with_an_until_lifts_itself_then(house: House) -> None:
    username = (await house.order(trial())).username
    until = datetime.now(UTC) + timedelta(hours=5)
    block = BlockOrder(caller="abuse", case="AB-5", line=username, reason="Shared", until=until)
    await house.order(block)
    assert house.serves(username) == (False, False)
    assert house.skipper is not None

    end = house.client.get_workflow_handle(block_end_workflow_id(block))
    await house.skipper.fast_forward(end)
    await end.result()

    assert house.serves(username) == (True, True)
    assert (await house.line(username)).blocks == ()


async def test_a_block_again_is_one_block_and_after_its_lifting_a_conflict(house: House) -> None:
    order = trial()
    username = (await house.order(order)).username
    block = BlockOrder(caller="abuse", case="AB-4", line=username, reason="Shared")
    first = await house.order(block)
    again = await house.order(block)
    assert (again.line, again.mail) == (first.line, first.mail)
    assert len(house.sent_to(order.email)) == 2

    await house.order(UnblockOrder(caller="abuse", case="AB-4", line=username))
    with pytest.raises(OrderConflict, match="lifted before"):
        await house.order(block)

    assert house.serves(username) == (True, True)


async def test_a_block_whose_until_has_passed_is_refused(house: House) -> None:
    username = (await house.order(trial())).username
    past = datetime.now(UTC) - timedelta(hours=1)

    with pytest.raises(InvalidOrder, match="passed"):
        await house.order(BlockOrder(caller="abuse", case="AB-6", line=username, reason="Shared", until=past))

    assert house.serves(username) == (True, True)


async def test_a_renewal_while_a_host_is_down_says_where_the_time_is_in_force(impatient_house: House) -> None:
    house, order = impatient_house, trial()
    username = (await house.order(order)).username
    house.hosts["os-eu1"].down_for_attempts = 2

    await house.order(RenewalOrder(caller="shop", order=order_id(), line=username, days=30))

    _, extended = house.sent_to(order.email)
    assert "Entry 1 (MultiCS): done" in text_of(extended)
    assert "Entry 2 (OSCam): follows" in text_of(extended)


async def test_an_unblock_lifts_only_the_block_of_its_owner_and_case(house: House) -> None:
    username = (await house.order(trial())).username
    await house.order(BlockOrder(caller="abuse", case="AB-8", line=username, reason="Shared"))

    with pytest.raises(UnknownBlock):
        await house.order(UnblockOrder(caller="abuse", case="AB-8", line=username, owner=BlockOwner.PAYMENT))
    with pytest.raises(UnknownBlock):
        await house.order(UnblockOrder(caller="abuse", case="AB-9", line=username))

    assert house.serves(username) == (False, False)


async def test_a_new_password_is_on_both_halves_and_in_one_mail(house: House) -> None:
    order = trial()
    line = (await house.order(order)).username
    old = (await house.password(line)).get_secret_value()

    receipt = await house.order(PasswordOrder(order=order_id(), line=line))

    new = (await house.password(line)).get_secret_value()
    assert [half.state for half in receipt.halves] == [HalfState.APPLIED, HalfState.APPLIED]
    assert {house.hosts[name].held[line].password for name in HOSTS} == {new}
    first, second = house.sent_to(order.email)
    assert f"C: mc-eu1.example.net 12000 {line} {new}" in text_of(second)
    assert f"C: os-eu1.example.net 15000 {line} {new}" in text_of(second)
    assert old in text_of(first)
    assert old not in text_of(second)
    assert receipt.mail is not None
    assert (receipt.mail.kind, receipt.mail.message_id) == (MailKind.PASSWORD, second["Message-ID"])


async def test_a_new_password_with_one_host_down_is_told_with_that_host_following(impatient_house: House) -> None:
    house, order = impatient_house, trial()
    line = (await house.order(order)).username
    house.hosts["os-eu1"].down_for_attempts = 2

    receipt = await house.order(PasswordOrder(order=order_id(), line=line))

    _, told, second = house.sent_to(order.email)
    assert "may take the old one until it follows" in " ".join(text_of(told).split())
    assert "os-eu1.example.net 15000" in text_of(second)
    assert receipt.mail is not None
    assert receipt.mail.kind is MailKind.SECOND_HALF


async def test_the_new_password_of_a_blocked_line_is_mailed_and_works_once_it_is_unblocked(house: House) -> None:
    order = trial()
    line = (await house.order(order)).username
    await house.order(BlockOrder(case="AB-7", line=line, reason="shared"))

    await house.order(PasswordOrder(order=order_id(), line=line))

    new = (await house.password(line)).get_secret_value()
    assert house.serves(line) == (False, False)
    assert "stays blocked" in text_of(house.sent_to(order.email)[-1])
    assert new in text_of(house.sent_to(order.email)[-1])
    await house.order(UnblockOrder(case="AB-7", line=line))
    assert {house.hosts[name].held[line].password for name in HOSTS} == {new}


async def test_a_closed_line_is_gone_from_both_halves_for_good_and_its_term_ends_in_silence(house: House) -> None:
    order = trial()
    opened = await house.order(order)

    receipt = await house.order(CloseOrder(order=order_id(), line=opened.username))

    assert [half.state for half in receipt.halves] == [HalfState.REMOVED, HalfState.REMOVED]
    assert house.serves(opened.username) == (False, False)
    assert receipt.mail is not None
    assert receipt.mail.kind is MailKind.CLOSED
    with pytest.raises(LineClosed):
        await house.order(RenewalOrder(order=order_id(), line=opened.username, days=30))
    await term_of(house, opened)
    assert len(house.sent_to(order.email)) == 2


async def test_a_line_that_ended_comes_back_with_a_renewal(house: House) -> None:
    receipt = await house.order(trial())
    await term_of(house, receipt)

    renewed = await house.order(RenewalOrder(caller="shop", order=order_id(), line=receipt.username, days=7))

    assert house.serves(receipt.username) == (True, True)
    assert [half.state for half in renewed.halves] == [HalfState.APPLIED, HalfState.APPLIED]


async def test_orders_about_an_unknown_line_are_refused(house: House) -> None:
    with pytest.raises(UnknownLine):
        await house.order(RenewalOrder(caller="shop", order=order_id(), line="nobody2222", days=7))
    with pytest.raises(UnknownLine):
        await house.order(BlockOrder(caller="abuse", case="AB-1", line="nobody2222", reason="Shared"))


async def test_a_mail_that_is_refused_for_good_is_told_and_does_not_stop_the_line(house: House) -> None:
    house.mails.answer("rcpt", 550)
    order = trial()

    receipt = await house.order(order)

    assert house.serves(receipt.username) == (True, True)
    assert receipt.mail is not None
    assert receipt.mail.state is MailState.REFUSED
    assert house.sent_to(order.email) == []


async def test_a_mail_whose_answer_was_lost_is_handed_over_again_with_the_same_bytes(house: House) -> None:
    house.mails.drop_after_data(keep=True)
    order = trial()

    receipt = await house.order(order)

    first, second = house.sent_to(order.email)
    assert first.as_bytes() == second.as_bytes()
    assert receipt.mail is not None
    assert receipt.mail.state is MailState.ACCEPTED


async def test_no_password_and_no_address_stands_in_any_history(house: House) -> None:
    order = trial()
    receipt = await house.order(order)
    password = (await house.password(receipt.username)).get_secret_value()
    repeated = trial(email=order.email)
    with pytest.raises(TrialAlreadyUsed):
        await house.order(repeated)

    for workflow_id in (order_workflow_id(order), order_workflow_id(repeated)):
        history = await house.client.get_workflow_handle(workflow_id).fetch_history()
        # In the JSON form payloads stand as base64, so the events' own bytes are searched.
        stored = b"".join(event.SerializeToString() for event in history.events)
        assert b"Trial" in stored
        for secret in (password, order.email, receipt.username, "had a trial before"):
            assert secret.encode() not in stored
