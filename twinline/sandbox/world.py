"""The embedded world: everything that twinline needs and serves, real but for the daemons, on loopback.

A Temporal server with a file database, per pair two SSH boxes with a stand-in daemon each, a mail catcher, and
the worker, all with keys and an inventory of their own, in one folder.
"""

import asyncio
import fcntl
import os
import re
import secrets
import sys
import sysconfig
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from twinline.inventory import Inventory, load_inventory
from twinline.keys import KeyRing
from twinline.sandbox.mailcatcher import CaughtMail, MailCatcher
from twinline.sandbox.processes import Program, WorldFailed, free_port, inherited_environment
from twinline.sandbox.receiver import Receiver
from twinline.sandbox.sites import HostPlan, Login, PairPlan, Site, inventory_text
from twinline.sandbox.ssh_box import SshBox
from twinline.sandbox.stand_in import StandIn
from twinline.sandbox.temporal_server import TemporalServer

DEMO_TIMESCALE: Final = 0.25
"""Fast enough for a demo of many reloads, slow enough to watch."""

SELDOM: Final = 366 * 86_400.0
"""Seconds between two Reconciles or looks where things are broken on purpose: they would mend or tell it too soon."""

DEFAULT_PAIRS: Final = (PairPlan("eu1", region="eu"),)

# The stand-ins read paths from config files with quoting rules of their own, the ledger's from a URL.
_PLAIN_FOLDER: Final = re.compile(r"/[A-Za-z0-9 ._/+,@=:~-]*")


class World:
    """One embedded world in `folder`, which is made if need be and left to the caller at the end.

    A folder that held a world before is taken up again, with its keys, accounts, ledger, histories and mails, and
    new ports. `timescale` is that of the daemons: 1.0 is true time. `grace`, `delay_notice`, `reconcile_every` and
    `health_every` (seconds) override the worker's settings. With `codec` Temporal's web interface shows payloads
    opened. Use it as an async context manager; the worker is started separately. Its programs end with the thread that
    starts it. `database_url` names another ledger than the file in the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pairs: Sequence[PairPlan] = DEFAULT_PAIRS,
        timescale: float = 1.0,
        grace: float | None = None,
        delay_notice: float | None = None,
        reconcile_every: float = SELDOM,
        health_every: float = SELDOM,
        codec: bool = False,
        database_url: str | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self._database_url = database_url or f"sqlite:///{self.folder / 'ledger.db'}"
        self.timescale = timescale
        self._codec_port = free_port() if codec else None
        self._metrics_port, self._web_metrics_port = free_port(), free_port()
        self.temporal = TemporalServer(self.folder / "temporal", codec_endpoint=self.codec_url)
        self.mail_catcher = MailCatcher(self.folder / "mails")
        self._pairs = tuple(pairs)
        self._sites = {site.name: site for pair in pairs for site in _sites(pair, self.folder / "hosts")}
        self._boxes = {
            name: SshBox(site.folder, client_key=self.folder / "keys" / name) for name, site in self._sites.items()
        }
        self._daemons = {name: StandIn(site, timescale=timescale) for name, site in self._sites.items()}
        self._tunables = {
            name: str(seconds)
            for name, seconds in (
                ("TWINLINE_GRACE", grace),
                ("TWINLINE_DELAY_NOTICE", delay_notice),
                ("TWINLINE_RECONCILE_EVERY", reconcile_every),
                ("TWINLINE_HEALTH_EVERY", health_every),
            )
            if seconds is not None
        }
        self._worker: Program | None = None
        self._codec: Program | None = None
        self._inventory: Inventory | None = None
        self._lock: int | None = None

    # -- life

    async def start(self) -> None:
        """Start everything but the worker; raises WorldFailed, after ending whatever had started."""
        try:
            self._prepare()
            await _all_at_once(
                self.temporal.start(),
                *(daemon.start() for daemon in self._daemons.values()),
                *(box.start() for box in self._boxes.values()),
                self.mail_catcher.start(),
                *([self._start_codec()] if self._codec_port is not None else []),
            )
            self._inventory = self._write_inventory()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End everything; nothing of it runs or listens afterwards. Harmless when nothing runs."""
        # The worker goes first and in good order: it needs the others for that.
        await self.stop_worker()
        results = await asyncio.gather(
            *(box.stop() for box in self._boxes.values()),
            *(daemon.stop() for daemon in self._daemons.values()),
            self.temporal.stop(),
            self.mail_catcher.stop(),
            *([self._codec.stop()] if self._codec is not None else []),
            return_exceptions=True,
        )
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start_worker(self) -> None:
        """Start the worker and wait until it polls; raises WorldFailed."""
        if self._worker is None:
            folder = self.folder / "worker"
            folder.mkdir(mode=0o700, exist_ok=True)
            self._worker = Program(
                "the worker",
                (sys.executable, "-P", "-m", "worker"),
                environment=inherited_environment() | self.env,
                folder=folder,
            )
        await self._worker.start()

    async def stop_worker(self) -> None:
        """End the worker in good order, or by force when that takes too long."""
        if self._worker is not None:
            await self._worker.stop()

    async def _start_codec(self) -> None:
        folder = self.folder / "codec"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._codec = Program(
            "the codec server",
            (
                *(str(Path(sysconfig.get_path("scripts")) / "twinline"), "codec"),
                *("--listen", f"127.0.0.1:{self._codec_port}", "--ui", self.temporal.ui_url),
            ),
            environment=inherited_environment() | {"TWINLINE_KEYS": str(self._key_ring_file)},
            folder=folder,
        )
        await self._codec.start()

    async def kill_worker(self) -> None:
        """End the worker as a power cut would."""
        if self._worker is not None:
            await self._worker.kill()

    # -- parts

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id while it runs."""
        return self._worker.pid if self._worker is not None else None

    @property
    def inventory(self) -> Inventory:
        """The inventory as the worker reads it; once started."""
        if self._inventory is None:
            raise RuntimeError("the world was not started")
        return self._inventory

    @property
    def codec_url(self) -> str | None:
        """Where payloads are opened for Temporal's web interface, if they are."""
        return None if self._codec_port is None else f"http://127.0.0.1:{self._codec_port}"

    @property
    def metrics_url(self) -> str:
        """What the worker counts, in Prometheus' format; `livez` and `readyz` stand beside it."""
        return f"http://127.0.0.1:{self._metrics_port}/metrics"

    @property
    def env(self) -> dict[str, str]:
        """The variables that make any twinline command work in this world; once started."""
        return {
            "TWINLINE_INVENTORY": str(self._inventory_file),
            "TWINLINE_DATABASE_URL": self._database_url,
            "TWINLINE_SMTP_URL": self.mail_catcher.url,
            "TWINLINE_KEYS": str(self._key_ring_file),
            "TEMPORAL_ADDRESS": self.temporal.address,
            "TEMPORAL_NAMESPACE": "default",
            # A person's own profiles, with keys for another server perhaps, do not count in here.
            "TEMPORAL_CONFIG_FILE": str(self._temporal_profile),
            "TWINLINE_METRICS": f"127.0.0.1:{self._metrics_port}",
            "TWINLINE_WEB_METRICS": f"127.0.0.1:{self._web_metrics_port}",
            "TWINLINE_TEMPORAL_UI": self.temporal.ui_url,
            **self._tunables,
        }

    @property
    def mails(self) -> tuple[CaughtMail, ...]:
        """Every mail that has arrived since the start, in order."""
        return self.mail_catcher.mails

    def site(self, host: str) -> Site:
        """A host's files, ports and foreign accounts."""
        return self._sites[host]

    def box(self, host: str) -> SshBox:
        """A host's SSH server."""
        return self._boxes[host]

    def daemon(self, host: str) -> StandIn:
        """A host's daemon."""
        return self._daemons[host]

    def read_accounts(self, host: str) -> bytes:
        """A host's accounts file as it stands now."""
        return self._sites[host].accounts_file.read_bytes()

    async def receiver(self, host: str, user: str, password: str) -> Receiver:
        """A receiver that is logged in on a host; raises LoginRefused, or OSError when the daemon is away."""
        return await Receiver.login(self._sites[host].client_port, user, password)

    # -- files

    @property
    def _inventory_file(self) -> Path:
        return self.folder / "inventory.toml"

    @property
    def _key_ring_file(self) -> Path:
        return self.folder / "key-ring.json"

    @property
    def _temporal_profile(self) -> Path:
        return self.folder / "temporal.toml"

    def _prepare(self) -> None:
        """Make the folder ours, with everything that the programs read."""
        if not _PLAIN_FOLDER.fullmatch(str(self.folder)):
            raise WorldFailed(
                "the folder of the embedded world has characters in its path that the daemons cannot read",
                hint="Name a folder with letters, digits, blanks and . _ - + , @ = : ~ in its path.",
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(self.folder / "lock")
        if not self._key_ring_file.exists():
            KeyRing.create(self._key_ring_file)
        (self.folder / "keys").mkdir(mode=0o700, exist_ok=True)
        _write(self._temporal_profile, f'[profile.default]\naddress = "{self.temporal.address}"\n')
        for site in self._sites.values():
            for folder in (site.daemon_folder, site.state_dir):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(site.main_file, site.main_text())
            if not site.accounts_file.exists():
                _write(site.accounts_file, site.accounts_text())

    def _write_inventory(self) -> Inventory:
        _write(self.folder / "known_hosts", "".join(box.known_hosts_line for box in self._boxes.values()))
        hosts = [(site, self._boxes[name]) for name, site in self._sites.items()]
        _write(
            self._inventory_file,
            inventory_text(
                self._pairs,
                [HostPlan(site, ssh_port=box.port, ssh_user=box.user) for site, box in hosts],
                timescale=self.timescale,
            ),
        )
        return load_inventory(self._inventory_file)


def _sites(pair: PairPlan, folder: Path) -> tuple[Site, Site]:
    def site(name: str, protocol: Literal["multics", "oscam"]) -> Site:
        return Site(
            name=name,
            protocol=protocol,
            folder=folder / name,
            client_port=free_port(),
            status_port=free_port(),
            status_password=secrets.token_hex(8),
            foreign=(Login("anna", "sunflower7"), Login("bob", "waterwheel3")),
        )

    return site(pair.multics, "multics"), site(pair.oscam, "oscam")


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise WorldFailed(
            f"another embedded world runs in {path.parent}", hint="Stop it, or name another folder."
        ) from None
    return descriptor


async def _all_at_once(*starts: Coroutine[Any, Any, object]) -> None:
    """Run all to their end; the first that fails ends the others, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
