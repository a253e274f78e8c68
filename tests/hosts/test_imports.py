"""What an import may bring, both daemons hold as it was brought: judged by the stand-ins' own parsers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.hosts.files import carried_out, half, plan_for
from tests.hosts.judge import KINDS
from twinline.bulk import ImportItem

NAMES = st.from_regex(r"\A[a-z0-9]{4,20}\Z")
FOREIGN = {"multics": b"F: bert bertpw\n", "oscam": b"[account]\nuser = bert\npwd = bertpw\n"}


def item(username: str, password: str) -> ImportItem:
    return ImportItem.model_validate(
        {"username": username, "password": password, "email": "a@b.c", "ends_at": "2031-05-06T13:00Z", "pair": "eu1"}
    )


@settings(max_examples=40)
@given(NAMES, st.text(st.sampled_from("abz019!$%()*+,./:?@^_|~-"), min_size=1, max_size=24))
def test_both_daemons_read_it_as_it_was_brought(username: str, password: str) -> None:
    try:
        brought = item(username, password)
    except ValidationError:
        assert not any(letter.isalnum() for letter in password)
        return
    for kind in KINDS:
        before = FOREIGN[kind.protocol]
        data = carried_out(before, plan_for(kind.daemon, before, [half(brought.username, password=brought.password)]))
        served = {account.user: account.password for account in kind.served(data)}
        assert served == {"bert": "bertpw", username: password}


@pytest.mark.parametrize(
    "password", ["", "a b", "a#b", "a\\", 'a"b', "a;b", "a{b", "a=b", "a<b", "é", "a\n", "x" * 25, "~~~"]
)
def test_what_one_of_them_would_read_otherwise_is_refused(password: str) -> None:
    with pytest.raises(ValidationError):
        item("abcd", password)
