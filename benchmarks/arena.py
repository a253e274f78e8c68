"""One embedded world with its worker, and what can be measured in it: an idle trial, and a burst of purchases."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from temporalio.client import Client

from benchmarks.closes import Closes, watching
from benchmarks.history import Timeline, read
from benchmarks.idle import Rest
from starter.client import Twinline
from twinline.codec import data_converter
from twinline.keys import KeyRing
from twinline.messages import HalfState, MailState, Order, OrderStatus, PurchaseOrder, Receipt, TrialOrder
from twinline.sandbox.world import World

MULTICS: Final = "mc-eu1"
OSCAM: Final = "os-eu1"
CALLER: Final = "bench"


class Unusable(Exception):
    """An order that was to be measured did not end as it should on a machine in good health."""


@dataclass(frozen=True)
class Measured:
    """One order of a trial's shape; Unix seconds."""

    called: float
    answered: float
    timeline: Timeline
    multics_closed: float | None = None
    """When the MultiCS accounts file was closed after the write; None for the no-op workflow, as below."""
    oscam_closed: float | None = None


@dataclass(frozen=True)
class Burst:
    """Many purchases placed at once."""

    seconds: float
    """From the first call until the last receipt."""
    multics_closes: int
    oscam_closes: int
    multics_reloads: int
    oscam_reloads: int
    lost: int
    """Triggers that a daemon did not hear."""


class Arena:
    """A running world; everything in it has been used once, so that connections are open."""

    def __init__(self, world: World, client: Client, closes: Closes) -> None:
        self.world = world
        self.client = client
        self.timescale = world.timescale
        self._twinline = Twinline(client)
        self._closes = closes
        self._rest = Rest(quiet=max(host.quiet_seconds for host in world.inventory.hosts))
        self._number = 0

    async def trial(self) -> Measured:
        """One trial on idle hosts, from the starter's call to the receipt."""
        await self._rest.come()
        order = self._next_id()
        called = time.time()
        receipt = good(await self._place(TrialOrder(caller=CALLER, order=order, email=_email(order), region="eu")))
        answered = time.time()
        self._rest.after(answered - called)
        history = await self.client.get_workflow_handle(receipt.workflow_id).fetch_history()
        return Measured(
            called,
            answered,
            read(history),
            self._only_close(MULTICS, called),
            self._only_close(OSCAM, called),
        )

    async def burst(self, purchases: int) -> Burst:
        """Purchases for new customers, all placed at once on idle hosts."""
        await self._rest.come()
        orders = [
            PurchaseOrder(caller=CALLER, order=order, days=30, email=_email(order), region="eu")
            for order in (self._next_id() for _ in range(purchases))
        ]
        before = [await self.world.daemon(host).stats() for host in (MULTICS, OSCAM)]
        called, begun = time.time(), time.monotonic()
        for status in await asyncio.gather(*(self._place(order) for order in orders)):
            good(status)
        seconds = time.monotonic() - begun
        # The last reload of a daemon ends some time after it was seen to hold what was written.
        closes = {host: self._closes.since(host, called) for host in (MULTICS, OSCAM)}
        self._rest.after(time.time() - max(moment for moments in closes.values() for moment in moments))
        await self._rest.come()
        after = [await self.world.daemon(host).stats() for host in (MULTICS, OSCAM)]
        return Burst(
            seconds,
            len(closes[MULTICS]),
            len(closes[OSCAM]),
            after[0].reloads - before[0].reloads,
            after[1].reloads - before[1].reloads,
            sum(late.lost - early.lost for early, late in zip(before, after, strict=True)),
        )

    async def _place(self, order: Order) -> OrderStatus:
        return await self._twinline.place(order)

    def _next_id(self) -> str:
        self._number += 1
        return f"b{self._number}"

    def _only_close(self, host: str, moment: float) -> float:
        closes = self._closes.since(host, moment)
        if len(closes) != 1:
            raise Unusable(f"{host}: {len(closes)} closes for one trial")
        return closes[0]


@asynccontextmanager
async def run_arena(folder: Path, *, timescale: float) -> AsyncGenerator[Arena]:
    """Start a world and its worker, and send one trial through before anything is measured."""
    async with World(folder, timescale=timescale) as world:
        await world.start_worker()
        client = await connected(world)
        with watching({host: world.site(host).accounts_file for host in (MULTICS, OSCAM)}) as closes:
            arena = Arena(world, client, closes)
            await arena.trial()
            yield arena


async def connected(world: World) -> Client:
    """A client of a world's Temporal server that can read what its worker writes."""
    keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
    return await Client.connect(world.temporal.address, data_converter=data_converter(keys))


def good(status: OrderStatus) -> Receipt:
    """The receipt of an order that went as on a machine in good health; raises Unusable."""
    receipt = status.receipt
    if not status.done or receipt is None:
        raise Unusable("an order was not done inside the grace")
    if any(half.state is not HalfState.APPLIED or half.attempts != 1 for half in receipt.halves):
        raise Unusable(f"a half needed more than one attempt: {receipt.halves}")
    if receipt.mail is None or receipt.mail.state is not MailState.ACCEPTED:
        raise Unusable("the mail was not accepted")
    return receipt


def _email(order: str) -> str:
    return f"{order}@example.org"
