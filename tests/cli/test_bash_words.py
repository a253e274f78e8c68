"""What bash makes of a line is put together again, and what it is answered fits what it replaces."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starter.cli.bash_words import rest, whole

WORD = st.text("ab:=-", min_size=1, max_size=6).filter(lambda word: word[0] not in ":=")


def broken(words: list[str]) -> list[str]:
    """As bash breaks words: at runs of colons and equals signs, which are words of their own."""
    return [piece for word in words for piece in re.split(r"([:=]+)", word) if piece]


# Bash does not tell whether a blank followed a word that ends in a break; only the last one does, at the cursor.
@given(st.lists(WORD.filter(lambda word: word[-1] not in ":=")), WORD)
def test_words_that_bash_broke_are_whole_again(before: list[str], last: str) -> None:
    words = [*before, last]
    pieces = broken(words)
    assert whole(pieces, len(pieces) - 1) == (words, len(words) - 1)
    # The cursor stands behind a blank.
    assert whole([*pieces, ""], len(pieces)) == ([*words, ""], len(words))


@pytest.mark.parametrize(
    ("word", "offered", "left"),
    [
        ("out", "outage:7", "outage:7"),
        ("outage:", "outage:7", "7"),
        ("outage:7", "outage:7:1", "7:1"),
        ("outage:7:", "outage:7:1", "1"),
        ("--order=outage:", "outage:7", "7"),
        ("--owner=op", "operator", "operator"),
        ("--own", "--owner", "--owner"),
    ],
)
def test_only_what_stands_behind_the_last_break_is_answered(word: str, offered: str, left: str) -> None:
    assert rest(word, offered) == left
