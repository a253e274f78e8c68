"""Hostile values in every argument and option of every command: a sentence and an exit code, no trace, nothing changed.

The values go through the tree of commands, so that a new command is tried by itself. All is set and nothing answers,
so that whatever is let through comes to an end soon.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import pytest
from typer.testing import CliRunner

from starter.cli import app, context, doctor, orders_shown
from tests.cli.alone import Alone
from tests.cli.tree import LASTING, Leaf, leaves

HOSTILE: Final = (
    "",
    " ",
    "-",
    "--",
    "-1",
    "0",
    "99999999999999999999999",
    "1e309",
    "nan",
    "inf",
    "x" * 70,
    "x" * 100_000,
    "a\nb",
    "a\r\nBcc: all@example.com",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b31m",
    "a\0b",
    "\udcff\udcfe",
    "\u202egnp",
    "'; DROP TABLE line; --",
    '" OR 1=1 --',
    "%s%n%d",
    "$(touch pwned)",
    "`touch pwned`; touch pwned | touch pwned",
    "../../../etc/passwd",
    "/dev/null/x",
    "emil@example.com",
    "cli/../x",
    "~~~",
    "\uff41\uff44\uff4d\uff49\uff4e",
    "\u0663",
    "True",
    "null",
    "{{7*7}}",
    "a" * 300,
    "2031-13-45T99:99Z",
)
EACH_GETS: Final = 2
OURS: Final = (2, 3, 4, 5, 6)


def _tried(*, every: bool) -> list[Any]:
    """Every parameter of every command that ends, with some or all of the hostile values."""
    found: list[Any] = []
    turn = 0
    assert len(HOSTILE) % EACH_GETS == 1  # so that the turns come round to each of them
    for leaf in leaves():
        if str(leaf) in LASTING:
            continue
        for param in leaf.command.params:
            if getattr(param, "is_flag", False):
                continue
            values = HOSTILE if every else [HOSTILE[(turn + step) % len(HOSTILE)] for step in range(EACH_GETS)]
            turn += EACH_GETS
            found.append(pytest.param(leaf, param, values, id=f"{leaf}-{param.name}".replace(" ", "_")))
    return found


def _words(leaf: Leaf, param: Any, value: str) -> list[str]:
    """The command's example with this value in this place."""
    given = leaf.parse(leaf.examples[0][len(leaf.path) :])
    given[param.name] = value
    words: list[str] = list(leaf.path)
    arguments: list[str] = []
    for each in leaf.command.params:
        found = given.get(each.name)
        if found is None or found is False or found == each.default:
            continue
        every: list[Any] = list(cast("list[Any]", found)) if isinstance(found, list | tuple) else [found]
        for one in every:
            if each.param_type_name == "argument":
                arguments.append(str(one))
            elif one is True:
                words.append(each.opts[0])
            else:
                words += [each.opts[0], str(one)]
    if "--yes" in leaf.options and "--yes" not in words:
        words.append("--yes")
    return [*words, "--", *arguments]


@pytest.fixture
def quick(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> Alone:
    """The machine on which nothing answers, with the patience of somebody who knows that."""
    for name, value in alone.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TWINLINE_GRACE", "0.01")
    monkeypatch.setattr(orders_shown, "LOOK_PATIENCE", 0.01)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(alone.folder)
    whole = context.Context.temporal

    async def soon(self: context.Context, *, patience: float = 0.01) -> Any:
        return await whole(self, patience=min(patience, 0.01))

    monkeypatch.setattr(context.Context, "temporal", soon)
    monkeypatch.setattr(doctor, "SMTP_TIMEOUT", 0.1)
    return alone


def _try(alone: Alone, leaf: Leaf, param: Any, values: tuple[str, ...]) -> None:
    before = alone.state()
    for value in values:
        words = _words(leaf, param, value)
        result = CliRunner().invoke(app, words)
        said = f"{words!r:.300}\n{result.exit_code}\n{result.stdout:.500}\n{result.stderr:.2000}"
        assert result.exception is None or isinstance(result.exception, SystemExit), said
        assert "Traceback" not in result.output, said
        for escape in ("\x1b", "\x9b", "\x07", "\u202e"):
            assert escape not in result.output, said
        assert "Value error" not in result.output, said
        assert "validation error" not in result.output, said
        if result.exit_code == 0:
            # It was fit for that place after all.
            before = alone.state()
            continue
        assert result.exit_code in OURS, said
        assert result.output.strip(), said
        assert alone.state() == before, said


@pytest.mark.parametrize(("leaf", "param", "values"), _tried(every=False))
def test_some_hostile_values(quick: Alone, leaf: Leaf, param: Any, values: tuple[str, ...]) -> None:
    _try(quick, leaf, param, values)


@pytest.mark.soak
@pytest.mark.parametrize(("leaf", "param", "values"), _tried(every=True))
def test_all_hostile_values(quick: Alone, leaf: Leaf, param: Any, values: tuple[str, ...]) -> None:
    _try(quick, leaf, param, values)


def _lines(values: Sequence[str]) -> bytes:
    return "\n".join(values).encode("utf-8", "surrogatepass")


def _csv(values: Sequence[str], columns: Sequence[str]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(columns)
    # Each value in each column beside what is fine.
    rows.writerows(
        [value if at == column else FINE[columns[at]] for at in range(len(columns))]
        for value in values
        for column in range(len(columns))
    )
    return text.getvalue().encode("utf-8", "surrogatepass")


def _json_lines(values: Sequence[str], columns: Sequence[str]) -> bytes:
    every: tuple[object, ...] = (*values, None, 7, 1e308, [], {}, True)
    rows: list[dict[str, object]] = [
        {**{name: FINE[name] for name in columns}, column: value} for value in every for column in columns
    ]
    return "\n".join(map(json.dumps, rows)).encode()


FINE: Final = {
    **{
        "line": "nobody99",
        "reason": "Shared.",
        "owner": "abuse",
        "username": "nobody88",
        "password": "abcdefgh12345678",
    },
    **{"email": "jane@example.net", "ends_at": "2031-05-06T12:00Z", "pair": "eu1"},
}
COLUMNS: Final = {
    "block": ("line", "reason", "owner"),
    "import": ("username", "password", "email", "ends_at", "pair"),
}
PRINTED: Final = tuple(value for value in HOSTILE if 4 < len(value) < 1000 and "\0" not in value)


@pytest.mark.parametrize("command", COLUMNS)
@pytest.mark.parametrize("form", ["lines", "csv", "json lines", "bytes"])
def test_hostile_files_of_many_lines(quick: Alone, tmp_path: Path, command: str, form: str) -> None:
    columns, before = COLUMNS[command], quick.state()
    contents = {
        "lines": [_lines(PRINTED), b""],
        "csv": [_csv(PRINTED, columns), _csv(["a\0b"], columns), _csv([], columns), b"line,line\na,b\n"],
        "json lines": [_json_lines(HOSTILE, columns), b"{", b"[1]\n[2]", b'{"line":1,"line":2}', b"[" * 100_000],
        "bytes": [
            b"\xff\xfe\x00",
            b"\x00" * 100,
            b"\x1b[31mred\x1b[0m\x9b",
            "\ufeffline\r\n".encode("utf-16"),
            b"," * 99_999,
        ],
    }[form]
    for number, data in enumerate(contents):
        file = tmp_path / f"{number}"
        file.write_bytes(data)
        named = ["import", str(file)] if command == "import" else ["block", "--file", str(file)]
        for rest in (["--dry-run"], ["--dry-run", "--skip-invalid"], ["--yes"], ["--json", "--yes"]):
            result = CliRunner().invoke(app, ["bulk", *named, "--run", "hostile", *rest])
            said = f"{data!r:.300} {rest}\n{result.exit_code}\n{result.stdout:.500}\n{result.stderr:.2000}"
            assert result.exception is None or isinstance(result.exception, SystemExit), said
            assert result.exit_code in OURS, said
            assert result.output.strip(), said
            # What stands in a row is never said, be it hostile or somebody's secret.
            for told in ("\x1b", "\x9b", "\u202e", "Traceback", "Value error", "DROP TABLE", "emil@", FINE["password"]):
                assert told not in result.output, said
            assert quick.state() == before, said
