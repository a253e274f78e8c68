"""What a daemon makes of an accounts file, by the stand-ins' own parsers: judges that share no code with the engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from twinline.hosts.daemon import Daemon, Trigger
from twinline.hosts.multics import MultiCS
from twinline.hosts.oscam import OSCam
from twinline.messages import Protocol
from twinline.sandbox import multics_parser, oscam_parser

UTC = ZoneInfo("UTC")
MAIN = b'[P1]\nCCCAM PORT: 12000\nINCLUDE: "accounts"\n'


@dataclass(frozen=True)
class Seen:
    """One account as a daemon would serve it."""

    user: str
    password: str = field(repr=False)
    enabled: bool
    end: object
    """The daemon's own form of the end date."""
    mark: str


def seen_by_multics(data: bytes) -> list[Seen]:
    """Every account that MultiCS loads from an accounts-only include, in order."""
    config = multics_parser.parse("main", {"main": MAIN, "accounts": data}.get)
    return [
        Seen(each.user, each.password, enabled=True, end=each.end, mark=dict(reversed(each.info)).get("rev", ""))
        for each in config.records
    ]


def seen_by_oscam(data: bytes) -> list[Seen]:
    """Every account that OSCam loads, in order."""
    return [
        Seen(each.user, each.password, enabled=not each.disabled, end=each.expires, mark=each.description)
        for each in oscam_parser.parse_users(data).accounts
    ]


@dataclass(frozen=True)
class Kind:
    """One kind of daemon: the engine's side of it, and the judge."""

    protocol: Protocol
    daemon: Daemon
    see: Callable[[bytes], list[Seen]] = field(repr=False)

    def served(self, data: bytes) -> list[Seen]:
        """The accounts that customers can use."""
        return [account for account in self.see(data) if account.enabled]

    def pages_show(self, accounts: Sequence[Seen]) -> list[Seen]:
        """As much of these accounts as the daemon's own pages say: MultiCS shows nobody's password."""
        return [replace(each, password="") if self.protocol == "multics" else each for each in accounts]


def daemon_of(protocol: Protocol, *, width: int | None = None, zone: ZoneInfo = UTC) -> Daemon:
    """The engine's side of a host with nothing special about it."""
    if protocol == "multics":
        return MultiCS(width=width or 128, zone=zone, server_id=1, deadline=1.5)
    trigger = Trigger("get", path="/reload")
    return OSCam(width=width or 512, zone=zone, groups=(1,), reload=trigger, deadline=1.5)


def kind_of(protocol: Protocol) -> Kind:
    """The engine's side and the judge of one protocol."""
    return Kind(protocol, daemon_of(protocol), seen_by_multics if protocol == "multics" else seen_by_oscam)


KINDS: Sequence[Kind] = (kind_of("multics"), kind_of("oscam"))


def end_in(protocol: Protocol, ends_at: datetime) -> object:
    """An end at a full hour of UTC as the judge shows it."""
    if protocol == "multics":
        return multics_parser.EndDate(ends_at.year, ends_at.month, ends_at.day, ends_at.hour)
    return oscam_parser.end_of_day(ends_at.strftime("%Y-%m-%d"))
