"""Files of rows: what people and programs write is read as they meant it, or told with its line and never shown."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinline.errors import UnreadableFile
from twinline.rows import LARGEST_FILE, LONGEST_LINE, BadRow, Row, read_rows

COLUMNS = ("line", "reason", "owner")
CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)


def read(data: bytes | str) -> list[Row | BadRow]:
    return list(read_rows(data.encode() if isinstance(data, str) else data, columns=COLUMNS, most=100, alone="line"))


@pytest.mark.parametrize(
    "text",
    [
        "line,reason\nabcd,one two\nefgh,\n",
        "\ufeffline,reason\r\nabcd,one two\r\nefgh,\r\n",
        'Line , REASON\n"abcd","one two"\n\n efgh ,',
        "reason,line\none two,abcd\n,efgh\n",
        "\ufeffline;reason\r\nabcd;one two\r\nefgh;\r\n",
        '\n"line"\t"reason"\nabcd\tone two\nefgh\t\n\t\n',
        '{"line": "abcd", "reason": "one two"}\n\n{"line": "efgh", "reason": null}',
        '\ufeff  {"line": " abcd", "reason": "one two"}\r\n{"line": "efgh", "reason": ""}\r\n',
    ],
)
def test_the_same_rows_are_read_from_every_way_to_write_them(text: str) -> None:
    assert [row.fields for row in read(text) if isinstance(row, Row)] == [
        {"line": "abcd", "reason": "one two"},
        {"line": "efgh"},
    ]


def test_a_list_of_names_needs_no_header() -> None:
    assert read("abcd\r\n\r\nefgh") == [Row(1, {"line": "abcd"}), Row(3, {"line": "efgh"})]
    assert read("line\nabcd\n") == [Row(2, {"line": "abcd"})]


def test_a_row_is_numbered_as_an_editor_counts() -> None:
    found = read('line,reason\n\nabcd,"two\nlines"\nefgh,x\n')
    assert [row.number for row in found] == [3, 5]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b" \r\n\n", "is empty"),
        (b"line,reason\n", "holds no rows"),
        (b"line,line\nabcd,abcd\n", 'the column "line" twice'),
        (b"line,colour\nabcd,red\n", "column 2 of the header is none that is known"),
        (b"lnie,reason\nabcd,red\n", "column 1 of the header is none that is known"),
        (b"line,reason,\nabcd,red,\n", "column 3 of the header has no name"),
        (b"s3cret,jane\ns3cret,john\n", "the first row of the file names no column that is known"),
        (b"s3cret;jane\n", "the first row of the file names no column that is known"),
        (b"line,s3cret\n", "column 2 of the header is none that is known"),
        (b"line\nab\0cd\n", "line 2 of the file holds a NUL"),
        ("line\nabcd\n".encode("utf-16"), "is UTF-16"),
        (b"line,reason\nabcd,caf\xe9\n", "line 2 of the file is not UTF-8"),
        (b'line,reason\nabcd,"open\nefgh,x\n', "begins on line 2 is not CSV"),
        (b'line,reason\nabcd,"a"b\n', "begins on line 2 is not CSV"),
        (b"line\n" + b"x" * (LONGEST_LINE + 1), "line 2 of the file is longer"),
        (b"x" * 10_000_000, "line 1 of the file is longer"),
        (b"x\n" * (LARGEST_FILE // 2 + 1), "larger than 16 MiB"),
    ],
    ids=range(18),
)
def test_a_file_that_is_none_is_told_in_a_sentence(data: bytes, said: str) -> None:
    with pytest.raises(UnreadableFile, match=said) as raised:
        read(data)
    assert raised.value.hint
    assert "s3cret" not in raised.value.message + raised.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("line,reason\nabcd\n", "it has 1 values, and there are 2 columns"),
        ("line,reason\nabcd,a,b\n", "it has 3 values, and there are 2 columns"),
        ('{"line": "abcd"}\n{"line": \n', "it is not JSON"),
        ('{"line": "abcd"}\n[1]\n', "it is not a JSON object"),
        ('{"line": "abcd"}\n{"line": 5}\n', "its line is not a text"),
        ('{"line": "abcd"}\n{"line": "ab\\u0000cd"}\n', "its line is not a text"),
        ('{"line": "abcd"}\n{"colour": "red"}\n', "it has a key that is not known; the keys are line, reason, owner"),
        ('{"line": "abcd"}\n{"line": "abcd", "line": "efgh"}\n', "it has a key twice"),
        ('{"line": "abcd"}\n' + "[" * 9000 + "\n", "it is not JSON"),
    ],
    ids=range(9),
)
def test_a_row_that_is_none_is_told_with_its_number_and_keeps_no_other(text: str, said: str) -> None:
    bad = read(f"{text}")[-1]
    assert bad == BadRow(2, said)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), st.sampled_from(",;\t"))
def test_what_a_csv_writer_wrote_is_read_again(rows: list[tuple[str, str]], separator: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator).writerows([("line", "reason"), *rows])
    expected = [
        {name: cell.strip() for name, cell in zip(("line", "reason"), row, strict=True) if cell.strip()}
        for row in rows
        if any(cell.strip() for cell in row)
    ]
    if not expected:
        return
    assert [row.fields for row in read(file.getvalue()) if isinstance(row, Row)] == expected


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_what_a_json_writer_wrote_is_read_again(rows: list[tuple[str, str]]) -> None:
    text = "\n".join(json.dumps({"line": line, "reason": reason}) for line, reason in rows)
    assert [row.fields for row in read(text) if isinstance(row, Row)] == [
        {name: cell.strip() for name, cell in (("line", line), ("reason", reason)) if cell.strip()}
        for line, reason in rows
    ]


@given(st.binary(max_size=200))
def test_nothing_that_bytes_can_be_breaks_the_reader(data: bytes) -> None:
    try:
        found = read(data)
    except UnreadableFile as error:
        assert error.hint
    else:
        assert found
