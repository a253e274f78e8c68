"""Bash breaks what is typed at colons and equals signs too, and replaces only what follows; order ids have colons."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Generator, Sequence
from typing import Final

_ASKED: Final = "_TWINLINE_COMPLETE"
_BREAKS: Final = re.compile(r"[:=]+")


def whole(words: Sequence[str], index: int) -> tuple[list[str], int]:
    """The words as they were typed up to the one at `index`, where the cursor is, and its new index."""
    joined: list[str] = []
    for number, word in enumerate(words[: index + 1]):
        # Behind a blank comes an empty word first, so nothing but a piece of the same word can follow a break.
        follows = number > 0 and bool(word) and bool(_BREAKS.fullmatch(words[number - 1]))
        if joined and (follows or _BREAKS.fullmatch(word)):
            joined[-1] += word
        else:
            joined.append(word)
    return joined, len(joined) - 1


def rest(word: str, offered: str) -> str:
    """What is left to write of an offered value where bash replaces only what stands behind the last break."""
    value = word.partition("=")[2] if word.startswith("-") else word
    return offered.removeprefix(value[: value.rfind(":") + 1])


@contextlib.contextmanager
def taken_together() -> Generator[None]:
    """Let a Tab in bash be answered as if words were broken at blanks only; does nothing when none was pressed."""
    words, index = os.environ.get("COMP_WORDS", "").split("\n"), os.environ.get("COMP_CWORD", "")
    if os.environ.get(_ASKED) != "complete_bash" or not index.isdecimal() or int(index) >= len(words):
        yield
        return
    joined, at = whole(words, int(index))
    os.environ.update(COMP_WORDS="\n".join(joined), COMP_CWORD=str(at))
    answer = io.StringIO()
    try:
        with contextlib.redirect_stdout(answer):
            yield
    finally:
        sys.stdout.writelines(f"{rest(joined[at], offered)}\n" for offered in answer.getvalue().splitlines())
