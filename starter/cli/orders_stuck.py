"""Lists what waits for a person: what is wrong, since when, and who waits for it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.text import Text
from temporalio.client import Client
from temporalio.service import RPCError

from starter.cli.context import Context
from starter.cli.explain import meaning
from starter.cli.orders_shown import LOOK_PATIENCE
from starter.cli.render import Exit, cells, out, plain_table, say, show_json, show_table
from twinline.errors import TwinlineError
from twinline.ledger.stuck import AskingHost, StuckHalf, asking_hosts, stuck_halves
from twinline.messages import HalfState, Message
from twinline.search_attributes import ATTENTION_REASON
from twinline.spans import span


class OtherWorkflow(Message):
    """A workflow that waits for a person although the ledger does not say so."""

    workflow_id: str
    reason: str


class StuckList(Message):
    """What `order list --stuck --json` prints."""

    halves: tuple[StuckHalf, ...]
    hosts: tuple[AskingHost, ...]
    others: tuple[OtherWorkflow, ...]


async def list_stuck(*, host: str | None, line: str | None, limit: int, as_json: bool) -> int:
    """List what waits for a person; raises Misconfigured, Unavailable."""
    context = Context.load()
    async with context.ledger() as ledger, ledger.read() as tx:
        halves = await stuck_halves(tx, host=host, username=line, limit=limit)
        hosts = () if line else await asking_hosts(tx, host=host)
    others = () if host or line else await _others(context, halves)
    if as_json:
        show_json(StuckList(halves=halves, hosts=hosts, others=others))
        return Exit.DONE
    if not halves and not hosts and not others:
        say("Nothing waits for a person.")
        return Exit.DONE
    _print_stuck(halves, hosts, others, now=datetime.now(UTC))
    return Exit.DONE


def workflows_of(halves: Sequence[StuckHalf]) -> Iterator[str]:
    """The workflows that wait for these halves, some of them more than once."""
    for half in halves:
        yield from (order.workflow_id for order in half.orders)
        yield from half.terms


async def _others(context: Context, halves: Sequence[StuckHalf]) -> tuple[OtherWorkflow, ...]:
    """Workflows that wait for a person in Temporal's eyes only, such as one whose ledger was set back."""
    known = set(workflows_of(halves))
    name = ATTENTION_REASON.name
    try:
        client = await context.temporal(patience=LOOK_PATIENCE)
        found = await _waiting_in_temporal(client, f"{name} IS NOT NULL AND ExecutionStatus = 'Running'")
    except TwinlineError as error:
        say(f"{error.message}, so this is what the ledger knows.", hint=error.hint, style="yellow")
        return ()
    except RPCError as error:
        say(f"Temporal lists no workflows ({error.status.name}), so this is what the ledger knows.", style="yellow")
        return ()
    return tuple(other for other in found if other.workflow_id not in known)


async def _waiting_in_temporal(client: Client, query: str) -> Sequence[OtherWorkflow]:
    return [
        OtherWorkflow(
            workflow_id=execution.id, reason=execution.typed_search_attributes.get(ATTENTION_REASON) or "unknown"
        )
        async for execution in client.list_workflows(query, limit=1000)
    ]


def _print_stuck(
    halves: Sequence[StuckHalf], hosts: Sequence[AskingHost], others: Sequence[OtherWorkflow], *, now: datetime
) -> None:
    console = out()
    table = plain_table("line", "host", "for", "why", "what waits for it")
    for half in halves:
        since = _since(half.since, now)
        why = half.reason or "unknown"
        if half.state is HalfState.ABANDONED:
            why = f"given up ({why})"
        table.add_row(*cells(half.username, half.host, since, why, _who(half)))
    for asking in hosts:
        table.add_row(*cells("", asking.host, _since(asking.since, now), asking.reason, "nobody yet"))
    for other in others:
        table.add_row(*cells("?", "?", "", other.reason, other.workflow_id))
    show_table(table)
    console.print()
    for code in dict.fromkeys(one.reason for one in (*halves, *hosts, *others)):
        if code is not None:
            found = meaning(code)
            console.print(Text(f"{code}: {found.sentence}"), soft_wrap=True)
            console.print(Text(f"  → {found.hint}", style="dim"), soft_wrap=True)
    console.print()
    console.print(
        Text("Then: `twinline order retry ID`, or `--line LINE`, or `--all-stuck` (with `--host HOST`)."),
        soft_wrap=True,
    )


def _since(moment: datetime | None, now: datetime) -> str:
    return "" if moment is None else span((now - moment).total_seconds())


def _who(half: StuckHalf) -> str:
    names = [
        f"{order.kind} {order.order}" + ("" if order.caller == "cli" else f" of {order.caller}")
        for order in half.orders
    ]
    names += ["its end"] * bool(half.terms)
    return ", ".join(names) or "nobody"
