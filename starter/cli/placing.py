"""Places an order and tells what became of it within the time that the caller gives it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError

from starter import order_lookup
from starter.checks import check_address
from starter.cli.context import CONNECT_PATIENCE, Context
from starter.cli.invalid import invalid_order
from starter.cli.receipts import exit_of, show_receipt
from starter.cli.render import Exit, moment, out, say, show_json, show_refusal
from starter.cli.watching import watched
from starter.client import Twinline
from twinline.errors import InvalidOrder, Unavailable
from twinline.ledger import Ledger
from twinline.messages import Order, OrderStatus, Receipt, Refusal, order_workflow_id
from twinline.ui import Page

AT_ONCE: Final = 0.5
"""Seconds that `--no-wait` waits: refusals mostly come sooner, and are worth telling."""
WAITING: Final = "waiting for the proof of both halves, and for the mail"
AFTER_GRACE: Final = 5.0
"""Seconds beyond the grace, in which the mail that says who is ready gets handed over."""


@dataclass(frozen=True)
class Waiting:
    """How long the caller wants to wait; `seconds` is None for as long as the grace takes."""

    seconds: float | None
    no_wait: bool

    def patience(self, grace: timedelta) -> timedelta:
        """The time to wait; raises InvalidOrder when both options were given."""
        if self.no_wait and self.seconds is not None:
            raise InvalidOrder("--timeout and --no-wait contradict each other", hint="Give one of them.")
        if self.no_wait:
            return timedelta(seconds=AT_ONCE)
        if self.seconds is not None:
            return timedelta(seconds=self.seconds)
        return grace + timedelta(seconds=AFTER_GRACE)


async def place(build: Callable[[], Order], waiting: Waiting, *, as_json: bool) -> int:
    """Place what `build` makes, show how far it came, and return the exit code; raises TwinlineError."""
    order = _checked(build)
    context = Context.load()
    patience = waiting.patience(context.settings.grace)
    # Who waits for half a second does not want to wait longer for a server that is down.
    client = await context.temporal(patience=min(CONNECT_PATIENCE, patience.total_seconds() + AT_ONCE))
    twinline, began = Twinline(client), datetime.now(UTC)
    status = await watched(
        twinline,
        order_workflow_id(order),
        twinline.place(order, patience=patience),
        sentence=WAITING,
        quiet=as_json or waiting.no_wait,
    )
    code = show_status(status, as_json=as_json)
    if status.receipt is not None and status.ended_at is not None and status.ended_at < began:
        # It was sent again after it had ended.
        try:
            async with context.ledger() as ledger:
                await say_since(ledger, status.receipt, ended_at=status.ended_at)
        except Unavailable as error:
            say("Whether the line has changed since that order ended can't be told now.", hint=error.hint)
    return code


async def say_since(ledger: Ledger, receipt: Receipt, *, ended_at: datetime | None) -> None:
    """Tell what became of the line since the order stood as its receipt says; raises Unavailable."""
    since = await order_lookup.since(ledger, receipt)
    for half in since.repaired:
        say(f"Since then {half.host} was brought in step again: it is {half.state}.")
    if since.changed and ended_at is not None:
        say(
            f"So it stood when the order ended, at {moment(ended_at)}. The line has changed since: "
            f"`twinline line show {receipt.username}` tells how it stands."
        )


class LinkedReceipt(Receipt):
    """A receipt with the page of its workflow in Temporal's web interface."""

    temporal_ui: str


def show_status(status: OrderStatus, *, as_json: bool, page: Page | None = None) -> Exit:
    """Show how far an order is, and by `page` where it is; the exit code says whether that is all the way."""
    if status.receipt is None:
        show_refusal(not_taken(), as_json=as_json)
        return Exit.GOING_ON
    url = None if page is None else page(status.receipt.workflow_id)
    if as_json:
        show_json(status.receipt if url is None else LinkedReceipt(**dict(status.receipt), temporal_ui=url))
    else:
        show_receipt(out(), status.receipt, done=status.done, now=datetime.now(UTC), page=url)
    return exit_of(status.receipt, done=status.done)


def not_taken() -> Refusal:
    """What to say while the order stands in Temporal and nobody has worked on it: not an error, but no receipt."""
    return Refusal(
        type="NotTakenYet",
        message="no worker has taken the order yet; it is safe in Temporal and goes on by itself once a worker runs",
        hint="Start `twinline worker`; `twinline doctor` says what else is missing. The same order again is safe.",
        retryable=True,
    )


def _checked(build: Callable[[], Order]) -> Order:
    try:
        order = build()
    except ValidationError as error:
        raise invalid_order(error) from None
    check_address(order)
    return order
