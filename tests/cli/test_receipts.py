"""A receipt in words, and the exit code that goes with it."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from starter.cli.receipts import closing, exit_of, show_command, show_receipt
from starter.cli.render import Exit, exit_for, moment
from starter.explain import meaning
from twinline import errors
from twinline.hosts.errors import HostError, kinds
from twinline.messages import (
    BlockInfo,
    BlockOwner,
    HalfReceipt,
    HalfState,
    MailKind,
    MailReceipt,
    MailState,
    OrderKind,
    Receipt,
)
from twinline.spans import span

DONE, GOES_ON = "done", "goes on"
NOW = datetime(2031, 5, 6, 12, 0, tzinfo=UTC)
APPLIED, REMOVED, PENDING = HalfState.APPLIED, HalfState.REMOVED, HalfState.PENDING
FAILING, ABANDONED = HalfState.FAILING, HalfState.ABANDONED
ABUSE = BlockInfo(owner=BlockOwner.ABUSE, case="AB-1", reason="[red]shared[/red]", since=NOW)


def receipt(
    first: HalfState = APPLIED,
    second: HalfState = APPLIED,
    *,
    mail: MailState | None = MailState.ACCEPTED,
    error: str | None = None,
    blocks: tuple[BlockInfo, ...] = (),
    kind: OrderKind = OrderKind.TRIAL,
    caller: str = "cli",
) -> Receipt:
    """A receipt with these states; the second half has the error."""
    again = NOW + timedelta(seconds=20) if error is not None else None
    return Receipt(
        order="T-1",
        kind=kind,
        line="0011223344556677",
        username="k7mq3xw9ab",
        plan="trial",
        ends_at=NOW + timedelta(hours=48),
        blocks=blocks,
        halves=(
            HalfReceipt(host="mc-eu1", protocol="multics", state=first, revision=1, attempts=1),
            HalfReceipt(
                host="os-eu1",
                protocol="oscam",
                state=second,
                revision=0,
                attempts=3,
                last_error=error,
                next_attempt=again,
            ),
        ),
        mail=None if mail is None else MailReceipt(kind=MailKind.CREDENTIALS, state=mail, message_id="<1@example.com>"),
        workflow_id=f"{kind}/{caller}/T-1",
    )


def a_move(*, old: HalfState = APPLIED, new: HalfState = APPLIED, ready: bool = True) -> Receipt:
    """The receipt of a move from `eu1` to `us1`."""
    multics = HalfReceipt(host="mc-eu1", protocol="multics", state=old, revision=1, attempts=1, leaving=True)
    oscam = multics.model_copy(update={"host": "os-eu1", "protocol": "oscam"})
    changed = {"state": new, "leaving": False}
    halves = (
        multics,
        multics.model_copy(update={"host": "mc-us1", **changed}),
        oscam,
        oscam.model_copy(update={"host": "os-us1", **changed}),
    )
    until = NOW + timedelta(hours=24) if ready else None
    return receipt(kind=OrderKind.MOVE).model_copy(update={"halves": halves, "old_until": until})


FOLLOWS = (
    "mc-eu1 serves the line; os-eu1 follows: twinline keeps trying, and `twinline order show T-1` tells how far it is"
)


@pytest.mark.parametrize(
    ("found", "end", "code", "sentence"),
    [
        (receipt(), DONE, Exit.DONE, "Both halves serve the line; the mail was accepted."),
        (receipt(mail=None), DONE, Exit.DONE, "Both halves serve the line; no mail was due."),
        (receipt(mail=None), GOES_ON, Exit.GOING_ON, "Both halves serve the line; no mail has gone yet."),
        (
            receipt(REMOVED, REMOVED, blocks=(ABUSE,)),
            DONE,
            Exit.DONE,
            "Both halves refuse the line (blocked by abuse); the mail was accepted.",
        ),
        (
            receipt(REMOVED, REMOVED, blocks=(ABUSE,), kind=OrderKind.CLOSE),
            DONE,
            Exit.DONE,
            "Both halves refuse the line; the mail was accepted.",
        ),
        (receipt(second=FAILING), GOES_ON, Exit.GOING_ON, f"{FOLLOWS}; the mail was accepted."),
        (
            receipt(second=ABANDONED),
            DONE,
            Exit.GOING_ON,
            "mc-eu1 serves the line; os-eu1 was abandoned; the mail was accepted.",
        ),
        (
            receipt(second=FAILING, error="RecordConflict", caller="shop"),
            GOES_ON,
            Exit.GOING_ON,
            "mc-eu1 serves the line; os-eu1 waits for a person: repair what is said above, then `twinline order retry "
            "T-1 --caller shop`, or give it up with `twinline order abandon T-1 --caller shop --host os-eu1 --reason "
            "…`; the mail was accepted.",
        ),
        (
            a_move(),
            GOES_ON,
            Exit.GOING_ON,
            "All 4 halves serve the line; the old pair (mc-eu1 and os-eu1) is kept until 2031-05-07 12:00 UTC and left "
            "then, which ends the order (`twinline order show T-1` tells how far it is); the mail was accepted.",
        ),
        (
            a_move(new=PENDING, ready=False),
            GOES_ON,
            Exit.GOING_ON,
            "mc-eu1 and os-eu1 serve the line; mc-us1 and os-us1 follow: twinline keeps trying, and `twinline order "
            "show T-1` tells how far it is; the mail was accepted.",
        ),
        (
            a_move(old=REMOVED),
            DONE,
            Exit.DONE,
            "mc-us1 and os-us1 serve the line; mc-eu1 and os-eu1 hold it no longer; the mail was accepted.",
        ),
        (
            receipt(mail=MailState.REFUSED),
            DONE,
            Exit.GOING_ON,
            "Both halves serve the line; the mail server refused the mail for good, so tell the customer another way.",
        ),
        (
            receipt(mail=MailState.UNKNOWN),
            GOES_ON,
            Exit.GOING_ON,
            "Both halves serve the line; nobody can tell yet whether the mail server took the mail, so the same mail "
            "is handed over again.",
        ),
        (
            receipt(mail=MailState.STORED),
            GOES_ON,
            Exit.GOING_ON,
            "Both halves serve the line; the mail is written, and the mail server has not taken it yet.",
        ),
        (
            receipt(PENDING, PENDING, mail=None),
            GOES_ON,
            Exit.GOING_ON,
            "mc-eu1 and os-eu1 follow: twinline keeps trying, and `twinline order show T-1` tells how far it is; no "
            "mail has gone yet.",
        ),
    ],
)
def test_a_receipt_ends_with_a_sentence_that_says_what_it_means(
    found: Receipt, end: str, code: Exit, sentence: str
) -> None:
    assert closing(found, done=end == DONE) == sentence
    assert exit_of(found, done=end == DONE) is code


def test_the_command_that_shows_an_order_names_all_that_tells_it_from_others() -> None:
    assert show_command(receipt(caller="shop")) == "twinline order show T-1 --caller shop"
    assert show_command(receipt(kind=OrderKind.BLOCK)) == "twinline order show T-1 --kind block --line k7mq3xw9ab"


def test_only_the_receipt_of_a_move_says_more_than_the_contract() -> None:
    assert "leaving" not in receipt().model_dump_json()
    assert "old_until" not in receipt().model_dump_json()
    moving = a_move()
    assert Receipt.model_validate_json(moving.model_dump_json()) == moving


def test_a_failing_half_is_explained_and_texts_from_outside_are_not_markup() -> None:
    console = Console(record=True, width=160, markup=False, highlight=False)
    with console.capture() as printed:
        show_receipt(console, receipt(second=FAILING, error="NotProven", blocks=(ABUSE,)), done=False, now=NOW)
    text = printed.get()
    assert "NotProven: written and reloaded, but the daemon does not show the change; looked at again in 20 s" in text
    assert "look at the daemon's log" in text
    assert "[red]shared[/red]" in text
    assert "2031-05-08 12:00 UTC" in text


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_condition_of_a_host_has_a_sentence_and_its_hint(kind: type[HostError]) -> None:
    found = meaning(kind.__name__)
    assert found.sentence
    assert found.hint == kind.hint
    assert found.attention == kind.attention


def test_a_condition_that_nobody_foresaw_points_to_the_log() -> None:
    assert meaning("ZeroDivisionError").hint == "see the worker's log"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InvalidOrder, 2),
        (errors.Misconfigured, 2),
        (errors.UnknownRegion, 3),
        (errors.UnknownLine, 3),
        (errors.UnknownOrder, 3),
        (errors.UnknownBlock, 3),
        (errors.UnknownHalf, 3),
        (errors.UnknownHost, 3),
        (errors.UnknownPair, 3),
        (errors.RegionFull, 4),
        (errors.PairFull, 4),
        (errors.SamePair, 4),
        (errors.MoveRunning, 4),
        (errors.NothingToRetry, 4),
        (errors.TrialAlreadyUsed, 4),
        (errors.OrderConflict, 4),
        (errors.LineClosed, 4),
        (errors.Unavailable, 6),
    ],
)
def test_every_error_of_an_order_has_its_exit_code(kind: type[errors.TwinlineError], code: int) -> None:
    assert exit_for(kind("a sentence", hint="a hint")) == code
    assert kind.__name__ in errors.ORDER_ERRORS


def test_times_are_told_in_utc_and_in_the_zone_of_this_machine_where_that_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import time

    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        assert moment(NOW) == "2031-05-06 14:00 CEST (2031-05-06 12:00 UTC)"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [span(seconds) for seconds in (-3, 0.4, 119, 120, 7199, 7200, 200_000)] == [
        *("0 s", "0 s", "119 s", "2 min", "120 min", "2 h", "2 d")
    ]
