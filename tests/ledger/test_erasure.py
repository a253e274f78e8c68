"""Erasing whose a line was: when it is refused, what is gone afterwards, and what has to stay."""

import base64
from random import Random

import pytest
import pytest_asyncio
from sqlalchemy import LargeBinary

from tests.ledger.stores import SqliteStore
from tests.ledger.support import DAY, Desk, Pairing
from twinline.errors import (
    LineClosed,
    LineErased,
    LineServed,
    OrdersRunning,
    TrialAlreadyUsed,
    Unavailable,
    UnknownLine,
)
from twinline.ledger import Ledger, erasure, mails, models, orders, rules
from twinline.ledger.erasure import tombstone_name
from twinline.ledger.postgresql import TELL_OF_PERSONS
from twinline.ledger.queries import LineFilter, OrderFilter, holdings, list_lines, list_orders
from twinline.ledger.sealing import reseal
from twinline.messages import (
    BlockOrder,
    CloseOrder,
    EraseTask,
    MailKind,
    MailReceipt,
    MailState,
    OrderOutcome,
    Receipt,
    Recorded,
    RenewalOrder,
    TrialOrder,
    order_kind,
    order_ref,
    order_workflow_id,
)

ADDRESS = "jane.roe@example.com"
REASON = "Jane Roe shared it"
TRIAL = TrialOrder(order="T-1", email=ADDRESS, region="eu")


async def settle(desk: Desk, order: TrialOrder | BlockOrder | CloseOrder | RenewalOrder, recorded: Recorded) -> None:
    """End an order, with a receipt like that of a workflow."""
    receipt = Receipt(
        order=order_ref(order),
        kind=order_kind(order),
        line=recorded.line_id,
        username=recorded.username,
        plan=recorded.plan,
        ends_at=recorded.ends_at,
        blocks=recorded.blocks,
        halves=(),
        mail=MailReceipt(kind=MailKind.CREDENTIALS, state=MailState.ACCEPTED, message_id="<id-of-a-mail@example.com>"),
        workflow_id=order_workflow_id(order),
    )
    async with desk.ledger.write() as tx:
        await orders.settle_order(tx, OrderOutcome(order_id=recorded.order_id, receipt=receipt), now=desk.now)


async def place(desk: Desk, order: TrialOrder | BlockOrder | CloseOrder | RenewalOrder) -> Recorded:
    """Take an order and end it."""
    recorded = await desk.take(order)
    await settle(desk, order, recorded)
    return recorded


async def prove_all(desk: Desk) -> None:
    for host in ("mc-eu1", "os-eu1"):
        await desk.prove(host)


@pytest_asyncio.fixture
async def line(desk: Desk) -> Recorded:
    """A line that was blocked, mailed about and closed; its hosts are in step."""
    trial = await place(desk, TRIAL)
    await place(desk, BlockOrder(case="AB-1", line=trial.username, reason=REASON))
    async with desk.ledger.write() as tx:
        await mails.store_mail(
            tx, trial.line_id, kind=MailKind.CREDENTIALS, ref="g", message_id="<a@b>", body=b"Dear Jane", now=desk.now
        )
    await place(desk, CloseOrder(order="C-1", line=trial.username))
    await prove_all(desk)
    return trial


def task_for(line: Recorded) -> EraseTask:
    return EraseTask(line_id=line.line_id, actor="privacy")


async def erase(desk: Desk, line: Recorded) -> None:
    async with desk.ledger.write() as tx:
        await erasure.begin_erasure(tx, task_for(line), now=desk.now)
    async with desk.ledger.write() as tx:
        await erasure.erase_line(tx, task_for(line), now=desk.now)
    await desk.ledger.forget_deleted()


async def test_nothing_in_the_files_tells_whose_the_line_was_any_more(desk: Desk, line: Recorded) -> None:
    row = (await desk.rows(models.Line))[0]
    password = await desk.password(line.username)
    (mail,) = await desk.rows(models.Mail)
    kept = [row.password_sealed, row.email_sealed, row.person_hash, mail.body_sealed]
    fingerprints = [order.fingerprint for order in await desk.rows(models.Order)]
    words = [line.username.encode(), REASON.encode(), b"<id-of-a-mail@example.com>", *kept, *fingerprints]
    before = desk.raw()
    assert all(word in before for word in words if word is not row.person_hash), (
        "the search looks for what is not there"
    )
    assert password.encode() not in before
    assert ADDRESS.encode() not in before

    await erase(desk, line)

    after = desk.raw()
    # One trial a person: this one hash stays.
    (trial,) = await desk.rows(models.Trial)
    words.remove(trial.person_hash)
    assert [word for word in words if word in after or base64.b64encode(word) in after] == []
    if isinstance(desk.store, SqliteStore):
        assert desk.path.with_name("ledger.db-wal").stat().st_size == 0


def test_every_table_with_something_sealed_is_written_anew() -> None:
    tables = {
        table.name
        for table in models.Row.metadata.sorted_tables
        if any(isinstance(column.type, LargeBinary) for column in table.columns)
    }
    # Tokens belong to callers; the keyed digest of a run is of all its rows.
    tables -= {"api_token", "bulk"}
    assert tables <= {name.strip('"') for name in TELL_OF_PERSONS}


async def test_only_what_tells_of_nobody_stays(desk: Desk, line: Recorded) -> None:
    events = await desk.rows(models.Event)
    await erase(desk, line)
    (row,) = await desk.rows(models.Line)
    assert row.username == tombstone_name(line.line_id)
    assert (row.password_sealed, row.email_sealed, row.person_hash, row.erased_at) == (b"", b"", b"", desk.now)
    assert await desk.rows(models.Half) == []
    assert await desk.rows(models.Mail) == []
    (block,) = await desk.rows(models.Block)
    assert (block.case, block.reason) == ("AB-1", "")
    recorded = {Recorded.model_validate_json(order.recorded).username for order in await desk.rows(models.Order)}
    assert recorded == {row.username}
    first, last = (await desk.rows(models.Event))[len(events) - 1], (await desk.rows(models.Event))[-1]
    assert first == events[-1]
    assert (last.what, last.who, last.why) == ("line.erased", "privacy", f"erase/{line.line_id}")
    async with desk.ledger.read() as tx:
        assert (await list_lines(tx, LineFilter())).lines == ()
        shown = (await list_orders(tx, OrderFilter())).orders
        assert {(order.username, order.receipt and order.receipt.mail) for order in shown} == {(row.username, None)}
        assert await holdings(tx, "mc-eu1") == ()


@pytest.mark.parametrize("days_later", [0, 1])
async def test_a_line_that_is_not_over_is_refused_with_the_command_that_helps(desk: Desk, days_later: int) -> None:
    trial = await place(desk, TRIAL)
    desk.now += DAY * days_later
    if days_later:
        await place(desk, BlockOrder(case="AB-1", line=trial.username, reason=REASON))
    with pytest.raises(LineServed) as refused:
        await erase(desk, trial)
    assert f"twinline close {trial.username} --order ID" in refused.value.hint
    assert (await desk.view(trial.username)).closed_at is None


async def test_a_running_order_is_named_and_waited_for(desk: Desk) -> None:
    trial = await place(desk, TRIAL)
    close = CloseOrder(order="C-1", line=trial.username, caller="shop")
    recorded = await desk.take(close)
    with pytest.raises(OrdersRunning, match='close "C-1" of caller "shop"') as refused:
        await erase(desk, trial)
    assert refused.value.retryable
    await settle(desk, close, recorded)
    await prove_all(desk)
    await erase(desk, trial)


async def test_from_the_beginning_on_no_order_reaches_the_line(desk: Desk) -> None:
    trial = await place(desk, TRIAL)
    desk.now += DAY * 2
    await desk.end(trial)
    await prove_all(desk)
    async with desk.ledger.write() as tx:
        begun = await erasure.begin_erasure(tx, task_for(trial), now=desk.now)
        # A second time, as after a crash.
        assert await erasure.begin_erasure(tx, task_for(trial), now=desk.now) == begun
    assert begun.hosts == ("mc-eu1", "os-eu1")
    with pytest.raises(LineClosed):
        await desk.renew(trial.username)
    assert [event.what for event in await desk.rows(models.Event)].count("erasure.begun") == 1


async def test_all_hosts_that_the_line_was_ever_on_are_named(desk: Desk) -> None:
    await desk.sync(Pairing(name="eu1"), Pairing(name="us1", region="us"))
    trial = await place(desk, TRIAL)
    await prove_all(desk)
    moved = await desk.move(trial.username, "us1")
    for host in ("mc-us1", "os-us1"):
        await desk.prove(host)
    await desk.keep_old_pair(moved)
    await desk.break_move(moved)
    close = CloseOrder(order="C-1", line=trial.username)
    await place(desk, close)
    with pytest.raises(OrdersRunning, match="move"):
        await erase(desk, trial)
    await settle(desk, close, moved)
    async with desk.ledger.write() as tx:
        begun = await erasure.begin_erasure(tx, task_for(trial), now=desk.now)
    assert set(begun.hosts) == {"mc-eu1", "os-eu1", "mc-us1", "os-us1"}


async def test_erasing_again_changes_nothing(desk: Desk, line: Recorded) -> None:
    await erase(desk, line)
    events = len(await desk.rows(models.Event))
    desk.now += DAY
    await erase(desk, line)
    assert len(await desk.rows(models.Event)) == events
    async with desk.ledger.read() as tx:
        assert await erasure.line_named(tx, line.username.upper()) == erasure.OfPerson(
            line_id=line.line_id, username=line.username.upper(), erased=True
        )
        (found,) = await erasure.lines_of_person(tx, ADDRESS)
        assert (found.line_id, found.erased) == (line.line_id, True)
        with pytest.raises(UnknownLine):
            await erasure.lines_of_person(tx, "somebody.else@example.com")


async def test_orders_of_an_erased_line_are_neither_repeated_nor_taken_for_new_ones(desk: Desk, line: Recorded) -> None:
    await erase(desk, line)
    for order in (
        TRIAL,
        CloseOrder(order="C-1", line=line.username),
        RenewalOrder(order="R", line=line.username, days=1),
    ):
        with pytest.raises(LineErased):
            await desk.take(order)
    with pytest.raises(LineErased):
        await desk.view(line.username)


async def test_a_person_who_was_forgotten_gets_no_second_trial(desk: Desk, line: Recorded) -> None:
    await erase(desk, line)
    with pytest.raises(TrialAlreadyUsed):
        await desk.take(TrialOrder(order="T-2", email=ADDRESS, region="eu"))
    assert (await desk.purchase(ADDRESS)).username != line.username


async def test_the_name_of_an_erased_line_is_never_given_again(
    desk: Desk, line: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    await erase(desk, line)
    names = iter([line.username, line.username, "fresh23name"])

    def next_name(_: Random) -> str:
        return next(names)

    monkeypatch.setattr(rules, "new_username", next_name)
    assert (await desk.purchase("bob@example.com")).username == "fresh23name"


async def test_keys_rotate_past_what_was_erased(desk: Desk, line: Recorded) -> None:
    await erase(desk, line)
    await desk.trial("bob@example.com")
    assert (await reseal(desk.ledger)).rows == 2


async def test_the_log_of_writes_that_somebody_reads_is_told_and_begins_anew_afterwards(
    desk: Desk, line: Recorded
) -> None:
    url = desk.store.url
    reader, impatient = [await Ledger.open(url, keys=desk.keys, patience=0.05) for _ in range(2)]
    async with reader.read() as tx:
        await tx.session.get(models.Line, line.line_id)
        await desk.trial("bob@example.com")
        with pytest.raises(Unavailable, match="somebody reads the ledger"):
            await impatient.forget_deleted()
    await impatient.forget_deleted()
    await reader.close()
    await impatient.close()
