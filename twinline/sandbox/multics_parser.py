"""What MultiCS r82 makes of its config files; pure, and independent of the product's own parser.

Facts: daemons.md, tables *Record* and *Expiry*, and the golden corpus (multics.json).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from twinline.sandbox.cfile import c_lines

READ_BYTES = 10_238
USER_BUFFER = 64
_DEEPEST_INCLUDE = 16
_BLANKS = " \t"

Reader = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class EndDate:
    """The hour from which on an account is expired, in the daemon's local time; unusable parts are 0."""

    year: int
    month: int
    day: int
    hour: int

    def __str__(self) -> str:
        return f"{self.year}-{self.month:02d}-{self.day:02d}"

    def reached(self, now: "EndDate") -> bool:
        """Say whether `now` is at or past this hour."""
        return (now.year, now.month, now.day, now.hour) >= (self.year, self.month, self.day, self.hour)


@dataclass(frozen=True, slots=True)
class Record:
    """One `F:` line as loaded; `info` lists every key, the last written first."""

    port: int
    user: str
    password: str = field(repr=False)
    info: tuple[tuple[str, str], ...] = ()
    end: EndDate | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that was named for reading, present or not; `watched` is off for `UPDATE ONCHANGE: NO`."""

    path: str
    watched: bool


@dataclass(frozen=True, slots=True)
class Config:
    """All that one reading of the main file and its includes gave, in reading order."""

    http_port: int
    http_user: str
    http_password: str = field(repr=False)
    ports: tuple[int, ...]
    profiles: tuple[str, ...]
    records: tuple[Record, ...]
    files: tuple[SourceFile, ...]
    complaints: tuple[str, ...]

    def server_of(self, record: Record) -> int:
        """Return the number of the record's server: the order of `CCCAM PORT`, from 1."""
        return self.ports.index(record.port) + 1


def parse(main: str, read: Reader) -> Config:
    """Read the main file and, in place, every include; `read` returns None for an absent file."""
    reading = _Reading(read)
    reading.file(main, depth=0)
    return Config(
        http_port=reading.http_port,
        http_user=reading.http_user,
        http_password=reading.http_password,
        ports=tuple(reading.ports),
        profiles=tuple(reading.profiles),
        records=tuple(reading.records),
        files=tuple(SourceFile(path, path not in reading.unwatched) for path in reading.files),
        complaints=tuple(reading.complaints),
    )


def parse_end_date(value: str) -> EndDate | None:
    """Read a date as MultiCS does: by where the dashes stand, then part by part until one does not fit.

    None means the account never expires. A value of less than 8 characters makes the real daemon read
    stray memory (`undefined` in the corpus); here it is no date.
    """
    if value[4:5] == "-" and value[7:8] == "-":
        order = "Ymd"
    elif value[2:3] == "-" and value[5:6] == "-":
        order = "dmY"
    else:
        return None
    date = _strptime(value, order)
    # A C `tm_year` of 0 is the daemon's own sign for "no date": the year 1900 never expires.
    return date if date.year != 1900 else None


_RANGES = {"Y": (0, 9999, 4), "m": (1, 12, 2), "d": (1, 31, 2), "H": (0, 23, 2)}


def _strptime(value: str, order: str) -> EndDate:
    # glibc's strptime into a zeroed struct: what came before the first misfit stays set.
    parts = {"Y": 1900, "m": 1, "d": 0, "H": 0}
    position = 0
    for index, letter in enumerate(order + "H"):
        if letter != "H" and index > 0:
            if value[position : position + 1] != "-":
                break
            position += 1
        while value[position : position + 1] in {" ", "\t"}:
            position += 1
        low, high, width = _RANGES[letter]
        start, number = position, 0
        while (
            position - start < width
            and value[position : position + 1] in set("0123456789")
            and (position == start or number * 10 <= high)
        ):
            number = number * 10 + int(value[position])
            position += 1
        if position == start or not low <= number <= high:
            break
        parts[letter] = number
    return EndDate(parts["Y"], parts["m"], parts["d"], parts["H"])


class _Cursor:
    """A position in one logical line; columns count from 0, as the daemon's messages do."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def blanks(self) -> None:
        while self.text[self.at : self.at + 1] in {" ", "\t"}:
            self.at += 1

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def until(self, stops: str) -> str:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in stops:
            self.at += 1
        return self.text[start : self.at]

    def word(self) -> str:
        self.blanks()
        return self.until(_BLANKS)

    def number(self) -> int | None:
        self.blanks()
        start = self.at
        while self.peek() in set("0123456789"):
            self.at += 1
        return int(self.text[start : self.at]) if self.at > start else None


def _logical_lines(data: bytes) -> Iterator[tuple[int, str]]:
    # The comment goes first, so a backslash in front of a # joins and one behind it does not.
    physical = enumerate(c_lines(data, most=READ_BYTES), start=1)
    for number, line in physical:
        text = _uncommented(line)
        while text.endswith("\\"):
            _, following = next(physical, (0, ""))
            text = (text[:-1] + _uncommented(following)).rstrip(" \t\r\n")
        yield number, text


def _uncommented(line: str) -> str:
    return line.split("#", 1)[0].rstrip(" \t\r\n")


class _Reading:
    def __init__(self, read: Reader) -> None:
        self._read = read
        self.http_port = 0
        self.http_user = ""
        self.http_password = ""
        self.ports: list[int] = []
        self.profiles: list[str] = []
        self.records: list[Record] = []
        self.files: list[str] = []
        self.unwatched: set[str] = set()
        self.complaints: list[str] = []

    def file(self, path: str, *, depth: int) -> None:
        if path not in self.files:
            self.files.append(path)
        data = self._read(path)
        if data is None or depth > _DEEPEST_INCLUDE:
            self.complaints.append(f"file not found '{path}'")
            return
        for number, text in _logical_lines(data):
            self._line(path, number, _Cursor(text), depth)

    def _complain(self, line: int, column: int, text: str) -> None:
        self.complaints.append(f"config({line},{column}): {text}")

    def _line(self, path: str, number: int, line: _Cursor, depth: int) -> None:
        line.blanks()
        first = line.peek()
        if first == "[":
            self._profile(number, line)
        elif first.isascii() and first.isalpha():
            self._setting(path, number, line, depth)

    def _profile(self, number: int, line: _Cursor) -> None:
        line.at += 1
        name = line.until("]")
        if line.peek() == "]":
            self.profiles.append(name)
        else:
            self._complain(number, line.at, "']' expected")

    def _setting(self, path: str, number: int, line: _Cursor, depth: int) -> None:
        keyword = line.until(_BLANKS + ":").upper()
        keyword_end = line.at
        if keyword in {"CCCAM", "HTTP", "UPDATE"}:
            line.blanks()
            keyword += " " + line.until(_BLANKS + ":").upper()
        line.blanks()
        is_record = keyword in {"F", "CCCAM USER"}
        if line.peek() not in {":", "="}:
            if is_record:
                self._complain(number, line.at, "':' expected")
            return
        line.at += 1
        if not is_record:
            self._plain_setting(keyword, path, number, line, depth)
        elif self.ports:
            self.records.append(self._record(number, line))
        else:
            self._complain(number, keyword_end, "Skip F line, undefined CCcam Server")

    def _plain_setting(self, keyword: str, path: str, number: int, line: _Cursor, depth: int) -> None:
        match keyword:
            case "CCCAM PORT":
                if (port := line.number()) and port not in self.ports:
                    self.ports.append(port)
            case "INCLUDE":
                self._include(number, line, depth)
            case "HTTP PORT":
                self.http_port = line.number() or 0
            case "HTTP USER":
                self.http_user = line.word()
            case "HTTP PASS":
                self.http_password = line.word()
            case "UPDATE ONCHANGE":
                if line.word().upper() == "NO":
                    self.unwatched.add(path)
            case _:
                pass

    def _include(self, number: int, line: _Cursor, depth: int) -> None:
        line.blanks()
        if line.peek() != '"':
            self._complain(number, line.at, "'\"' expected")
            return
        line.at += 1
        self.file(line.until('"'), depth=depth + 1)

    def _record(self, number: int, line: _Cursor) -> Record:
        user, password = line.word(), line.word()
        line.number()
        line.number()
        line.blanks()
        info: list[tuple[str, str]] = []
        if line.peek() == "{":
            line.at += 1
            misfit = _block(line, info)
            if misfit is not None:
                self._complain(number, misfit, "'}' expected")
        if len(user) >= USER_BUFFER:
            # The name runs over its buffer into the password, which then overwrites the overflow.
            user = user[:USER_BUFFER] + password
        dates = (parse_end_date(value) for key, value in info if key.lower() in {"enddate", "expire"})
        return Record(
            port=self.ports[-1],
            user=user,
            password=password,
            info=tuple(reversed(info)),
            end=next((date for date in dates if date is not None), None),
            name=next((value for key, value in info if key.lower() == "name"), None),
        )


def _block(line: _Cursor, info: list[tuple[str, str]]) -> int | None:
    """Read what stands in braces into `info`; return the column where a '}' was missed, or None."""
    line.blanks()
    if line.peek() in set("0123456789"):
        while line.number() is not None:
            line.blanks()
            if line.peek() != ",":
                break
            line.at += 1
        line.blanks()
        return None if line.peek() == "}" else line.at
    while line.peek() != "}":
        key = line.until(_BLANKS + "=;}")
        line.blanks()
        if line.peek() != "=":
            break
        line.at += 1
        line.blanks()
        info.append((key, line.until(";}").rstrip(_BLANKS)))
        if line.peek() != ";":
            break
        line.at += 1
        line.blanks()
    return None if line.peek() == "}" else line.at
