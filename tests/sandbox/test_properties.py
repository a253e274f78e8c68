"""What holds for every file: reading never fails, lines lose nothing, what OSCam writes it reads back."""

import string

from hypothesis import given
from hypothesis import strategies as st

from twinline.sandbox.cfile import c_lines, leading_number
from twinline.sandbox.multics_parser import parse
from twinline.sandbox.oscam_parser import Account, parse_users, render_users

WORDS = st.text(string.ascii_letters + string.digits + ".-", min_size=1, max_size=20)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_lines_without_nul_put_together_are_the_file(data: bytes, most: int) -> None:
    data = data.replace(b"\0", b"")
    lines = list(c_lines(data, most=most))
    assert "".join(lines).encode("latin-1") == data
    assert all(0 < len(line) <= most for line in lines)


@given(st.integers(-(10**9), 10**9), st.text(string.ascii_letters + " .;", max_size=5))
def test_a_number_is_read_whatever_follows_it(number: int, tail: str) -> None:
    assert leading_number(f" {number}{tail}") == number


@given(st.binary(max_size=400))
def test_multics_reads_any_bytes(data: bytes) -> None:
    config = parse("main", {"main": b"[P]\nCCCAM PORT: 1\n" + data}.get)
    assert config.profiles[0] == "P"


@given(st.binary(max_size=400))
def test_oscam_reads_any_bytes_and_its_own_writing_back(data: bytes) -> None:
    accounts = parse_users(data).accounts
    assert len(parse_users(render_users(accounts)).accounts) == len(accounts)


@given(
    st.lists(
        st.builds(
            Account,
            user=WORDS,
            password=WORDS,
            disabled=st.integers(0, 1),
            description=WORDS,
            group=st.sets(st.integers(1, 64)).map(sorted).map(tuple),
            uniq=st.integers(0, 4),
            max_connections=st.integers(1, 9),
        ),
        unique_by=lambda account: account.user,
    ).map(tuple)
)
def test_what_oscam_writes_is_what_it_had(accounts: tuple[Account, ...]) -> None:
    assert parse_users(render_users(accounts)).accounts == accounts
