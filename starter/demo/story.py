"""The story: a trial, a purchase, a renewal, a block and its end, with customers connected all the while."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from starter.client import Twinline
from starter.demo import witness
from starter.demo.breaks import MULTICS, OSCAM, Break
from starter.demo.show import Show
from twinline.connect import connect_temporal
from twinline.errors import TwinlineError
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.ledger.queries import reveal_password
from twinline.messages import (
    BlockOrder,
    HalfState,
    MailState,
    Order,
    PurchaseOrder,
    Receipt,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
    order_kind,
)
from twinline.sandbox.mailcatcher import CaughtMail
from twinline.sandbox.receiver import LoginRefused, Receiver
from twinline.sandbox.world import World

HOSTS = (MULTICS, OSCAM)
CUSTOMER = "viewer@example.org"
PATIENCE = timedelta(seconds=45)
PATIENCE_WITH_A_BREAK = timedelta(seconds=6)
MAIL_PATIENCE = 3.0
KICK_PATIENCE = 5.0


class StoryEnded(Exception):
    """The story can't go on; what is wrong was shown already."""


@dataclass
class _Session:
    """Somebody who is connected during the story."""

    who: str
    host: str
    receiver: Receiver


class Demo:
    """Tells the story in a running world and checks what it shows."""

    def __init__(
        self, world: World, show: Show, *, twinline: Twinline, ledger: Ledger, broken: Sequence[Break], output: Path
    ) -> None:
        self._world = world
        self._show = show
        self._twinline = twinline
        self._ledger = ledger
        self._broken = broken
        self._output = output
        self._username = ""
        self._bystanders: list[_Session] = []
        self._customer: list[_Session] = []
        self._customer_history: dict[str, list[str]] = {host: [] for host in HOSTS}
        self._inode = world.site(MULTICS).accounts_file.stat().st_ino

    async def tell(self) -> None:
        """Tell the whole story, or as much of it as can be told."""
        try:
            await self._bystanders_connect()
            await self._trial()
            await self._purchase()
            await self._renewal()
            await self._block()
            await self._unblock()
            await self._the_end()
        except StoryEnded:
            self._show.say("The story ends here.")
        finally:
            for session in (*self._bystanders, *self._customer):
                await session.receiver.leave()

    # -- chapters

    async def _bystanders_connect(self) -> None:
        for host in HOSTS:
            for login in self._world.site(host).foreign:
                receiver = await self._world.receiver(host, login.user, login.password)
                self._bystanders.append(_Session(login.user, host, receiver))
        names = " and ".join(login.user for login in self._world.site(MULTICS).foreign)
        self._show.say(f"On both boxes {names} are connected: accounts that are not ours, and must never notice us.")

    async def _trial(self) -> None:
        self._show.chapter("1  A trial: 48 hours for a new customer")
        receipt = await self._order(TrialOrder(caller="demo", order="trial-1", email=CUSTOMER, region="eu"))
        await self._customer_connects()
        mail = await self._mail(receipt)
        saved = self._output / "credentials.eml"
        self._output.mkdir(parents=True, exist_ok=True)
        saved.write_bytes(mail.message.as_bytes())
        headers = [(name, str(mail.message[name])) for name in ("From", "To", "Subject", "Message-ID")]
        self._show.mail(headers, mail.text or "", str(saved))
        async with self._ledger.read() as tx:
            password = (await reveal_password(tx, self._username)).get_secret_value()
        for host in HOSTS:
            port = self._world.site(host).client_port
            line = f"C: 127.0.0.1 {port} {self._username} {password}"
            self._show.check(
                f"the mail holds the entry for {host}, and with it a receiver logs in",
                holds=line in (mail.text or ""),
                otherwise=f"the mail does not hold the entry for {host}",
            )

    async def _purchase(self) -> None:
        self._show.chapter("2  The customer buys 30 days: same username, same password, nobody disconnected")
        await self._order(PurchaseOrder(caller="demo", order="purchase-1", days=30, line=self._username))
        await self._records()
        self._customer_stayed("the purchase")

    async def _renewal(self) -> None:
        self._show.chapter("3  … and renews for 30 more")
        await self._order(RenewalOrder(caller="demo", order="renewal-1", days=30, line=self._username))
        self._customer_stayed("the renewal")

    async def _block(self) -> None:
        self._show.chapter("4  The abuse desk blocks the line")
        reason = "Two receivers at the same time"
        await self._order(BlockOrder(caller="abuse-desk", case="AB-1", line=self._username, reason=reason))
        for session in self._customer:
            dropped = await self._closes(session.receiver)
            self._customer_history[session.host].append("dropped by the block" if dropped else "survived the block")
            self._show.check(
                f"the customer's session on {session.host} was dropped",
                holds=dropped,
                otherwise=f"the customer is still connected on {session.host} although the line is blocked",
            )
            refused = await self._refused(session.host)
            self._show.check(
                f"{session.host} refuses the customer's next login",
                holds=refused,
                otherwise=f"{session.host} still lets the blocked customer in",
            )

    async def _unblock(self) -> None:
        self._show.chapter("5  … and lifts the block again")
        await self._order(UnblockOrder(caller="abuse-desk", case="AB-1", line=self._username))
        await self._customer_connects()

    async def _the_end(self) -> None:
        await self._break("end")
        self._show.chapter("6  What is true at the end")
        await self._records()
        for host in HOSTS:
            before = self._world.site(host).accounts_text().encode()
            self._show.check(
                f"{host}: the accounts that are not ours are byte for byte as they were",
                holds=witness.foreign_part(self._world, host) == before,
                otherwise=f"{host}: an account that is not ours was changed",
            )
        self._show.check(
            f"{MULTICS}: the file is still the one that MultiCS watches (same inode)",
            holds=self._world.site(MULTICS).accounts_file.stat().st_ino == self._inode,
            otherwise=f"{MULTICS}: the accounts file was replaced, MultiCS no longer watches it",
        )
        rows: list[tuple[str, str, str]] = []
        for session in self._bystanders:
            stayed = session.receiver.connected
            rows.append((session.who, session.host, "stayed" if stayed else "dropped"))
            if not stayed:
                self._show.check("", holds=False, otherwise=f"{session.who} on {session.host} was disconnected")
        rows.extend(("the customer", host, ", ".join(lives)) for host, lives in self._customer_history.items())
        self._show.sessions(rows)
        subjects = [mail.subject for mail in self._world.mails]
        self._show.check(
            f"{len(subjects)} mails reached the customer, one for each order",
            holds=len(subjects) == 5,
            otherwise=f"{len(subjects)} mails reached the customer, but there were 5 orders",
        )

    # -- steps

    async def _break(self, moment: str) -> None:
        for broken in self._broken:
            if broken.before == moment:
                self._show.say(f"(broken on purpose: {broken.meaning})")
                await broken.do(self._world, self._username)

    async def _order(self, order: Order) -> Receipt:
        kind = order_kind(order)
        await self._break(kind)
        begun = time.monotonic()
        patience = PATIENCE_WITH_A_BREAK if self._broken else PATIENCE
        try:
            status = await self._twinline.place(order, patience=patience)
        except TwinlineError as error:
            self._show.check("", holds=False, otherwise=f"the {kind} was refused: {error.message}")
            raise StoryEnded from None
        receipt = status.receipt
        if receipt is None:
            self._show.check("", holds=False, otherwise=f"nobody took the {kind} in time")
            raise StoryEnded
        self._username = receipt.username
        proofs = [(host, await witness.loaded(self._world, host, self._username)) for host in HOSTS]
        self._show.receipt(receipt, proofs, time.monotonic() - begun)
        self._check_halves(receipt)
        self._show.check(
            f"the mail server accepted the {receipt.mail.kind if receipt.mail else ''} mail",
            holds=receipt.mail is not None and receipt.mail.state is MailState.ACCEPTED,
            otherwise=f"no mail about the {kind} was accepted yet",
        )
        if not status.done:
            raise StoryEnded
        return receipt

    def _check_halves(self, receipt: Receipt) -> None:
        wanted = HalfState.REMOVED if receipt.blocks else HalfState.APPLIED
        for half in receipt.halves:
            reason = f": {half.last_error}" if half.last_error else ""
            self._show.check(
                f"{half.host} was seen to hold revision {half.revision}",
                holds=half.state is wanted,
                otherwise=f"{half.host} has not been seen to hold the {receipt.kind} yet ({half.state}{reason})",
            )

    async def _records(self) -> None:
        found = [(host, await witness.record(self._world, self._ledger, host, self._username)) for host in HOSTS]
        self._show.records([(str(self._world.site(host).accounts_file.name), one) for host, one in found])
        for host, one in found:
            self._show.check(
                f"{host}: the record in the file is what the ledger says",
                holds=one is not None and one.as_ordered,
                otherwise=f"{host}: the record in the file is not what the ledger says",
            )

    async def _customer_connects(self) -> None:
        async with self._ledger.read() as tx:
            password = (await reveal_password(tx, self._username)).get_secret_value()
        for session in self._customer:
            await session.receiver.leave()
        self._customer = []
        for host in HOSTS:
            try:
                receiver = await self._world.receiver(host, self._username, password)
            except (LoginRefused, OSError) as error:
                self._show.check("", holds=False, otherwise=f"{host} does not let the customer in ({error})")
                raise StoryEnded from None
            self._customer.append(_Session("the customer", host, receiver))
            self._customer_history[host].append("came back" if self._customer_history[host] else "connected")
        self._show.check("the customer is connected on both halves", holds=True, otherwise="")

    def _customer_stayed(self, order: str) -> None:
        for session in self._customer:
            stayed = session.receiver.connected
            self._customer_history[session.host].append(f"{'stayed through' if stayed else 'lost during'} {order}")
            self._show.check(
                f"the customer's session on {session.host} lived through {order}",
                holds=stayed,
                otherwise=f"the customer's session on {session.host} was dropped during {order}",
            )

    async def _closes(self, receiver: Receiver) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KICK_PATIENCE):
                await receiver.closed.wait()
        return not receiver.connected

    async def _refused(self, host: str) -> bool:
        async with self._ledger.read() as tx:
            password = (await reveal_password(tx, self._username)).get_secret_value()
        try:
            receiver = await self._world.receiver(host, self._username, password)
        except LoginRefused:
            return True
        await receiver.leave()
        return False

    async def _mail(self, receipt: Receipt) -> CaughtMail:
        wanted = receipt.mail.message_id if receipt.mail is not None else ""
        try:
            async with asyncio.timeout(MAIL_PATIENCE):
                return await self._world.mail_catcher.wait_for(lambda mail: str(mail.message["Message-ID"]) == wanted)
        except TimeoutError:
            self._show.check("", holds=False, otherwise="the mail never reached the customer's mailbox")
            raise StoryEnded from None


@contextlib.asynccontextmanager
async def _doors(world: World) -> AsyncGenerator[tuple[Twinline, Ledger]]:
    """The same doors that a storefront and an operator use, opened with the world's own settings."""
    os.environ.update(world.env)
    keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
    client = await connect_temporal(keys=keys)
    ledger = await Ledger.open(world.env["TWINLINE_DATABASE_URL"], keys=keys)
    try:
        yield Twinline(client), ledger
    finally:
        await ledger.close()


async def run_demo(folder: Path, show: Show, *, broken: Sequence[Break], timescale: float, output: Path) -> bool:
    """Start a world in `folder`, tell the story, stop the world; whether everything held."""
    show.title(
        "twinline: one line on two daemons that share nothing",
        "a real Temporal server, two SSH boxes with a daemon each, a mail server and a worker, all on this machine",
    )
    begun = time.monotonic()
    async with World(folder, timescale=timescale) as world:
        await world.start_worker()
        show.say(f"started in {time.monotonic() - begun:.1f} s")
        async with _doors(world) as (twinline, ledger):
            await Demo(world, show, twinline=twinline, ledger=ledger, broken=broken, output=output).tell()
    show.end()
    return not show.failures
