"""Reads files of rows as other systems and people write them: CSV with a header, JSON lines, or one name per line.

What is wrong with a row is said with its number and goes on to the next one; what is wrong with the file as a whole is
raised. No value is repeated: it may be a password in the wrong column.
"""

import csv
import io
import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from twinline.errors import UnreadableFile
from twinline.problems import nearest

LARGEST_FILE: Final = 16 * 1024 * 1024
LONGEST_LINE: Final = 16 * 1024
"""Characters; the longest row that can be right has a tenth of it."""
_BOM: Final = "\ufeff"
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Row:
    """One row: `number` is the line of the file on which it begins, as an editor counts."""

    number: int
    fields: Mapping[str, str]


@dataclass(frozen=True)
class BadRow:
    """A row that can't be read, and why."""

    number: int
    sentence: str


def read_rows(data: bytes, *, columns: Collection[str], most: int, alone: str | None = None) -> Sequence[Row | BadRow]:
    """Read the first `most` rows of a file; which form it has is seen by how it begins. Raises UnreadableFile.

    `alone` is the column that a file without a header has, one value a line.
    """
    text = _text(data)
    rows = _json_rows(text, columns) if text.lstrip().startswith("{") else _csv_rows(text, columns, alone)
    found = list(itertools.islice(rows, most))
    if not found:
        raise UnreadableFile("the file holds no rows", hint="Give one row for each line below the header.")
    return found


def _text(data: bytes) -> str:
    if len(data) > LARGEST_FILE:
        raise UnreadableFile(f"the file is larger than {LARGEST_FILE // 2**20} MiB", hint="Cut it into several runs.")
    if data.startswith(_WIDE):
        raise UnreadableFile("the file is UTF-16", hint='Save it as UTF-8 ("CSV UTF-8" in a spreadsheet).')
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(f"line {line} of the file is not UTF-8", hint="Save the file as UTF-8.") from None
    text = text.removeprefix(_BOM)
    for number, line in enumerate(_lines(text), start=1):
        if "\0" in line:
            raise UnreadableFile(f"line {number} of the file holds a NUL byte", hint="Is it a text file?")
        if len(line) > LONGEST_LINE:
            raise UnreadableFile(
                f"line {number} of the file is longer than {LONGEST_LINE} characters",
                hint="Is a quotation mark never closed, or is it not the right file?",
            )
    if not text.strip():
        raise UnreadableFile("the file is empty", hint="Give one row for each line below the header.")
    return text


def _lines(text: str) -> Iterator[str]:
    """As an editor counts them, one after the other: a file may hold millions that are empty."""
    return (line.removesuffix("\n") for line in io.StringIO(text, newline="\n"))


def _csv_rows(text: str, columns: Collection[str], alone: str | None) -> Iterator[Row | BadRow]:
    records = _records(text, _separator(text))
    first = next(records, None)
    if first is None:
        return
    number, head = first
    if alone is not None and len(head) == 1 and head[0].lower() not in columns:
        names: Sequence[str] = (alone,)
        yield _row(number, names, head)
    else:
        names = _header(head, columns)
    for number, cells in records:
        yield _row(number, names, cells)


def _separator(text: str) -> str:
    """A comma, or what the header has in its place: spreadsheets of half the world write semicolons."""
    head = next((line for line in _lines(text) if line.strip()), "")
    return "," if "," in head else next((mark for mark in ";\t" if mark in head), ",")


def _records(text: str, separator: str) -> Iterator[tuple[int, Sequence[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    begins = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begins, [cell.strip() for cell in cells]
            begins = reader.line_num + 1
    except csv.Error:
        # Its text may quote the row.
        raise UnreadableFile(
            f"the row that begins on line {begins} is not CSV: a quotation mark is not closed or stands inside a value",
            hint='Put the value into quotation marks, and write "" for one inside.',
        ) from None


def _header(head: Sequence[str], columns: Collection[str]) -> Sequence[str]:
    names = [name.lower() for name in head]
    known = f"The columns are {', '.join(columns)}."
    if not set(names) & set(columns):
        raise UnreadableFile(
            "the first row of the file names no column that is known", hint=f"Put a header above the rows. {known}"
        )
    for place, name in enumerate(names, start=1):
        if not name:
            raise UnreadableFile(
                f"column {place} of the header has no name",
                hint="Name it, or take it out: a separator at the end of the header begins a column.",
            )
        if name not in columns:
            # It may be a value all the same, and is not shown.
            raise UnreadableFile(
                f"column {place} of the header is none that is known", hint=f"{nearest(name, columns)}{known}"
            )
        if names.count(name) > 1:
            raise UnreadableFile(f'the header has the column "{name}" twice', hint="Leave one of them out.")
    return names


def _row(number: int, names: Sequence[str], cells: Sequence[str]) -> Row | BadRow:
    if len(cells) != len(names):
        return BadRow(number, f"it has {len(cells)} values, and there are {len(names)} columns")
    return Row(number, {name: cell for name, cell in zip(names, cells, strict=True) if cell})


class _Twice(ValueError):
    """An object has a key twice."""


def _json_rows(text: str, columns: Collection[str]) -> Iterator[Row | BadRow]:
    for number, line in enumerate(_lines(text), start=1):
        if line.strip():
            yield _json_row(number, line, columns)


def _json_row(number: int, line: str, columns: Collection[str]) -> Row | BadRow:
    try:
        found: object = json.loads(line, object_pairs_hook=_once)
    except _Twice:
        return BadRow(number, "it has a key twice")
    except (ValueError, RecursionError):
        return BadRow(number, "it is not JSON")
    if not isinstance(found, dict):
        return BadRow(number, "it is not a JSON object")
    return row_of(number, cast("Mapping[str, object]", found), columns)


def row_of(number: int, found: Mapping[str, object], columns: Collection[str]) -> Row | BadRow:
    """A row from an object; null is as good as nothing."""
    given = {key: value for key, value in found.items() if value is not None}
    if not given.keys() <= set(columns):
        return BadRow(number, f"it has a key that is not known; the keys are {', '.join(columns)}")
    fields: dict[str, str] = {}
    for key, value in given.items():
        if not isinstance(value, str) or "\0" in value:
            return BadRow(number, f"its {key} is not a text")
        if value.strip():
            fields[key] = value.strip()
    return Row(number, fields)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found
