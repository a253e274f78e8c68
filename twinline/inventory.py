"""The inventory: which service, hosts and pairs there are, read from the operator's TOML file.

Every mistake in the file is reported at once, each as a sentence that names key, value and remedy. Hosts and
pairs are counted from 1 in these sentences, as a person counts the tables in the file.
"""

import ipaddress
import posixpath
import re
import tomllib
import zoneinfo
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar, cast
from urllib.parse import urlsplit

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from twinline.errors import Misconfigured
from twinline.messages import Protocol
from twinline.pairing import HostOutline, PairOutline, conflicts, label
from twinline.problems import Problem, Table, broken_rule, nearest, problems_of, quoted, unknown_host, unknown_key

DEFAULT_CAPACITY: Final = 5_000
COMFORTABLE_CAPACITY: Final = 10_000
"""Lines on a pair above which reloads take long: both daemons reload in quadratic time (daemons.md, Reload)."""

_RECORD_WIDTHS: Final[dict[str, int]] = {"multics": 128, "oscam": 512}
# MultiCS is deaf for 2.0 s + parse + merge after a trigger (daemons.md, Reload); OSCam tells when it is done.
_QUIET_SECONDS: Final[dict[str, float]] = {"multics": 3.0, "oscam": 0.0}

_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.?", re.ASCII)


# --- values -----------------------------------------------------------------------------------------


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("not one line of text")
    return text.strip()


def _remote_file(text: str) -> str:
    if not text.startswith("/") or text.endswith("/") or not text.isprintable():
        raise ValueError("not the absolute path of a file")
    return posixpath.normpath(text)


def _remote_folder(text: str) -> str:
    return _remote_file(text.removesuffix("/"))


def _mail_address(text: str) -> str:
    try:
        validate_email(_one_line(text), allow_display_name=True, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError:
        raise ValueError("not a mail address") from None
    return text


def _web_address(text: str, *, schemes: Sequence[str]) -> str:
    url = urlsplit(text)
    if url.scheme not in schemes or not url.hostname or not text.isprintable() or " " in text:
        raise ValueError("not a web address")
    if url.username is not None or url.query or url.fragment:
        raise ValueError("more than a web address")
    _ = url.port  # raises ValueError when it is no port number
    return text.rstrip("/")


def _public_url(text: str) -> str:
    return _web_address(text, schemes=("https", "http"))


def _status_url(text: str) -> str:
    return _web_address(text, schemes=("http",))


def _network_name(text: str) -> str:
    if _HOST_NAME.fullmatch(text):
        return text
    return str(ipaddress.ip_address(text))


def _zone(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return zoneinfo.ZoneInfo(value)
    # Not found, a path that leaves the database, and one of its folders.
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        guess = nearest(value, zoneinfo.available_timezones())
        raise broken_rule(
            f"is {quoted(value)}, but must be a time zone of the IANA database",
            f'{guess}Write the zone that the daemon runs in, such as "Europe/Berlin" or "UTC".',
        ) from None


def _local_path(path: Path, info: ValidationInfo) -> Path:
    # "~" would be the worker's home, not the author's; and a key's text in the place of its path must not pass.
    if path == Path() or path.parts[0].startswith("~") or not str(path).isprintable():
        raise ValueError("not a plain path")
    folder = cast("Mapping[str, Path]", info.context or {}).get("folder")
    return path if folder is None else folder / path


_NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,31}$"
_NAME_RULE: Final = "a-z, 0-9 and hyphens, not starting with a hyphen, at most 32 characters"
_Name = Annotated[str, Field(pattern=_NAME_PATTERN)]
_Line = Annotated[str, AfterValidator(_one_line)]
_RemoteFile = Annotated[str, AfterValidator(_remote_file)]
_RemoteFolder = Annotated[str, AfterValidator(_remote_folder)]
_LocalPath = Annotated[Path, AfterValidator(_local_path)]
_Address = Annotated[str, AfterValidator(_network_name)]
_Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
_Group = Annotated[int, Field(strict=True, ge=1, le=64)]
_Zone = Annotated[zoneinfo.ZoneInfo, BeforeValidator(_zone)]


# --- models -----------------------------------------------------------------------------------------
# Each field's description says what its value must be, and its example what to write: both reach the operator.


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Service(_Table):
    """Who runs the service, and who answers for it."""

    name: _Line = Field(description="the name that customers know the service by", examples=["Example Lines"])
    rights_holder: _Line = Field(
        description="who holds the rights to what the hosts serve (a person or company)",
        examples=["Example Broadcasting Ltd."],
    )
    abuse_contact: _Line = Field(
        description="where anybody can report abuse; it is shown in every mail and on the public pages",
        examples=["abuse@example.com"],
    )
    support_email: Annotated[str, AfterValidator(_mail_address)] = Field(
        description="a mail address", examples=["support@example.com"]
    )
    mail_from: Annotated[str, AfterValidator(_mail_address)] = Field(
        description="a mail address", examples=["Example Lines <lines@example.com>"]
    )
    public_url: Annotated[str, AfterValidator(_public_url)] = Field(
        description="an https:// address without query and password", examples=["https://lines.example.com"]
    )


class SshAccess(_Table):
    """How to reach a host over SSH; both files are on this machine."""

    address: _Address = Field(description="a host name or IP address", examples=["mc1.example.com"])
    port: _Port = Field(default=22, description="a whole number from 1 to 65535", examples=[22])
    user: _Line = Field(description="the user to log in as", examples=["twinline"])
    key: _LocalPath = Field(
        description="the path of the private key, relative to the inventory or absolute", examples=["keys/mc1"]
    )
    known_hosts: _LocalPath = Field(
        description="the path of a known_hosts file with the host's key, relative to the inventory or absolute",
        examples=["known_hosts"],
    )


class PublicAddress(_Table):
    """Where customers connect to."""

    address: _Address = Field(description="a host name or IP address", examples=["eu1.example.com"])
    port: _Port = Field(description="a whole number from 1 to 65535", examples=[12000])


class StatusPage(_Table):
    """The daemon's own web interface, as seen from its host."""

    url: Annotated[str, AfterValidator(_status_url)] = Field(
        description="an http:// address as seen from the host itself, without user and password",
        examples=["http://127.0.0.1:8888"],
    )
    user: _Line = Field(description="the user name of the daemon's web interface", examples=["admin"])
    password: SecretStr = Field(min_length=1, description="the password of the daemon's web interface", examples=["…"])


class Reload(_Table):
    """How an OSCam is told to read its accounts again."""

    method: Literal["webif", "sighup", "command"] = Field(
        default="webif", description='"webif", "sighup" or "command"', examples=["webif"]
    )
    argv: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        validate_default=True,
        description="a list of texts: the program and its arguments",
        examples=[["/usr/local/bin/reload-accounts"]],
    )
    pid_file: _RemoteFile | None = Field(
        default=None,
        validate_default=True,
        description="an absolute path on the host",
        examples=["/run/oscam.pid"],
    )

    @field_validator("argv")
    @classmethod
    def _argv_belongs(cls, argv: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        method = info.data.get("method")
        if method == "command" and not argv:
            raise broken_rule(
                'is missing, but method = "command" needs it',
                "Write argv = [program, argument, …], or leave method out to reload through the web interface.",
            )
        if method in ("webif", "sighup") and argv:
            raise broken_rule(
                f'stands beside method = "{method}", which runs no command',
                'Remove argv, or write method = "command".',
            )
        if _starts_oscam(argv):
            raise broken_rule(
                "runs oscam itself: with or without -d 4096 that starts a second daemon on the same ports "
                "and reloads nothing",
                'Use method = "webif"; -d only sets what the new daemon logs.',
            )
        return argv

    @field_validator("pid_file")
    @classmethod
    def _pid_file_belongs(cls, pid_file: str | None, info: ValidationInfo) -> str | None:
        method = info.data.get("method")
        if method == "sighup" and pid_file is None:
            raise broken_rule(
                'is missing, but method = "sighup" needs it',
                "Write the file given to oscam with -B, or leave method out to reload through the web interface.",
            )
        if method in ("webif", "command") and pid_file is not None:
            raise broken_rule(
                f'stands beside method = "{method}", which signals nobody',
                'Remove pid_file, or write method = "sighup".',
            )
        return pid_file


def _starts_oscam(argv: Sequence[str]) -> bool:
    if not argv:
        return False
    if posixpath.basename(argv[0]) == "oscam":
        return True
    # Through sudo, or inside `sh -c "…"`: an option after the name tells it from `systemctl reload oscam`.
    words = [word for argument in argv for word in argument.split()]
    return any(
        posixpath.basename(word.strip("\"'")) == "oscam" and following.startswith("-")
        for word, following in pairwise(words)
    )


def _default_width(data: dict[str, Any]) -> int:
    return _RECORD_WIDTHS[data["protocol"]]


def _default_quiet(data: dict[str, Any]) -> float:
    return _QUIET_SECONDS[data["protocol"]]


def _default_reload(data: dict[str, Any]) -> Reload | None:
    return Reload() if data["protocol"] == "oscam" else None


class Host(_Table):
    """One box running one daemon."""

    name: _Name = Field(description=_NAME_RULE, examples=["mc-eu1"])
    protocol: Protocol = Field(description='"multics" or "oscam"', examples=["multics"])
    ssh: SshAccess = Field(
        description="a table",
        examples=[{"address": "mc1.example.com", "user": "twinline", "key": "id", "known_hosts": "known_hosts"}],
    )
    accounts_file: _RemoteFile = Field(
        description="the absolute path of the account file on the host", examples=["/var/etc/accounts.cfg"]
    )
    state_dir: _RemoteFolder = Field(
        description="an absolute path on the host, for twinline alone", examples=["/var/lib/twinline"]
    )
    timezone: _Zone = Field(description="the time zone that the daemon runs in", examples=["Europe/Berlin"])
    record_width: Annotated[int, Field(strict=True)] = Field(
        default_factory=_default_width,
        description="a power of two from 128 (OSCam: 512) to 4096, in bytes",
        examples=[512],
    )
    public: PublicAddress = Field(description="a table", examples=[{"address": "eu1.example.com", "port": 12000}])
    status: StatusPage = Field(
        description="a table", examples=[{"url": "http://127.0.0.1:8888", "user": "admin", "password": "…"}]
    )
    server_id: Annotated[int, Field(strict=True, ge=1)] = Field(
        default=1, description="a whole number from 1: the CCcam server of the MultiCS", examples=[1]
    )
    groups: tuple[_Group, ...] = Field(
        default=(),
        validate_default=True,
        description="a list of whole numbers from 1 to 64: the OSCam groups that a line may use",
        examples=[[1]],
    )
    reload: Reload | None = Field(
        default_factory=_default_reload,
        description="a table: how OSCam is told to read its accounts again",
        examples=[{"method": "webif"}],
    )
    quiet_seconds: Annotated[float, Field(strict=True, ge=0, le=600, allow_inf_nan=False)] = Field(
        default_factory=_default_quiet,
        description="seconds from 0 to 600: how long to keep silent after a reload was triggered",
        examples=[3.0],
    )

    @field_validator("record_width")
    @classmethod
    def _width_fits(cls, width: int, info: ValidationInfo) -> int:
        least = 512 if info.data.get("protocol") == "oscam" else 128
        if not least <= width <= 4096 or width & (width - 1):
            raise ValueError("no such width")
        return width

    @field_validator("server_id")
    @classmethod
    def _server_id_is_for_multics(cls, server_id: int, info: ValidationInfo) -> int:
        if info.data.get("protocol") == "oscam":
            raise broken_rule("has no meaning for an oscam host", "Remove server_id.")
        return server_id

    @field_validator("groups")
    @classmethod
    def _groups_are_for_oscam(cls, groups: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        protocol = info.data.get("protocol")
        if protocol == "oscam" and not groups:
            raise broken_rule(
                "is missing, but an account without a group is served nothing",
                "Add groups = [1] with the numbers of the reader groups that a line may use.",
            )
        if protocol == "multics" and groups:
            raise broken_rule("has no meaning for a multics host", "Remove groups.")
        return groups

    @field_validator("reload")
    @classmethod
    def _reload_is_for_oscam(cls, reload: Reload | None, info: ValidationInfo) -> Reload | None:
        if info.data.get("protocol") == "multics" and reload is not None:
            raise broken_rule(
                "has no meaning for a multics host",
                "Remove reload: MultiCS reads its accounts again whenever the file is written.",
            )
        return reload


class Pair(_Table):
    """One MultiCS host and one OSCam host in a region; a line lives on both."""

    name: _Name = Field(description=_NAME_RULE, examples=["eu1"])
    region: _Name = Field(description=_NAME_RULE, examples=["eu"])
    multics: _Name = Field(description="the name of a multics host", examples=["mc-eu1"])
    oscam: _Name = Field(description="the name of an oscam host", examples=["os-eu1"])
    capacity: Annotated[int, Field(strict=True, ge=1)] = Field(
        default=DEFAULT_CAPACITY,
        description="a whole number from 1: the lines that this pair may hold",
        examples=[DEFAULT_CAPACITY],
    )


class Inventory(_Table):
    """Everything that twinline serves with; made by `load_inventory`, or from parts that fit together."""

    service: Service = Field(description="a table [service]")
    hosts: tuple[Host, ...]
    pairs: tuple[Pair, ...]

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        hosts = [HostOutline.of(number, host.model_dump()) for number, host in enumerate(self.hosts, 1)]
        pairs = [PairOutline.of(number, pair.model_dump()) for number, pair in enumerate(self.pairs, 1)]
        problem = next(conflicts(hosts, pairs), None)
        if problem is not None:
            raise ValueError(problem.sentence)
        return self

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works but will hurt, a sentence each."""
        return tuple(
            f'pair[{number}] "{pair.name}": capacity is {pair.capacity}; above {COMFORTABLE_CAPACITY} lines the '
            "daemons need long for each reload, so prefer another pair"
            for number, pair in enumerate(self.pairs, 1)
            if pair.capacity > COMFORTABLE_CAPACITY
        )

    def host(self, name: str) -> Host:
        """The host of that name; raises UnknownHost when there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise unknown_host(name, [host.name for host in self.hosts])

    def pair(self, name: str) -> Pair:
        """The pair of that name; raises Misconfigured when there is none."""
        for pair in self.pairs:
            if pair.name == name:
                return pair
        names = [pair.name for pair in self.pairs]
        raise Misconfigured(
            f"the inventory has no pair {quoted(name)}",
            hint=f"{nearest(name, names)}Its pairs are: {', '.join(names) or 'none'}.",
        )

    def regions(self) -> tuple[str, ...]:
        """The regions that have a pair, in the order of the file."""
        return tuple(dict.fromkeys(pair.region for pair in self.pairs))


# --- the file ---------------------------------------------------------------------------------------

_TABLES: Final = ("service", "host", "pair")
_Model = TypeVar("_Model", Service, Host, Pair)


def load_inventory(path: Path) -> Inventory:
    """Read and check the file; raises Misconfigured, whose message lists every mistake, the first one first.

    The paths of SSH keys and known hosts are taken relative to the file's folder.
    """
    return _Reader(path).inventory()


def _misconfigured(path: Path, problems: Sequence[Problem]) -> Misconfigured:
    first, *others = problems
    lines = [f"{path}: {first.sentence}", *(f"{other.sentence}. {other.hint}" for other in others)]
    return Misconfigured("\n  also: ".join(lines), hint=first.hint)


def _read(path: Path) -> Table:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Misconfigured(
            f"the inventory {path} does not exist", hint="Set TWINLINE_INVENTORY to the inventory file."
        ) from None
    except OSError as error:
        raise Misconfigured(
            f"the inventory {path} cannot be read: {error.strerror}",
            hint="Set TWINLINE_INVENTORY to a file that this user may read.",
        ) from None
    except UnicodeDecodeError as error:
        raise Misconfigured(
            f"the inventory {path} is not UTF-8 at byte {error.start}", hint="Save it as UTF-8."
        ) from None
    except tomllib.TOMLDecodeError as error:
        # Only the place: the parser's own words may quote what stands there.
        place = re.search(r"\(at (.*)\)$", str(error))
        raise Misconfigured(
            f"the inventory {path} is not valid TOML at {place[1] if place else 'some place'}",
            hint='Repair it there: texts stand in "quotes", and each key once in its table.',
        ) from None


class _Reader:
    """Reads one file and gathers every problem on the way."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._context = {"folder": path.absolute().parent}
        self._problems: list[Problem] = []

    def inventory(self) -> Inventory:
        document = _read(self._path)
        self._problems += [unknown_key("", key, _TABLES) for key in document if key not in _TABLES]
        service = self._service(document.get("service"))
        host_tables = self._array("host", document.get("host"))
        pair_tables = self._array("pair", document.get("pair"))
        hosts = [self._checked(Host, "host", *table) for table in enumerate(host_tables, 1)]
        pairs = [self._checked(Pair, "pair", *table) for table in enumerate(pair_tables, 1)]
        self._problems += conflicts(
            [HostOutline.of(*table) for table in enumerate(host_tables, 1)],
            [PairOutline.of(*table) for table in enumerate(pair_tables, 1)],
        )
        if self._problems or service is None:
            raise _misconfigured(self._path, self._problems)
        return Inventory(
            service=service,
            hosts=tuple(host for host in hosts if host is not None),
            pairs=tuple(pair for pair in pairs if pair is not None),
        )

    def _service(self, table: object) -> Service | None:
        if not isinstance(table, dict):
            self._problems.append(
                Problem(
                    f"[service] {'is missing' if table is None else 'is not a table'}",
                    "Add a table [service] with rights_holder, abuse_contact and the rest: twinline serves only "
                    "operators who hold the rights to what they serve.",
                )
            )
            return None
        return self._valid(Service, "service.", cast("Table", table))

    def _array(self, kind: str, tables: object) -> list[Table]:
        entries = cast("list[object]", tables) if isinstance(tables, list) else []
        if entries and all(isinstance(entry, dict) for entry in entries):
            return cast("list[Table]", entries)
        what = "is not a list of tables" if tables else "is missing"
        self._problems.append(Problem(f"[[{kind}]] {what}", f"Write each {kind} under a line [[{kind}]] of its own."))
        return []

    def _checked(self, model: type[_Model], kind: str, number: int, table: Table) -> _Model | None:
        return self._valid(model, label(kind, number, table.get("name")), table)

    def _valid(self, model: type[_Model], prefix: str, table: Table) -> _Model | None:
        try:
            return model.model_validate(table, context=self._context)
        except ValidationError as error:
            self._problems += problems_of(prefix, model, error)
            return None
