"""Compares hosts with the ledger for real, and has a worker repair what differs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter
from rich.text import Text
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from activities.host_ledger import as_half
from starter.cli.context import Context
from starter.cli.explain import meaning
from starter.cli.render import Exit, cells, out, plain_table, say, show_json
from starter.cli.running import confirm
from twinline.errors import Unavailable
from twinline.hosts.drift import MEANINGS, Drift, Expected, LineDrift, Side, compare
from twinline.hosts.errors import HostError
from twinline.hosts.factory import daemon_for, helper_for
from twinline.hosts.looking import look
from twinline.hosts.ports import Wanted
from twinline.inventory import Host, load_inventory
from twinline.ledger import Ledger, halves
from twinline.messages import ORDERS_QUEUE, Message, NameOf, Reconciled, ReconcileTask, reconcile_workflow_id

AT_A_TIME: Final = 8
"""Hosts that are looked at together."""


class HostDrift(Message):
    """How one host differs; `error` is the code of what kept us from looking."""

    host: str
    drift: Drift | None
    error: str | None = None


@dataclass(frozen=True)
class _Found:
    """Everything that was found, and what it means for the exit code."""

    hosts: Sequence[HostDrift]

    @property
    def exit(self) -> Exit:
        if any(each.drift is not None and each.drift.lines for each in self.hosts):
            return Exit.REFUSED
        return Exit.UNAVAILABLE if any(each.error is not None for each in self.hosts) else Exit.DONE


async def check_drift(names: Sequence[str], *, as_json: bool) -> int:
    """Compare the named hosts, or all, with the ledger; raises Misconfigured, Unavailable, KeyRingError."""
    context = Context.load()
    found = _Found(await _compare_all(context, _hosts(context, names)))
    if as_json:
        show_json(TypeAdapter(tuple[HostDrift, ...]).dump_json(tuple(found.hosts)).decode())
    else:
        for each in found.hosts:
            _show(each)
    return found.exit


async def repair_drift(names: Sequence[str], *, accept_loss: bool, yes: bool, as_json: bool) -> int:
    """Run Reconcile on the named hosts, or all, and tell what came of it; raises as `check_drift` does."""
    context = Context.load()
    hosts = _hosts(context, names)
    if not yes:
        await _ask_first(context, hosts, accept_loss=accept_loss)
    client = await context.temporal()
    tasks = [ReconcileTask(host=host.name, accept_loss=accept_loss) for host in hosts]
    done = await asyncio.gather(*(_reconcile(client, task) for task in tasks))
    if as_json:
        show_json(TypeAdapter(tuple[Reconciled, ...]).dump_json(tuple(done)).decode())
    else:
        for each in done:
            _tell(each)
    if any(each.error is not None for each in done):
        return Exit.UNAVAILABLE
    left = [each for each in done if each.found is not None and _is_left(each)]
    return Exit.GOING_ON if left else Exit.DONE


def _hosts(context: Context, names: Sequence[str]) -> list[Host]:
    inventory = load_inventory(context.settings.inventory)
    return [inventory.host(name) for name in dict.fromkeys(names)] or list(inventory.hosts)


async def _compare_all(context: Context, hosts: Sequence[Host]) -> list[HostDrift]:
    places = asyncio.Semaphore(AT_A_TIME)

    async def one(ledger: Ledger, host: Host) -> HostDrift:
        async with places:
            try:
                return HostDrift(host=host.name, drift=await _compare(ledger, host))
            except HostError as error:
                return HostDrift(host=host.name, drift=None, error=error.code)

    async with context.ledger() as ledger:
        return await asyncio.gather(*(one(ledger, host) for host in hosts))


async def _compare(ledger: Ledger, host: Host) -> Drift:
    async with ledger.read() as tx:
        held = await halves.held_on(tx, host.name)
    expected = [Expected(as_half(each.half), behind=each.behind) for each in held]
    daemon = daemon_for(host)
    closely = [each.half for each in expected if each.half.wanted is Wanted.PRESENT and not each.behind]
    helper = await helper_for(host)
    try:
        return compare(daemon, expected, await look(helper, daemon, closely))
    finally:
        await helper.close()


async def _ask_first(context: Context, hosts: Sequence[Host], *, accept_loss: bool) -> None:
    if accept_loss:
        confirm("Accounts that the files have lost will be dropped by the daemons. Go on?", yes=False)
        return
    found = await _compare_all(context, hosts)
    losing = [line.username for each in found if each.drift for line in each.drift.lines if line.loses_access]
    if losing:
        confirm(f"{len(losing)} lines that work though they should not will stop working. Go on?", yes=False)


async def _reconcile(client: Client, task: ReconcileTask) -> Reconciled:
    try:
        return await client.execute_workflow(
            NameOf.RECONCILE,
            task,
            id=reconcile_workflow_id(task.host),
            task_queue=ORDERS_QUEUE,
            result_type=Reconciled,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"reconcile {task.host}, asked for",
        )
    except (WorkflowFailureError, RPCError) as error:
        raise Unavailable(
            f"{task.host} could not be reconciled ({type(error).__name__})",
            hint="Check that a worker runs and that Temporal answers, then repeat this.",
        ) from None


def _is_left(done: Reconciled) -> bool:
    found = done.found
    return found is not None and bool(found.behind or any(line.error is not None for line in found.drift))


# -- words


def _show(found: HostDrift) -> None:
    if found.drift is None:
        why = meaning(found.error or "")
        say(f"{found.host}: {why.sentence}", hint=why.hint, style="yellow")
        return
    drift = found.drift
    told = "" if drift.daemon_told else "; the daemon could not be asked"
    behind = f", {len(drift.behind)} still to be written" if drift.behind else ""
    head = f"{found.host}: {len(drift.lines)} of {drift.served} served lines and others differ{behind}{told}"
    if not drift.lines:
        head = f"{found.host}: no drift among {drift.served} served lines{behind}{told}"
    out().print(Text(head, style="red" if drift.lines else "green"))
    if not drift.lines:
        return
    table = plain_table("line", "", "ledger", "file", "daemon")
    for line in drift.lines:
        table.add_row(*cells(line.username, "\n".join(_words(line)), *(_side(side) for side in _sides(line))))
    out().print(table)


def _words(line: LineDrift) -> list[str]:
    return [f"{MEANINGS[kind].sentence}\n→ {MEANINGS[kind].hint}" for kind in line.kinds]


def _sides(line: LineDrift) -> tuple[Side | None, ...]:
    return (line.ledger, line.file, line.daemon)


def _side(side: Side | None) -> str:
    if side is None:
        return "not known"
    parts = [
        side.state,
        f"until {side.end}" if side.end else "",
        f"revision {side.revision}" if side.revision is not None else "",
        "another password" if side.another_password else "",
    ]
    return "\n".join(part for part in parts if part)


def _tell(done: Reconciled) -> None:
    ended = f"{done.ended} grants past their end ended; " if done.ended else ""
    if done.found is None:
        why = meaning(done.error or "")
        say(f"{done.host}: {ended}{why.sentence}", hint=why.hint, style="yellow")
        return
    found = done.found
    repaired = [line for line in found.drift if line.error is None]
    out().print(
        Text(
            f"{done.host}: {ended}{found.brought} halves driven on, {len(repaired)} lines repaired",
            style="yellow" if _is_left(done) else "green",
        )
    )
    for code, count in found.behind.items():
        why = meaning(code)
        say(f"  {count} halves still behind: {why.sentence}", hint=why.hint, style="yellow")
    for line in found.drift:
        if line.error is not None:
            say(f"  {line.username}: {', '.join(line.kinds)} ({line.error})", style="yellow")
