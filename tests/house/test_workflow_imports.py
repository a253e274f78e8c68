"""Workflow modules hold order and time and nothing else: Temporal's sandbox takes them as they are, for all runs.

It would refuse a clock or I/O only where it imports the module itself; this reads the source of all of them.
"""

import ast
import importlib
from collections.abc import Iterator
from datetime import timedelta
from logging import LoggerAdapter
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TypeVar

import pytest
from temporalio.common import RetryPolicy

WORKFLOWS = sorted((Path(__file__).parents[2] / "workflows").glob("[!_]*.py"))
HARMLESS = {
    "abc",
    "asyncio",
    "collections",
    "contextlib",
    "dataclasses",
    "datetime",
    "enum",
    "logging",
    "types",
    "typing",
    "workflows",
}
"""What a workflow module may import by itself, by the first part of its name."""
OF_THE_SDK = {"temporalio", "temporalio.common", "temporalio.exceptions"}
PASSED_THROUGH = {
    "twinline.bulk",
    "twinline.messages",
    "twinline.priorities",
    "twinline.rebuild",
    "twinline.search_attributes",
    "twinline.summaries",
}
OTHER_CLOCKS = {"now", "utcnow", "today", "time", "monotonic", "run_in_executor", "to_thread", "uuid4"}
"""Names that only `workflow` and `datetime` values may be asked for, such as workflow.now()."""


def modules_named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.module or "."


def foreign_modules(source: str) -> list[str]:
    return [
        name
        for name in modules_named(ast.parse(source))
        if name.partition(".")[0] not in HARMLESS and name not in OF_THE_SDK | PASSED_THROUGH
    ]


def foreign_clocks(source: str) -> list[str]:
    return [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in OTHER_CLOCKS
        and ast.unparse(node.func.value) != "workflow"
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_module_imports_nothing_that_could_do_io_and_asks_no_other_clock(path: Path) -> None:
    source = path.read_text(encoding="utf-8")

    assert foreign_modules(source) == []
    assert foreign_clocks(source) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os", ["os"]),
        ("from sqlmodel import select", ["sqlmodel"]),
        ("from twinline.ledger import Ledger", ["twinline.ledger"]),
        ("from temporalio.client import Client", ["temporalio.client"]),
        ("def f():\n    import random", ["random"]),
        ("from . import order", ["."]),
    ],
)
def test_it_would_be_seen(source: str, found: list[str]) -> None:
    assert foreign_modules(source) == found


@pytest.mark.parametrize(
    "source", ["datetime.now(UTC)", "datetime.datetime.utcnow()", "asyncio.to_thread(len, ())", "date.today()"]
)
def test_another_clock_would_be_seen(source: str) -> None:
    assert len(foreign_clocks(source)) == 1
    assert foreign_clocks("workflow.now()") == []


def kept(module: ModuleType) -> dict[str, object]:
    """What a module holds of its own, by the names that it gives."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    targets = [
        target
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    return {target.id: getattr(module, target.id) for target in targets if isinstance(target, ast.Name)}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_module_holds_nothing_that_one_run_could_change_for_another(path: Path) -> None:
    for value in kept(importlib.import_module(f"workflows.{path.stem}")).values():
        assert isinstance(
            value,
            str
            | int
            | float
            | tuple
            | frozenset
            | MappingProxyType
            | timedelta
            | RetryPolicy
            | TypeVar
            | LoggerAdapter,
        )
