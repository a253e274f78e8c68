"""What the customer reads when orders come in each other's way."""

import asyncio
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage

from temporalio.api.sdk.v1 import WorkflowMetadata

from activities.mail import MailActivities
from activities.reconcile import SweepActivities
from starter.cli.receipts import closing, exit_of
from starter.cli.render import Exit
from tests.workflows.house import HOSTS, House, inventory, text_of
from tests.workflows.test_attention import SOON, progress
from tests.workflows.test_moves import in_overlap
from tests.workflows.test_orders import order_id, trial
from twinline.keys import KeyRing
from twinline.ledger import owed
from twinline.ledger.mails import load_mail
from twinline.mail import SmtpTarget
from twinline.messages import (
    TRIAL_LENGTH,
    AnyOrder,
    BlockOrder,
    BlockOwner,
    CloseOrder,
    HalfState,
    MailKind,
    MailReceipt,
    MailState,
    MailTask,
    OrderStatus,
    PasswordOrder,
    Receipt,
    Sweep,
    TrialOrder,
    UnblockOrder,
    order_workflow_id,
    tell_workflow_id,
)

SECOND = "your second entry is ready"
UNTIL = "%A %-d %B %Y, %H:%M UTC"


def subjects(house: House, address: str) -> list[str]:
    return [str(mail["Subject"]).removeprefix("Example Lines: ") for mail in house.sent_to(address)]


def flat(text: str) -> str:
    return " ".join(text.split())


def _read(body: bytes) -> str:
    message = message_from_bytes(body, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return text_of(message)


async def begin(house: House, order: AnyOrder) -> None:
    """Place an order whose hours pass only by hand."""
    assert house.skipper is not None
    with house.skipper.with_time_skipping_disabled():
        await house.start(order)


async def end(house: House, order: AnyOrder) -> Receipt:
    handle = house.client.get_workflow_handle(order_workflow_id(order), result_type=OrderStatus)
    receipt = (await handle.result()).receipt
    assert receipt is not None
    return receipt


async def test_two_owners_with_one_case_are_two_blocks_and_each_is_told(house: House) -> None:
    order = trial()
    line = (await house.order(order)).username

    for owner, caller in ((BlockOwner.ABUSE, "desk"), (BlockOwner.PAYMENT, "billing")):
        await house.order(BlockOrder(caller=caller, case="17", line=line, owner=owner, reason=f"By {owner}"))
        assert f"Reason: By {owner}" in text_of(house.sent_to(order.email)[-1])
    for owner, caller in ((BlockOwner.PAYMENT, "billing"), (BlockOwner.ABUSE, "desk")):
        await house.order(UnblockOrder(caller=caller, case="17", line=line, owner=owner))

    assert house.serves(line) == (True, True)
    assert subjects(house, order.email)[1:] == [
        *["your line is blocked"] * 2,
        "a block was lifted, another one stays",
        "your line is unblocked",
    ]


async def test_a_new_customer_who_is_blocked_before_a_server_is_reached_has_the_credentials(house: House) -> None:
    order = trial()
    for host in HOSTS:
        house.hosts[host].down_for_attempts = 10_000
    await begin(house, order)
    line = (await progress(house, order, lambda found: all(half.last_error for half in found.halves))).username
    block = BlockOrder(caller="abuse", case="AB-1", line=line, reason="Shared")
    await begin(house, block)
    await progress(house, block, lambda found: bool(found.blocks))
    for host in HOSTS:
        house.hosts[host].heal()
    for placed in (order, block):
        await end(house, placed)

    await house.order(UnblockOrder(caller="abuse", case="AB-1", line=line))

    assert house.serves(line) == (True, True)
    password = (await house.password(line)).get_secret_value()
    told = [text_of(mail) for mail in house.sent_to(order.email)]
    (credentials,) = [text for text in told if password in text]
    assert "must not be used until the block is lifted" in flat(credentials)
    assert "no longer blocked" in told[-1]
    assert len(told) == 3


async def test_a_block_that_was_lifted_before_its_mail_went_is_not_told(house: House) -> None:
    order = trial()
    line = (await house.order(order)).username
    house.hosts["os-eu1"].down_for_attempts = 10_000
    standing, lifted = (BlockOrder(caller="desk", case=case, line=line, reason=f"Case {case}") for case in ("s", "l"))
    for block in (standing, lifted):
        await begin(house, block)
        await progress(house, block, lambda found: bool(found.blocks))
    await begin(house, UnblockOrder(caller="desk", case="l", line=line))
    await progress(house, UnblockOrder(caller="desk", case="l", line=line), lambda found: len(found.blocks) == 1)
    house.hosts["os-eu1"].heal()

    await end(house, lifted)
    await end(house, standing)

    assert not any("Reason: Case l" in text_of(mail) for mail in house.sent_to(order.email))


async def test_a_blocked_line_is_not_told_that_it_cant_be_used_while_a_server_still_serves_it(house: House) -> None:
    order = trial()
    line = (await house.order(order)).username
    house.hosts["os-eu1"].down_for_attempts = 10_000
    for placed in (BlockOrder(case="AB-2", line=line, reason="Shared"), CloseOrder(order="c-told", line=line)):
        await begin(house, placed)
        handle = house.client.get_workflow_handle(order_workflow_id(placed))
        assert house.skipper is not None
        await house.skipper.fast_forward(handle, timedelta(minutes=2))

    await house.mails.wait_for(
        lambda mail: order.email in str(mail.message["To"]) and "closed" in mail.message["Subject"]
    )

    assert house.serves(line) == (False, True)
    assert subjects(house, order.email)[1:] == ["your line is blocked", "your line was closed"]
    assert not any("cannot be used" in flat(text_of(mail)) for mail in house.sent_to(order.email))


async def test_a_line_that_ends_in_the_overlap_of_its_move_is_promised_no_longer_than_that(house: House) -> None:
    person = trial()
    receipt = await house.order(person)
    ends = receipt.ends_at

    await in_overlap(house, receipt.username, person, overlap_hours=72)

    assert f"The old ones keep working until {ends:{UNTIL}}." in flat(text_of(house.sent_to(person.email)[-1]))


async def test_a_trial_that_was_never_served_is_promised_and_reminded_of_nothing_that_is_not_so(
    house: House, key_ring: KeyRing
) -> None:
    order = trial()
    for host in HOSTS:
        house.hosts[host].down_for_attempts = 10_000
    await begin(house, order)
    opened = await progress(house, order, lambda found: all(half.last_error for half in found.halves))
    (grant,) = (await house.line(opened.username)).grants
    mails = MailActivities(
        ledger=house.ledger, inventory=inventory(), keys=key_ring, target=SmtpTarget.parse(house.mails.url)
    )

    async def told(kind: MailKind, ref: str) -> str | None:
        task = MailTask(
            line_id=opened.line,
            kind=kind,
            ref=f"{grant.grant_id}/{ref}",
            reference=order.order,
            at=datetime.now(UTC),
            grant_id=grant.grant_id,
        )
        stored = (await mails.store_mail(task)).stored
        if stored is None:
            return None
        async with house.ledger.read() as tx:
            return _read((await load_mail(tx, stored.mail_id)).body)

    assert await told(MailKind.REMINDER, "before") is None
    delayed = await told(MailKind.DELAYED, "before")
    assert delayed is not None
    assert f"if the first entry works before {opened.ends_at:{UNTIL}}" in flat(delayed)
    for host in HOSTS:
        house.hosts[host].heal()
    await end(house, order)
    assert await told(MailKind.DELAYED, "after") is None
    assert await told(MailKind.REMINDER, "after") is not None


async def sweep(house: House, *, at: datetime | None = None) -> None:
    """What the Reconciles of both hosts do before they look at their host, at the same moment, and twice each."""
    sweeps = SweepActivities(house.ledger, house.twinline, grace=timedelta(seconds=1.5))
    asked = [Sweep(host=host, at=at or datetime.now(UTC)) for host in HOSTS for _ in range(2)]
    await asyncio.gather(*(sweeps.end_overdue(each) for each in asked))


async def give_up(house: House, order: AnyOrder, *hosts: str) -> Receipt:
    """Place an order while these hosts are down, and let it end without them."""
    for host in hosts:
        house.hosts[host].down_for_attempts = 10_000
    await house.start(order)
    tried = await progress(
        house, order, lambda found: {half.host for half in found.halves if half.last_error} >= {*hosts}
    )
    for host in hosts:
        await house.twinline.abandon_half(order_workflow_id(order), host=host, reason="fire", patience=SOON)
        house.hosts[host].heal()
    receipt = await house.order(order)
    assert receipt.line == tried.line
    return receipt


async def repair(house: House, line: str, host: str) -> None:
    """Bring one half in step, as a Reconcile does."""
    view = await house.line(line)
    await house.hosts[host].bring(view.line_id, view.revision)


async def told(house: House, order: TrialOrder, line: str, count: int) -> list[str]:
    """What the customer was told once so many mails are there; none comes after them."""
    async with asyncio.timeout(30):
        await house.mails.wait_for(lambda _: len(house.sent_to(order.email)) >= count)
    line_id = (await house.line(line)).line_id
    async with house.ledger.read() as tx:
        for host in HOSTS:
            assert line_id not in await owed.lines_owed(tx, host, limit=100)
    return subjects(house, order.email)


async def test_a_half_that_was_given_up_and_is_repaired_is_told_once(impatient_house: House) -> None:
    house, order = impatient_house, trial()
    line = (await give_up(house, order, "os-eu1")).username
    await sweep(house)
    assert subjects(house, order.email) == ["your trial line is ready, one entry follows"]
    assert "you get a short mail when it works" in flat(text_of(house.sent_to(order.email)[0]))
    await repair(house, line, "os-eu1")

    await sweep(house)

    assert await told(house, order, line, 2) == ["your trial line is ready, one entry follows", SECOND]
    second = text_of(house.sent_to(order.email)[1])
    assert "entry 2 (OSCam) of your trial line works now" in flat(second)
    assert f"Reference: {order.order}" in second
    (grant,) = (await house.line(line)).grants
    workflow_id = tell_workflow_id((await house.line(line)).line_id, MailKind.SECOND_HALF, grant.grant_id)
    handle = house.client.get_workflow_handle(workflow_id, result_type=MailReceipt)
    assert (await handle.result()).state is MailState.ACCEPTED
    assert await (await handle.describe()).static_summary() == "the second_half mail that a line is owed"
    shown = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert shown.current_details == "Mail: second_half, accepted."


async def test_a_line_that_was_given_up_whole_is_delayed_and_told_when_a_half_is_repaired(
    impatient_house: House,
) -> None:
    house, order = impatient_house, trial()
    opened = await give_up(house, order, *HOSTS)
    assert opened.mail is not None
    assert opened.mail.kind is MailKind.DELAYED
    await asyncio.sleep(max(0.0, (opened.ends_at - TRIAL_LENGTH - datetime.now(UTC)).total_seconds() + 1.6))
    await repair(house, opened.username, "os-eu1")

    await sweep(house)

    delayed, ready = "your order is delayed, we are on it", "your trial line is ready, one entry follows"
    assert await told(house, order, opened.username, 2) == [delayed, ready]
    credentials = text_of(house.sent_to(order.email)[1])
    password = (await house.password(opened.username)).get_secret_value()
    assert f"C: os-eu1.example.net 15000 {opened.username} {password}" in credentials
    ends_at = (await house.line(opened.username)).ends_at
    assert ends_at > opened.ends_at
    assert f"Until: {ends_at:{UNTIL}}" in credentials
    for host in HOSTS:
        await repair(house, opened.username, host)
    await sweep(house)
    assert await told(house, order, opened.username, 3) == [delayed, ready, SECOND]
    assert house.serves(opened.username) == (True, True)


async def test_a_half_that_was_told_by_another_mail_meanwhile_is_not_told_again(impatient_house: House) -> None:
    house, order = impatient_house, trial()
    line = (await give_up(house, order, "os-eu1")).username

    await house.order(PasswordOrder(order=order_id(), line=line))
    await sweep(house)

    assert await told(house, order, line, 2) == ["your trial line is ready, one entry follows", "your new password"]


async def test_a_trial_whose_48_hours_pass_before_a_server_is_reached_is_told_and_does_not_count(house: House) -> None:
    order = trial()
    for host in HOSTS:
        house.hosts[host].down_for_attempts = 10_000
    await begin(house, order)
    opened = await progress(house, order, lambda found: all(half.last_error for half in found.halves))

    await sweep(house, at=opened.ends_at)

    assert (await house.line(opened.username)).state == "absent"
    delayed, unserved = "your order is delayed, we are on it", "your trial line could not be set up"
    async with asyncio.timeout(30):
        await house.mails.wait_for(lambda _: unserved in subjects(house, order.email))
    assert "This trial does not count." in text_of(house.sent_to(order.email)[-1])
    for host in HOSTS:
        house.hosts[host].heal()
    ended = await end(house, order)
    assert ended.unserved
    assert {half.state for half in ended.halves} == {HalfState.REMOVED}
    assert exit_of(ended, done=True) is Exit.GOING_ON
    assert closing(ended, done=True) == (
        "The line's time was over before it could be used, which the customer is told; "
        "the trial does not count, and can be asked for again."
    )
    await sweep(house)
    assert [each for each in subjects(house, order.email) if each != delayed] == [unserved]
    again = await house.order(trial(email=order.email))
    assert house.serves(again.username) == (True, True)
