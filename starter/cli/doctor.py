"""Examines everything that twinline needs, from the settings of this machine to the hosts.

Each step tells what it found and hands on what the next ones need; what can't be examined without it is left out.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from starter.cli.context import CONNECT_PATIENCE, Context
from starter.cli.findings import exit_of, show_findings, worst
from starter.cli.hosts_checked import capacities_of, expected_on, inspect_all
from starter.client import POLLER_AGE
from twinline.errors import Category, TwinlineError
from twinline.hosts.check import About, Finding, Verdict, clock_finding
from twinline.hosts.check_accounts import Ledgered
from twinline.hosts.clocks import MOST_APART, ClockFacts
from twinline.inventory import Host, Inventory, load_inventory
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.ledger.schema import is_current
from twinline.mail import HandOverError, SmtpTarget, SmtpUrlError, greet
from twinline.messages import ORDERS_QUEUE, host_queue
from twinline.settings import Settings
from twinline.spans import span

SMTP_TIMEOUT: Final = 10.0

RPC_TIMEOUT: Final = 5.0


async def examine(*, as_json: bool) -> int:
    """Examine everything, show it, and return the exit code."""
    findings = await findings_of_everything()
    show_findings(findings, as_json=as_json)
    return exit_of(findings)


async def findings_of_everything() -> list[Finding]:
    """All findings, in the order in which things need each other."""
    try:
        settings = Settings.load()
    except TwinlineError as error:
        return [_trouble("settings", "environment", error)]
    findings = [About("settings").ok("environment", "every variable that is needed is set")]
    inventory, about_inventory = _inventory(settings)
    findings += about_inventory
    try:
        context = Context(settings, KeyRing.load(settings.keys))
    except TwinlineError as error:
        return [*findings, _trouble("settings", "key ring", error), *await _mail_server(settings, inventory)]
    findings.append(
        About("settings").ok("key ring", f'opens; new secrets are sealed with key "{context.keys.primary}"')
    )
    hosts = () if inventory is None else inventory.hosts
    capacities = {} if inventory is None else capacities_of(inventory)
    expected, about_ledger = await _ledger(context, hosts)
    parts = await asyncio.gather(
        _temporal(context, hosts), _mail_server(settings, inventory), _hosts(hosts, expected, capacities)
    )
    return [*findings, *about_ledger, *(finding for part in parts for finding in part)]


def _trouble(subject: str, item: str, error: TwinlineError) -> Finding:
    away = error.category is Category.UNAVAILABLE
    return About(subject).fail(item, error.message, hint=error.hint, retryable=away)


def _inventory(settings: Settings) -> tuple[Inventory | None, list[Finding]]:
    about = About("inventory")
    try:
        inventory = load_inventory(settings.inventory)
    except TwinlineError as error:
        return None, [_trouble("inventory", "file", error)]
    found = f"{len(inventory.hosts)} hosts, {len(inventory.pairs)} pairs, for {inventory.service.rights_holder}"
    return inventory, [
        about.ok("file", found),
        *(about.warn("file", warning, hint="add a pair to its region") for warning in inventory.warnings),
    ]


async def _ledger(context: Context, hosts: Sequence[Host]) -> tuple[dict[str, Ledgered] | None, list[Finding]]:
    about = About("ledger")
    try:
        async with context.ledger(of_any_version=True) as ledger:
            if await is_current(ledger):
                found = about.ok("tables", f"opens ({ledger.kind}), and its tables are those of this version")
                return await expected_on(ledger, hosts), [found, *await _database_clock(about, ledger)]
    except TwinlineError as error:
        return None, [_trouble("ledger", "tables", error)]
    return None, [
        about.fail(
            "tables",
            "its tables are not those of this version of twinline",
            hint="start `twinline worker`, which migrates an older ledger; a newer one needs the newer twinline",
        )
    ]


async def _database_clock(about: About, ledger: Ledger) -> list[Finding]:
    """Whether the clock by which hosts are judged is this machine's too; a file has none of its own."""
    if ledger.kind == "SQLite":
        return []
    asked = time.time()
    theirs = (await ledger.now()).timestamp()
    return [clock_finding(about, ClockFacts(asked=asked, theirs=theirs, answered=time.time()))]


# --- Temporal ---------------------------------------------------------------------------------------


async def _temporal(context: Context, hosts: Sequence[Host]) -> list[Finding]:
    try:
        client = await context.temporal(patience=CONNECT_PATIENCE)
    except TwinlineError as error:
        return [_trouble("temporal", "server", error)]
    queues = [(ORDERS_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)]
    queues += [(host_queue(host.name), TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY) for host in hosts]
    found = await asyncio.gather(*(_queue(client, name, kind) for name, kind in queues))
    answers = About("temporal").ok("server", f'answers, with the namespace "{client.namespace}"')
    return [answers, *found]


async def _queue(client: Client, name: str, kind: "TaskQueueType.ValueType") -> Finding:
    about = About("worker")
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=name), task_queue_type=kind
    )
    try:
        async with asyncio.timeout(RPC_TIMEOUT):
            answer = await client.workflow_service.describe_task_queue(request)
    except (RPCError, TimeoutError):
        return about.fail(name, "Temporal does not tell who polls", hint="try again", retryable=True)
    ages = sorted(time.time() - poller.last_access_time.ToDatetime().timestamp() for poller in answer.pollers)
    return queue_finding(name, ages)


def queue_finding(name: str, ages: Sequence[float]) -> Finding:
    """Judge a task queue by how many seconds ago each of its pollers was seen."""
    about = About("worker")
    hint = "start `twinline worker`; after a host was added to the inventory, start it again"
    if ages and min(ages) < -MOST_APART:
        behind = f"polled {span(-min(ages))} from now: this machine's clock is behind Temporal's"
        return about.warn(name, behind, hint="let all machines keep time by NTP: ends go by Temporal's clock")
    living = [age for age in ages if age <= POLLER_AGE]
    if living:
        many = "a worker polls" if len(living) == 1 else f"{len(living)} workers poll"
        return about.ok(name, f"{many}, last {span(min(living))} ago")
    if ages:
        return about.fail(name, f"nobody has polled for {span(min(ages))}", hint=hint, retryable=True)
    return about.fail(name, "nobody polls", hint=hint, retryable=True)


# --- mail and hosts ---------------------------------------------------------------------------------


async def _mail_server(settings: Settings, inventory: Inventory | None) -> list[Finding]:
    about = About("mail")
    try:
        target = SmtpTarget.parse(settings.smtp_url.get_secret_value())
    except SmtpUrlError as error:
        return [about.fail("server", str(error), hint="Correct TWINLINE_SMTP_URL.")]
    sender = "" if inventory is None else inventory.service.mail_from
    try:
        await greet(target, sender=_bare(sender), timeout=SMTP_TIMEOUT)
    except HandOverError as error:
        return [
            about.fail(
                "server",
                str(error),
                hint="check TWINLINE_SMTP_URL and the mail server; mails wait until it takes them",
                retryable=error.code is None,
            )
        ]
    logged_in = "and takes our login" if target.username is not None else "without a login"
    return [
        about.ok("server", f"{target.host}:{target.port} answers ({target.security}) {logged_in}; nothing was sent")
    ]


def _bare(address: str) -> str:
    return re.sub(r".*<([^<>]*)>\s*", r"\1", address)


async def _hosts(
    hosts: Sequence[Host], expected: dict[str, Ledgered] | None, capacities: dict[str, int]
) -> list[Finding]:
    found = await inspect_all(hosts, expected, capacities=capacities)
    return [host_summary(host.name, findings) for host, findings in zip(hosts, found, strict=True)]


def host_summary(name: str, findings: Sequence[Finding]) -> Finding:
    """One line for all that was found on a host."""
    open_items = [finding for finding in findings if finding.verdict is not Verdict.OK]
    about = About("host")
    if not open_items:
        return about.ok(name, f"{len(findings)} checks passed")
    message = "; ".join(f"{finding.item}: {finding.message}" for finding in open_items)
    hint = f"`twinline host check {name}` says what to do"
    if worst(findings) is Verdict.WARN:
        return about.warn(name, message, hint=hint)
    failed = [finding for finding in open_items if finding.verdict is Verdict.FAIL]
    return about.fail(name, message, hint=hint, retryable=all(finding.retryable for finding in failed))
