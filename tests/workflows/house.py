"""Workflows with everything real but the two boxes: Temporal, ledger, SMTP; hosts that obey the test at once."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import NoReturn

from pydantic import SecretStr
from temporalio.client import Client
from temporalio.testing import TimeSkipper

from activities.host_ledger import LedgerOfHosts
from starter.client import Twinline
from twinline.hosts.errors import HostError, HostUnreachable, named
from twinline.hosts.ports import Half, Proven, Wanted
from twinline.inventory import Inventory
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.ledger.queries import LineView, line_view, reveal_password
from twinline.ledger.setup import sync_inventory
from twinline.mail import SmtpTarget
from twinline.messages import AnyOrder, OrderStatus, Receipt
from twinline.sandbox.mailcatcher import CaughtMail, MailCatcher
from twinline.settings import Settings
from twinline.visibility import register_search_attributes
from worker import WORKFLOW_TASKS, build_workers

HOSTS = ("mc-eu1", "os-eu1")
OTHER_HOSTS = ("mc-us1", "os-us1")


def inventory() -> Inventory:
    """A region `eu` with the pair on which new lines live, and a region `us` with another."""

    def host(name: str, protocol: str, port: int) -> dict[str, object]:
        return {
            "name": name,
            "protocol": protocol,
            "ssh": {"address": "127.0.0.1", "user": "twinline", "key": Path("key"), "known_hosts": Path("known")},
            "accounts_file": f"/var/etc/{name}",
            "state_dir": f"/var/lib/{name}",
            "timezone": "Europe/Berlin",
            "public": {"address": f"{name}.example.net", "port": port},
            "status": {"url": "http://127.0.0.1:8888", "user": "admin", "password": "statuspass"},
            **({"groups": (1,)} if protocol == "oscam" else {}),
        }

    return Inventory.model_validate(
        {
            "service": {
                "name": "Example Lines",
                "rights_holder": "Example Broadcasting Ltd.",
                "abuse_contact": "abuse@example.net",
                "support_email": "help@example.net",
                "mail_from": "lines@example.net",
                "public_url": "https://lines.example.net",
            },
            "hosts": (
                host("mc-eu1", "multics", 12000),
                host("os-eu1", "oscam", 15000),
                host("mc-us1", "multics", 12001),
                host("os-us1", "oscam", 15001),
            ),
            "pairs": (
                {"name": "eu1", "region": "eu", "multics": "mc-eu1", "oscam": "os-eu1"},
                {"name": "us1", "region": "us", "multics": "mc-us1", "oscam": "os-us1"},
            ),
        }
    )


class ObedientHost:
    """Stands where a HostWriter stands: holds what the ledger wants as soon as it is up."""

    def __init__(self, host: str, ledger: Ledger) -> None:
        self.host = host
        self.held: dict[str, Half] = {}
        self.attempts = 0
        self.batches: list[set[str]] = []
        """Whose lines each batch took."""
        self.down_for_attempts = 0
        """How many further attempts fail before the host is back."""
        self.trouble: HostError | None = None
        """What is wrong with the host itself."""
        self.refuses: dict[str, HostError] = {}
        """What is wrong with one line's record, by username; a blocked line is always taken off."""
        self.later = timedelta(0)
        """How much later it is for this host's ledger than for this machine."""
        self._ledger = LedgerOfHosts(ledger, clock=lambda: datetime.now(UTC) + self.later)
        self._turn = asyncio.Lock()

    def heal(self) -> None:
        """Be up, and take everything."""
        self.down_for_attempts, self.trouble = 0, None
        self.refuses.clear()

    async def bring(self, line_id: str, revision: int, *, recheck: bool = False) -> Proven:
        async with self._turn:
            known = await self._known(line_id)
            if known.revision >= revision:
                return known
            if known.attention is not None and not await self._ledger.ask_again(line_id, self.host, due_only=recheck):
                raise _still(known.attention)
            self.attempts += 1
            if self.down_for_attempts > 0:
                self.down_for_attempts -= 1
                await self._fail(HostUnreachable("no SSH connection"), {line_id: revision})
            if self.trouble is not None:
                await self._fail(self.trouble, {line_id: revision})
            await self._batch()
            if (known := await self._known(line_id)).attention is not None:
                raise _still(known.attention)
            return known

    async def probe(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    async def _batch(self) -> None:
        batch = await self._ledger.open_batch(self.host, 1000)
        self.batches.append({half.username for half in batch.halves})
        taken = [half for half in batch.halves if half.username not in self.refuses or half.wanted is Wanted.BLOCKED]
        for half in taken:
            self.held[half.username] = half
        results = [Proven(half.line_id, half.revision, half.wanted) for half in taken]
        await self._ledger.close_batch(self.host, batch.token, results)
        for half in batch.halves:
            if half not in taken:
                error = self.refuses[half.username]
                await self._ledger.report_failure(self.host, {half.line_id: half.revision}, error.code)

    async def _known(self, line_id: str) -> Proven:
        return (await self._ledger.proven(self.host, [line_id]))[line_id]

    async def _fail(self, error: HostError, tried: dict[str, int]) -> NoReturn:
        await self._ledger.report_failure(self.host, tried, error.code)
        raise error

    async def close(self) -> None:
        """Nothing to close."""

    def serves(self, username: str) -> bool:
        """Whether a customer of that name could log in."""
        half = self.held.get(username)
        return half is not None and half.wanted is Wanted.PRESENT


def _still(code: str) -> HostError:
    kind = named(code)
    assert kind is not None
    return kind("it waits for a person")


@dataclass
class House:
    """A running twinline for tests of workflows."""

    client: Client
    twinline: Twinline
    ledger: Ledger
    mails: MailCatcher
    hosts: dict[str, ObedientHost]
    skipper: TimeSkipper | None

    async def order(self, order: AnyOrder, *, seconds: float = 30) -> Receipt:
        """Place an order and give the receipt of its end; fails when it is not done in time."""
        status = await self.twinline.place(order, patience=timedelta(seconds=seconds))
        assert status.done, status
        assert status.receipt is not None
        return status.receipt

    async def start(self, order: AnyOrder) -> OrderStatus:
        """Place an order and do not wait for its end."""
        return await self.twinline.place(order, patience=timedelta(0))

    async def line(self, username: str) -> LineView:
        """The line as the ledger has it."""
        async with self.ledger.read() as tx:
            return await line_view(tx, username)

    async def password(self, username: str) -> SecretStr:
        """The line's password."""
        async with self.ledger.read() as tx:
            return await reveal_password(tx, username)

    def sent_to(self, address: str) -> list[EmailMessage]:
        """Messages that reached this mailbox, in order."""
        return [mail.message for mail in self.mails.mails if address in str(mail.message["To"])]

    def serves(self, username: str, hosts: tuple[str, str] = HOSTS) -> tuple[bool, bool]:
        """Whether the MultiCS and the OSCam half let this line in."""
        multics, oscam = hosts
        return (self.hosts[multics].serves(username), self.hosts[oscam].serves(username))


@asynccontextmanager
async def run_house(
    folder: Path,
    keys: KeyRing,
    client: Client,
    *,
    skipper: TimeSkipper | None = None,
    grace: float = 90.0,
    delay_notice: float = 900.0,
    health_every: float = 60.0,
    workflow_tasks: int = WORKFLOW_TASKS,
    host: Callable[[str, Ledger], ObedientHost] = ObedientHost,
) -> AsyncGenerator[House]:
    """Start ledger, mail server and workers on a Temporal client until the block ends; seconds."""
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{folder / 'ledger.db'}"
        ledger = await Ledger.open(url, keys=keys)
        stack.push_async_callback(ledger.close)
        await ledger.migrate()
        await register_search_attributes(client)
        known = inventory()
        async with ledger.write() as tx:
            await sync_inventory(tx, known, now=datetime.now(UTC))
        mails = await stack.enter_async_context(MailCatcher(folder / "mails"))
        settings = Settings.model_validate(
            {
                "inventory": folder / "inventory.toml",
                "database_url": url,
                "smtp_url": mails.url,
                "keys": folder / "keys",
                "grace": timedelta(seconds=grace),
                "delay_notice": timedelta(seconds=delay_notice),
                "health_every": timedelta(seconds=health_every),
            }
        )
        hosts = {name: host(name, ledger) for name in (*HOSTS, *OTHER_HOSTS)}
        workers = build_workers(
            client,
            settings=settings,
            inventory=known,
            keys=keys,
            ledger=ledger,
            target=SmtpTarget.parse(mails.url),
            writers=list(hosts.values()),  # pyright: ignore[reportArgumentType] - a double of the writer's face
            graceful=timedelta(seconds=1),
            workflow_tasks=workflow_tasks,
        )
        for worker in workers:
            await stack.enter_async_context(worker)
        yield House(client, Twinline(client), ledger, mails, hosts, skipper)


def text_of(mail: CaughtMail | EmailMessage) -> str:
    """The text part that the customer reads first."""
    message = mail if isinstance(mail, EmailMessage) else mail.message
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())
