"""Our reading of account files against what the real daemons loaded, and against the stand-ins on any bytes."""

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hosts.judge import MAIN, seen_by_oscam
from tests.hosts.lab import FOREIGN
from tests.sandbox.corpus import Case, LoadedAccount, corpus
from twinline.hosts import multics, oscam
from twinline.sandbox import multics_parser

_, MULTICS_CASES = corpus("multics")
_, OSCAM_CASES = corpus("oscam")

BESIDE_THE_INCLUDE: Final = {
    "before-port": "the main file has its port only behind the include, so the daemon skips all of it",
    "main-plus-include": "the main file has accounts of its own around the include",
}
UNDEFINED: Final = {
    "user-64": "the name runs over its buffer; ours is read as it was seen, and can never be a username of a line",
    "empty-value": "the daemon reads stray memory for the date; names and keys are as they stand",
}
EXAMPLES: Final = settings(max_examples=200, deadline=None)


def named(case: Case) -> str:
    return case.name


def keys(account: LoadedAccount) -> list[tuple[bytes, bytes]]:
    assert isinstance(account.extra, list)
    return [(key.encode(), value.encode()) for key, value in reversed(account.extra)]


def test_every_undefined_case_of_the_corpus_is_known_by_name() -> None:
    assert {case.name for case in (*MULTICS_CASES, *OSCAM_CASES) if case.undefined} == set(UNDEFINED)


@pytest.mark.parametrize("case", [case for case in MULTICS_CASES if case.name not in BESIDE_THE_INCLUDE], ids=named)
def test_our_reading_of_a_multics_include_is_the_real_daemons(case: Case) -> None:
    # With two ports around it the include is loaded once per port; one port reads the file alone.
    loaded = [account for account in case.loaded if account.server == 1 or case.main is None]
    found = multics.parse(case.file)
    assert [(account.user, list(account.keys)) for account in found] == [
        (account.user_bytes, keys(account)) for account in loaded
    ]


@pytest.mark.parametrize("case", [case for case in MULTICS_CASES if case.name in BESIDE_THE_INCLUDE], ids=named)
def test_our_reading_of_an_include_alone_is_what_the_daemon_loads_below_a_port(case: Case) -> None:
    config = multics_parser.parse("main", {"main": MAIN, "accounts": case.file}.get)
    assert [account.user.decode() for account in multics.parse(case.file)] == [each.user for each in config.records]


@pytest.mark.parametrize("case", OSCAM_CASES, ids=named)
def test_our_reading_of_oscam_is_the_real_daemons(case: Case) -> None:
    found = oscam.parse(case.file)
    assert [(account.user, account.disabled) for account in found] == [
        (account.user_bytes, account.disabled) for account in case.loaded
    ]
    for ours, theirs in zip(found, case.loaded, strict=True):
        if (password := theirs.password_bytes) is not None:
            assert isinstance(theirs.extra, dict)
            assert ours.password == password
            # The corpus gives undecodable bytes of a description as U+FFFD.
            described = ours.values.get(b"description", b"").decode(errors="replace")
            assert described == theirs.extra.get("description", "")


WORDS: Final = st.sampled_from(
    [
        *(b"F:", b"f :", b"F=", b"CCCAM USER:", b"cccam  user =", b"CCCAM PORT: 12001\n", b"alice", b"bob", b"p1"),
        *(b"[account]", b"[x]", b"[ACCOUNT ]", b"user = ", b"pwd=", b"  pwd = ", b"\tpwd = ", b"description="),
        *(b"disabled = 1", b"disabled = 0", b"disabled", b"1", b"0", b"rev=3", b"enddate=2031-01-02 03", b"_x"),
        *(b"{", b"}", b";", b"=", b":", b",", b" ", b"\t", b"\r", b"\n", b"\n", b"\n", b"\\", b"\\\n", b"#"),
        *(b"\0", b"\xff", b"\v", b"\xa0", b"\x1c"),
    ]
)
MADE_UP: Final = st.lists(st.one_of(WORDS, st.binary(max_size=3)), max_size=60).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn, files: tuple[bytes, ...]) -> bytes:
    """A real file with a few pieces cut out, doubled, or put in."""
    data = draw(st.sampled_from(files))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 12)))
        data = data[:at] + draw(st.one_of(WORDS, st.just(b""), st.just(data[at:end] * 2))) + data[end:]
    return data


def text(word: bytes) -> str:
    return word.decode("latin-1")


SMALL: Final = 2_000
MULTICS_FILES: Final = (FOREIGN["multics"], *(case.file for case in MULTICS_CASES if len(case.file) < SMALL))
OSCAM_FILES: Final = (FOREIGN["oscam"], *(case.file for case in OSCAM_CASES if len(case.file) < SMALL))


@EXAMPLES
@given(st.one_of(MADE_UP, mutated(MULTICS_FILES)))
def test_on_any_bytes_we_read_what_the_multics_stand_in_reads(data: bytes) -> None:
    # An include inside the file would be read in place by the daemon, and is left alone by us.
    files = {"main": MAIN, "accounts": data}
    config = multics_parser.parse("main", files.get)
    ours = [(text(each.user), text(each.password), each.keys) for each in multics.parse(data)]
    assert [(user, password, [(text(key), text(value)) for key, value in keys]) for user, password, keys in ours] == [
        (each.user, each.password, list(reversed(each.info))) for each in config.records
    ]


@EXAMPLES
@given(st.one_of(MADE_UP, mutated(OSCAM_FILES)))
def test_on_any_bytes_we_read_what_the_oscam_stand_in_reads(data: bytes) -> None:
    ours = [(text(each.user), text(each.password), each.disabled == 0) for each in oscam.parse(data)]
    assert ours == [(seen.user, seen.password, seen.enabled) for seen in seen_by_oscam(data)]


@pytest.mark.parametrize("most", [multics.READ_BUFFER, oscam.READ_BUFFER])
@pytest.mark.parametrize("over", [-2, -1, 0, 1, 2])
def test_a_line_longer_than_one_read_goes_on_as_a_line_of_its_own_in_both_readings(most: int, over: int) -> None:
    for tail in (b"F: alice p1\n", b"[account]\nuser = alice\npwd = p1\n"):
        data = b"#" + b"x" * (most + over - 1) + tail
        config = multics_parser.parse("main", {"main": MAIN, "accounts": data}.get)
        assert [a.user.decode() for a in multics.parse(data)] == [each.user for each in config.records]
        assert [a.user.decode() for a in oscam.parse(data)] == [seen.user for seen in seen_by_oscam(data)]
