"""What OSCam 2.26 makes of `oscam.user` and `oscam.conf`, and how it writes `oscam.user` itself.

Pure but for the C library's time zone (`TZ` of the process). Facts: daemons.md, tables *Record* and *Expiry*,
and the golden corpus (oscam.json). Text is Latin-1, one character a byte.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from twinline.sandbox.cfile import c_lines, leading_number

READ_BYTES = 16_383
USER_BYTES = 63
_SHORTEST_LINE = 3
_DAY = 86_400

# Keys that the daemon keeps and writes back although the stand-in gives them no meaning.
_KEPT_KEYS = frozenset(
    (
        "au",
        "aulow",
        "allowedprotocols",
        "allowedtimeframe",
        "betatunnel",
        "caid",
        "cccignorereshare",
        "cccmaxhops",
        "cccreshare",
        "cccstealth",
        "chid",
        "class",
        "emmreassembly",
        "failban",
        "hostname",
        "ident",
        "keepalive",
        "monlevel",
        "numusers",
        "penalty",
        "services",
        "sleep",
        "sleepsend",
        "suppresscmd08",
        "umaxidle",
    )
)


@dataclass(frozen=True, slots=True)
class Account:
    """One account as loaded; `expires` is a Unix time, 0 for none."""

    user: str = ""
    password: str = field(default="", repr=False)
    disabled: int = 0
    expires: int = 0
    description: str = ""
    group: tuple[int, ...] = ()
    uniq: int = 0
    max_connections: int = 1
    kept: tuple[tuple[str, str], ...] = ()

    def expired(self, now: float) -> bool:
        """Say whether the end date has passed; it denies service only, never the login."""
        return self.expires != 0 and self.expires < now

    @property
    def group_text(self) -> str:
        """The groups as the daemon prints them."""
        return ",".join(str(number) for number in self.group)


@dataclass(frozen=True, slots=True)
class UserDb:
    """The accounts of one reading in file order, and the warnings the daemon prints on stderr."""

    accounts: tuple[Account, ...]
    warnings: tuple[str, ...] = ()

    def summary(self, now: float) -> str:
        """Return the daemon's log line for this reading."""
        expired = sum(account.expired(now) for account in self.accounts)
        disabled = sum(account.disabled != 0 for account in self.accounts)
        return f"userdb reloaded: {len(self.accounts)} accounts loaded, {expired} expired, {disabled} disabled"


def parse_users(data: bytes) -> UserDb:
    """Load the bytes of an `oscam.user`."""
    loading = _Loading()
    for raw in c_lines(data, most=READ_BYTES):
        line = trim(raw)
        if len(line) < _SHORTEST_LINE or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            loading.section(known=line[1:-1].lower() == "account")
        else:
            key, equals, value = line.partition("=")
            if equals:
                loading.key(trim(key).lower(), trim(value))
    return loading.done()


def trim(text: str) -> str:
    """Trim as the daemon does: the end always, the start only if it is a blank and not a tab."""
    text = text.rstrip(" \t\r\n")
    return text.lstrip(" \t\r\n") if text.startswith(" ") else text


def apply_key(account: Account, key: str, value: str) -> Account | None:
    """Return the account with one key set (`user` excepted), or None for a key the daemon does not know."""
    if (setter := _SETTERS.get(key)) is not None:
        return setter(account, value)
    if key not in _KEPT_KEYS:
        return None
    others = tuple(pair for pair in account.kept if pair[0] != key)
    return replace(account, kept=(*others, (key, value)) if value else others)


_SETTERS: dict[str, Callable[[Account, str], Account]] = {
    "pwd": lambda account, value: replace(account, password=value),
    "disabled": lambda account, value: replace(account, disabled=leading_number(value) & 0xFF),
    "expdate": lambda account, value: replace(account, expires=end_of_day(value)),
    "description": lambda account, value: replace(account, description=value),
    "group": lambda account, value: replace(account, group=_groups(value)),
    "uniq": lambda account, value: replace(account, uniq=leading_number(value) & 0xFF),
    "max_connections": lambda account, value: replace(account, max_connections=leading_number(value) if value else 1),
}


def _groups(value: str) -> tuple[int, ...]:
    numbers = {leading_number(part) for part in value.split(",")}
    return tuple(sorted(number for number in numbers if 1 <= number <= 64))


def end_of_day(value: str) -> int:
    """Return the last second of the written day in the daemon's zone, by the C library's normalising mktime.

    Anything without digits becomes a day before history, hence expired at once; an empty value is no date.
    """
    if not value:
        return 0
    parts = [leading_number(part) for part in value.replace("/", "-").split("-") if part][:3]
    # What is not written stays 0 in the C struct, where January is 0: the last day of the month before.
    year, month, day = (*parts, *(0, 1, 0)[len(parts) :])
    try:
        return int(time.mktime((year, month, day, 23, 59, 59, 0, 0, -1)))
    except OverflowError:
        # The C function answers -1, which the daemon stores like any other time.
        return -1


def api_date(expires: int) -> str:
    """Return the end date as the API prints it: the day in UTC, empty for none, odd before 1970."""
    if expires < 0:
        return f"1970-01-{int(expires / _DAY) + 1:02d}"
    if expires < _DAY:
        return ""
    year, month, day = _civil(expires // _DAY)
    return f"{year:04d}-{month:02d}-{day:02d}"


def _civil(days: int) -> tuple[int, int, int]:
    # Python's dates end in the year 9999, the daemon's do not: whole 400-year cycles are set aside.
    cycles, rest = divmod(days, 146_097)
    moment = time.gmtime(rest * _DAY)
    return moment.tm_year + 400 * cycles, moment.tm_mon, moment.tm_mday


def render_users(accounts: tuple[Account, ...]) -> bytes:
    """Return the whole file as the daemon writes it after a change in its web pages.

    Comments, unknown keys and free slots are gone; keys at their default are left out; the date is local.
    """
    text = [
        "# oscam.user generated automatically by Streamboard OSCAM 2.26.01-11942\n",
        "# Read more: https://git.streamboard.tv/common/oscam/-/blob/master/Distribution/doc/txt/oscam.user.txt\n",
    ]
    for account in accounts:
        text.append("\n[account]\n")
        text.extend(f"{key:<30}= {value}\n" for key, value in _written_keys(account))
    return "".join(text).encode("latin-1")


def _written_keys(account: Account) -> list[tuple[str, str]]:
    pairs = [
        ("disabled", str(account.disabled) if account.disabled else ""),
        ("user", account.user),
        ("pwd", account.password),
        ("description", account.description),
        ("expdate", _local_date(account.expires)),
        ("uniq", str(account.uniq) if account.uniq else ""),
        ("max_connections", str(account.max_connections) if account.max_connections != 1 else ""),
        *account.kept,
        ("group", account.group_text),
    ]
    return [(key, value) for key, value in pairs if value]


def _local_date(expires: int) -> str:
    if expires == 0:
        return ""
    moment = time.localtime(expires)
    return f"{moment.tm_year:04d}-{moment.tm_mon:02d}-{moment.tm_mday:02d}"


def parse_conf(data: bytes) -> Mapping[str, Mapping[str, str]]:
    """Read an `oscam.conf` into sections of keys; both in lower case, the last of equal keys wins."""
    sections: dict[str, dict[str, str]] = {}
    keys: dict[str, str] = {}
    for raw in c_lines(data, most=READ_BYTES):
        line = trim(raw)
        if len(line) < _SHORTEST_LINE or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            keys = sections.setdefault(line[1:-1].lower(), {})
        else:
            key, equals, value = line.partition("=")
            if equals:
                keys[trim(key).lower()] = trim(value)
    return sections


class _Loading:
    """The accounts read so far, with names indexed so that duplicates are found without a second loop."""

    def __init__(self) -> None:
        self._accounts: list[Account] = []
        self._places: dict[str, list[int]] = {}
        self._current: Account | None = None
        self._known = False
        self._warnings: list[str] = []

    def section(self, *, known: bool) -> None:
        self._close()
        self._current = Account()
        self._known = known

    def key(self, key: str, value: str) -> None:
        if self._current is None or not self._known:
            return
        if key == "user":
            self._current = replace(self._current, user=self._free_name(value)[:USER_BYTES])
            return
        changed = apply_key(self._current, key, value)
        if changed is None:
            self._warn(f"Warning: keyword '{key}' in account section not recognized")
        else:
            self._current = changed

    def done(self) -> UserDb:
        self._close()
        return UserDb(tuple(self._accounts), tuple(self._warnings))

    def _close(self) -> None:
        if self._current is not None:
            self._places.setdefault(self._current.user, []).append(len(self._accounts))
            self._accounts.append(self._current)

    def _free_name(self, name: str) -> str:
        # One pass over the list, this record itself last: each hit renames and the pass goes on from there.
        place = 0
        while (hit := self._next_place(name, place)) is not None:
            self._warn(f"Warning: duplicate account '{name}'")
            if len(name) + 2 <= USER_BYTES:
                name += "_x"
            place = hit + 1
        return name

    def _next_place(self, name: str, start: int) -> int | None:
        places = self._places.get(name, [])
        index = bisect_left(places, start)
        if index < len(places):
            return places[index]
        own = len(self._accounts)
        if start <= own and self._current is not None and self._current.user == name:
            return own
        return None

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)
