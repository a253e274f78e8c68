"""Which statements of our workflows a replay goes through, so that no path is without a history unnoticed."""

import ast
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

WORKFLOWS: Final = Path(__file__).parents[2] / "workflows"
_FUNCTION: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


class Coverage:
    """Collects the lines of `workflows/` that run on this thread."""

    def __init__(self) -> None:
        self._lines: dict[str, set[int]] = {str(file): set() for file in WORKFLOWS.glob("*.py")}

    @contextmanager
    def collecting(self) -> Generator[None]:
        """Collect until the block ends."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def left_out(self) -> list[str]:
        """Statements that never ran, as `file.py:function: code`."""
        return [
            f"{Path(file).name}:{function}: {code}"
            for file, lines in sorted(self._lines.items())
            for function, first, last, code in _statements(Path(file).read_text())
            if lines.isdisjoint(range(first, last + 1))
        ]

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._lines else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._lines[frame.f_code.co_filename].add(frame.f_lineno)
        return self._line


def _statements(source: str) -> Iterator[tuple[str, int, int, str]]:
    """Every statement inside a function: the function, the lines, the code of the first; of a block its head only."""
    text = source.splitlines()
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, _FUNCTION):
            continue
        for statement in _own(function):
            body = getattr(statement, "body", None)
            last = statement.lineno if body else statement.end_lineno or statement.lineno
            yield function.name, statement.lineno, last, text[statement.lineno - 1].strip()


def _own(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.stmt]:
    """A function's statements, without its docstrings and those of functions in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.stmt) and not isinstance(node, ast.Try):
            yield node
        if not isinstance(node, _FUNCTION):
            waiting = [*(child for child in ast.iter_child_nodes(node) if _holds(child)), *waiting]


def _holds(node: ast.AST) -> bool:
    return isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case)
