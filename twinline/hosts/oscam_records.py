"""`[account]` sections that OSCam takes otherwise than they look; each rule is a row of daemons.md (*OSCam*)."""

import re
from collections.abc import Iterator
from datetime import date
from typing import Final

from twinline.hosts.oscam import READ_BUFFER, SHORTEST_LINE, Account, is_header, lines_of, parse
from twinline.hosts.records import BOM, LOGIN_BYTES, LONGEST_PASSWORD, Doubt, Doubts, Rule, line_at, shown

MARKED: Final = Rule(
    "bom", "begin with a byte order mark, so that the first header is none", "save the file as UTF-8 without a BOM"
)
NO_HEADER: Final = Rule(
    "no header",
    "begin like a header and are none: what follows belongs to the account above",
    "write [account] alone on its line",
)
RUN_INTO: Final = Rule(
    "run into",
    "have [account] behind something else: two records have become one",
    "put the header on a line of its own",
)
SPLIT: Final = Rule("split", f"are longer than {READ_BUFFER:,} bytes, and go on as a line of their own", "shorten them")
CUT: Final = Rule("cut", "are cut at a NUL byte", "take the NUL bytes out")
TWICE: Final = Rule(
    "twice",
    "have a name that stands before and were renamed by OSCam",
    "take them out: whoever has the name logs in with the first one's password only",
)
ENDS_IN_X: Final = Rule(
    "_x", "have a name in _x, as OSCam makes them for a name that stands twice", "give them other names"
)
NAMELESS: Final = Rule("nameless", "have no name", "take them out, or write the user that is missing")
OPEN: Final = Rule("no password", "have no password, and are not disabled", "give them one, or take them out")
LONG_NAME: Final = Rule(
    "long name",
    "have a name of more than 20 bytes, of which a login compares the first 20",
    "give them shorter names",
)
LONG_PASSWORD: Final = Rule(
    "long password", "have a password of more than 63 bytes, more than a receiver sends", "give them shorter passwords"
)
TABBED: Final = Rule("tab", "have a key behind a tab, which is not read", "indent with blanks or not at all")
COMMENTED: Final = Rule(
    "comment", "have a comment behind a name or password, which is part of it", "put comments on lines of their own"
)
GROUPLESS: Final = Rule(
    "no group", "are in no group, and are served nothing", "write group = 1, or whatever it should be"
)
SWITCH: Final = Rule(
    "switch", "have a disabled that is neither 0 nor 1, and are {}", "write 0 or 1: words are 0, and 256 is 0 too"
)
SWITCHED_ON: Final = Rule("switched on", SWITCH.text.format("served"), SWITCH.hint)
SWITCHED_OFF: Final = Rule("switched off", SWITCH.text.format("not served"), SWITCH.hint)
ENDED: Final = Rule("ended", "have an end that is read as long past", "write expdate = YYYY-MM-DD")
NEVER_ENDS: Final = Rule("never ends", "have an end that is read as never", "write expdate = YYYY-MM-DD")
OTHER_END: Final = Rule("other end", "end on another day, or at another hour, than is written", ENDED.hint)

_HEADER: Final = b"[account]"
_NUMBER: Final = re.compile(rb"\s*([+-]?\d+)")
_DATE: Final = re.compile(rb"(\d{4})[-/](\d{1,2})[-/](\d{1,2})")
_HISTORY: Final = 1970
_LAST_YEAR: Final = 9999


def doubts_about(data: bytes) -> tuple[Doubt, ...]:
    """Everything in an accounts file that is taken otherwise than it looks."""
    found = Doubts()
    if data.startswith(BOM):
        found.add(MARKED, line_at(data, 0))
    for line in lines_of(data):
        raw, text = data[line.start : line.end], line.text
        if len(raw) >= READ_BUFFER and not raw.endswith(b"\n") and line.end < len(data):
            found.add(SPLIT, line_at(data, line.start))
        if len(text) < SHORTEST_LINE or text.startswith((b"#", BOM)):
            continue
        if b"\0" in raw:
            found.add(CUT, line_at(data, line.start))
        if text.startswith(b"[") and not is_header(text):
            found.add(NO_HEADER, line_at(data, line.start))
        elif _HEADER in text.lower()[1:]:
            found.add(RUN_INTO, line_at(data, line.start))
    for account in parse(data):
        for rule in _rules_of(account):
            found.add(rule, shown(account.user))
    return found.all()


def _rules_of(account: Account) -> Iterator[Rule]:
    yield from _rules_of_login(account)
    if account.switch not in (b"", b"0", b"1"):
        yield SWITCHED_OFF if account.disabled else SWITCHED_ON
    if any(key.startswith(b"\t") for key in account.values):
        yield TABBED
    if not account.values.get(b"group"):
        yield GROUPLESS
    end = account.values.get(b"expdate", b"")
    rule = _end_rule(end) if end else None
    if rule is not None:
        yield rule


def _rules_of_login(account: Account) -> Iterator[Rule]:
    name = account.user
    if not name.removesuffix(b"_x"):
        yield NAMELESS
    elif account.renamed:
        yield TWICE
    elif name.endswith(b"_x"):
        yield ENDS_IN_X
    if not account.password and not account.disabled:
        yield OPEN
    if len(name) > LOGIN_BYTES:
        yield LONG_NAME
    if len(account.password) > LONGEST_PASSWORD:
        yield LONG_PASSWORD
    if b" #" in name or b" #" in account.password:
        yield COMMENTED


def _end_rule(value: bytes) -> Rule | None:
    """What is wrong with a date; None for one that is read as it is written."""
    match = _DATE.fullmatch(value)
    if match is not None:
        try:
            date(*(int(part) for part in match.groups()))
        except ValueError:
            return OTHER_END
    year = next((_leading(part) for part in re.split(rb"[-/]", value) if part), 0)
    if year < _HISTORY:
        return ENDED
    if year > _LAST_YEAR:
        return NEVER_ENDS
    return None if match is not None else OTHER_END


def _leading(text: bytes) -> int:
    match = _NUMBER.match(text)
    return int(match[1]) if match is not None else 0
