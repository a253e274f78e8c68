"""Bulk runs on the command line: looked at before, begun once, watched, stopped and resumed."""

import itertools
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

NUMBERS = itertools.count(1)


async def opened(cli: Cli, count: int) -> list[str]:
    """New lines that are served; their names."""
    names: list[str] = []
    for _ in range(count):
        number = next(NUMBERS)
        words = ("purchase", f"bulk{number}@example.com", "--region", "eu", "--days", "30", "--order", f"bulk-{number}")
        said = await cli(*words, "--json")
        assert said.code == 0, said.out
        names.append(said.json["username"])
    return names


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lines.txt"


async def test_a_dry_run_shows_each_change_and_changes_nothing_and_the_run_does_it(cli: Cli, file: Path) -> None:
    names = await opened(cli, 2)
    file.write_text("\n".join(names))
    words = ("bulk", "block", "--file", str(file), "--run", "leak-1", "--reason", "Shared")

    looked = await cli(*words, "--dry-run", "--json")
    assert (looked.code, [change["after"]["state"] for change in looked.json["changes"]]) == (0, ["blocked"] * 2)
    in_words = await cli(*words, "--dry-run")
    assert all(f"{name}" in in_words.out for name in names)
    assert in_words.out.count("blocked (abuse/leak-1)") == 2
    assert (await cli("bulk", "show", "leak-1")).code == 3

    asked = await cli(*words)
    assert (asked.code, asked.out, "add --yes" in asked.err) == (2, "", True)
    done = await cli(*words, "--yes", "--json")

    assert (done.code, done.json["bulk"]["counts"]["done"]) == (0, 2), done.out
    assert [(item["line"], item["state"]) for item in done.json["items"]["items"]] == [(name, "done") for name in names]
    for name in names:
        line = (await cli("line", "show", name, "--json")).json
        assert (line["state"], {half["state"] for half in line["halves"]}) == ("blocked", {"removed"})
    again = await cli(*words, "--yes")
    assert (again.code, "begun before" in again.err) == (0, True)
    other = await cli(*words[:-1], "Otherwise", "--yes", "--json")
    assert (other.code, other.json["type"]) == (4, "OrderConflict")


async def test_rows_that_are_wrong_are_told_with_their_numbers_and_may_be_skipped(cli: Cli, file: Path) -> None:
    (name,) = await opened(cli, 1)
    file.write_text(f"line,reason,owner\nnobody22,Shared,abuse\n{name},Unpaid,payment\n{name},Unpaid,the bank\n")
    words = ("bulk", "block", "--file", str(file), "--run", "mixed-1")

    refused = await cli(*words, "--yes")
    assert refused.code == 2
    assert 'row 2: there is no line "nobody22"' in refused.err
    assert "row 4: owner is" in refused.err
    assert not (await cli("line", "show", name, "--json")).json["blocks"]

    done = await cli(*words, "--yes", "--skip-invalid")
    assert done.code == 5
    assert "2 refused" in done.out
    shown = (await cli("bulk", "show", "mixed-1", "--state", "refused", "--json")).json
    assert [item["problem"]["type"] for item in shown["items"]["items"]] == ["UnknownLine", "InvalidOrder"]
    assert (await cli("bulk", "list", "--json")).json["runs"][0]["run"] == "mixed-1"
    over = await cli("bulk", "list", "--caller", "cli", "--kind", "block", "--state", "over")
    assert (over.code, "mixed-1" in over.out, "1 done, 2 refused of 3" in over.out) == (0, True, True), over.out
    none = await cli("bulk", "list", "--kind", "import", "--caller", "nobody")
    assert (none.code, none.out, none.err) == (0, "", "No run is like that.\n")


async def test_a_run_goes_on_without_who_began_it_and_can_be_stopped_and_resumed(cli: Cli, file: Path) -> None:
    (name,) = await opened(cli, 1)
    file.write_text(name)
    begun = await cli(
        *("bulk", "block", "--file", str(file), "--run", "alone-1", "--reason", "Shared", "--yes", "--no-wait")
    )
    assert begun.code in (0, 5)
    followed = await cli("bulk", "show", "alone-1", "--follow")
    assert (followed.code, "Everything is done." in followed.out) == (0, True)
    stopped = await cli("bulk", "cancel", "alone-1", "--json")
    assert (stopped.code, stopped.json["bulk"]["state"]) == (0, "over"), "what is over can't be stopped"
    resumed = await cli("bulk", "resume", "alone-1", "--json")
    assert (resumed.code, resumed.json["bulk"]["counts"]["done"]) == (0, 1)


async def test_days_for_a_region_are_shown_as_a_difference_and_given_once(cli: Cli) -> None:
    (name,) = await opened(cli, 1)
    before = (await cli("line", "show", name, "--json")).json
    words = ("bulk", "extend", "--region", "eu", "--days", "1", "--run", "outage-1")
    looked = await cli(*words, "--dry-run", "--json")
    change = next(change for change in looked.json["changes"] if change["line"] == name)
    assert change["before"]["ends_at"] == before["ends_at"] < change["after"]["ends_at"]

    done = await cli(*words, "--yes", "--timeout", "60")

    assert (done.code, "Everything is done." in done.out) == (0, True), done.out + done.err
    assert (await cli(*words, "--yes")).code == 0
    after = (await cli("line", "show", name, "--json")).json
    assert (after["ends_at"], len(after["grants"])) == (change["after"]["ends_at"], 2)


async def test_lines_are_imported_from_csv_and_json_lines_without_a_word_of_a_password(cli: Cli, file: Path) -> None:
    row = "{},s3cret-{},{}@example.com,2031-05-06T12:00Z\n"
    file.write_text("username,password,email,ends_at\n" + row.format(*["csvjane"] * 3) + "Bad Name,s3cret-2,x,soon\n")
    words = ("bulk", "import", str(file), "--run", "old-1", "--pair", "eu1")
    refused = await cli(*words, "--yes")
    assert (refused.code, "row 3" in refused.err, "username is" in refused.err) == (2, True, True), refused.err
    done = await cli(*words, "--yes", "--skip-invalid", "--json")
    assert (done.code, done.json["bulk"]["counts"]["done"]) == (5, 1), done.out
    of_json = file.with_suffix(".jsonl")
    fields = {"username": "jsonjane", "password": "s3cret-3", "email": "j@example.com", "ends_at": "2031-05-06T12:00Z"}
    of_json.write_text(json.dumps(fields))
    second = await cli("bulk", "import", str(of_json), "--run", "old-2", "--region", "eu", "--yes", "--json")
    assert second.code == 0, second.out

    for said in (refused, done, second, await cli("bulk", "show", "old-1"), await cli(*words, "--dry-run")):
        assert "s3cret" not in said.out + said.err
    revealed = await cli("line", "show", "csvjane", "--reveal", "--json")
    assert (revealed.json["password"], revealed.json["pair"]) == ("s3cret-csvjane", "eu1")
    listed = (await cli("order", "list", "--kind", "import", "--json")).json["orders"]
    assert {order["ref"] for order in listed} == {"old-1:1", "old-2:1"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("block", "--file", "{file}", "--run", "x"), 2, "row 1 can't be carried out"),
        (("block", "--file", "{file}.none", "--run", "x", "--reason", "r"), 2, "can't be read"),
        (("block", "--file", "{file}", "--run", "not an id", "--reason", "r"), 2, "--run is"),
        (("block", "--file", "{file}", "--run", "x", "--case", "a@b", "--reason", "r"), 2, "--case is not usable"),
        (("block", "--file", "{file}", "--run", "x", "--until", "soon", "--reason", "r"), 2, "--until must be"),
        (("block", "--file", "{file}", "--run", "x", "--until", "2001-01-01T00:00Z", "--reason", "r"), 2, "has passed"),
        (("extend", "--region", "nowhere", "--days", "1", "--run", "x"), 3, "no region"),
        (("extend", "--region", "eu", "--days", "0", "--run", "x"), 2, "--days is"),
        (("extend", "--region", "EU", "--days", "1", "--run", "x"), 2, "--region is"),
        (("extend", "--region", "eu", "--pair", "us1", "--days", "1", "--run", "x"), 3, "no pair"),
        (("import", "{file}", "--run", "x"), 2, "names no column that is known"),
        (("show", "nothing"), 3, 'no bulk run "nothing"'),
        (("show", "nothing", "--state", "odd"), 2, "an item's state is one of"),
        (("resume", "nothing"), 3, 'no bulk run "nothing"'),
        (("cancel", "nothing"), 3, 'no bulk run "nothing"'),
        (("list", "--cursor", "x"), 2, "the cursor is not one"),
    ],
)
async def test_a_slip_is_told_and_changes_nothing(
    cli: Cli, file: Path, line: str, words: tuple[str, ...], code: int, said: str
) -> None:
    file.write_text(line)
    told = await cli("bulk", *(word.format(file=file) for word in words))
    assert (told.code, said in told.err) == (code, True), told.err
    assert "Traceback" not in told.err
    assert not (await cli("bulk", "list", "--caller", "x", "--json")).json["runs"]
