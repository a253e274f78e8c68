"""Asks for what waits: has it tried again now, or gives it up."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import Field, ValidationError

from starter.attention import OTHERS_AT_MOST, workflows_of
from starter.cli.context import CONNECT_PATIENCE, Context
from starter.cli.invalid import lasting_option
from starter.cli.orders_shown import OrderName, show_order
from starter.cli.placing import WAITING, Waiting, show_status
from starter.cli.receipts import PROVEN, needs_a_person
from starter.cli.render import Exit, cells, plain_table, say, show_json, show_table
from starter.cli.watching import shown_while, watched
from starter.client import Twinline
from twinline.errors import InvalidOrder, NothingToRetry, TwinlineError, Unavailable
from twinline.ledger import Ledger
from twinline.ledger.halves import retry_halves
from twinline.ledger.queries import line_view, order_view
from twinline.ledger.stuck import asking_hosts, require_host, stuck_halves, waiting_workflows
from twinline.messages import AbandonHalf, HalfReceipt, Message, RetryNow

TRYING: Final = "trying what waits"
AT_ONCE: Final = 16
"""Requests under way at the same time; a namespace allows a limited number of them."""
OF_HOSTS: Final = ("health/", "rebuild/", "reconcile/")
"""What the ids of workflows begin with that look after a host and drive no line's halves."""


class Asked(Message):
    """What became of one workflow that was asked: its halves by now, or why it could not be asked."""

    workflow_id: str
    halves: tuple[HalfReceipt, ...] | None = None
    refused: str | None = None


class AskedList(Message):
    """What `order retry` and `order abandon` print with `--json` for more than one order."""

    workflows: tuple[Asked, ...]
    reconcile: tuple[str, ...]
    """Lines for which no workflow waits; they are due for Reconcile now."""
    hosts: tuple[str, ...] = Field(default=(), exclude_if=lambda hosts: not hosts)
    """Hosts for which nothing waits, and which wait for a person; the next Reconcile looks at them."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which workflows a person means: one order, all that wait for one line, or all that is stuck."""

    name: OrderName | None = None
    line: str | None = None
    all_stuck: bool = False
    host: str | None = None

    def check(self) -> None:
        """Raises InvalidOrder unless exactly one of the three was said."""
        if [self.name is not None, self.line is not None, self.all_stuck].count(True) != 1:
            raise InvalidOrder("say which: an order's ID, or --line, or --all-stuck", hint="Give one of them.")
        if self.host is not None and not self.all_stuck:
            raise InvalidOrder("--host goes with --all-stuck", hint="An order is tried on all hosts that it waits for.")


async def retry(chosen: Chosen, waiting: Waiting, *, actor: str, as_json: bool) -> int:
    """Have workflows try their halves now, and show what came of it; raises TwinlineError."""
    chosen.check()
    _checked(lambda: RetryNow(actor=actor))
    context = Context.load()
    patience = waiting.patience(context.settings.grace)
    async with context.ledger() as ledger:
        found = await _find(ledger, chosen)
        if chosen.name is not None and not found.workflow_ids:
            return await show_order(chosen.name, as_json=as_json)
        twinline = Twinline(await context.temporal(patience=CONNECT_PATIENCE))
        if chosen.name is not None:
            (workflow_id,) = found.workflow_ids
            halves: Sequence[HalfReceipt] | None = None
            # An order whose halves are all proven may still wait for the mail server.
            with contextlib.suppress(NothingToRetry):
                asking = twinline.retry_now(workflow_id, actor=actor, patience=patience)
                halves = await watched(twinline, workflow_id, asking, sentence=TRYING, quiet=as_json)
            return await _show_after(twinline, workflow_id, halves, patience, as_json=as_json)
        if chosen.all_stuck and chosen.host is None:
            found = replace(found, workflow_ids=await _with_temporal(twinline, found.workflow_ids))
        async with shown_while(f"trying {len(found.workflow_ids)} workflows", quiet=as_json):
            asked = await _ask_all(twinline, found.workflow_ids, actor=actor, patience=patience)
        for line_id in found.alone:
            async with ledger.write() as tx:
                await retry_halves(tx, line_id, actor=actor, now=datetime.now(UTC))
    return _show_asked(
        AskedList(workflows=asked, reconcile=tuple(found.alone.values()), hosts=tuple(found.hosts)), as_json=as_json
    )


async def abandon(chosen: Chosen, waiting: Waiting, *, host: str, reason: str, actor: str, as_json: bool) -> int:
    """Give a half up in one order, or in all that wait for a line; raises TwinlineError."""
    chosen.check()
    _checked(lambda: AbandonHalf(host=host, reason=reason, actor=actor))
    context = Context.load()
    patience = waiting.patience(context.settings.grace)
    async with context.ledger() as ledger:
        found = await _find(ledger, chosen)
    if not found.workflow_ids:
        raise NothingToRetry(
            "nothing waits for that half", hint="`twinline order show ID` or `twinline line show LINE` tells how it is."
        )
    twinline = Twinline(await context.temporal(patience=CONNECT_PATIENCE))
    asked: list[Asked] = []
    for workflow_id in found.workflow_ids:
        halves = await twinline.abandon_half(workflow_id, host=host, reason=reason, actor=actor)
        if chosen.name is not None:
            return await _show_after(twinline, workflow_id, halves, patience, as_json=as_json)
        asked.append(Asked(workflow_id=workflow_id, halves=halves))
    return _show_asked(AskedList(workflows=tuple(asked), reconcile=()), as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Found:
    workflow_ids: Sequence[str]
    alone: Mapping[str, str]
    """Names of lines that are stuck and for which nothing waits, by line id."""
    hosts: Sequence[str] = ()
    """Hosts that wait for a person and for which nothing waits."""


async def _with_temporal(twinline: Twinline, found: Sequence[str]) -> Sequence[str]:
    """Those besides that wait for a person though the ledger knows nothing of it any more.

    What was repaired may have gone along with somebody else's change; its order does not look for ten minutes.
    """
    asking = [workflow_id for workflow_id, _ in await twinline.waiting_for_a_person(limit=OTHERS_AT_MOST)]
    return list(dict.fromkeys([*found, *(each for each in asking if not each.startswith(OF_HOSTS))]))


async def _ask_all(
    twinline: Twinline, workflow_ids: Sequence[str], *, actor: str, patience: timedelta
) -> tuple[Asked, ...]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(workflow_id: str) -> Asked:
        async with turns:
            try:
                halves = await twinline.retry_now(workflow_id, actor=actor, patience=patience)
            except TwinlineError as error:
                return Asked(workflow_id=workflow_id, refused=error.type)
        return Asked(workflow_id=workflow_id, halves=halves)

    return tuple(await asyncio.gather(*(ask(workflow_id) for workflow_id in workflow_ids)))


async def _find(ledger: Ledger, chosen: Chosen) -> _Found:
    """The workflows that are meant; none for an order that is done.

    Raises UnknownOrder, UnknownLine, UnknownHost, InvalidOrder (ambiguous), NothingToRetry (the line is in step).
    """
    async with ledger.read() as tx:
        if chosen.name is not None:
            name = chosen.name
            view = await order_view(tx, name.id.ref, caller=name.caller, kind=name.id.kind)
            return _Found(workflow_ids=[] if view.receipt is not None else [view.workflow_id], alone={})
        if chosen.line is not None:
            line = await line_view(tx, chosen.line)
            if all(half.wanted == half.proven for half in line.halves):
                raise NothingToRetry(f'every half of line "{chosen.line}" is proven', hint="There is nothing to retry.")
            found = await waiting_workflows(tx, line.line_id)
            return _Found(workflow_ids=found, alone={} if found else {line.line_id: line.username})
        if chosen.host is not None:
            await require_host(tx, chosen.host)
        halves = await stuck_halves(tx, host=chosen.host)
        hosts = await asking_hosts(tx, host=chosen.host)
    return _Found(
        workflow_ids=list(dict.fromkeys(workflows_of(halves))),
        alone={half.line_id: half.username for half in halves if not half.orders and not half.terms},
        hosts=[each.host for each in hosts],
    )


def _checked(build: Callable[[], object]) -> None:
    """Raises InvalidOrder."""
    try:
        build()
    except ValidationError as error:
        raise lasting_option(error) from None


async def _show_after(
    twinline: Twinline,
    workflow_id: str,
    halves: Sequence[HalfReceipt] | None,
    patience: timedelta,
    *,
    as_json: bool,
) -> int:
    """The order after it was asked: at once if it still waits for a person, or else when it is done."""
    stuck = halves is not None and any(needs_a_person(half) for half in halves)
    outcome = twinline.outcome(workflow_id, patience=timedelta(0) if stuck else patience)
    status = await watched(twinline, workflow_id, outcome, sentence=WAITING, quiet=as_json or stuck)
    if status is None:
        raise Unavailable(
            "it was asked, and no worker tells what came of it",
            hint="`twinline order show ID` tells what the ledger knows.",
        )
    return show_status(status, as_json=as_json)


def _show_asked(asked: AskedList, *, as_json: bool) -> int:
    if as_json:
        show_json(asked)
    elif asked.workflows:
        table = plain_table("workflow", "what came of it")
        for one in asked.workflows:
            table.add_row(*cells(one.workflow_id, _outcome(one)))
        show_table(table)
    if not as_json:
        for name in asked.reconcile:
            say(f"Nothing waits for line {name}; Reconcile takes it up in its next round.")
        for name in asked.hosts:
            say(
                f"Nothing waits for {name}; Reconcile looks at it in its next round, "
                f"and `twinline drift repair {name}` does so now."
            )
        if not asked.workflows and not asked.reconcile and not asked.hosts:
            say("Nothing waits for a person.")
    done = all(_is_done(one) for one in asked.workflows) and not asked.reconcile and not asked.hosts
    return Exit.DONE if done else Exit.GOING_ON


def _is_done(asked: Asked) -> bool:
    if asked.halves is None:
        return asked.refused in ("NothingToRetry", "UnknownOrder")
    return all(half.state in PROVEN for half in asked.halves)


def _outcome(asked: Asked) -> str:
    if asked.refused is not None:
        return "nothing left to try" if _is_done(asked) else f"not asked: {asked.refused}"
    if asked.halves is None:
        return "still being tried"
    return ", ".join(
        f"{half.host} {half.state}" + (f" ({half.last_error})" if half.last_error is not None else "")
        for half in asked.halves
    )
