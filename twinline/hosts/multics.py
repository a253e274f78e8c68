"""MultiCS: one `F:` line of fixed width per account, switched on by its first byte.

Facts about the daemon are those of reference/daemons.md (*MultiCS*): what the parser takes, that closing the
file after a write is the reload, and what the status pages show.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from twinline.hosts.daemon import (
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

READ_BUFFER = 10_238
"""Bytes that the daemon takes as one line; the rest is parsed as a line of its own."""

USER_BUFFER = 64
BLANKS = b" \t"
LINE_END = b" \t\r\n"
FREE = b"#~"
FAR_YEAR = b"9999"
END_KEYS = (b"enddate", b"expire")

_RECORD = re.compile(
    rf"(?P<switch>[F#]): (?P<user>{USERNAME}) (?P<password>{SAFE_PASSWORD}) 0 "
    rf"\{{ enddate=(?P<end>\d{{4}}-\d\d-\d\d \d\d); rev=(?P<mark>{MARK}) \}} *\n".encode()
)


@dataclass(frozen=True)
class Account:
    """One account as the daemon loads it from the file."""

    start: int
    end: int
    user: bytes
    password: bytes = field(repr=False)
    keys: tuple[tuple[bytes, bytes], ...]
    """Information keys in file order; the first date of a record wins."""
    server: int = 1
    """Number of the CCCAM PORT, counted within this file."""
    block: bytes = field(default=b"", repr=False)
    """What stands behind user, password and hops: the keys as they were written."""
    joined: bool = False
    """Whether a backslash joined the next line to this one."""

    def value(self, key: bytes) -> bytes | None:
        """The last value of a key, as the client page would show it first."""
        return next((value for name, value in reversed(self.keys) if name == key), None)


@dataclass(frozen=True)
class LogicalLine:
    """What the daemon reads as one line: `text` without comment and trailing blanks."""

    start: int
    end: int
    text: bytes
    physical: int
    """How many physical lines were joined by backslashes."""


def logical_lines(data: bytes) -> Iterator[LogicalLine]:
    """Logical lines: cut at NUL and at `#`, trailing blanks off, joined where a backslash ends them."""
    end = 0
    while end < len(data):
        line = _line(data, end)
        end = line.end
        yield line


def _line(data: bytes, start: int) -> LogicalLine:
    end, text = _physical(data, start)
    count = 1
    while text.endswith(b"\\"):
        # What is joined is looked at again, so a backslash that shows up behind it joins too.
        end, following = _physical(data, end)
        text = (text[:-1] + following).rstrip(LINE_END)
        count += 1
    return LogicalLine(start, end, text, count)


def _physical(data: bytes, start: int) -> tuple[int, bytes]:
    """Where one read of the daemon ends, and what it leaves of it."""
    newline = data.find(b"\n", start, start + READ_BUFFER)
    end = newline + 1 if newline >= 0 else min(start + READ_BUFFER, len(data))
    return end, data[start:end].split(b"\0", 1)[0].split(b"#", 1)[0].rstrip(LINE_END)


class _Words:
    """Reads one logical line from left to right, as the daemon's parser does."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in BLANKS:
            self.at += 1

    def peek(self) -> bytes:
        self.skip()
        return self.text[self.at : self.at + 1]

    def word(self, stop: bytes = b"") -> bytes:
        self.skip()
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] not in BLANKS + stop:
            self.at += 1
        return self.text[begin : self.at]

    def number(self) -> None:
        self.skip()
        while self.text[self.at : self.at + 1].isdigit():
            self.at += 1

    def until(self, stop: bytes) -> bytes:
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] not in stop:
            self.at += 1
        return self.text[begin : self.at].strip(BLANKS)


def _keyword(words: _Words) -> bytes:
    """The keyword of a line, upper case, two-word ones joined by one blank; empty if it is none."""
    first = words.word(b":")
    keyword = first.upper()
    if keyword in (b"CCCAM",) and words.peek() not in (b":", b"=", b""):
        keyword += b" " + words.word(b":").upper()
    if words.peek() not in (b":", b"="):
        return b""
    words.at += 1
    return keyword


def _information(words: _Words) -> tuple[tuple[bytes, bytes], ...]:
    """The keys between braces; an old port list in their place swallows everything behind it."""
    if words.peek() != b"{":
        return ()
    words.at += 1
    if words.peek().isdigit():
        return ()
    found: list[tuple[bytes, bytes]] = []
    while words.peek() not in (b"}", b""):
        name = words.word(b"=;}")
        if words.peek() != b"=":
            break
        words.at += 1
        found.append((name, words.until(b";}")))
        if words.peek() == b";":
            words.at += 1
    return tuple(found)


def parse(data: bytes) -> list[Account]:
    """Every account that the daemon would load from these bytes, in its own order."""
    return list(_accounts(logical_lines(data)))


def _accounts(lines: Iterable[LogicalLine]) -> Iterator[Account]:
    server = 1
    ports = 0
    for line in lines:
        words = _Words(line.text)
        if not words.peek().isalpha():
            continue
        keyword = _keyword(words)
        if keyword == b"CCCAM PORT":
            ports += 1
            server = ports + 1
        elif keyword in (b"F", b"CCCAM USER"):
            user, password = words.word(), words.word()
            for _ in ("downhops", "uphops"):
                words.number()
            words.skip()
            block = words.text[words.at :]
            if len(user) >= USER_BUFFER:
                # The name runs over its buffer, and the password is then written over its end.
                user = user[:USER_BUFFER] + password
            keys, joined = _information(words), line.physical > 1
            yield Account(line.start, line.end, user, password, keys, server, block, joined)


def end_hour(ends_at: datetime, zone: ZoneInfo) -> str:
    """`enddate` for an end: the smallest local hour whose first occurrence is not before it.

    The daemon compares year, month, day and hour of its own wall clock, so in the night when an hour is repeated
    the first occurrence counts.
    """
    wall = local(ends_at, zone).replace(tzinfo=None)
    label = wall.replace(minute=0, second=0, microsecond=0)
    if label < wall:
        label += timedelta(hours=1)
    while label.replace(tzinfo=zone, fold=0).astimezone(UTC) < ends_at:
        label += timedelta(hours=1)
    return label.strftime("%Y-%m-%d %H")


def _off(record: bytes) -> bytes:
    return b"#" + record[1:]


def _span(record: bytes, part: str) -> tuple[int, int]:
    match = _RECORD.fullmatch(record)
    if match is None:
        raise ValueError("not a record of ours")
    return match.span(part)


def _place(stray: Stray) -> int:
    return stray.start


def _takes_slot(found: Survey, record: Stray) -> bool:
    """Whether a record is the first of its name, and so the one that counts."""
    return found.slots.setdefault(record.username, record.start) == record.start


class MultiCS:
    """MultiCS on one host."""

    close_triggers = True
    may_replace = False
    sole_file = False
    status_auth: Literal["basic", "digest"] = "basic"

    def __init__(self, *, width: int, zone: ZoneInfo, server_id: int, deadline: float) -> None:
        self.width = width
        self.zone = zone
        self.server_id = server_id
        self.deadline = deadline
        self.unproven_hint = (
            f"look at the daemon's log; check that its main file includes this accounts_file after CCCAM PORT number "
            f"{server_id} (server_id of the inventory), and that nobody disabled the account in its own pages"
        )

    # -- reading

    def survey(self, data: bytes) -> Survey:
        """Find our slots, free slots, strays of ours, and the names of everybody else."""
        found = Survey()
        records, rest = self._slots_and_rest(data, found.free)
        spare = [record for record in records if record.live and not _takes_slot(found, record)]
        spare_off = [record for record in records if not record.live and not _takes_slot(found, record)]
        found.parked = {each.username for each in records if not each.live and found.slots[each.username] == each.start}
        for account in _accounts(rest):
            name = account.user.decode("latin-1")
            ours = re.fullmatch(MARK.encode(), account.value(b"rev") or b"") and re.fullmatch(USERNAME, name)
            if ours and b"\n" not in data[account.start : account.end - 1]:
                spare.append(Stray(name, account.start, account.end, live=True))
            else:
                # A record that a backslash joined with the next line is no longer ours alone.
                found.foreign.add(name)
        for line in rest:
            record = _RECORD.fullmatch(data, line.start, line.end)
            if record is not None and not line.text and line.physical == 1:
                spare_off.append(Stray(record["user"].decode(), line.start, line.end, live=False))
        found.strays = sorted(spare, key=_place) + sorted(spare_off, key=_place)
        return found

    def _slots_and_rest(self, data: bytes, free: list[int]) -> tuple[list[Stray], list[LogicalLine]]:
        """The records in slots, and all other lines; offsets of free slots go to `free`.

        A slot is one logical line whatever it holds, so it is taken in one step: a file may have 100,000 of them.
        """
        records: list[Stray] = []
        rest: list[LogicalLine] = []
        empty = self.free_slot()
        start = 0
        while start < len(data):
            end = start + self.width
            if start % self.width or end > len(data):
                record = None
            elif data.startswith(empty, start):
                free.append(start)
                start = end
                continue
            else:
                record = _RECORD.fullmatch(data, start, end)
            if record is None:
                line = _line(data, start)
                rest.append(line)
                start = line.end
            else:
                records.append(Stray(record["user"].decode(), start, end, record["switch"] == b"F"))
                start = end
        return records, rest

    def readings(self, data: bytes) -> dict[str, Reading]:
        """Login finds the first of a name, and the first date of a record counts; what is off is a comment."""
        found: dict[str, Reading] = {}
        for account in parse(data):
            ends = [value for key, value in account.keys if key.lower() in END_KEYS]
            reading = Reading(
                live=True,
                password=account.password.decode("latin-1"),
                end=ends[0].decode("latin-1") if ends else "",
                mark=(account.value(b"rev") or b"").decode("latin-1"),
            )
            found.setdefault(account.user.decode("latin-1"), reading)
        return found

    # -- writing

    def free_slot(self) -> bytes:
        """A comment of full width."""
        return FREE.ljust(self.width - 1) + b"\n"

    def filler(self, length: int) -> bytes:
        """A comment line of exactly this length."""
        return b"\n" if length == 1 else b"#".ljust(length - 1) + b"\n"

    def _record(self, half: Half) -> bytes:
        if half.ends_at is None:
            raise ValueError("a record needs an end date")
        end = end_hour(half.ends_at, self.zone)
        text = f"F: {half.username} {half.password} 0 {{ enddate={end}; rev={half.mark} }}"
        image = text.encode("ascii").ljust(self.width - 1) + b"\n"
        if _RECORD.fullmatch(image) is None or len(image) != self.width:
            raise ValueError(
                "this record can't be written safely; see record_width and the username and password rules"
            )
        return image

    def steps(self, slot: bytes, half: Half) -> Sequence[Step]:
        """Off at once; everything else while the slot is a comment or can only end later, and the mark last.

        No page shows a password, so only the mark proves a new one: what makes it count waits for slow readers.
        """
        held = _RECORD.fullmatch(slot)
        if half.wanted is not Wanted.PRESENT:
            off = [Step(0, _off(slot))] if slot.startswith(b"F") else []
            marked = half.wanted is Wanted.BLOCKED and held is not None
            return [*off, Step(0, self._marked(_off(slot), half.mark))] if marked else off
        wanted = self._record(half)
        if slot == wanted:
            return []
        same_password = held is not None and held["password"] == half.password.encode()
        if held is None or held["switch"] == b"#":
            return [Step(0, _off(wanted)), Step(0 if same_password else 1, wanted)]
        if not same_password:
            # Who is logged in has to go anyway, and nobody may log in with a mixture of both passwords.
            return [Step(0, _off(slot)), Step(0, _off(wanted)), Step(1, wanted)]
        return [*self._new_end(slot, wanted), Step(0, wanted)]

    @staticmethod
    def _new_end(slot: bytes, wanted: bytes) -> Sequence[Step]:
        """The year goes first to 9999 and last to what is wanted: whatever stands in between ends nobody too early."""
        begin, end = _span(slot, "end")
        date = wanted[begin:end]
        if slot[begin:end] == date:
            return []
        far = slot[:begin] + FAR_YEAR + slot[begin + len(FAR_YEAR) :]
        dated = slot[:begin] + FAR_YEAR + date[len(FAR_YEAR) :] + slot[end:]
        return [Step(0, far), Step(0, dated), Step(0, slot[:begin] + date + slot[end:])]

    def _marked(self, slot: bytes, mark: str) -> bytes:
        begin, end = _span(slot, "mark")
        tail = slot[end:].rstrip()
        return (slot[:begin] + mark.encode() + tail).ljust(self.width - 1) + b"\n"

    def scrub(self, slot: bytes) -> Sequence[Step]:
        """A comment all the way: it starts with `#` before and after."""
        return [Step(0, self.free_slot())] if slot.startswith(b"#") else []

    def mend(self, data: bytes, stray: Stray) -> bytes | None:
        """The stray as a comment of the same length, without its contents."""
        line = data[stray.start : stray.end]
        newline = b"\n" if line.endswith(b"\n") else b""
        return b"#".ljust(len(line) - len(newline)) + newline

    def relayout(self, data: bytes) -> bytes | None:
        """Never: the daemon watches the inode, so strays are mended one by one."""
        del data

    def password_in(self, slot: bytes) -> str | None:
        """The password of a live slot."""
        match = _RECORD.fullmatch(slot)
        return match["password"].decode() if match is not None and match["switch"] == b"F" else None

    # -- proof and control

    def checks(self, half: Half) -> tuple[Check, ...]:
        """Presence by mark and date on the client page; absence by a complete listing without the name."""
        if half.wanted is not Wanted.PRESENT or half.ends_at is None:
            return (
                Check(
                    f"/cccam?action=json&id={self.server_id}",
                    must=(self._server, r"\]\s*\}\s*\]\s*$"),
                    must_not=(rf'"name": "{re.escape(half.username)}"',),
                ),
            )
        end = end_hour(half.ends_at, self.zone)
        rows = (_information_row("rev", half.mark), _information_row("enddate", end))
        return (Check(self._client(half), must=rows), self._enabled(half))

    def _client(self, half: Half) -> str:
        return f"/cccamclient?srvid={self.server_id}&name={half.username}"

    def _enabled(self, half: Half) -> Check:
        # 0 offline, 1 connected; 2 disabled, 4 expired and 8 removed must not be set.
        return Check(f"{self._client(half)}&action=xml", must=(r"<status>[01]</status>",))

    def trigger(self) -> Trigger:
        """A close after a write; with nothing to write, an append of nothing."""
        return Trigger("close")

    def kick(self, half: Half) -> Kick | None:
        """A new password does not close the old session: off and on again does."""
        client = self._client(half)
        return Kick(off=f"{client}&action=disable", on=f"{client}&action=enable", enabled=self._enabled(half))

    def canary(self) -> "MultiCS":
        """The same, for a record whose end is in the past."""
        return _Canary(width=self.width, zone=self.zone, server_id=self.server_id, deadline=self.deadline)

    @property
    def _server(self) -> str:
        """Begins the list of this server."""
        return rf'^\[\{{"id": {self.server_id},'

    def sign_of_life(self) -> Check:
        """The list of this server: 35 bytes an account, and 0.1 s at 100,000. One of an unknown client is no answer."""
        return Check(f"/cccam?action=json&id={self.server_id}", must=(self._server,))

    def listing(self) -> Listing:
        """Every account of this server; 2 is disabled, 4 expired and 8 removed, and they add up."""
        pattern = r'"name": "([^"]*)",\s*"status":\s*(\d+)'
        return Listing(f"/cccam?action=json&id={self.server_id}", pattern, off=r"[2-9]|1\d", shut=r"[2367]|1[0145]")

    def details(self, half: Half) -> Details:
        """The client page; it shows no password."""
        return Details(self._client(half), _information_row("rev"), _information_row("enddate"), password=None)

    def file_end(self, ends_at: datetime) -> str:
        """`enddate`."""
        return end_hour(ends_at, self.zone)

    def shown_end(self, ends_at: datetime) -> str:
        """The key as the file has it."""
        return end_hour(ends_at, self.zone)


class _Canary(MultiCS):
    """Proven by its mark alone: within 10 s of being loaded it is expired."""

    def steps(self, slot: bytes, half: Half) -> Sequence[Step]:
        steps = super().steps(slot, half)
        return steps if half.wanted is Wanted.PRESENT else [*steps, *self.scrub(_off(slot))]

    def checks(self, half: Half) -> tuple[Check, ...]:
        return super().checks(half)[:1]

    def kick(self, half: Half) -> Kick | None:
        del half


def _information_row(key: str, value: str | None = None) -> str:
    """Finds a key with this value, or with any, which is then the pattern's group."""
    shown = "([^<]*?)" if value is None else re.escape(value)
    row = rf">\s*{re.escape(key)}\s*</td>\s*<td[^>]*>\s*{shown}\s*<"
    return rf"Additional Informations(?:(?!</table>).)*{row}"
