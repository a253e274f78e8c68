"""Values that can never be right are told before anything is placed; neither settings nor services are needed."""

import pytest

from tests.cli.conftest import Cli

INVALID = {
    "malformed address": (
        ("trial", "emil@@example.com", "--region", "eu", "--order", "X"),
        "a mail address has exactly one @",
    ),
    "address with a line break": (
        ("trial", "emil@example.com\nBcc: all@example.com", "--region", "eu", "--order", "X"),
        "EMAIL is not usable: it must be one mail address",
    ),
    "address that is too long": (
        ("trial", f"{'emil' * 70}@example.com", "--region", "eu", "--order", "X"),
        "EMAIL is not usable: it must be one mail address of at most 254 characters",
    ),
    "address in the place of an order id": (
        ("trial", "emil@example.com", "--region", "eu", "--order", "emil@example.com"),
        "--order is not usable: it must be 1 to 64",
    ),
    "order id with a line break": (
        ("trial", "emil@example.com", "--region", "eu", "--order", "X\n"),
        "--order is a text of 2 characters, but must be 1 to 64",
    ),
    "region with capitals": (
        ("trial", "emil@example.com", "--region", "EU", "--order", "X"),
        '--region is "EU", but must be 1 to 32 of a-z',
    ),
    "line that cannot be one": (
        ("renew", "Nobody!", "--days", "30", "--order", "X"),
        'the line is "Nobody!", but must be a username',
    ),
    "no days": (
        ("renew", "nobody99", "--days", "0", "--order", "X"),
        "--days is 0, but must be a whole number from 1 to 3660",
    ),
    "purchase for nobody": (("purchase", "--days", "30", "--order", "X"), "either EMAIL with --region"),
    "purchase for two": (
        ("purchase", "emil@example.com", "--region", "eu", "--line", "nobody99", "--days", "30", "--order", "X"),
        "either EMAIL with --region",
    ),
    "reason with a line break": (
        ("block", "nobody99", "--case", "X", "--reason", "emil did\ntwo"),
        "--reason is not usable: it must be one line",
    ),
    "empty reason": (("block", "nobody99", "--case", "X", "--reason", ""), "--reason is not usable"),
    "case that cannot be one": (("unblock", "nobody99", "--case", "a/b"), '--case is "a/b", but must be'),
    "until without a zone": (
        ("block", "nobody99", "--case", "X", "--reason", "late", "--until", "2031-05-06 12:00"),
        "--until must be a moment with its zone",
    ),
    "until that is a number": (
        ("block", "nobody99", "--case", "X", "--reason", "late", "--until", "30"),
        "--until must be a moment with its zone",
    ),
    "caller that cannot be one": (
        ("renew", "nobody99", "--days", "30", "--order", "X", "--caller", "My Shop"),
        '--caller is "My Shop", but must be',
    ),
    "pair that cannot be one": (
        ("move", "nobody99", "--pair", "EU 2", "--order", "X"),
        '--pair is "EU 2", but must be 1 to 32 of a-z',
    ),
    "overlap of months": (
        ("move", "nobody99", "--pair", "eu2", "--order", "X", "--overlap", "1000"),
        "--overlap is not usable: it must be a number of hours",
    ),
    "two mistakes": (
        ("renew", "N", "--days", "-1", "--order", "X"),
        'the line is "N", but must be a username as twinline makes them: 4 to 20 of a-z and 0-9\n  also: --days is -1',
    ),
}


@pytest.mark.parametrize("case", INVALID)
async def test_a_value_that_can_never_be_right_is_usage_and_nothing_personal_is_repeated(bare: Cli, case: str) -> None:
    words, sentence = INVALID[case]
    said = await bare(*words, "--json")
    assert (said.code, said.err) == (2, "")
    assert list(said.json) == ["type", "message", "hint", "retryable"]
    assert (said.json["type"], said.json["retryable"]) == ("InvalidOrder", False)
    assert sentence in said.json["message"]
    assert said.json["hint"]
    assert "emil" not in said.out
    in_words = await bare(*words)
    assert (in_words.code, in_words.out) == (2, "")
    assert in_words.err.startswith(said.json["message"])
    assert "emil" not in in_words.err


async def test_two_ways_to_wait_contradict_each_other(cli: Cli) -> None:
    said = await cli("renew", "nobody99", "--days", "30", "--order", "X", "--no-wait", "--timeout", "1", "--json")
    assert (said.code, said.json["type"]) == (2, "InvalidOrder")
    assert "contradict each other" in said.json["message"]


async def test_a_missing_setting_is_told_by_its_name(bare: Cli) -> None:
    for words in (("renew", "nobody99", "--days", "1", "--order", "X"), ("line", "list"), ("host", "check")):
        said = await bare(*words)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith("TWINLINE_INVENTORY is not set")
