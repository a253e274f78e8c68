"""The tree of commands as it is, so that what holds for every command is tried with every command."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import typer.main
from typer.core import TyperGroup

from starter.cli import app

ROOT: Final = typer.main.get_command(app)
LASTING: Final = ("codec", "demo", "dev", "web", "worker")
"""They run until they are stopped, and print nothing for programs."""


@dataclass(frozen=True)
class Leaf:
    """A command, with the words that name it."""

    path: tuple[str, ...]
    command: Any

    def __str__(self) -> str:
        return " ".join(self.path)

    @property
    def examples(self) -> list[list[str]]:
        """The words of each example in its help, after `twinline`."""
        text: str = self.command.help or ""
        lines = [line.partition("Example: ")[2] for line in text.splitlines() if line.startswith("Example: ")]
        return [_words(line) for line in lines]

    @property
    def options(self) -> set[str]:
        """All names of its options."""
        return {name for param in self.command.params for name in param.opts if param.param_type_name == "option"}

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        """What the parser makes of the words behind the command's own; raises what it raises."""
        with self.command.make_context(self.path[-1], list(words)) as context:
            return dict(context.params)


def _words(line: str) -> list[str]:
    words = shlex.split(line)
    start = words.index("twinline")
    assert all("=" in word for word in words[:start]), line
    return words[start + 1 :]


def leaves() -> list[Leaf]:
    """Every command."""
    return list(_below(ROOT, ()))


def _below(command: Any, path: tuple[str, ...]) -> Iterator[Leaf]:
    if not isinstance(command, TyperGroup):
        yield Leaf(path, command)
        return
    for name, each in command.commands.items():
        yield from _below(each, (*path, name))
