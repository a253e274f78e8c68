"""The worker: connects to Temporal, registers workflows and activities, and runs until it is told to stop."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from activities.bulk import BulkActivities
from activities.clocks import WorkerClock
from activities.erase import EmptyHostActivities, ErasureActivities
from activities.health import HealthActivities
from activities.host import HostActivities
from activities.host_ledger import LedgerOfHosts
from activities.ledger import LedgerActivities
from activities.mail import MailActivities
from activities.readiness import WorkerReadiness
from activities.rebuild import RebuildActivities, RebuildNotes
from activities.reconcile import ReconcileActivities, SweepActivities
from activities.telling import Telling
from starter.client import Twinline
from twinline import logs
from twinline.connect import PATIENT, connect_temporal, run_link, watched_runtime
from twinline.errors import Misconfigured, TwinlineError
from twinline.hosts.factory import writer_for
from twinline.hosts.writer import HostWriter
from twinline.inventory import Inventory, load_inventory
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.ledger.setup import sync_inventory
from twinline.mail import SmtpTarget, SmtpUrlError
from twinline.messages import ORDERS_QUEUE, host_queue
from twinline.metrics_port import MetricsPort
from twinline.runner import HouseRunner
from twinline.schedules import sync_schedules
from twinline.settings import Settings
from twinline.visibility import register_search_attributes
from twinline.watched import sync_watched
from workflows.block import Block
from workflows.block_end import BlockEnd
from workflows.bulk import Bulk
from workflows.cancel import Cancel
from workflows.change_password import ChangePassword
from workflows.close import Close
from workflows.erase import Erase
from workflows.extension import Extension
from workflows.health import Health
from workflows.import_line import ImportLine
from workflows.move import Move
from workflows.purchase import Purchase
from workflows.rebuild import Rebuild
from workflows.reconcile import Reconcile
from workflows.renewal import Renewal
from workflows.tell import Tell
from workflows.term import Term
from workflows.trial import Trial
from workflows.unblock import Unblock

WORKFLOWS: Sequence[type] = (
    Trial,
    Purchase,
    Renewal,
    Block,
    BlockEnd,
    Unblock,
    ChangePassword,
    Move,
    Close,
    Cancel,
    Term,
    Reconcile,
    Health,
    Erase,
    Tell,
    Extension,
    ImportLine,
    Bulk,
    Rebuild,
)
SLOTS_PER_HOST = 64
GRACEFUL = timedelta(seconds=60)
HEARTBEATS_AT_MOST = timedelta(seconds=5)
# More replays at once after a restart trip the SDK's two-second deadlock detector (reference/temporal.md).
WORKFLOW_TASKS = 4 * (os.cpu_count() or 1)


def build_workers(
    client: Client,
    *,
    settings: Settings,
    inventory: Inventory,
    keys: KeyRing,
    ledger: Ledger,
    target: SmtpTarget,
    writers: Sequence[HostWriter],
    graceful: timedelta = GRACEFUL,
    workflow_tasks: int = WORKFLOW_TASKS,
) -> list[Worker]:
    """One worker for orders, and one per host whose queue nobody else's trouble can fill."""
    ledger_activities, twinline = LedgerActivities(ledger, settings), Twinline(client)
    mail = MailActivities(ledger=ledger, inventory=inventory, keys=keys, target=target)
    orders = Worker(
        client,
        task_queue=ORDERS_QUEUE,
        workflows=WORKFLOWS,
        activities=[
            *ledger_activities.all(),
            *SweepActivities(ledger, twinline, grace=settings.grace).all(),
            *mail.local(),
            *mail.remote(),
            *ErasureActivities(ledger, client, keys).all(),
            *BulkActivities(ledger, twinline, settings).all(),
            *RebuildNotes(ledger).all(),
        ],
        workflow_runner=HouseRunner(),
        interceptors=[Telling()],
        max_concurrent_workflow_tasks=workflow_tasks,
        max_heartbeat_throttle_interval=HEARTBEATS_AT_MOST,
        graceful_shutdown_timeout=graceful,
    )
    clock = WorkerClock(ledger)
    hosts = [
        Worker(
            client,
            task_queue=host_queue(writer.host),
            activities=[
                *HostActivities(writer).all(),
                *ReconcileActivities(writer, LedgerOfHosts(ledger), clock).all(),
                *RebuildActivities(writer, LedgerOfHosts(ledger), clock).all(),
                *HealthActivities(writer, ledger, settings.health_every).all(),
                *EmptyHostActivities(writer, LedgerOfHosts(ledger)).all(),
            ],
            interceptors=[Telling()],
            max_concurrent_activities=SLOTS_PER_HOST,
            max_heartbeat_throttle_interval=HEARTBEATS_AT_MOST,
            graceful_shutdown_timeout=graceful,
        )
        for writer in writers
    ]
    return [orders, *hosts]


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run all workers until `stop` is set; raises TwinlineError when something needed is missing."""
    keys = KeyRing.load(settings.keys)
    inventory = load_inventory(settings.inventory)
    target = _smtp_target(settings)
    core = watched_runtime()
    client = await connect_temporal(keys=keys, runtime=core.runtime, retries=PATIENT)
    status_passwords = [host.status.password.get_secret_value() for host in inventory.hosts]
    logs.set_up([*settings.secrets, *status_passwords], link=run_link(settings, client))
    await register_search_attributes(client)
    async with contextlib.AsyncExitStack() as stack:
        ledger = await Ledger.open(settings.database_url.get_secret_value(), keys=keys)
        stack.push_async_callback(ledger.close)
        await ledger.migrate()
        async with ledger.write() as tx:
            await sync_inventory(tx, inventory, now=datetime.now(UTC))
        writers = [writer_for(host, LedgerOfHosts(ledger)) for host in inventory.hosts]
        for writer in writers:
            stack.push_async_callback(writer.close)
        workers = build_workers(
            client,
            settings=settings,
            inventory=inventory,
            keys=keys,
            ledger=ledger,
            target=target,
            writers=writers,
        )
        for worker in workers:
            await stack.enter_async_context(worker)
        port = MetricsPort(
            settings.metrics_address,
            variable="TWINLINE_METRICS",
            ledger=ledger,
            ready=WorkerReadiness(ledger, Twinline(client), workers, settings.keys),
            temporal=Twinline(client).answers,
            sdk=core.metrics,
        )
        stack.enter_context(port)
        hosts = [host.name for host in inventory.hosts]
        await sync_schedules(client, hosts, every=settings.reconcile_every)
        await sync_watched(client, hosts, every=settings.health_every)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()


def _smtp_target(settings: Settings) -> SmtpTarget:
    try:
        return SmtpTarget.parse(settings.smtp_url.get_secret_value())
    except SmtpUrlError as error:
        raise Misconfigured(f"TWINLINE_SMTP_URL: {error}", hint="Correct the variable and start again.") from None


async def run() -> int:
    """Serve until SIGTERM or SIGINT; the exit code says whether it could."""
    style: logs.Style = "text"
    try:
        style = logs.set_up()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(Settings.load(), stop)
    except TwinlineError as error:
        logs.give_up(error, style=style)
        return 6 if error.retryable else 2
    return 0


def main() -> None:
    """Entry point of `python -m worker`; leaves without interpreter finalisation, which the SDK may abort."""
    code = asyncio.run(run())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
