"""OSCam: one `[account]` section of fixed width per account, in the slot layout that is safe at every step.

Facts about the daemon are those of reference/daemons.md (*OSCam* and *A slot layout for `oscam.user`*). In a
slot every line begins with a switch, blank (live) or `#` (comment); the account is off (`disabled = 1`) until
its last line, `disabled = 0`, is live, because the last value of a key wins.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from twinline.hosts.daemon import (
    CANARY,
    MARK,
    SAFE_PASSWORD,
    USERNAME,
    Check,
    Details,
    Kick,
    Listing,
    Reading,
    Step,
    Stray,
    Survey,
    Trigger,
    local,
)
from twinline.hosts.ports import Half, Wanted

READ_BUFFER = 16_383
"""Bytes that the daemon takes as one line; the rest is parsed as a line of its own."""

NAME_BUFFER = 63
SHORTEST_LINE = 3
BLANKS = b" \t\r\n"


@dataclass
class Account:
    """One account as the daemon loads it from the file."""

    start: int
    end: int
    user: bytes = b""
    password: bytes = field(default=b"", repr=False)
    disabled: int = 0
    switch: bytes = b""
    """What `disabled` was read from."""
    values: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    """The last value of every other key."""
    renamed: bool = False
    pieces: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Spans of the header and key lines; what lies between them are comments and blanks."""


@dataclass(frozen=True)
class Line:
    """One read of the daemon, cut at NUL and trimmed as the daemon trims."""

    start: int
    end: int
    text: bytes


def _trim(text: bytes) -> bytes:
    """The daemon's own trim: a tab in front stays unless a blank comes first."""
    if text.startswith(b" "):
        text = text.lstrip(BLANKS)
    return text.rstrip(BLANKS)


def lines_of(data: bytes) -> Iterator[Line]:
    end = 0
    while end < len(data):
        line = _line(data, end)
        end = line.end
        yield line


def _line(data: bytes, start: int) -> Line:
    newline = data.find(b"\n", start, start + READ_BUFFER)
    end = newline + 1 if newline >= 0 else min(start + READ_BUFFER, len(data))
    return Line(start, end, _trim(data[start:end].split(b"\0", 1)[0]))


def _number(text: bytes) -> int:
    """C's atoi, then cut to 8 bits, as the daemon stores `disabled`."""
    match = re.match(rb"[ \t\n\v\f\r]*([+-]?\d+)", text)
    return int(match[1]) & 0xFF if match is not None else 0


def _unique(value: bytes, accounts: Sequence[Account]) -> bytes:
    """Later accounts of a name get `_x` added while it fits; the account itself is among those compared."""
    for other in accounts:
        if other.user == value and len(value) + 2 <= NAME_BUFFER:
            value += b"_x"
    return value


def is_header(text: bytes) -> bool:
    return text.startswith(b"[") and text.endswith(b"]")


class _Reading:
    """The accounts that the daemon has loaded so far, line by line."""

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self._names = {b""}
        self._reading = False

    def header(self, line: Line) -> None:
        """A section begins."""
        self.accounts.append(Account(line.start, line.end, pieces=[(line.start, line.end)]))
        self._reading = line.text.lower() == b"[account]"

    def key(self, line: Line) -> None:
        """A key of the section that began last, if that is an account."""
        if not self.accounts or not self._reading:
            return
        account = self.accounts[-1]
        account.end = line.end
        account.pieces.append((line.start, line.end))
        name, value = line.text.split(b"=", 1)
        name, value = _trim(name).lower(), _trim(value)
        if name == b"user":
            self.name(account, value)
        elif name == b"pwd":
            account.password = value
        elif name == b"disabled":
            account.disabled, account.switch = _number(value), value
        else:
            account.values[name] = value

    def name(self, account: Account, value: bytes) -> None:
        """Give the account its name, or what the daemon makes of one that is taken."""
        # Comparing with every account is for the rare case only: it is quadratic, as in the daemon.
        wanted = _unique(value, self.accounts) if value in self._names else value
        self._names.add(wanted[:NAME_BUFFER])
        account.renamed = wanted != value
        account.user = wanted[:NAME_BUFFER]

    def slot(self, account: Account, user: bytes) -> None:
        """A whole section at once, of which nobody needs to know more than the name."""
        self.accounts.append(account)
        self._reading = True
        self.name(account, user)


def _is_comment(line: Line) -> bool:
    return len(line.text) < SHORTEST_LINE or line.text.startswith(b"#")


def parse(data: bytes) -> list[Account]:
    """Every account that the daemon would load from these bytes, in its own order."""
    reading = _Reading()
    for line in lines_of(data):
        if _is_comment(line):
            continue
        if is_header(line.text):
            reading.header(line)
        elif b"=" in line.text:
            reading.key(line)
    return reading.accounts


def end_day(ends_at: datetime, zone: ZoneInfo) -> str:
    """`expdate` for an end: the local day that contains it; the daemon serves through 23:59:59 of that day.

    Where clocks go back at midnight that second comes twice, and the day counts only if the first one is not too early.
    """
    return _end_date(ends_at, zone).strftime("%Y-%m-%d")


def shown_day(ends_at: datetime, zone: ZoneInfo) -> str:
    """The same day as the API prints it, which is the UTC day of its last second."""
    return _last_second(_end_date(ends_at, zone), zone).strftime("%Y-%m-%d")


def _end_date(ends_at: datetime, zone: ZoneInfo) -> date:
    day = local(ends_at, zone).date()
    return day if ends_at <= _last_second(day, zone) + timedelta(seconds=1) else day + timedelta(days=1)


def _last_second(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(23, 59, 59), tzinfo=zone).astimezone(UTC)


READ_ONLY_PAGE = f"/oscamapi.html?part=userstats&label={CANARY}"
"""A page that is short however many are loaded; its header tells `httpreadonly`."""

READ_ONLY = r'<oscam [^>]*readonly="(\d)"'

_RELOADS_IF: Mapping[str, str] = {
    "get": "[webif] of oscam.conf does not say httpreadonly = 1",
    "signal": "[global] of oscam.conf says reload_useraccounts = 1",
    "argv": "reload.argv makes it read the file again",
}
"""What a reload needs, by its method; without it the daemon ignores the request, and says nothing."""

USER_WIDTH = 20
PASSWORD_WIDTH = 24
MARK_WIDTH = 19


@dataclass(frozen=True)
class Form:
    """The contents of a slot: every switch and every value."""

    kind: Literal["free", "off", "on"]
    user: str = "~" * USER_WIDTH
    passwords: tuple[str, str] = field(default=("~", "~"), repr=False)
    second_password: bool = False
    """Whether the second `pwd` line is live and so overrules the first; the same for the date below."""
    ends: tuple[str, str] = ("2000-01-01", "2000-01-01")
    second_end: bool = False
    mark: str = "~"

    @property
    def revision(self) -> int:
        return int(self.mark.split("-")[0])

    @property
    def password(self) -> str:
        return self.passwords[int(self.second_password)]

    @property
    def end(self) -> str:
        return self.ends[int(self.second_end)]


def _with(pair: tuple[str, str], index: int, value: str) -> tuple[str, str]:
    return (value, pair[1]) if index == 0 else (pair[0], value)


class OSCam:
    """OSCam on one host."""

    close_triggers = False
    may_replace = True
    sole_file = True
    status_auth: Literal["basic", "digest"] = "digest"

    def __init__(self, *, width: int, zone: ZoneInfo, groups: Sequence[int], reload: Trigger, deadline: float) -> None:
        self.width = width
        self.zone = zone
        self.groups = ",".join(str(group) for group in groups)
        self.reload = reload
        self.deadline = deadline
        self.unproven_hint = (
            f"look at the daemon's log; check that it reads this accounts_file and that {_RELOADS_IF[reload.method]}"
        )
        if len(self._render(Form("free"))) != width:
            raise ValueError(f"record_width {width} is too small for {len(groups)} groups")
        self._pattern = re.compile(self._template().encode())

    # -- the slot

    def _rows(self, form: Form) -> list[tuple[str, str]]:
        """Switch and text of each line between the header and the padding, from the top."""
        on = "#" if form.kind == "free" else " "
        return [
            (on, f"user = {form.user:<{USER_WIDTH}}"),
            (on, f"pwd = {form.passwords[0]:<{PASSWORD_WIDTH}}"),
            (" " if form.second_password else "#", f"pwd = {form.passwords[1]:<{PASSWORD_WIDTH}}"),
            (on, f"group = {self.groups}"),
            (on, "uniq = 1"),
            (on, "max_connections = 1"),
            (on, f"expdate = {form.ends[0]}"),
            (" " if form.second_end else "#", f"expdate = {form.ends[1]}"),
            (on, f"description = {form.mark:<{MARK_WIDTH}}"),
            (" " if form.kind == "on" else "#", "disabled = 0"),
        ]

    def _render(self, form: Form) -> bytes:
        head = "#[account] disabled = 1\n" if form.kind == "free" else " [account]\ndisabled = 1\n"
        body = head + "".join(f"{switch}{text}\n" for switch, text in self._rows(form))
        return (body + "#").encode("latin-1").ljust(self.width - 1) + b"\n"

    def _template(self) -> str:
        """Matches exactly what `_render` makes of a section that is not free, blanks and all."""
        rows = len(self._render(Form("free")).rstrip())
        return (
            rf" \[account\]\ndisabled = 1\n"
            rf" user = (?=.{{{USER_WIDTH}}}\n)(?P<user>{USERNAME}) *\n"
            rf" pwd = (?=.{{{PASSWORD_WIDTH}}}\n)(?P<password0>{SAFE_PASSWORD}) *\n"
            rf"(?P<second_password>[ #])pwd = (?=.{{{PASSWORD_WIDTH}}}\n)(?P<password1>{SAFE_PASSWORD}) *\n"
            rf" group = {re.escape(self.groups)}\n uniq = 1\n max_connections = 1\n"
            rf" expdate = (?P<end0>\d{{4}}-\d\d-\d\d)\n"
            rf"(?P<second_end>[ #])expdate = (?P<end1>\d{{4}}-\d\d-\d\d)\n"
            rf" description = (?=.{{{MARK_WIDTH}}}\n)(?P<mark>{MARK}) *\n"
            rf"(?P<commit>[ #])disabled = 0\n# {{{self.width - 1 - rows}}}\n"
        )

    def _read(self, slot: bytes) -> Form | None:
        """What a slot holds; None if it is not exactly one of ours."""
        match = self._pattern.fullmatch(slot)
        if match is None:
            return None
        text = {name: value.decode() for name, value in match.groupdict().items()}
        return Form(
            "on" if text["commit"] == " " else "off",
            text["user"],
            (text["password0"], text["password1"]),
            text["second_password"] == " ",
            (text["end0"], text["end1"]),
            text["second_end"] == " ",
            text["mark"],
        )

    # -- reading

    def survey(self, data: bytes) -> Survey:
        """Find our slots, free slots, strays of ours, and the names of everybody else."""
        found = Survey()
        reading, whole = self._slots_and_rest(data, found.free)
        for account in reading.accounts:
            slot = whole.get(account.start)
            if slot is not None and (name := slot["user"].decode()) not in found.slots:
                found.slots[name] = account.start
                if slot["commit"] != b" ":
                    found.parked.add(name)
            elif (moved := self._form_of(account if slot is None else self._in_full(data, account))) is not None:
                found.strays.append(Stray(moved.user, account.start, account.end, moved.kind == "on"))
            else:
                found.foreign.add(account.user.decode("latin-1"))
        return found

    def _slots_and_rest(self, data: bytes, free: list[int]) -> tuple[_Reading, dict[int, re.Match[bytes]]]:
        """What the daemon loads, and by offset the slots that hold a section of ours and are all of it.

        A slot is taken in one step, because a file may have 100,000 of them. Offsets of free slots go to `free`, but
        of those only that a section may fill: keys behind one would fall to it, and away from the account above.
        """
        reading = _Reading()
        whole: dict[int, re.Match[bytes]] = {}
        waiting: list[int] = []
        empty = self.free_slot()
        start = 0
        while start < len(data):
            end = start + self.width
            aligned = start % self.width == 0 and end <= len(data)
            if aligned and (slot := self._pattern.fullmatch(data, start, end)) is not None:
                free += waiting
                waiting = []
                reading.slot(Account(start, end), slot["user"])
                whole[start] = slot
                start = end
                continue
            if aligned and data.startswith(empty, start) and _starts_line(data, start):
                waiting.append(start)
                start = end
                continue
            line = _line(data, start)
            start = line.end
            if _is_comment(line):
                continue
            if is_header(line.text):
                free += waiting
                waiting = []
                reading.header(line)
            elif b"=" in line.text:
                waiting = []
                if reading.accounts and whole.pop(reading.accounts[-1].start, None) is not None:
                    self._in_full(data, reading.accounts[-1])
                reading.key(line)
        free += waiting
        return reading, whole

    def _in_full(self, data: bytes, account: Account) -> Account:
        """Fill in what a slot says besides the name."""
        (read,) = parse(data[account.start : account.start + self.width])
        account.end = account.start + read.end
        account.pieces = [(account.start + start, account.start + end) for start, end in read.pieces]
        account.password, account.disabled, account.values = read.password, read.disabled, read.values
        return account

    def _in_place(self, data: bytes, account: Account) -> Form | None:
        """The slot that an account fills exactly; None if it has keys behind it, which somebody else added."""
        end = account.start + self.width
        return self._read(data[account.start : end]) if account.end <= end else None

    def readings(self, data: bytes) -> dict[str, Reading]:
        """Later accounts of a name were renamed, so none stands twice."""
        return {
            account.user.decode("latin-1"): Reading(
                live=not account.disabled,
                password=account.password.decode("latin-1"),
                end=account.values.get(b"expdate", b"").decode("latin-1"),
                mark=account.values.get(b"description", b"").decode("latin-1"),
            )
            for account in parse(data)
        }

    # -- writing

    def free_slot(self) -> bytes:
        """A section whose every line is a comment."""
        return self._render(Form("free"))

    def filler(self, length: int) -> bytes:
        """A comment line of exactly this length."""
        return b"\n" if length == 1 else b"#".ljust(length - 1) + b"\n"

    def _form_for(self, half: Half) -> Form:
        if half.ends_at is None:
            raise ValueError("a record needs an end date")
        end = end_day(half.ends_at, self.zone)
        form = Form("on", half.username, (half.password, "~"), False, (end, end), False, half.mark)
        if self._read(self._render(form)) != form:
            raise ValueError("this record can't be written safely; see the username and password rules")
        return form

    def steps(self, slot: bytes, half: Half) -> Sequence[Step]:
        """Values while the account is off or in the line that does not count, then mark and commit byte.

        The API shows every value that can change in a slot; those that it had to be filled with wait for slow readers.
        """
        form = self._read(slot)
        if half.wanted is not Wanted.PRESENT:
            return self._switched_off(form, half)
        wanted = self._form_for(half)
        off = replace(wanted, kind="off")
        if form is None:
            return [Step(0, self._render(off)), Step(1, self._render(wanted))]
        if form.kind == "off":
            body = Step(0, self._render(replace(off, mark=form.mark)))
            return [body, Step(0, self._render(off)), Step(0, self._render(wanted))]
        return self._live_change(form, wanted)

    def _switched_off(self, form: Form | None, half: Half) -> Sequence[Step]:
        if form is None:
            return []
        off = replace(form, kind="off")
        steps = [Step(0, self._render(off))] if form.kind == "on" else []
        if half.wanted is Wanted.BLOCKED:
            steps.append(Step(0, self._render(replace(off, mark=half.mark))))
        return steps

    def _live_change(self, form: Form, wanted: Form) -> Sequence[Step]:
        """New values go into the line that does not count; one byte then switches over."""
        steps: list[Step] = []
        if form.password != wanted.password:
            spare = int(not form.second_password)
            form = replace(form, passwords=_with(form.passwords, spare, wanted.password))
            steps.append(Step(0, self._render(form)))
            form = replace(form, second_password=not form.second_password)
            steps.append(Step(0, self._render(form)))
        if form.end != wanted.end:
            spare = int(not form.second_end)
            form = replace(form, ends=_with(form.ends, spare, wanted.end))
            steps.append(Step(0, self._render(form)))
            form = replace(form, second_end=not form.second_end)
            steps.append(Step(0, self._render(form)))
        return [*steps, Step(0, self._render(replace(form, mark=wanted.mark)))]

    def scrub(self, slot: bytes) -> Sequence[Step]:
        """Comment the section out from the bottom up, header last, then blank its values."""
        form = self._read(slot)
        if form is None or form.kind != "off":
            return []
        image = bytearray(slot)
        steps: list[Step] = []
        starts = [match.start() + 1 for match in re.finditer(rb"\n(?=[ ][a-z])", slot)]
        for at in reversed(starts):
            image[at] = ord("#")
            steps.append(Step(0, bytes(image)))
        for at, byte in ((len(b" [account]"), b" "), (0, b"#")):
            image[at : at + 1] = byte
            steps.append(Step(0, bytes(image)))
        return [*steps, Step(0, self.free_slot())]

    def relayout(self, data: bytes) -> bytes | None:
        """The file with all slots at its end, strays among them, and everybody else's bytes as they are."""
        found = self.survey(data)
        if not found.strays:
            return None
        accounts = {account.start: account for account in parse(data)}
        gone = [(at.start(), at.end()) for at in re.finditer(rb"(?m)^" + re.escape(self.free_slot()), data)]
        best: dict[str, Form] = {}
        for start in sorted([*found.slots.values(), *(stray.start for stray in found.strays)]):
            account = accounts[start]
            gone += account.pieces
            if self._read(data[start : start + self.width]) is not None:
                gone.append((start, start + self.width))
            form = self._in_place(data, account) or self._form_of(account)
            if form is not None and (form.user not in best or form.revision > best[form.user].revision):
                best[form.user] = form
        rest = bytearray()
        position = 0
        for start, end in sorted(gone):
            rest += data[position:start]
            position = max(position, end)
        rest += data[position:]
        if rest and not rest.endswith(b"\n"):
            rest += b"\n"
        gap = -len(rest) % self.width
        slots = b"".join(self._render(form) for form in best.values())
        return bytes(rest) + (self.filler(gap) if gap else b"") + slots

    def _form_of(self, account: Account) -> Form | None:
        """An account's values as a slot; None if it does not bear our mark, or holds what no slot may hold."""
        # A later account of a name was renamed on loading.
        user = re.sub("(_x)+$", "", account.user.decode("latin-1"))
        end = account.values.get(b"expdate", b"").decode("latin-1")
        password = account.password.decode("latin-1")
        mark = account.values.get(b"description", b"").decode("latin-1")
        form = Form("off" if account.disabled else "on", user, (password, "~"), False, (end, end), False, mark)
        return form if self._read(self._render(form)) == form else None

    def mend(self, data: bytes, stray: Stray) -> bytes | None:
        """Never: commenting a section out in place is not safe, `relayout` moves it."""
        del data, stray

    def password_in(self, slot: bytes) -> str | None:
        """The password of a live slot."""
        form = self._read(slot)
        return form.password if form is not None and form.kind == "on" else None

    # -- proof and control

    def checks(self, half: Half) -> tuple[Check, ...]:
        """The loaded record itself; for a line that must not work, that it is unknown or disabled, and offline.

        The session of an account that a reload disabled is closed about a second later.
        """
        path = self._userconfig(half)
        if half.wanted is not Wanted.PRESENT or half.ends_at is None:
            sessions = f"/oscamapi.html?part=userstats&label={half.username}"
            return (
                Check(path, must=(r"<error>user not exist</error>|<disabled>1</disabled>",)),
                Check(sessions, must=(r'<error>Invalid client|<user name="[^"]*" status="offline[" ]',)),
            )
        return (
            Check(
                path,
                must=(
                    rf"<pwd>{re.escape(half.password)}</pwd>",
                    r"<disabled>0</disabled>",
                    rf"<expdate>{shown_day(half.ends_at, self.zone)}</expdate>",
                    rf"<description>{re.escape(half.mark)}</description>",
                ),
            ),
        )

    @staticmethod
    def _userconfig(half: Half) -> str:
        return f"/oscamapi.html?part=userconfig&user={half.username}"

    def trigger(self) -> Trigger:
        """As the inventory says: the web page, SIGHUP, or the operator's own command."""
        return self.reload

    def kick(self, half: Half) -> Kick | None:
        """None: a reload closes the sessions of an account with another password."""
        del half

    def canary(self) -> "OSCam":
        """The same, for a record that stays disabled."""
        groups = [int(group) for group in self.groups.split(",")]
        return _Canary(width=self.width, zone=self.zone, groups=groups, reload=self.reload, deadline=self.deadline)

    def sign_of_life(self) -> Check:
        """Version and connections; lists of accounts take seconds where there are many."""
        return Check("/oscamapi.html?part=status", must=(r"<oscam\b",))

    def listing(self) -> Listing:
        """Every account; an expired one may still log in."""
        pattern = r'<user name="([^"]*)" status="([^"]*)"'
        return Listing("/oscamapi.html?part=userstats", pattern, off=r".*\(disabled\)")

    def details(self, half: Half) -> Details:
        """The loaded record."""
        return Details(
            self._userconfig(half),
            r"<description>([^<]*)</description>",
            r"<expdate>([^<]*)</expdate>",
            password=rf"<pwd>({re.escape(half.password)})</pwd>",
        )

    def file_end(self, ends_at: datetime) -> str:
        """`expdate`."""
        return end_day(ends_at, self.zone)

    def shown_end(self, ends_at: datetime) -> str:
        """West of Greenwich it is the day after."""
        return shown_day(ends_at, self.zone)


class _Canary(OSCam):
    """Its commit byte is never set, so the account is loaded and off; gone only when the daemon does not know it."""

    def steps(self, slot: bytes, half: Half) -> Sequence[Step]:
        form = self._read(slot)
        off = [] if form is None else [Step(0, self._render(replace(form, kind="off")))]
        if half.wanted is Wanted.PRESENT:
            return [*off, Step(0, self._render(replace(self._form_for(half), kind="off")))]
        return [*off, *(self.scrub(off[0].image) if off else [])]

    def checks(self, half: Half) -> tuple[Check, ...]:
        path = f"/oscamapi.html?part=userconfig&user={half.username}"
        if half.wanted is not Wanted.PRESENT:
            return (Check(path, must=(r"<error>user not exist</error>",)),)
        return (Check(path, must=(r"<disabled>1</disabled>", f"<description>{re.escape(half.mark)}</description>")),)


def _starts_line(data: bytes, offset: int) -> bool:
    return offset == 0 or data[offset - 1 : offset] == b"\n"
