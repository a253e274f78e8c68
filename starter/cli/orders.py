"""Commands that place orders."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, NoReturn

import typer

from starter.cli import options
from starter.cli.running import confirm, perform
from twinline.errors import InvalidOrder
from twinline.messages import (
    BlockOrder,
    BlockOwner,
    CloseOrder,
    MoveOrder,
    Order,
    PasswordOrder,
    PurchaseOrder,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
)

STOPPED = (
    "Stopped waiting. An order that was placed goes on without us: `twinline order show ID` tells how far it is, "
    "and the same command again is the same order."
)

Email = Annotated[str, typer.Argument(metavar="EMAIL", help="The customer's mail address.")]
Owner = Annotated[BlockOwner, typer.Option("--owner", help="Whose block; blocks of different owners are independent.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (trial, purchase, renew, block, unblock, password, move, close):
        app.command()(command)


def trial(
    email: Email,
    *,
    region: options.Region,
    order: options.OrderId,
    caller: options.Caller = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Give a new customer a line for 48 hours, once per person.

    Example: twinline trial jane@example.org --region eu --order T-17
    """
    _place(
        lambda: TrialOrder(caller=caller, order=order, email=email, region=region),
        timeout=timeout,
        no_wait=no_wait,
        as_json=as_json,
    )


def purchase(
    email: Annotated[str | None, typer.Argument(metavar="EMAIL", help="A new customer's mail address.")] = None,
    *,
    region: Annotated[str | None, options.region_option("Where a new customer's line shall live.")] = None,
    line: Annotated[str | None, options.line_option("An existing line; a trial keeps its credentials.")] = None,
    days: options.Days,
    order: options.OrderId,
    caller: options.Caller = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Sell days: to a new customer (EMAIL and --region) or for an existing line (--line).

    Example: twinline purchase jane@example.org --region eu --days 30 --order P-17
    Example: twinline purchase --line k7mq3xw9ab --days 30 --order P-18
    """
    _place(
        lambda: PurchaseOrder(caller=caller, order=order, days=days, email=email, region=region, line=line),
        timeout=timeout,
        no_wait=no_wait,
        as_json=as_json,
    )


def renew(
    line: options.Line,
    *,
    days: options.Days,
    order: options.OrderId,
    caller: options.Caller = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Add paid days to a line, from now or from its end, whichever is later; a blocked line stays blocked.

    Example: twinline renew k7mq3xw9ab --days 30 --order R-17
    """
    _place(
        lambda: RenewalOrder(caller=caller, order=order, line=line, days=days),
        timeout=timeout,
        no_wait=no_wait,
        as_json=as_json,
    )


def block(
    line: options.Line,
    *,
    case: options.Case,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="One line; the customer reads it.")],
    owner: Owner = BlockOwner.ABUSE,
    until: Annotated[
        str | None, typer.Option("--until", metavar="T", help="When it ends by itself: 2031-05-06T12:00+02:00.")
    ] = None,
    caller: options.Caller = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Stop a line from working until this block is lifted; its live sessions are closed.

    Example: twinline block k7mq3xw9ab --case A-17 --reason "The line was shared." --until 2031-05-06T12:00+02:00
    """
    _place(
        lambda: BlockOrder(caller=caller, case=case, line=line, reason=reason, owner=owner, until=moment_option(until)),
        timeout=timeout,
        no_wait=no_wait,
        as_json=as_json,
    )


def unblock(
    line: options.Line,
    *,
    case: options.Case,
    owner: Owner = BlockOwner.ABUSE,
    caller: options.Caller = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Lift the block that this owner set for this case, and no other.

    Example: twinline unblock k7mq3xw9ab --case A-17
    """
    _place(
        lambda: UnblockOrder(caller=caller, case=case, line=line, owner=owner),
        timeout=timeout,
        no_wait=no_wait,
        as_json=as_json,
    )


def password(
    line: options.Line,
    *,
    order: options.OrderId,
    caller: options.Caller = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Give a line a new password and mail it; who is logged in with the old one is logged out.

    Example: twinline password k7mq3xw9ab --order pw-17
    """
    _place(
        lambda: PasswordOrder(caller=caller, order=order, line=line), timeout=timeout, no_wait=no_wait, as_json=as_json
    )


def move(
    line: options.Line,
    *,
    pair: Annotated[str, options.pair_option("The new pair, of this region or another.")],
    order: options.OrderId,
    overlap: Annotated[
        float,
        typer.Option("--overlap", metavar="HOURS", min=0, help="How long the old pair is kept once the new one works."),
    ] = 24.0,
    caller: options.Caller = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Move a line to another pair; the old one serves until the customer had time to change the receiver's entries.

    Example: twinline move k7mq3xw9ab --pair eu2 --order move-17
    """
    _place(
        lambda: MoveOrder(caller=caller, order=order, line=line, pair=pair, overlap_hours=overlap),
        timeout=timeout,
        no_wait=no_wait,
        as_json=as_json,
    )


def close(
    line: options.Line,
    *,
    order: options.OrderId,
    yes: options.Yes = False,
    caller: options.Caller = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """End a line for good, whatever was paid for; nothing brings it back, and its name is never used again.

    Example: twinline close k7mq3xw9ab --order close-17
    """
    confirm(f"Close line {line} for good?", yes=yes, as_json=as_json)
    _place(lambda: CloseOrder(caller=caller, order=order, line=line), timeout=timeout, no_wait=no_wait, as_json=as_json)


def _place(build: Callable[[], Order], *, timeout: float | None, no_wait: bool, as_json: bool) -> NoReturn:
    from starter.cli.placing import Waiting, place

    perform(place(build, Waiting(timeout, no_wait), as_json=as_json), as_json=as_json, stopped=STOPPED)


def moment_option(text: str | None) -> datetime | None:
    """The moment that --until names; raises InvalidOrder."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidOrder(
            "--until must be a moment with its zone", hint="Write it as 2031-05-06T12:00+02:00 or 2031-05-06T10:00Z."
        )
    return moment
