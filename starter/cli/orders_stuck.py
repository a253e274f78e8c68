"""Lists what waits: what is wrong, since when, who waits for it, and what to do."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.style import Style
from rich.text import Text

from starter.attention import StuckList, Untaken, what_waits, with_links, with_temporal
from starter.cli.context import Context
from starter.cli.orders_shown import LOOK_PATIENCE
from starter.cli.render import Exit, cells, moment, out, plain_table, printable, say, show_json, show_table
from starter.client import Twinline
from starter.explain import meaning
from starter.order_ids import OrderId
from twinline.errors import TwinlineError
from twinline.ledger.stuck import LateHost, StuckHalf, WaitingOrder
from twinline.messages import HalfState, OrderKind, health_workflow_id
from twinline.rebuild import rebuild_workflow_id
from twinline.spans import span

NAMED: Final = 5
"""How many orders of a host are named; the others are counted."""
REBUILD: Final = rebuild_workflow_id("").rstrip("/")
OF_A_HOST: Final = (REBUILD, health_workflow_id("").rstrip("/"))
"""What begins the ids of workflows that are about a host and no line."""


async def list_stuck(*, host: str | None, line: str | None, limit: int, as_json: bool) -> int:
    """List what waits for a person, and what is late; raises UnknownHost, Misconfigured, Unavailable."""
    context = Context.load()
    now, grace = datetime.now(UTC), context.settings.grace
    async with context.ledger() as ledger:
        found = await what_waits(ledger, now=now, grace=grace, host=host, line=line, limit=limit)
    if host is None and line is None:
        try:
            twinline = Twinline(await context.temporal(patience=LOOK_PATIENCE))
            found = await with_temporal(found, twinline, now=now, grace=grace)
        except TwinlineError as error:
            found = found.model_copy(update={"temporal": "does not answer"})
            say(f"{error.message}, so this is what the ledger knows.", hint=error.hint, style="yellow")
    found = with_links(found, context.page())
    if as_json:
        show_json(found)
        return Exit.DONE
    if found.asks:
        _print_stuck(found, now=now)
    elif found.is_empty:
        say("Nothing waits for a person.")
    else:
        out().print(Text("Nothing waits for a person. These go on by themselves:"), soft_wrap=True)
    for late in found.late:
        _print_late(late, found.links, now=now)
    _print_untaken(found, now=now)
    return Exit.DONE


def _print_stuck(found: StuckList, *, now: datetime) -> None:
    console = out()
    table = plain_table("line", "host", "for", "why", "what waits for it")
    for half in found.halves:
        since = _since(half.since, now)
        why = half.reason or "unknown"
        if half.state is HalfState.ABANDONED:
            why = f"given up ({why})"
        table.add_row(*cells(half.username, half.host, since, why), _linked(_who(half), half.orders, found.links))
    for asking in found.hosts:
        table.add_row(*cells("", asking.host, _since(asking.since, now), asking.reason, "nobody yet"))
    for other in found.others:
        page = found.links.get(other.workflow_id)
        where = Text(printable(other.workflow_id), style=Style(link=page))
        kind, _, host = other.workflow_id.partition("/")
        which = ("", host) if kind in OF_A_HOST else ("?", "?")
        table.add_row(*cells(*which, "", other.reason), where)
    show_table(table)
    console.print()
    for code in dict.fromkeys(one.reason for one in (*found.halves, *found.hosts, *found.others)):
        if code is not None:
            explained = meaning(code)
            console.print(Text(f"{code}: {explained.sentence}"), soft_wrap=True)
            console.print(Text(f"  → {explained.hint}", style="dim"), soft_wrap=True)
    console.print()
    console.print(
        Text("Then: `twinline order retry ID`, or `--line LINE`, or `--all-stuck` (with `--host HOST`)."),
        soft_wrap=True,
    )
    for other in found.others:
        kind, _, host = other.workflow_id.partition("/")
        if kind == REBUILD:
            console.print(Text(f"The rebuild goes on at once with `twinline host rebuild {host}`."), soft_wrap=True)


def _print_late(late: LateHost, links: Mapping[str, str], *, now: datetime) -> None:
    console = out()
    console.print()
    said = _linked(late_in_words(late, now=now), late.orders, links)
    said.style = "yellow"
    console.print(said, soft_wrap=True)
    if late.reason is not None:
        explained = meaning(late.reason)
        console.print(Text(f"  {late.reason}: {explained.sentence}"), soft_wrap=True)
        console.print(Text(f"  → {explained.hint}", style="dim"), soft_wrap=True)
    else:
        hint = f"`twinline host check {late.host}` says why."
        if late.down_since is None:
            hint = "No try is on record: does a worker run? `twinline doctor` tells."
        console.print(Text(f"  → {hint}", style="dim"), soft_wrap=True)
    if late.halves and late.reason is not None:
        again = ""
        if late.next_attempt is not None and late.next_attempt > now:
            again = f" (next in {span((late.next_attempt - now).total_seconds())})"
        console.print(Text(f"  It is tried again by itself{again}."), soft_wrap=True)
    if late.orders:
        command = f"`twinline order abandon {_command_words(late.orders[0])} --host {late.host} --reason TEXT`"
        console.print(Text(f"  To let an order end without this host: {command}"), soft_wrap=True)


def late_in_words(late: LateHost, *, now: datetime) -> str:
    """Which host is late, since when, and who waits for it."""
    if late.down_since is None:
        # Whether it answers is not known: perhaps nobody asked it.
        state = f"{late.host} is behind since {_moment(late.since, now)}"
    else:
        state = f"Nothing gets through to {late.host} since {_moment(late.down_since, now)}"
    if not late.halves:
        return f"{state}. Nothing waits for it yet."
    who = [_name(order) for order in late.orders[:NAMED]]
    if more := len(late.orders) - len(who):
        who.append(f"{more} more orders")
    if late.terms:
        who.append("1 end of a line" if len(late.terms) == 1 else f"{len(late.terms)} ends of lines")
    halves = "1 half waits" if late.halves == 1 else f"{late.halves} halves wait"
    return f"{state}. {halves} for it: {', '.join(who) or 'no order, but Reconcile'}."


def _print_untaken(found: StuckList, *, now: datetime) -> None:
    if found.untaken is None:
        return
    console = out()
    console.print()
    said, hint = untaken_in_words(found.untaken, now=now)
    console.print(Text(said, style="yellow"), soft_wrap=True)
    console.print(Text(f"  → {hint}", style="dim"), soft_wrap=True)


def untaken_in_words(untaken: Untaken, *, now: datetime) -> tuple[str, str]:
    """What waits for a worker, and what to do."""
    said = "No worker takes orders." if not untaken.workers else ""
    if untaken.orders:
        many = "1 order stands" if untaken.orders == 1 else f"{untaken.orders} orders stand"
        waits = f"{many} in Temporal since {_moment(untaken.since, now)}, and no worker has taken it into the ledger."
        said = f"{said} {waits}".strip()
    if not untaken.workers:
        hint = "Start `twinline worker`"
    else:
        # Temporal takes a worker for alive for a while after it has gone.
        hint = "See whether `twinline worker` still runs, and its log; `twinline doctor` tells when one was last seen"
    return said, f"{hint}. Nothing is lost meanwhile, and orders go on by themselves."


def _linked(said: str, orders: Sequence[WaitingOrder], links: Mapping[str, str]) -> Text:
    """The sentence, with the names of orders as links that terminals can follow."""
    text = Text(printable(said))
    for order in orders:
        # Another order's name may begin with this one.
        found = re.search(re.escape(_name(order)) + r"(?=[,.]?(?: |$))", text.plain)
        if found is not None and order.workflow_id in links:
            text.stylize(Style(link=links[order.workflow_id]), *found.span())
    return text


def _moment(when: datetime | None, now: datetime) -> str:
    return "some time" if when is None else f"{moment(when)} ({span((now - when).total_seconds())})"


def _since(when: datetime | None, now: datetime) -> str:
    return "" if when is None else span((now - when).total_seconds())


def _who(half: StuckHalf) -> str:
    names = [_name(order) for order in half.orders] + ["its end"] * bool(half.terms)
    return ", ".join(names) or "nobody"


def _name(order: WaitingOrder) -> str:
    return f"{order.kind} {order.order}" + ("" if order.caller == "cli" else f" of {order.caller}")


def _command_words(order: WaitingOrder) -> str:
    words = [order.order]
    if order.kind in (OrderKind.BLOCK, OrderKind.UNBLOCK):
        words = [OrderId.of_workflow(order.workflow_id).text]
    if order.kind is OrderKind.CANCEL:
        words.append("--kind cancel")
    return " ".join(words if order.caller == "cli" else [*words, f"--caller {order.caller}"])
