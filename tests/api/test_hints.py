"""Hints that fit the API: whatever command an error names, a caller reads what there is over HTTP."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from starter.api.hints import OPERATOR, ROUTES, over_http
from tests.api.described import DESCRIPTION
from tests.cli.tree import leaves

ROOT = Path(__file__).parents[2]
SAID_BY = ("starter", "twinline", "workflows", "activities")


def texts() -> Iterator[str]:
    """Every text in the sources of the house that names a command, with X for the values in it."""
    for folder in SAID_BY:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            formatted = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
            parts = {id(part) for node in formatted for part in node.values}
            whole = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in parts]
            found = [str(node.value) for node in whole if isinstance(node.value, str)]
            found += ["".join(_shown(part) for part in node.values) for node in formatted]
            yield from (text for text in found if "`twinline " in text)


def _shown(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "X"


def test_no_hint_that_there_is_names_a_command_over_http() -> None:
    found = set(texts())
    assert len(found) > 20
    for text in found:
        assert re.search("`twinline [a-z]", over_http(text)) is None, text


def test_what_stands_for_a_command_is_described_and_the_command_is_there() -> None:
    paths = {
        f"{method.upper()} {re.sub('{[a-z_]+}', '{}', path)}"
        for path, methods in DESCRIPTION["paths"].items()
        for method in methods
    }
    assert {re.sub("{[a-z_]+}", "{}", route) for route in ROUTES.values()} <= paths
    assert {tuple(command.split()) for command in ROUTES} <= {leaf.path for leaf in leaves()}


def test_a_hint_reads_well_over_http() -> None:
    assert over_http("Check the spelling; `twinline line list` shows all lines.") == (
        "Check the spelling; `GET /v1/lines` shows all lines."
    )
    assert over_http("Lift it with `twinline unblock LINE --case ID`.") == "Lift it with `POST /v1/unblocks`."
    waits = "If its order still waits for a half, `twinline order abandon` ends it."
    assert over_http(waits) == f"If its order still waits for a half, {OPERATOR} ends it."
    assert over_http("Take a new id.") == "Take a new id."
