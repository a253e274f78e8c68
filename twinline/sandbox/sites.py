"""The files of the embedded world's hosts, and the inventory that names them, as an operator would write them.

Pure: from ports and folders to texts. Main files and layouts: daemons.md, *Files* of both daemons.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

ADDRESS: Final = "127.0.0.1"
ZONE: Final = "Europe/Berlin"
ZONE_RULE: Final = "CET-1CEST,M3.5.0,M10.5.0/3"
"""The same zone for a daemon's TZ on a machine without a zone database."""

# MultiCS is deaf for 2 s plus parse and merge after a trigger; 3 s is what the operator of a real one writes.
_QUIET_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class PairPlan:
    """One pair to be built: its hosts are `mc-NAME` and `os-NAME`."""

    name: str
    region: str
    capacity: int = 5_000

    @property
    def multics(self) -> str:
        """The name of its MultiCS host."""
        return f"mc-{self.name}"

    @property
    def oscam(self) -> str:
        """The name of its OSCam host."""
        return f"os-{self.name}"


@dataclass(frozen=True, slots=True)
class Login:
    """An account that was on a host before twinline came."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Site:
    """One host: where its files are, where its daemon listens, and who was there before us."""

    name: str
    protocol: Literal["multics", "oscam"]
    folder: Path
    client_port: int
    status_port: int
    status_password: str = field(repr=False)
    foreign: tuple[Login, Login]

    @property
    def daemon_folder(self) -> Path:
        """Where the daemon keeps its config, and runs."""
        return self.folder / "daemon"

    @property
    def accounts_file(self) -> Path:
        """The only file that twinline writes accounts to."""
        return self.daemon_folder / ("accounts.cfg" if self.protocol == "multics" else "oscam.user")

    @property
    def state_dir(self) -> Path:
        """What twinline's helper may use."""
        return self.folder / "state"

    @property
    def main_file(self) -> Path:
        """The daemon's own config, which twinline never touches."""
        return self.daemon_folder / ("multics.cfg" if self.protocol == "multics" else "oscam.conf")

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the daemon's program is told about its files."""
        if self.protocol == "multics":
            return ("-C", str(self.main_file))
        return ("-c", str(self.daemon_folder), "--pidfile", str(self.daemon_folder / "oscam.pid"))

    def main_text(self) -> str:
        """What stands in `main_file`."""
        if self.protocol == "multics":
            return (
                f"HTTP PORT: {self.status_port}\n"
                "HTTP USER: admin\n"
                f"HTTP PASS: {self.status_password}\n"
                "HTTP EDITOR: OFF\n"
                "\n"
                "[Sandbox]\n"
                "\n"
                f"CCCAM PORT: {self.client_port}\n"
                f'INCLUDE: "{self.accounts_file}"\n'
            )
        return (
            "[global]\n"
            "reload_useraccounts = 0\n"
            "\n"
            "[webif]\n"
            f"httpport = {self.status_port}\n"
            "httpuser = admin\n"
            f"httppwd = {self.status_password}\n"
            "httphideidleclients = 0\n"
            "\n"
            "[cccam]\n"
            f"port = {self.client_port}\n"
        )

    def accounts_text(self) -> str:
        """The accounts file as twinline finds it."""
        first, second = self.foreign
        if self.protocol == "multics":
            return (
                "# Accounts of this box, kept by hand.\n"
                f"F: {first.user} {first.password}\n"
                f"F: {second.user} {second.password} 0 {{ enddate=2037-12-31 }}  # Bob from next door\n"
            )
        return (
            "# Accounts of this box, kept by hand.\n"
            "[account]\n"
            f"user = {first.user}\n"
            f"pwd = {first.password}\n"
            "group = 1\n"
            "\n"
            "[account]\n"
            f"user = {second.user}\n"
            f"pwd = {second.password}\n"
            "group = 1\n"
            "expdate = 2037-12-31\n"
            "description = Bob from next door\n"
        )


@dataclass(frozen=True, slots=True)
class HostPlan:
    """A site, and how its box is reached."""

    site: Site
    ssh_port: int
    ssh_user: str


def inventory_text(pairs: Sequence[PairPlan], hosts: Sequence[HostPlan], *, timescale: float) -> str:
    """The inventory of these pairs; beside it are the clients' keys, `keys/HOST`, and `known_hosts`."""
    return "\n".join((_SERVICE, *(_host(host, timescale) for host in hosts), *(_pair(pair) for pair in pairs)))


_SERVICE = """\
# The embedded world: two or more boxes on this machine, made for trying things out.

[service]
name = "Sandbox Lines"
rights_holder = "Sandbox Broadcasting Ltd. (invented)"
abuse_contact = "abuse@example.com"
support_email = "support@example.com"
mail_from = "Sandbox Lines <lines@example.com>"
public_url = "https://lines.example.com"
"""


def _host(host: HostPlan, timescale: float) -> str:
    site = host.site
    status_url = f"http://{ADDRESS}:{site.status_port}"
    lines = [
        "[[host]]",
        f"name = {_text(site.name)}",
        f"protocol = {_text(site.protocol)}",
        f"ssh = {{ address = {_text(ADDRESS)}, port = {host.ssh_port}, user = {_text(host.ssh_user)}, "
        f'key = {_text(f"keys/{site.name}")}, known_hosts = "known_hosts" }}',
        f"accounts_file = {_text(str(site.accounts_file))}",
        f"state_dir = {_text(str(site.state_dir))}",
        f"timezone = {_text(ZONE)}",
        f"public = {{ address = {_text(ADDRESS)}, port = {site.client_port} }}",
        f'status = {{ url = {_text(status_url)}, user = "admin", password = {_text(site.status_password)} }}',
    ]
    if site.protocol == "oscam":
        lines.append("groups = [1]")
    else:
        lines.append(
            f"# A real daemon needs {_QUIET_SECONDS}; the clock of this stand-in runs {1 / timescale:g} times as fast."
        )
        lines.append(f"quiet_seconds = {round(_QUIET_SECONDS * timescale, 6)}")
    return "\n".join((*lines, ""))


def _pair(pair: PairPlan) -> str:
    return (
        "[[pair]]\n"
        f"name = {_text(pair.name)}\n"
        f"region = {_text(pair.region)}\n"
        f"multics = {_text(pair.multics)}\n"
        f"oscam = {_text(pair.oscam)}\n"
        f"capacity = {pair.capacity}\n"
    )


def _text(value: str) -> str:
    # JSON's string form is one of TOML's.
    return json.dumps(value)
