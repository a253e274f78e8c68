"""`F:` lines that MultiCS takes otherwise than they look; each rule is a row of daemons.md (*MultiCS*, *Record*)."""

import re
from collections.abc import Iterator
from datetime import date
from typing import Final

from twinline.hosts.multics import READ_BUFFER, USER_BUFFER, Account, logical_lines, parse
from twinline.hosts.records import BOM, LOGIN_BYTES, LONGEST_PASSWORD, Doubt, Doubts, Rule, line_at, shown

_LONGEST_KEY: Final = 31
_LONGEST_VALUE: Final = 250
_BLANK_AND_BELOW: Final = 32
_ASCII: Final = 128

DEAF: Final = Rule(
    "deaf",
    "switch the reload off (UPDATE ONCHANGE: NO)",
    "take the line out: MultiCS never notices what is written to this file",
    grave=True,
)
MARKED: Final = Rule(
    "bom", "begin with a byte order mark, so that the first record is skipped", "save the file as UTF-8 without a BOM"
)
SKIPPED: Final = Rule(
    "skipped", "look like an account and are none", "write F: user password, with the colon and a blank"
)
OTHER_PORT: Final = Rule(
    "other port",
    "stand below a CCCAM PORT of this file",
    "keep ports in the main file: they belong to another server_id",
)
TWICE: Final = Rule("twice", "have a name that stands before: only the first can log in", "take the later ones out")
NAMELESS: Final = Rule("nameless", "have no name", "take them out, or write the name that is missing")
OPEN: Final = Rule("no password", "have no password", "give them one, or take them out")
LONG_NAME: Final = Rule(
    "long name", "have a name of more than 20 bytes and can never log in", "give them shorter names"
)
OVERFLOW: Final = Rule(
    "overflow",
    "have a name or password of more than 63 bytes, which overwrites what is stored behind it",
    "shorten it: MultiCS checks no bounds",
)
LONG_KEY: Final = Rule(
    "long key",
    "have a key of more than 31 or a value of more than 250 bytes, which overwrites what is stored behind it",
    "shorten it: MultiCS checks no bounds",
)
BAD_BYTES: Final = Rule(
    "bytes", "have bytes in their name that are refused at login", "use ASCII letters and digits in names"
)
BREAKS_PAGES: Final = Rule(
    "pages", 'have ", < or & in their name, which breaks the status pages', "use letters and digits in names"
)
CUT: Final = Rule(
    "cut",
    "are cut at a # or NUL byte inside a word",
    "# begins a comment anywhere: use it in no name, password or value",
)
JOINED: Final = Rule("joined", "take in the next line, because they end in a backslash", "take the backslash out")
SPLIT: Final = Rule("split", f"are longer than {READ_BUFFER:,} bytes, and go on as a line of their own", "shorten them")
BLOCK: Final = Rule(
    "block",
    "have something behind the password that is read in part only",
    "write { key=value; key=value } with blanks around, and nothing behind it",
)
NEVER_ENDS: Final = Rule(
    "never ends", "name an end that is not read, and never end", "write enddate=YYYY-MM-DD HH inside the braces"
)
OTHER_END: Final = Rule(
    "other end", "end at another time than is written", "write enddate=YYYY-MM-DD HH, with an hour from 00 to 23"
)
TWO_ENDS: Final = Rule("two ends", "have two end dates, of which the first counts", "leave one")

_SKIPPED: Final = re.compile(rb"[Ff](?:=\S|[ \t]+[^\s:=])")
_DEAF: Final = re.compile(rb"UPDATE[ \t]+ONCHANGE[ \t]*[:=][ \t]*NO\b", re.IGNORECASE)
_END_KEYS: Final = (b"enddate", b"expire")
_MENTIONS_END: Final = re.compile(rb"end\s*date|expire", re.IGNORECASE)
_YEAR_FIRST: Final = re.compile(rb"(?P<Y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)(?: (?P<H>\d\d))?")
_DAY_FIRST: Final = re.compile(rb"(?P<d>\d\d)-(?P<m>\d\d)-(?P<Y>\d{4})(?: (?P<H>\d\d))?")
_PORT_LIST: Final = re.compile(rb"\{[\d\s,]*\}")
_KEY: Final = re.compile(rb"\s*[^\s=]*\s*=")


def doubts_about(data: bytes) -> tuple[Doubt, ...]:
    """Everything in an accounts file that is taken otherwise than it looks."""
    found = Doubts()
    if data.startswith(BOM):
        found.add(MARKED, line_at(data, 0))
    accounts = parse(data)
    of_accounts = {account.start for account in accounts}
    for line in logical_lines(data):
        if line.start in of_accounts:
            continue
        text = line.text.lstrip(b" \t")
        rules = ((DEAF, _DEAF.match(text)), (SKIPPED, _SKIPPED.match(text)), (JOINED, text and line.physical > 1))
        for rule, broken in rules:
            if broken:
                found.add(rule, line_at(data, line.start))
    names: set[bytes] = set()
    for account in accounts:
        for rule in _rules_of(account, data):
            found.add(rule, shown(account.user))
        if account.user in names:
            found.add(TWICE, shown(account.user))
        names.add(account.user)
    return found.all()


def _rules_of(account: Account, data: bytes) -> Iterator[Rule]:
    yield from _rules_of_login(account)
    raw = data[account.start : account.end]
    if re.search(rb"[^\s]#", raw.split(b"\n", 1)[0]) or b"\0" in raw:
        yield CUT
    if account.joined:
        yield JOINED
    if len(raw) >= READ_BUFFER and not raw.endswith(b"\n"):
        yield SPLIT
    if account.server > 1:
        yield OTHER_PORT
    if any(len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE for key, value in account.keys):
        yield LONG_KEY
    if account.block and not _read_whole(account.block):
        yield BLOCK
    yield from _rules_of_end(account)


def _rules_of_login(account: Account) -> Iterator[Rule]:
    name = account.user
    if not name:
        yield NAMELESS
    if not account.password:
        yield OPEN
    if len(name) >= USER_BUFFER or len(account.password) > LONGEST_PASSWORD:
        yield OVERFLOW
    elif len(name) > LOGIN_BYTES:
        yield LONG_NAME
    if any(byte <= _BLANK_AND_BELOW or byte >= _ASCII for byte in name):
        yield BAD_BYTES
    if any(mark in name for mark in (b'"', b"<", b"&")):
        yield BREAKS_PAGES


def _read_whole(block: bytes) -> bool:
    """Whether everything behind the password is understood: keys in braces, or an old list of ports."""
    inside, end, behind = block.partition(b"}")
    if _PORT_LIST.fullmatch(block):
        return True
    if not block.startswith(b"{") or not end or behind or re.match(rb"\{\s*\d", block):
        return False
    *keys, last = inside[1:].split(b";")
    return all(_KEY.match(key) for key in keys) and (not last.strip() or _KEY.match(last) is not None)


def _rules_of_end(account: Account) -> Iterator[Rule]:
    ends = [value for key, value in account.keys if key.lower() in _END_KEYS]
    read = [value for value in ends if _is_read(value)]
    if not read:
        if _MENTIONS_END.search(account.block) or _MENTIONS_END.search(account.password):
            yield NEVER_ENDS
        return
    if not _is_exact(read[0]):
        yield OTHER_END
    if len(ends) > 1:
        yield TWO_ENDS


def _is_read(value: bytes) -> bool:
    """Whether the daemon takes it for a date at all: it looks where the dashes stand; the year 1900 means none."""
    dashes = (value[4:5], value[7:8]) == (b"-", b"-") or (value[2:3], value[5:6]) == (b"-", b"-")
    return dashes and not value.startswith(b"1900-")


def _is_exact(value: bytes) -> bool:
    match = _YEAR_FIRST.fullmatch(value) or _DAY_FIRST.fullmatch(value)
    if match is None or int(match["H"] or 0) > 23:
        return False
    try:
        date(int(match["Y"]), int(match["m"]), int(match["d"]))
    except ValueError:
        return False
    return True
