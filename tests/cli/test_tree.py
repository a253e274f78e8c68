"""What holds for every command: help with an example that parses, JSON, and when it asks first."""

from pathlib import Path

import pytest

from starter.cli.root import EXIT_CODES
from tests.cli.alone import Alone
from tests.cli.conftest import Cli
from tests.cli.tree import LASTING, Leaf, leaves

ROOT = Path(__file__).resolve().parents[2]

ASKING = {
    "close": ("close", "nobody99", "--order", "X"),
    "erase": ("erase", "nobody99"),
    "host refence": ("host", "refence", "--all"),
    "keys retire": ("keys", "retire", "k1"),
    "order abandon": ("order", "abandon", "T-alone", "--host", "mc-eu1", "--reason", "x"),
    "order cancel": ("order", "cancel", "T-alone", "--reason", "x"),
    "token revoke": ("token", "revoke", "0" * 16),
}
"""Commands that no other command takes back, each with words that are fine."""
ASKING_SOMETIMES = {"drift repair", "host rebuild", "bulk block", "bulk extend", "bulk import"}
"""Only when somebody would lose access, or when something would begin that changes many lines."""


@pytest.mark.parametrize("leaf", leaves(), ids=str)
def test_every_command_has_help_and_an_example_that_its_parser_takes(
    leaf: Leaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINLINE_KEYS", "keys.json")
    assert leaf.examples, f"`twinline {leaf}` has no line that begins with  Example: twinline {leaf}"
    for words in leaf.examples:
        own = len(leaf.path)
        assert tuple(words[:own]) == leaf.path
        leaf.parse(words[own:])
    for param in leaf.command.params:
        if param.metavar in ("HOST", "LINE", "PAIR", "REGION", "RUN"):
            assert param._custom_shell_complete is not None, f"Tab offers nothing for {param.name} of `twinline {leaf}`"
        assert param.help, f"`twinline {leaf}` does not say what {param.name} is"


@pytest.mark.parametrize("leaf", leaves(), ids=str)
async def test_who_words_a_command_wrongly_is_shown_its_example(leaf: Leaf, bare: Cli) -> None:
    said = await bare(*leaf.path, "--nonsense")
    assert (said.code, said.out) == (2, "")
    told = " ".join(said.err.replace("\u2502", " ").split())
    assert "--nonsense" in told
    example = (leaf.command.help or "").partition("Example: ")[2].splitlines()[0]
    assert f"Example: {example.strip()}" in told


@pytest.mark.parametrize("leaf", leaves(), ids=str)
def test_every_command_that_ends_prints_json_on_demand(leaf: Leaf) -> None:
    assert ("--json" in leaf.options) is (str(leaf) not in LASTING)


def test_commands_ask_that_nothing_takes_back_and_no_others() -> None:
    asking = {str(leaf) for leaf in leaves() if "--yes" in leaf.options}
    assert asking == set(ASKING) | ASKING_SOMETIMES
    page = (ROOT / "docs" / "cli.md").read_text()
    for name in asking:
        assert f"`{name}`" in page, f"docs/cli.md does not say that `{name}` asks first"


@pytest.mark.parametrize("name", ASKING)
async def test_where_nobody_can_be_asked_it_is_usage_and_nothing_is_done(alone: Alone, name: str) -> None:
    cli, before = Cli(alone.env), alone.state()
    said = await cli(*ASKING[name])
    assert (said.code, said.out) == (2, "")
    assert said.err.rstrip().endswith("Nobody can be asked here: add --yes if this is meant.")
    as_json = await cli(*ASKING[name], "--json")
    assert (as_json.code, as_json.err) == (2, "")
    assert (as_json.json["type"], as_json.json["retryable"]) == ("NotConfirmed", False)
    assert alone.state() == before


def test_the_exit_codes_are_those_that_the_page_explains() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    for code in ("0", "1", "2", "3", "4", "5", "6", "130", "141"):
        assert f"| {code} |" in page
    assert "docs/cli.md" in EXIT_CODES
