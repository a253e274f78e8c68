"""A machine on which everything is set and nothing answers: no Temporal, no host, no mail server; only the ledger."""

import hashlib
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.ledger.support import take
from twinline.inventory import load_inventory
from twinline.keys import KeyRing
from twinline.ledger import Ledger, migrate
from twinline.ledger.setup import sync_inventory
from twinline.messages import BlockOrder, RenewalOrder, TrialOrder
from twinline.sandbox.processes import free_port

HOSTILE_REASON: Final = "\x9b31m\u202eshared\u200f by \ud7ff[red]"
"""A reason that the rules allow, with what a terminal would obey or turn around."""

_INVENTORY: Final = """
[service]
name = "Alone"
rights_holder = "Alone Broadcasting Ltd."
abuse_contact = "abuse@example.com"
support_email = "support@example.com"
mail_from = "lines@example.com"
public_url = "https://lines.example.com"

[[host]]
name = "mc-eu1"
protocol = "multics"
ssh = {{ address = "127.0.0.1", port = {port}, user = "twinline", key = "id", known_hosts = "known_hosts" }}
accounts_file = "/var/etc/accounts.cfg"
state_dir = "/var/lib/twinline"
timezone = "UTC"
public = {{ address = "127.0.0.1", port = 12000 }}
status = {{ url = "http://127.0.0.1:16001", user = "admin", password = "status-password" }}

[[host]]
name = "os-eu1"
protocol = "oscam"
ssh = {{ address = "127.0.0.1", port = {port}, user = "twinline", key = "id", known_hosts = "known_hosts" }}
accounts_file = "/etc/oscam/oscam.user"
state_dir = "/var/lib/twinline-oscam"
timezone = "UTC"
public = {{ address = "127.0.0.1", port = 12001 }}
status = {{ url = "http://127.0.0.1:8888", user = "admin", password = "status-password" }}
groups = [1]

[[pair]]
name = "eu1"
region = "eu"
multics = "mc-eu1"
oscam = "os-eu1"
"""


@dataclass(frozen=True)
class Alone:
    """The machine's folder, and a line that its ledger knows."""

    folder: Path
    line: str

    @property
    def env(self) -> dict[str, str]:
        """The settings, all of them set."""
        nobody = free_port()
        return {
            "TWINLINE_INVENTORY": str(self.folder / "inventory.toml"),
            "TWINLINE_DATABASE_URL": f"sqlite:///{self.folder}/ledger.db",
            "TWINLINE_SMTP_URL": f"smtp+plain://127.0.0.1:{nobody}",
            "TWINLINE_KEYS": str(self.folder / "keys.json"),
            "TEMPORAL_ADDRESS": f"127.0.0.1:{nobody}",
        }

    def state(self) -> str:
        """A digest of all that could have been changed: every file, and the ledger by its contents."""
        digest = hashlib.sha256(self.files().encode())
        with sqlite3.connect(self.folder / "ledger.db") as ledger:
            for statement in ledger.iterdump():
                digest.update(statement.encode())
        return digest.hexdigest()

    def files(self) -> str:
        """A digest of every file but those of the ledger."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            if not path.name.startswith("ledger.db"):
                digest.update(f"{path}\0{path.stat().st_mode}\0".encode())
                digest.update(path.read_bytes() if path.is_file() else b"")
        return digest.hexdigest()


async def prepare(folder: Path) -> Alone:
    """Make the machine, with a line on trial that somebody blocked for a hostile reason."""
    (folder / "inventory.toml").write_text(_INVENTORY.format(port=free_port()))
    keys, url, now = KeyRing.create(folder / "keys.json"), f"sqlite:///{folder}/ledger.db", datetime.now(UTC)
    await migrate(url)
    ledger = await Ledger.open(url, keys=keys)
    try:
        async with ledger.write() as tx:
            await sync_inventory(tx, load_inventory(folder / "inventory.toml"), now=now)
        taken = await take(ledger, TrialOrder(order="T-alone", email="alone@example.com", region="eu"), now=now)
        block = BlockOrder(case="A-alone", line=taken.username, reason=HOSTILE_REASON)
        await take(ledger, block, now=now)
        await take(ledger, RenewalOrder(order="outage:7:1", line=taken.username, days=1), now=now)
    finally:
        await ledger.close()
    return Alone(folder, taken.username)
