"""zsh and fish compare what is offered with the whole word, so that behind `--owner=` an owner alone fits nothing."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Generator
from typing import Final

_OPTION: Final = re.compile(r"(?:^|\s)(--[a-z-]+=)\S*$")


def begun(typed: str) -> str:
    """The option and the equals sign with which the last word begins; empty for any other word."""
    found = _OPTION.search(typed)
    return "" if found is None else found[1]


def whole(shell: str, option: str, answer: str) -> str:
    """The answer to a shell so that it fits a word that begins with this option."""
    if shell == "zsh":
        # What stands before the value is not to be compared; the rest of the answer is a command as well.
        return f"compset -P '*='; {answer}" if answer.startswith("_arguments ") else answer
    return "".join(f"{option}{line}\n" for line in answer.splitlines())


@contextlib.contextmanager
def completed() -> Generator[None]:
    """Let a Tab behind an option and an equals sign be answered so that it fits; does nothing for any other."""
    shell = os.environ.get("_TWINLINE_COMPLETE", "").removeprefix("complete_")
    option = begun(os.environ.get("_TYPER_COMPLETE_ARGS", "")) if shell in ("zsh", "fish") else ""
    if not option:
        yield
        return
    answer = io.StringIO()
    try:
        with contextlib.redirect_stdout(answer):
            yield
    finally:
        sys.stdout.write(whole(shell, option, answer.getvalue()))
