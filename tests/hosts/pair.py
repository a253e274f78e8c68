"""A pair of hosts behind real sshds, a real ledger, and everything that can happen to them; the model test drives it.

What must hold is checked by judges that share no code with the engine: the stand-ins' parsers, their pages, and the
customers' own connections. Invariants are those of design.md, by number.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import resource
import shutil
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from sqlmodel import select

from activities.host_ledger import LedgerOfHosts
from tests.hosts.between import Wire, helpers_below, through, wire_to
from tests.hosts.hands import Damage, Foreign, damaged
from tests.hosts.helper_process import apply_request, image_in
from tests.hosts.judge import Kind, kind_of
from tests.hosts.lab import Lab, MemoryLedger, run_lab
from tests.ledger.stores import SqliteStore
from tests.ledger.support import Desk, Pairing
from tests.support.sshd import Sshd
from twinline.hosts.errors import Fenced, HostError, LedgerSetBack
from twinline.hosts.factory import access_for, daemon_for, setup_for
from twinline.hosts.ssh import Helper, start_helper
from twinline.hosts.writer import HostWriter
from twinline.inventory import Host
from twinline.keys import KeyRing
from twinline.ledger import Ledger, models, terms
from twinline.ledger.lines import line_by_username, password_of
from twinline.messages import CloseOrder, PasswordOrder, Protocol, TermStart
from twinline.sandbox.receiver import LoginRefused, Receiver

OrderKind = Literal["add", "renew", "block", "unblock", "password", "end", "close"]
Switch = Literal["hang", "ignore_reloads", "freeze_parse"]

DEADLINE: Final = 0.4
LOCK_TIMEOUT: Final = 0.3
CONVERGENCE_SECONDS: Final = 60.0
"""Not a measure of speed: how long the test waits before it says that something never comes."""
MOST_LINES: Final = 8
LOCK_TRIES: Final = 100


@dataclass
class Customer:
    """A line as the test ordered it."""

    username: str
    line_id: str
    passwords: list[str] = field(default_factory=list[str], repr=False)
    """Every password that it ever had; the last one counts."""
    blocks: int = 0
    blocked: bool = False
    ended: bool = False
    closed: bool = False


@dataclass
class Held:
    """An open session; `may_end` says that something happened that may close it."""

    receiver: Receiver
    password: str = field(repr=False)
    may_end: bool = False


@dataclass(frozen=True)
class HalfSeen:
    """What the ledger says of one half, with its line."""

    customer: Customer
    state: str
    password: str = field(repr=False)
    revision: int
    proven: int

    @property
    def in_step(self) -> bool:
        return self.proven == self.revision


@dataclass
class Place:
    """One host: its daemon, the ways to it, and what hands and faults have done there."""

    lab: Lab
    sshd: Sshd
    wire: Wire
    host: Host
    foreign: Foreign
    ledger: LedgerOfHosts
    writers: list[HostWriter] = field(default_factory=list[HostWriter])
    switched: set[Switch] = field(default_factory=set[Switch])
    daemon_down: bool = False
    lock: int | None = None
    limited: set[int] = field(default_factory=set[int])
    """Helpers that find no room to write."""
    held: dict[str, Held] = field(default_factory=dict[str, Held])
    hurt: dict[str, int] = field(default_factory=dict[str, int])
    """Lines whose record somebody changed by hand, with the revision that was wanted then."""
    inode: int = 0

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def kind(self) -> Kind:
        return kind_of(self.host.protocol)

    @property
    def answers(self) -> bool:
        """Whether the daemon's pages can be read."""
        return not self.daemon_down and "hang" not in self.switched

    async def helper(self) -> Helper:
        return await start_helper(access_for(self.host), replace(setup_for(self.host), lock_timeout=LOCK_TIMEOUT))

    def add_writer(self) -> None:
        """Start a worker."""
        daemon = daemon_for(self.host)
        daemon.deadline = DEADLINE
        self.writers.append(HostWriter(self.name, daemon=daemon, ledger=self.ledger, start_helper=self.helper))

    # -- faults

    async def switch(self, what: Switch, *, on: bool) -> None:
        if not self.daemon_down:
            await self.lab.tell(do=what, on=on)
            (self.switched.add if on else self.switched.discard)(what)

    async def stop_daemon(self) -> None:
        if not self.daemon_down:
            self.everybody_may_go()
            await self.lab.daemon.stop()
            self.daemon_down = True
            self.switched.clear()

    async def start_daemon(self) -> None:
        if self.daemon_down:
            self.lab.daemon = self.lab.fresh_daemon()
            await self.lab.daemon.start()
            self.daemon_down = False

    async def restart_daemon(self) -> None:
        await self.stop_daemon()
        await self.start_daemon()

    async def cut(self) -> None:
        self.wire.cut()

    async def set_reachable(self, reachable: bool) -> None:  # noqa: FBT001 - named for what it sets
        self.wire.down = not reachable
        if not reachable:
            self.wire.cut()

    def everybody_may_go(self) -> None:
        for held in self.held.values():
            held.may_end = True

    async def leave_no_room(self, percent: int) -> None:
        """Let this host's helpers write no further than to this part of the accounts file, in any file.

        Their writes then end short or with an error, as on a full disk.
        """
        limit = self.lab.accounts.stat().st_size * percent // 100
        for pid in helpers_below(self.sshd):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                self.limited.add(pid)

    def _make_room(self) -> None:
        for pid in self.limited:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.limited.clear()

    async def take_lock(self) -> None:
        """Take the host's lock, unless somebody else keeps it: a helper does while its daemon's reload hangs."""
        state = self.lab.folder / "state"
        state.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(0.005)
            else:
                self.lock = lock
                return
        os.close(lock)

    async def release_lock(self) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    async def repair(self) -> None:
        """Take every fault away."""
        await self.release_lock()
        self._make_room()
        self.wire.down = False
        await self.start_daemon()
        for what in list(self.switched):
            await self.switch(what, on=False)

    # -- hands

    @asynccontextmanager
    async def undisturbed(self) -> AsyncGenerator[bool]:
        """While no helper writes and no daemon reads: what two writers do to each other's calls is another test.

        False when there is no such time.
        """
        ours = self.lock is None
        if ours:
            await self.take_lock()
        quiet = self.lock is not None and "freeze_parse" not in self.switched
        while quiet and not self.daemon_down and (await self.lab.tell(do="stats"))["reloading"]:
            pass
        try:
            yield quiet
        finally:
            if ours:
                await self.release_lock()

    def put_in_place(self, content: bytes, *, by_rename: bool = False) -> None:
        accounts = self.lab.accounts
        if by_rename:
            fresh = accounts.with_suffix(".fresh")
            fresh.write_bytes(content)
            fresh.chmod(0o600)
            fresh.rename(accounts)
        else:
            accounts.write_bytes(content)
        self.inode = accounts.stat().st_ino


class LedgerAmongHosts(LedgerOfHosts):
    """The ledger, whose time runs ahead as a life wants it, and the hosts' clocks with it."""

    async def now(self) -> float:
        """What the hosts' clocks show, in POSIX seconds."""
        return time.time()


class Pair:
    """Both hosts of a pair, their ledger, and the customers."""

    def __init__(self, desk: Desk, places: Sequence[Place], stack: AsyncExitStack) -> None:
        self.desk = desk
        self.places = places
        self.customers: list[Customer] = []
        self.counts: Counter[str] = Counter()
        self._stack = stack
        self._driving: set[asyncio.Task[None]] = set()
        self._broken: list[BaseException] = []
        self._highest: dict[tuple[str, str], int] = {}
        self._turn = 0

    @classmethod
    async def open(cls, folder: Path, *, blank: Path, keys: KeyRing, sshds: Sequence[Sshd]) -> "Pair":
        """Start everything on a fresh copy of an empty ledger."""
        stack = AsyncExitStack()
        path = Path(shutil.copy(blank, folder / "ledger.db"))
        ledger = await Ledger.open(f"sqlite:///{path}", keys=keys)
        stack.push_async_callback(ledger.close)
        desk = Desk(ledger=ledger, keys=keys, store=SqliteStore(path), now=datetime.now(UTC))
        await desk.sync(Pairing(name="eu1"))
        protocols: tuple[Protocol, ...] = ("multics", "oscam")
        places: list[Place] = []
        for protocol, sshd in zip(protocols, sshds, strict=True):
            lab = await stack.enter_async_context(run_lab(protocol, folder / protocol, sshd, ledger=MemoryLedger()))
            wire = await stack.enter_async_context(wire_to(sshd.port))
            host = through(lab.host, wire=wire, known_hosts=folder / f"{protocol}.known_hosts")
            of_hosts = LedgerAmongHosts(ledger, clock=lambda: desk.now)
            place = Place(lab, sshd, wire, host, Foreign.at_first(protocol), of_hosts)
            place.inode = lab.accounts.stat().st_ino
            place.add_writer()
            places.append(place)
        return cls(desk, places, stack)

    async def close(self) -> None:
        """End everything, converged or not."""
        for place in self.places:
            await place.release_lock()
            for writer in place.writers:
                await writer.close()
            for held in place.held.values():
                await held.receiver.leave()
            await place.start_daemon()
        await asyncio.gather(*self._driving, return_exceptions=True)
        await self._stack.aclose()

    # -- orders

    async def order(self, kind: OrderKind, which: int) -> None:
        """Hand an order in, if it makes sense for that line, and have both halves driven."""
        if kind == "add":
            if len(self._open_lines) < MOST_LINES:
                await self._add()
            return
        open_lines = self._open_lines
        if not open_lines:
            return
        customer = open_lines[which % len(open_lines)]
        await self._change(kind, customer)
        await self._drive(customer)

    @property
    def _open_lines(self) -> list[Customer]:
        return [customer for customer in self.customers if not customer.closed]

    async def _add(self) -> None:
        taken = await self.desk.purchase(email=f"customer{len(self.customers)}@example.com")
        customer = Customer(taken.username, taken.line_id)
        customer.passwords.append(await self.desk.password(customer.username))
        self.customers.append(customer)
        await self._drive(customer)

    async def _change(self, kind: OrderKind, customer: Customer) -> None:
        name = customer.username
        if kind not in ("renew", "unblock"):
            self._may_end(name)
        match kind:
            case "renew":
                customer.ended = False
                await self.desk.renew(name)
            case "block" if not customer.blocked:
                customer.blocks += 1
                customer.blocked = True
                await self.desk.block(name, case=f"case-{customer.blocks}")
            case "unblock" if customer.blocked:
                customer.blocked = False
                await self.desk.unblock(name, case=f"case-{customer.blocks}")
            case "password" if not customer.ended:
                await self.desk.take(PasswordOrder(order=self.desk.ref(), line=name))
                customer.passwords.append(await self.desk.password(name))
            case "end":
                customer.ended = True
                await self._end(customer)
            case "close":
                customer.closed = True
                await self.desk.take(CloseOrder(order=self.desk.ref(), line=name))
            case _:
                pass

    async def _end(self, customer: Customer) -> None:
        """Let the time of all its grants run out; only the ledger's clock is asked, the daemons' dates are far off."""
        async with self.desk.ledger.read() as tx:
            grants = list((await line_by_username(tx, customer.username)).open_grants)
        for grant in grants:
            self.desk.now = max(self.desk.now, grant.ends_at)
            term = TermStart(line_id=customer.line_id, grant_id=grant.id, ends_at=grant.ends_at)
            async with self.desk.ledger.write() as tx:
                await terms.end_grant(tx, term, now=self.desk.now)

    def _may_end(self, username: str) -> None:
        for place in self.places:
            if username in place.held:
                place.held[username].may_end = True

    async def _drive(self, customer: Customer) -> None:
        """Have every half of the line brought up to date by some worker; failures are left to later tries."""
        seen = await self._halves()
        for place in self.places:
            self._turn += 1
            writer = place.writers[self._turn % len(place.writers)]
            half = next(half for half in seen[place.name] if half.customer is customer)
            task = asyncio.create_task(self._bring(writer, customer.line_id, half.revision))
            self._driving.add(task)
            task.add_done_callback(self._driving.discard)

    async def _bring(self, writer: HostWriter, line_id: str, revision: int) -> None:
        try:
            proven = await writer.bring(line_id, revision)
            assert proven.revision >= revision
        except LedgerSetBack as error:
            self._broken.append(error)
        except HostError as error:
            self.counts[error.code] += 1
        except Exception as error:  # noqa: BLE001 - told by the next check
            self._broken.append(error)

    # -- workers

    async def restart_worker(self, place: Place) -> None:
        """End a worker in the middle of whatever it does, and start another."""
        await place.writers.pop(0).close()
        place.add_writer()

    async def second_worker(self, place: Place) -> None:
        """Start another worker beside the first; which of the two carries an order out is left to chance."""
        if len(place.writers) == 1:
            place.add_writer()

    async def oversleep(self, place: Place) -> None:
        """A worker takes a batch and then hears nothing of the world until others have long carried it out.

        The host must refuse what it writes then.
        """
        batch = await place.ledger.open_batch(place.name, 1_000)
        if not batch.halves:
            return
        await self.settle()
        helper = await place.helper()
        try:
            image = image_in(place.kind, await helper.ask("read"))
            request = apply_request(image, image.plan(batch.halves, []), batch=os.urandom(8).hex())
            del request["do"]
            await helper.ask("apply", request | {"token": [batch.token.epoch, batch.token.number]})
        except Fenced:
            self.counts["late batch refused"] += 1
        else:
            raise AssertionError(f"{place.name} took a batch that was overtaken")
        finally:
            await helper.close()

    # -- hands

    async def lay_hands_on(self, place: Place, how: str) -> None:
        """Somebody edits the accounts file without asking us."""
        async with place.undisturbed() as quiet:
            content = place.lab.accounts.read_bytes()
            match how:
                case _ if not quiet:
                    pass
                case "prepend":
                    place.put_in_place(place.foreign.prepended(content))
                case "rename":
                    place.put_in_place(place.foreign.appended(content), by_rename=True)
                case "comment":
                    place.put_in_place(place.foreign.looked_through(content))
                case _:
                    place.put_in_place(place.foreign.appended(content))

    async def damage(self, place: Place, which: int, how: Damage) -> None:
        """Somebody edits or deletes a record of ours."""
        open_lines = self._open_lines
        if not open_lines:
            return
        name = open_lines[which % len(open_lines)].username
        async with place.undisturbed() as quiet:
            content = damaged(place.host.protocol, place.lab.accounts.read_bytes(), name, how)
            if content is None or not quiet:
                return
            wanted = next(half for half in (await self._halves())[place.name] if half.customer.username == name)
            place.hurt[name] = wanted.revision
            if how == "delete" and name in place.held:
                place.held[name].may_end = True
            place.put_in_place(content)

    async def save_in_oscam(self) -> None:
        """Somebody saves an account in OSCam's own pages, which rewrites the whole file from the daemon's memory."""
        place = self.places[1]
        async with place.undisturbed() as quiet:
            if not quiet or not place.answers:
                return
            await place.lab.page(f"/user_edit.html?user=oldtom&action=Save&description=seen{self._turn}")
            ours = {customer.username for customer in self.customers}
            place.foreign.saved_by_oscam(place.lab.accounts.read_bytes(), ours)

    # -- customers

    async def connect(self, place: Place, which: int) -> None:
        """A customer, or somebody whose account is not ours, logs in and stays."""
        if not place.answers:
            return
        strangers = [("oldtom", "tompass1"), ("oldeve", "evepass1")]
        ready = [
            (half.customer.username, half.password)
            for half in (await self._halves())[place.name]
            if half.in_step and half.state == "present" and half.customer.username not in place.hurt
        ]
        free = [(name, password) for name, password in (*strangers, *ready) if name not in place.held]
        if free:
            name, password = free[which % len(free)]
            place.held[name] = Held(await Receiver.login(place.lab.client_port, name, password), password)
            self.counts["sessions"] += 1

    # -- what has to hold

    async def _halves(self) -> dict[str, list[HalfSeen]]:
        """What the ledger says, by host."""
        customers = {customer.line_id: customer for customer in self.customers}
        seen: dict[str, list[HalfSeen]] = {place.name: [] for place in self.places}
        async with self.desk.ledger.read() as tx:
            lines = {line.id: line for line in await tx.session.exec(select(models.Line))}
            for half in await tx.session.exec(select(models.Half)):
                line = lines[half.line_id]
                if line.id in customers:
                    password = password_of(tx.keys, line).get_secret_value()
                    seen[half.host].append(HalfSeen(customers[line.id], line.state, password, half.wanted, half.proven))
        return seen

    async def check(self) -> None:
        """Everything that holds at any moment."""
        if self._broken:
            raise AssertionError("a half could not be driven") from self._broken[0]
        seen = await self._halves()
        for place in self.places:
            halves = seen[place.name]
            self._note_progress(place, halves)
            self._check_file(place, halves)
            if place.answers:
                await self._check_daemon(place, halves)
            self._check_sessions(place)

    def _note_progress(self, place: Place, halves: Sequence[HalfSeen]) -> None:
        for half in halves:
            key = (place.name, half.customer.line_id)
            assert half.proven >= self._highest.get(key, 0), f"I11: {key} is proven less than before"
            self._highest[key] = half.proven
            name = half.customer.username
            if place.hurt.get(name, half.proven) < half.proven:
                del place.hurt[name]

    def _check_file(self, place: Place, halves: Sequence[HalfSeen]) -> None:
        content = place.lab.accounts.read_bytes()
        ours = {half.customer.username: half for half in halves}
        altered = place.foreign.altered_in(content, set(ours))
        assert not altered, f"I3: on {place.name} {altered}"
        if place.host.protocol == "multics":
            assert place.lab.accounts.stat().st_ino == place.inode, "I9: the accounts file of MultiCS was replaced"
        served = [account for account in place.kind.served(content) if account.user in ours]
        for account in served:
            known = ours[account.user].customer.passwords
            assert account.password in known, f"I4: {account.user} on {place.name} has no password of its own"
        assert len({account.user for account in served}) == len(served), f"I10: two records of a line on {place.name}"
        self._check_proven(place, halves, {account.user for account in served}, "the file")

    async def _check_daemon(self, place: Place, halves: Sequence[HalfSeen]) -> None:
        users = await served_by(place)
        strangers = {account.user for account in place.foreign.accounts()}
        assert users <= strangers | {half.customer.username for half in halves}, f"I10: {place.name} serves {users}"
        self._check_proven(place, halves, users, "the daemon")

    def _check_proven(self, place: Place, halves: Sequence[HalfSeen], users: set[str], whose: str) -> None:
        for half in halves:
            name = half.customer.username
            if half.in_step and name not in place.hurt:
                wanted = half.state == "present"
                words = f"{name} is proven {half.state}, and {whose} of {place.name} says otherwise"
                assert (name in users) == wanted, f"I1, I11: {words}"

    def _check_sessions(self, place: Place) -> None:
        for name, held in list(place.held.items()):
            if not held.receiver.connected:
                assert held.may_end, f"I12: {name} was disconnected from {place.name}"
                del place.held[name]

    async def settle(self, *, dead: Place | None = None) -> None:
        """Take all faults away, but for one host that stays dead: everything else comes into step with the ledger."""
        for place in self.places:
            if place is not dead:
                await place.repair()
        if dead is not None:
            dead.wire.down = True
            dead.wire.cut()
        await self._mend_the_hurt(dead)
        living = [place for place in self.places if place is not dead]
        try:
            async with asyncio.timeout(CONVERGENCE_SECONDS):
                while behind := await self._behind(living):
                    await asyncio.gather(*(self._bring(place.writers[0], *half) for place, half in behind))
                    assert not self._broken, self._broken
        except TimeoutError:
            left = [(place.name, *half) for place, half in await self._behind(living)]
            raise AssertionError(f"I8, I11: never in step: {left}, {self.counts}") from None
        for place in living:
            await self._settled(place)
        await self.check()

    async def _behind(self, places: Sequence[Place]) -> list[tuple[Place, tuple[str, int]]]:
        seen = await self._halves()
        return [
            (place, (half.customer.line_id, half.revision))
            for place in places
            for half in seen[place.name]
            if not half.in_step
        ]

    async def _mend_the_hurt(self, dead: Place | None) -> None:
        """What hands did to a record of ours is made good by the next change of its line."""
        names = {name for place in self.places if place is not dead for name in place.hurt}
        for customer in self.customers:
            if customer.username in names and not customer.closed:
                await self._change("renew", customer)

    async def _settled(self, place: Place) -> None:
        """With everything in step: file, daemon and customers agree with the ledger."""
        halves = (await self._halves())[place.name]
        self._note_progress(place, halves)
        for half in halves:
            held = place.held.get(half.customer.username)
            if held is not None and (half.state != "present" or held.password != half.password):
                try:
                    async with asyncio.timeout(CONVERGENCE_SECONDS):
                        await held.receiver.closed.wait()
                except TimeoutError:
                    words = f"{half.customer.username} is still connected to {place.name} with what is no longer right"
                    raise AssertionError(words) from None
        self._check_sessions(place)
        for held in place.held.values():
            await held.receiver.ping()
        present = {half.customer.username for half in halves if half.state == "present"}
        strangers = {account.user for account in place.foreign.accounts()}
        users = await served_by(place)
        # What somebody saved by rename is loaded with our next change.
        assert present <= users <= present | strangers, f"I10, I11: {place.name} serves {users}, not {present}"
        while set((await place.lab.tell(do="stats"))["sessions"]) - set(place.held):
            pass
        for half in halves:
            if half.customer.username not in place.held:
                await self._log_in(place, half)

    async def _log_in(self, place: Place, half: HalfSeen) -> None:
        name, customer = half.customer.username, half.customer
        for password in customer.passwords:
            right = half.state == "present" and password == half.password
            try:
                receiver = await Receiver.login(place.lab.client_port, name, password)
            except LoginRefused:
                assert not right, f"I11: {name} can't log in on {place.name}"
            else:
                assert right, f"I1: {name} logs in on {place.name} with a line that is {half.state}"
                place.held[name] = Held(receiver, password)


async def served_by(place: Place) -> set[str]:
    """Whom the daemon would let in, by its own pages."""
    path, named = {
        "multics": ("/cccam?action=json&id=1", r'"name": "([^"]*)","status": [01]\b'),
        "oscam": ("/oscamapi.html?part=userstats", r'<user name="([^"]*)" status="(?:offline|online|connected)"'),
    }[place.host.protocol]
    return set(re.findall(named, await place.lab.page(path)))
