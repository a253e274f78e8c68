"""kill -9 of the worker and of the Temporal server while orders run: nothing is lost, and nothing happens twice.

Everything is real but the two daemons. A caller that hears nothing repeats its order, as a storefront would.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import Client

from starter.cli.hosts_checked import expected_on, inspect_all
from starter.client import Twinline
from tests.support.search import Search, look_in_files, look_in_temporal
from tests.support.world import FAST
from twinline.codec import data_converter
from twinline.errors import Unavailable
from twinline.hosts.check import Verdict
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.ledger.queries import LineFilter, LineView, list_lines, reveal_password
from twinline.messages import (
    BlockOrder,
    HalfState,
    MailKind,
    Order,
    OrderKind,
    PasswordOrder,
    PurchaseOrder,
    Receipt,
    RenewalOrder,
    TrialOrder,
)
from twinline.sandbox.sites import PairPlan
from twinline.sandbox.world import World

PAIRS = (PairPlan("eu1", region="eu"), PairPlan("eu2", region="eu"))
IN_FLIGHT = 40
"""More at once only wait longer (reference/temporal.md, *The embedded server*)."""


@dataclass
class Storm:
    """A world in which orders run while its programs are killed and started again."""

    world: World
    twinline: Twinline
    chance: random.Random
    receipts: dict[str, Receipt] = field(default_factory=dict[str, Receipt])
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def place_all(self, orders: Sequence[Order]) -> list[Receipt]:
        """Place all orders, each repeated until it is done."""
        places = asyncio.Semaphore(IN_FLIGHT)

        async def one(order: Order) -> Receipt:
            async with places:
                receipt = await self._until_done(order)
            self.done.set()
            return receipt

        return await asyncio.gather(*(one(order) for order in orders))

    async def _until_done(self, order: Order) -> Receipt:
        while True:
            try:
                status = await self.twinline.place(order, patience=timedelta(seconds=10))
            except Unavailable:
                continue
            if status.done and status.receipt is not None:
                return status.receipt

    async def cut_power(self, times: int, *, every: int) -> None:
        """Kill the worker, the server, or both, each time after some more orders are done."""
        for _ in range(times):
            for _ in range(every):
                self.done.clear()
                await self.done.wait()
            victims = self.chance.choice((("worker",), ("server",), ("worker", "server")))
            if "worker" in victims:
                await self.world.kill_worker()
            if "server" in victims:
                await self.world.temporal.kill()
                await self.world.temporal.start()
            if "worker" in victims:
                await self.world.start_worker()


async def lines_of(ledger: Ledger) -> list[LineView]:
    """Every line."""
    async with ledger.read() as tx:
        return list((await list_lines(tx, LineFilter(), limit=10_000)).lines)


async def storm(folder: Path, *, customers: int, cuts: int, seed: int) -> None:
    """Orders of every kind for so many customers, with so many power cuts among each half of them."""
    async with World(folder, pairs=PAIRS, timescale=FAST, grace=30) as world:
        await world.start_worker()
        keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
        client = await Client.connect(world.temporal.address, data_converter=data_converter(keys))
        running = Storm(world, Twinline(client), random.Random(seed))  # noqa: S311 - a plan, not a secret
        every = max(1, customers // (cuts + 2))

        emails = [f"person{number}@example.org" for number in range(customers)]
        openings: list[Order] = [
            TrialOrder(order=f"open-{number}", email=email, region="eu")
            if number % 2
            else PurchaseOrder(order=f"open-{number}", email=email, region="eu", days=30)
            for number, email in enumerate(emails)
        ]
        opened, _ = await asyncio.gather(running.place_all(openings), running.cut_power(cuts, every=every))
        first_passwords = await passwords_in(world, keys)
        changes: list[Order] = []
        for number, receipt in enumerate(opened):
            line = receipt.username
            kinds: tuple[Order, ...] = (
                BlockOrder(case=f"AB-{number}", line=line, reason="shared"),
                RenewalOrder(order=f"more-{number}", line=line, days=30),
                PasswordOrder(order=f"pw-{number}", line=line),
            )
            changes.append(kinds[number % len(kinds)])
        changed, _ = await asyncio.gather(running.place_all(changes), running.cut_power(cuts, every=every))

        ledger = await Ledger.open(world.env["TWINLINE_DATABASE_URL"], keys=keys)
        try:
            await nothing_was_lost(world, ledger, opened, changed)
        finally:
            await ledger.close()
        nothing_was_told_twice(world, emails, opened)
        passwords = {**first_passwords, **await passwords_in(world, keys)}
        await no_secret_is_in_temporal(client, keys, emails, passwords)
    # The world has ended: what was in memory or in a write-ahead log is on the disk by now.
    no_secret_lies_around(world, labelled(emails) | passwords)


async def nothing_was_lost(world: World, ledger: Ledger, opened: Sequence[Receipt], changed: Sequence[Receipt]) -> None:
    """One line per order, and hosts that hold what the ledger says: in the file, and in the running daemon."""
    lines = await lines_of(ledger)
    assert sorted(line.username for line in lines) == sorted(receipt.username for receipt in opened)
    renewed = {receipt.username for receipt in changed if receipt.kind is OrderKind.RENEWAL}
    for line in lines:
        assert len(line.grants) == 1 + (line.username in renewed)
    for receipt in changed:
        assert all(half.state in (HalfState.APPLIED, HalfState.REMOVED) for half in receipt.halves)
    hosts = world.inventory.hosts
    for findings in await inspect_all(hosts, await expected_on(ledger, hosts)):
        wrong = [one for one in findings if one.item in ("lines", "loaded accounts") and one.verdict is not Verdict.OK]
        assert wrong == []


def nothing_was_told_twice(world: World, emails: Sequence[str], opened: Sequence[Receipt]) -> None:
    """Each message once; handed over again only with the same bytes, when a cut left its outcome unknown."""
    copies: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    for mail in world.mails:
        (recipient,) = mail.recipients
        copies[recipient, str(mail.message["Message-ID"])].add(mail.raw)
    assert all(len(bodies) == 1 for bodies in copies.values())
    told = Counter(recipient for recipient, _ in copies)
    # The opening, the change, and after a slow half a second-half mail for each.
    assert set(told) == set(emails)
    assert all(2 <= count <= 4 for count in told.values())
    assert all(receipt.mail is not None and receipt.mail.kind is not MailKind.DELAYED for receipt in opened)


async def passwords_in(world: World, keys: KeyRing) -> dict[str, str]:
    """Every line's password by now, by a label that tells when another one came."""
    ledger = await Ledger.open(world.env["TWINLINE_DATABASE_URL"], keys=keys)
    try:
        async with ledger.read() as tx:
            names = [line.username for line in (await list_lines(tx, LineFilter(), limit=10_000)).lines]
            passwords = [(await reveal_password(tx, name)).get_secret_value() for name in names]
    finally:
        await ledger.close()
    return {f"password {name} {hash(password)}": password for name, password in zip(names, passwords, strict=True)}


def labelled(emails: Sequence[str]) -> dict[str, str]:
    """The addresses, by label."""
    return {f"address {number}": email for number, email in enumerate(emails)}


async def no_secret_is_in_temporal(
    client: Client, keys: KeyRing, emails: Sequence[str], passwords: Mapping[str, str]
) -> None:
    """No word stands in a history as Temporal has it, and no password in what is sealed there (I6)."""
    sealed, opened = Search({**labelled(emails), **passwords}), Search({**labelled(emails), **passwords})
    await look_in_temporal(client, keys, sealed=sealed, opened=opened)
    assert sealed.finds == set()
    assert {find for find in opened.finds if find.what in passwords} == set()
    assert {find.what for find in opened.finds} == labelled(emails).keys(), "the search is blind"


def no_secret_lies_around(world: World, secrets: Mapping[str, str]) -> None:
    """No password and no address in any file of the world but those where it belongs (I6).

    Among the files are Temporal's database with all histories, failures included, the ledger, every log, and what
    the helpers left in their state folders.
    """
    where_it_belongs = [world.site(host.name).accounts_file for host in world.inventory.hosts]
    elsewhere = [path for path in world.folder.rglob("*") if path not in where_it_belongs and path.suffix != ".eml"]
    search, served = Search(secrets), Search(secrets)
    names = look_in_files(search, elsewhere, world.folder)
    assert {"temporal.db", "ledger.db", "lock"} <= names, "the search looks in the wrong place"
    assert search.finds == set()
    look_in_files(served, where_it_belongs, world.folder)
    assert served.finds, "the search looks for the wrong words"


@pytest.mark.timeout(240)
async def test_orders_outlive_power_cuts_of_worker_and_server(tmp_path: Path) -> None:
    await storm(tmp_path / "world", customers=12, cuts=1, seed=20261125)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_two_hundred_orders_outlive_many_power_cuts(tmp_path: Path, seed: int) -> None:
    await storm(tmp_path / "world", customers=200, cuts=8, seed=seed)
