"""Compares hosts with the ledger for real, and has a worker repair what differs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from activities.host_ledger import LedgerOfHosts
from starter.cli.context import Context
from starter.cli.render import Exit, cells, out, plain_table, say, show_json, show_table
from starter.cli.running import confirm
from starter.cli.watching import shown_while
from starter.explain import meaning
from twinline.errors import Unavailable
from twinline.hosts.drift import MEANINGS, Drift, Expected, LineDrift, Side, compare
from twinline.hosts.errors import HostError
from twinline.hosts.factory import daemon_for, helper_for
from twinline.hosts.looking import look
from twinline.hosts.ports import Half, Wanted
from twinline.inventory import Host, load_inventory
from twinline.ledger import Ledger
from twinline.messages import ORDERS_QUEUE, Message, NameOf, Reconciled, ReconcileTask, reconcile_workflow_id

STILL_RUNNING: Final = "StillRunning"
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
        return exit_for_codes([each.error for each in self.hosts])


def exit_for_codes(errors: Sequence[str | None]) -> Exit:
    """4 when a person has to repair something first, else 6 when a host did not answer, else 5 when it goes on."""
    found = {error for error in errors if error is not None}
    if any(meaning(error).attention for error in found):
        return Exit.REFUSED
    if found - {STILL_RUNNING}:
        return Exit.UNAVAILABLE
    return Exit.GOING_ON if found else Exit.DONE


async def check_drift(names: Sequence[str], *, as_json: bool) -> int:
    """Compare the named hosts, or all, with the ledger.

    Raises UnknownHost, Misconfigured, Unavailable, KeyRingError.
    """
    context = Context.load()
    found = _Found(await compare_all(context, _hosts(context, names)))
    if as_json:
        show_json(found.hosts)
    else:
        for each in found.hosts:
            _show(each)
    return found.exit


async def repair_drift(names: Sequence[str], *, accept_loss: bool, yes: bool, patience: float, as_json: bool) -> int:
    """Run Reconcile on the named hosts, or all, and tell what came of it; raises as `check_drift` does.

    One that takes longer than `patience` seconds goes on without us.
    """
    context = Context.load()
    hosts = _hosts(context, names)
    if not yes:
        await _ask_first(context, hosts, accept_loss=accept_loss, as_json=as_json)
    client = await context.temporal()
    tasks = [ReconcileTask(host=host.name, asked=True, accept_loss=accept_loss) for host in hosts]
    async with shown_while(f"bringing {', '.join(host.name for host in hosts)} in step", quiet=as_json):
        done = await asyncio.gather(*(_reconcile(client, task, patience) for task in tasks))
    if as_json:
        show_json(done)
    else:
        for each in done:
            _tell(each)
    if (stopped := exit_for_codes([each.error for each in done])) is not Exit.DONE:
        return stopped
    return Exit.GOING_ON if any(_is_left(each) for each in done) else Exit.DONE


def _hosts(context: Context, names: Sequence[str]) -> list[Host]:
    inventory = load_inventory(context.settings.inventory)
    return [inventory.host(name) for name in dict.fromkeys(names)] or list(inventory.hosts)


async def compare_all(context: Context, hosts: Sequence[Host]) -> list[HostDrift]:
    """How these hosts differ from the ledger; raises Misconfigured, Unavailable, KeyRingError."""
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
    lines, daemon = LedgerOfHosts(ledger), daemon_for(host)
    helper = await helper_for(host)

    async def compared() -> Drift:
        expected = await lines.expected(host.name)
        seen = await look(helper, daemon, _closely(expected))
        # Read again: what an order changed while we looked is no drift.
        return await asyncio.to_thread(compare, daemon, await lines.still(host.name, expected), seen)

    try:
        found = await compared()
        if any(line.loaded_otherwise for line in found.lines):
            # The daemon may be in the middle of a reload.
            await asyncio.sleep(max(daemon.deadline, host.quiet_seconds))
            found = await compared()
        return found
    finally:
        await helper.close()


def _closely(expected: Sequence[Expected]) -> list[Half]:
    return [each.half for each in expected if each.half.wanted is Wanted.PRESENT and not each.behind]


async def _ask_first(context: Context, hosts: Sequence[Host], *, accept_loss: bool, as_json: bool) -> None:
    if accept_loss:
        confirm("Accounts that the files have lost will be dropped by the daemons. Go on?", yes=False, as_json=as_json)
        return
    found = await compare_all(context, hosts)
    losing = [line.username for each in found if each.drift for line in each.drift.lines if line.loses_access]
    if losing:
        confirm(
            f"{len(losing)} lines that work though they should not will stop working. Go on?",
            yes=False,
            as_json=as_json,
        )


async def _reconcile(client: Client, task: ReconcileTask, patience: float) -> Reconciled:
    try:
        async with asyncio.timeout(patience):
            return await _run(client, task)
    except TimeoutError:
        return Reconciled(host=task.host, ended=0, found=None, error=STILL_RUNNING)
    except (WorkflowFailureError, RPCError) as error:
        raise Unavailable(
            f"{task.host} could not be reconciled ({type(error).__name__})",
            hint="Check that a worker runs and that Temporal answers, then repeat this.",
        ) from None


async def _run(client: Client, task: ReconcileTask) -> Reconciled:
    workflow_id = reconcile_workflow_id(task.host)
    while True:
        try:
            return await client.execute_workflow(
                NameOf.RECONCILE,
                task,
                id=workflow_id,
                task_queue=ORDERS_QUEUE,
                result_type=Reconciled,
                static_summary=f"reconcile {task.host}, asked for",
            )
        except WorkflowAlreadyStartedError:
            # Somebody else's began before we asked, and may have been asked for less.
            await client.get_workflow_handle(workflow_id, result_type=Reconciled).result()


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
    show_table(table)


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
    if not found.daemon_told:
        say("  the daemon could not be asked what it has loaded", style="yellow")
    for code, count in found.behind.items():
        why = meaning(code)
        say(f"  {count} halves still behind: {why.sentence}", hint=why.hint, style="yellow")
    for line in found.drift:
        if line.error is not None:
            say(f"  {line.username}: {', '.join(line.kinds)} ({line.error})", style="yellow")
