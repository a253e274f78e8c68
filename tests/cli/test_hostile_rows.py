"""Hostile files of rows on the command line: a sentence and an exit code, no trace, no value, nothing changed."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from starter.cli import app
from tests.cli.alone import Alone
from tests.support.hostile import hostile_files

WORDS = {
    "import": ("bulk", "import", "{file}", "--run", "hostile", "--pair", "eu1", "--yes"),
    "block": ("bulk", "block", "--file", "{file}", "--run", "hostile", "--reason", "Shared", "--yes"),
}
OPTIONS = ((), ("--json",), ("--dry-run",), ("--dry-run", "--json"), ("--skip-invalid",))
ESCAPES = ("\x1b", "\x9b", "\x07", "\u202e")


@pytest.fixture
def quick(alone: Alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alone:
    """The machine on which everything is set and nothing answers."""
    for name, value in alone.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return alone


def _try(alone: Alone, data: bytes, command: str, options: tuple[str, ...]) -> None:
    before = alone.state()
    Path("rows").write_bytes(data)
    words = [word.format(file="rows") for word in WORDS[command]]
    result = CliRunner().invoke(app, [*words, *options])
    said = f"{data!r:.300}\n{words} {options}\n{result.exit_code}\n{result.output:.2000}"
    assert result.exception is None or isinstance(result.exception, SystemExit), said
    # A file that asks for nothing that can be done: wrong as a file, or in each of its rows.
    assert result.exit_code in ((2, 4) if "--dry-run" in options else (2,)), said
    assert result.output.strip(), said
    for word in ("Traceback", "s3cret", *ESCAPES):
        assert word not in result.output, said
    assert alone.state() == before, said


FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
MANY = settings(max_examples=3_000, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(data=hostile_files(), command=st.sampled_from(tuple(WORDS)), options=st.sampled_from(OPTIONS))
def test_no_file_can_break_anything(quick: Alone, data: bytes, command: str, options: tuple[str, ...]) -> None:
    _try(quick, data, command, options)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@MANY
@given(data=hostile_files(), command=st.sampled_from(tuple(WORDS)), options=st.sampled_from(OPTIONS))
def test_no_file_can_break_anything_for_long(quick: Alone, data: bytes, command: str, options: tuple[str, ...]) -> None:
    _try(quick, data, command, options)


@pytest.mark.parametrize("command", WORDS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"\xef\xbb\xbf",
        b"\xff\xfeu\x00s\x00",
        b"username,password\n\x00,\x00\n",
        b"username,password\n" + b"a" * 20_000,
        b"line,line\n",
        b'username,password,email,ends_at\n"s3cret',
        b"a" * (16 * 1024 * 1024 + 1),
        b"x\n" * 10_002,
        b"{" * 10_000,
        b'{"username": "a", "username": "b"}\n',
        b"[" * 10_000,
    ],
    ids=range(13),
)
def test_files_of_which_none_can_be_right(quick: Alone, command: str, data: bytes) -> None:
    _try(quick, data, command, ())
