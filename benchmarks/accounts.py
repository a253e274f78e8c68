"""An accounts file that is edited in a benchmark, and what must stand in it after every edit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.big_host import BigHost, prepare
from tests.support.sshd import Sshd
from twinline.hosts.factory import daemon_for
from twinline.hosts.image import Image
from twinline.hosts.ports import Half
from twinline.inventory import Host
from twinline.messages import Protocol


class WrongEdit(Exception):
    """The file does not hold what was ordered: the time that this took is worth nothing."""


@dataclass(frozen=True)
class Change:
    """One record to bring about, for those who edit files without knowing what is in them."""

    username: str
    record: str
    """The whole line, without its newline."""


class Accounts:
    """One file of one host without a daemon, with an independent picture of what it should hold by now."""

    def __init__(self, big: BigHost, path: Path) -> None:
        self.big = big
        self.path = path
        self._expected = Image(daemon_for(big.host), path.read_bytes(), [], recover=False)

    @classmethod
    def prepared(cls, protocol: Protocol, folder: Path, sshd: Sshd, *, records: int, seed: int) -> "Accounts":
        """Write the file as the engine would have, with two records of others above."""
        big, site = prepare(protocol, folder, sshd, records=records, timescale=0.0, seed=seed)
        return cls(big, site.accounts_file)

    @property
    def size(self) -> int:
        """Bytes that it has to have."""
        return len(self._expected.data)

    @property
    def first_record(self) -> int:
        """Where the records of ours begin."""
        return min(self._expected.slots.values())

    def host_behind(self, port: int, known_hosts: Path) -> Host:
        """The same host, reached through a relay."""
        ssh = self.big.host.ssh.model_copy(update={"port": port, "known_hosts": known_hosts})
        return self.big.host.model_copy(update={"ssh": ssh})

    def renewed(self, count: int) -> list[Half]:
        """Lines whose end is moved from now on."""
        return self._expect(self.big.lines.renew(count))

    def added(self, count: int) -> list[Half]:
        """Lines that are new from now on."""
        return self._expect(self.big.lines.add(count))

    def _expect(self, halves: list[Half]) -> list[Half]:
        self._expected.plan(halves, ())
        return halves

    def changes(self, halves: Sequence[Half]) -> list[Change]:
        """What somebody else has to write for these lines."""
        width = self._expected.daemon.width
        offsets = {half.username: self._expected.slots[half.username] for half in halves}
        return [
            Change(name, self._expected.data[at : at + width - 1].decode("latin-1")) for name, at in offsets.items()
        ]

    def check(self) -> None:
        """Raise WrongEdit unless the file holds exactly what it should."""
        if self.path.read_bytes() != bytes(self._expected.data):
            raise WrongEdit(f"{self.path.name} is not what was ordered")


def behind(sshd: Sshd, port: int, folder: Path) -> Sshd:
    """The same server as it is known at a relay's port."""
    known_hosts = folder / f"known_hosts.{port}"
    known_hosts.write_text(sshd.known_hosts.read_text().replace(f":{sshd.port} ", f":{port} "))
    return replace(sshd, port=port, known_hosts=known_hosts)
