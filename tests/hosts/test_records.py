"""Records that a daemon takes otherwise than they look: rule by rule, against the corpus, and on any bytes."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hosts.files import carried_out, half, plan_for
from tests.hosts.judge import KINDS, MAIN, Kind, seen_by_oscam
from tests.hosts.test_parsers import EXAMPLES, MADE_UP, MULTICS_FILES, OSCAM_FILES, mutated
from tests.sandbox.corpus import Case, corpus
from twinline.hosts import multics_records, oscam_records
from twinline.hosts.factory import doubts_about
from twinline.hosts.records import Doubt, FileForm, shown
from twinline.sandbox import multics_parser, oscam_parser

_, MULTICS_CASES = corpus("multics")
_, OSCAM_CASES = corpus("oscam")


def by_rule(doubts: tuple[Doubt, ...]) -> dict[str, tuple[str, ...]]:
    return {doubt.rule.name: doubt.names for doubt in doubts}


def in_multics(text: bytes) -> dict[str, tuple[str, ...]]:
    return by_rule(multics_records.doubts_about(text))


def in_oscam(text: bytes) -> dict[str, tuple[str, ...]]:
    return by_rule(oscam_records.doubts_about(text))


LONG: Final = b"n" * 63

MULTICS_RULES: Final = {
    b"F: bob p\nF: tom p\nF: bob p\n": {"twice": ("bob",)},
    b"F: bob\n": {"no password": ("bob",)},
    b"F:\n": {"nameless": ("(no name)",), "no password": ("(no name)",)},
    b"F: nnnnnnnnnnnnnnnnnnnn p\n": {},
    b"F: nnnnnnnnnnnnnnnnnnnnM p\n": {"long name": ("nnnnnnnnnnnnnnnnnnnn…",)},
    b"F: " + LONG + b"Z geheim77\n": {"overflow": ("nnnnnnnnnnnnnnnnnnnn…",)},
    b"F: bob " + LONG + b"\n": {},
    b"F: bob " + LONG + b"Z\n": {"overflow": ("bob",)},
    b"F: b\xc3\xb6b p\n": {"bytes": ("bÃ¶b",)},
    b"F: b\x07b p\n": {"bytes": (r"'b\x07b'",)},
    b'F: b"b p\n': {"pages": ('b"b',)},
    b"F: bob p#ss\n": {"cut": ("bob",)},
    b"F: b#b p\n": {"cut": ("b",), "no password": ("b",)},
    b"F: bob p # note\n": {},
    b"F: bob p\\\nF: tom p\n": {"joined": ("bob",), "block": ("bob",)},
    b"[x] \\\nF: tom p\n": {"joined": ("line 1",)},
    b"F bob p\nF=tom p\nF : eve p\nFF: x p\n": {"skipped": ("line 1", "line 2")},
    b"\xef\xbb\xbfF: bob p\nF: tom p\n": {"bom": ("line 1",)},
    b"UPDATE ONCHANGE: NO\nF: bob p\n": {"deaf": ("line 1",)},
    b"F: bob p\nCCCAM PORT: 12001\nF: tom p\n": {"other port": ("tom",)},
    b"F: bob p { " + b"k" * 31 + b"=" + b"v" * 250 + b" }\n": {},
    b"F: bob p { " + b"k" * 32 + b"=v }\n": {"long key": ("bob",)},
    b"F: bob p { k=" + b"v" * 251 + b" }\n": {"long key": ("bob",)},
    b"F: bob p { name=x; }\n": {},
    b"F: bob p 0 1 { 15001, 15002 }\n": {},
    b"F: bob p { 15001 } { enddate=2031-05-06 }\n": {"block": ("bob",), "never ends": ("bob",)},
    b"F: bob p { name=x, enddate=2031-05-06 }\n": {"never ends": ("bob",)},
    b"F: bob p{enddate=2031-05-06}\n": {"never ends": ("bob",)},
    b"F: bob p { end date=2031-05-06 }\n": {"block": ("bob",), "never ends": ("bob",)},
    b"F: bob p { name=x; endd": {"block": ("bob",)},
    b"F: bob p { enddate=2031/05/06 }\n": {"never ends": ("bob",)},
    b"F: bob p { enddate=tomorrow }\n": {"never ends": ("bob",)},
    b"F: bob p { enddate= }\n": {"never ends": ("bob",)},
    b"F: bob p { enddate=1900-01-01 }\n": {"never ends": ("bob",)},
    b"F: bob p { EndDate=2031-05-06 14 }\n": {},
    b"F: bob p { expire=06-05-2031 14 }\n": {},
    b"F: bob p { enddate=2031-05-06 24 }\n": {"other end": ("bob",)},
    b"F: bob p { enddate=2031-05-06 14:30 }\n": {"other end": ("bob",)},
    b"F: bob p { enddate=2031-05-06T14 }\n": {"other end": ("bob",)},
    b"F: bob p { enddate=2031-02-31 }\n": {"other end": ("bob",)},
    b"F: bob p { enddate=2031-05-06; expire=2032-05-06 }\n": {"two ends": ("bob",)},
    b"F: bob p\r\nF: tom p\r\n": {},
    b"\tF:\tbob\tp\t{\tenddate=2031-05-06\t}": {},
    b"; F: bob p\n// F: tom p\n# F: eve p\n": {},
}


@pytest.mark.parametrize("text", MULTICS_RULES, ids=lambda text: repr(text)[2:42])
def test_what_multics_takes_otherwise_than_it_looks(text: bytes) -> None:
    assert in_multics(text) == MULTICS_RULES[text]


def account(*lines: bytes, user: bytes = b"bob") -> bytes:
    return b"\n".join((b"[account]", b"user = " + user, *lines, b""))


PLAIN: Final = (b"pwd = p", b"group = 1")

OSCAM_RULES: Final = {
    account(*PLAIN): {},
    account(*PLAIN) + account(*PLAIN, user=b"tom") + account(*PLAIN): {"twice": ("bob_x",)},
    account(*PLAIN, user=b"bob_x"): {"_x": ("bob_x",)},
    account(*PLAIN, user=b""): {"nameless": ("_x",)},
    b"[x]\nuser = bob\npwd = p\n": {
        "nameless": ("(no name)",),
        "no password": ("(no name)",),
        "no group": ("(no name)",),
    },
    account(b"group = 1"): {"no password": ("bob",)},
    account(b"group = 1", b"disabled = 1"): {},
    account(b"pwd = p"): {"no group": ("bob",)},
    account(*PLAIN, user=b"n" * 20): {},
    account(*PLAIN, user=b"n" * 21): {"long name": ("n" * 20 + "…",)},
    account(b"pwd = " + LONG, b"group = 1"): {},
    account(b"pwd = " + LONG + b"Z", b"group = 1"): {"long password": ("bob",)},
    account(b"\tpwd = p", b"group = 1"): {"tab": ("bob",), "no password": ("bob",)},
    account(b" \tpwd = p", b"group = 1"): {},
    account(b"pwd = p1 # note", b"group = 1"): {"comment": ("bob",)},
    account(*PLAIN, b"disabled = yes"): {"switched on": ("bob",)},
    account(*PLAIN, b"disabled = 256"): {"switched on": ("bob",)},
    account(*PLAIN, b"disabled = 1 # x"): {"switched off": ("bob",)},
    account(*PLAIN, b"expdate = 2031-12-31"): {},
    account(*PLAIN, b"expdate = 2031/1/2"): {},
    account(*PLAIN, b"expdate ="): {},
    account(*PLAIN, b"expdate = 31-12-2031"): {"ended": ("bob",)},
    account(*PLAIN, b"expdate = garbage"): {"ended": ("bob",)},
    account(*PLAIN, b"expdate = 0"): {"ended": ("bob",)},
    account(*PLAIN, b"expdate = 20311231"): {"never ends": ("bob",)},
    account(*PLAIN, b"expdate = 2031"): {"other end": ("bob",)},
    account(*PLAIN, b"expdate = 2031-02-31"): {"other end": ("bob",)},
    account(*PLAIN, b"expdate = 2031-12-31 12:00"): {"other end": ("bob",)},
    account(*PLAIN) + b"[account] # tom\nuser = tom\n": {"no header": ("line 5",)},
    account(*PLAIN, b"expda[account]", b"user = tom"): {"run into": ("line 5",)},
    b"\xef\xbb\xbf" + account(*PLAIN) + account(*PLAIN, user=b"tom"): {"bom": ("line 1",)},
    account(b"pwd = p\0q", b"group = 1"): {"cut": ("line 3",)},
    account(*PLAIN, b"description = " + b"x" * 17_000): {"split": ("line 5",)},
    account(*PLAIN).replace(b"\n", b"\r\n"): {},
    account(*PLAIN, b"# [account] in a comment", user="bøb".encode()): {},
}


@pytest.mark.parametrize("text", OSCAM_RULES, ids=lambda text: repr(text[-60:])[2:62])
def test_what_oscam_takes_otherwise_than_it_looks(text: bytes) -> None:
    assert in_oscam(text) == OSCAM_RULES[text]


# --- against what the real daemons loaded


def named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", MULTICS_CASES, ids=named)
def test_whatever_multics_loaded_in_a_strange_way_is_doubted(case: Case) -> None:
    found = in_multics(case.file)
    if case.main is not None:
        return  # the accounts of other files are among those loaded
    names = Counter(account.user_bytes for account in case.loaded)
    assert set(found.get("twice", ())) == {shown(name) for name, count in names.items() if count > 1}
    assert ("nameless" in found) == (b"" in names)
    for account in case.loaded:
        keys = dict(account.extra)
        if account.expires is None and ({key.lower() for key in keys} & {"enddate", "expire"}):
            assert shown(account.user_bytes) in found["never ends"]
        written = next((keys[key] for key in keys if key.lower() in {"enddate", "expire"}), "")
        turned = "-".join(reversed(written.split(" ")[0].split("-")))
        if account.expires is not None and account.expires not in {written[:10], turned}:
            assert set(found) & {"other end", "two ends"}, (account, found)
        if len(account.user_bytes) > 20 or not account.user.isascii():
            assert set(found) & {"long name", "overflow", "bytes"}


@pytest.mark.parametrize("case", OSCAM_CASES, ids=named)
def test_whatever_oscam_loaded_in_a_strange_way_is_doubted(case: Case) -> None:
    found = in_oscam(case.file)
    renamed = {shown(account.user_bytes) for account in case.loaded if account.user.endswith("_x")}
    assert renamed <= {*found.get("twice", ()), *found.get("_x", ()), *found.get("nameless", ())}
    for account in case.loaded:
        name = shown(account.user_bytes)
        if not account.user:
            assert name in found["nameless"]
        if account.password == "" and not account.disabled:
            assert name in found["no password"]
        if account.status == "offline (expired)" and account.expires is not None and account.expires < "1970-02":
            assert name in found["ended"]
        if account.expires is not None and account.expires > "9999-99":
            assert name in found["never ends"]
        if account.disabled > 1:
            assert "switched off" in found
        assert isinstance(account.extra, dict)
        if not account.extra.get("group"):
            assert name in found["no group"]


def doubted_days(kind: str) -> list[tuple[str, str]]:
    """What stands in the corpus as an end date, and what the daemon made of it."""
    cases = [case for case in OSCAM_CASES if case.name in {"exp-formats", "exp-range", "exp-junk"}]
    rows: list[tuple[str, str]] = []
    for case in cases:
        written = [line.split("=", 1)[1].strip() for line in case.file.decode().splitlines() if "expdate" in line]
        rows += [(text, each.expires or "") for text, each in zip(written, case.loaded, strict=True)]
    return [row for row in rows if kind in row[0]] if kind else rows


@pytest.mark.parametrize(("written", "loaded"), doubted_days(""))
def test_an_end_date_is_doubted_exactly_when_oscam_reads_another_day(written: str, loaded: str) -> None:
    doubted = in_oscam(account(*PLAIN, b"expdate = " + written.encode()))
    parts = written.replace("/", "-").split("-")
    same = len(parts) == 3 and "-".join(part.zfill(2) for part in parts) == loaded
    # A time of day is not read, though the day is right.
    assert bool(doubted) == (not same)


# --- on any bytes


def told(names: Iterable[str]) -> set[str]:
    """The names of the stand-in's accounts as findings show them."""
    return {shown(name.encode("latin-1")) for name in names}


@EXAMPLES
@given(st.one_of(MADE_UP, mutated(MULTICS_FILES)))
def test_on_any_bytes_multics_duplicates_and_open_accounts_are_named_and_no_password_is(data: bytes) -> None:
    config = multics_parser.parse("main", {"main": MAIN, "accounts": data}.get)
    found = in_multics(data)
    names = Counter(each.user for each in config.records)
    assert set(found.get("twice", ())) == told(name for name, count in names.items() if count > 1)
    assert set(found.get("no password", ())) == told(each.user for each in config.records if not each.password)
    assert set(found.get("never ends", ())) <= told(each.user for each in config.records if each.end is None)


@EXAMPLES
@given(st.one_of(MADE_UP, mutated(OSCAM_FILES)))
def test_on_any_bytes_oscam_duplicates_and_open_accounts_are_named(data: bytes) -> None:
    found = in_oscam(data)
    open_to_all = {
        shown(each.user.encode("latin-1")) for each in seen_by_oscam(data) if each.enabled and not each.password
    }
    assert set(found.get("no password", ())) == open_to_all
    x_names = {shown(each.user.encode("latin-1")) for each in seen_by_oscam(data) if each.user.endswith("_x")}
    doubted = {name for rule in ("twice", "_x", "nameless") for name in found.get(rule, ())}
    assert x_names <= doubted
    groupless = {
        shown(each.user.encode("latin-1")) for each in oscam_parser.parse_users(data).accounts if not each.group
    }
    assert groupless >= set(found.get("no group", ()))


SAFE_NAMES: Final = st.lists(st.from_regex(r"[A-Za-z0-9.-]{1,20}", fullmatch=True), unique=True, max_size=6)
SECRET: Final = "Geheim77Geheim77"


@settings(max_examples=100, deadline=None)
@given(SAFE_NAMES, st.booleans())
def test_records_that_are_as_they_look_are_not_doubted(names: list[str], ending: bool) -> None:  # noqa: FBT001 - drawn by name
    end = " { name=Some One; enddate=2031-05-06 07 }" if ending else ""
    lines = "".join(f"F: {name} {SECRET}{end}\n" for name in names)
    assert in_multics(lines.encode()) == {}
    day = "expdate = 2031-05-06\n" if ending else ""
    sections = "".join(f"[account]\nuser = {name}\npwd = {SECRET}\ngroup = 1,2\n{day}\n" for name in names)
    assert in_oscam(sections.encode()) == {}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_is_wrong_with_a_record_its_password_is_never_told(data: st.DataObject) -> None:
    # Where the name is left out, the password stands in its place, for the daemon too.
    name = data.draw(st.binary(max_size=80).filter(lambda name: name.strip() and not set(name) & {10, 35, 0}))
    wrong = data.draw(st.sampled_from([b"", b"#", b" \\", b"{enddate=", b' { enddate=x; "', b"\t"]))
    for doubts in (
        multics_records.doubts_about(b"F: " + name + b" " + SECRET.encode() + wrong + b"\nF: bob p\n"),
        oscam_records.doubts_about(account(wrong + b"pwd = " + SECRET.encode() + wrong, user=name)),
    ):
        assert SECRET not in str([(doubt.names, doubt.rule.text, doubt.rule.hint) for doubt in doubts])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_our_own_records_are_not_doubted(kind: Kind) -> None:
    data = carried_out(b"", plan_for(kind.daemon, b"", [half(f"alder{number}2") for number in range(20)]))
    assert by_rule(doubts_about(kind.protocol, data)) == {}


def test_the_form_of_a_file_is_told_only_where_there_is_something_to_tell() -> None:
    assert FileForm.of(b"").remarks == FileForm.of(b"F: bob p\n").remarks == ()
    assert FileForm.of(b"F: bob p").remarks == ("the last line does not end, which is harmless",)
    assert FileForm.of(b"F: bob p\r\n").remarks == ("1 lines end in CRLF, which is harmless",)
