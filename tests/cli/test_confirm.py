"""Commands that are hard to undo ask first, and never guess an answer where nobody can give one."""

import os
import pty
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec

SCRIPT = """
import sys, typer
from starter.cli.running import confirm

def main(yes: bool = False) -> None:
    confirm("Close it for good?", yes=yes)
    print("done")

typer.run(main)
"""


async def ask(answer: str | None, *words: str) -> tuple[int | None, str]:
    """Run a question with an answer typed at a terminal, or without any; exit code and standard output."""
    ours, theirs = pty.openpty()
    terminal = PIPE if answer is None else theirs
    command = (sys.executable, "-c", SCRIPT, *words)
    process = await create_subprocess_exec(*command, stdin=terminal, stderr=terminal, stdout=PIPE)
    if answer is not None:
        os.write(ours, answer.encode() + b"\n")
    out, _ = await process.communicate()
    os.close(ours)
    os.close(theirs)
    return process.returncode, out.decode()


async def test_a_yes_goes_on_and_a_no_does_nothing() -> None:
    assert await ask("y") == (0, "done\n")
    assert await ask("n") == (4, "")
    assert await ask("") == (4, "")


async def test_without_a_terminal_only_the_option_goes_on() -> None:
    assert await ask(None) == (2, "")
    assert await ask(None, "--yes") == (0, "done\n")
