"""`twinline token` as an operator uses it."""

import pytest

from tests.cli.conftest import Cli

SHOP = ("token", "create", "--caller", "shop", "--scope", "trials:create", "--scope", "lines:read")


async def test_a_token_is_shown_once_listed_replaced_and_revoked(cli: Cli) -> None:
    made = await cli(*SHOP, "--reseller", "--json")
    assert made.code == 0, made.err
    text, token_id = made.json["token"], made.json["token_id"]
    assert text.startswith(f"twl_{token_id}_")
    assert (made.json["caller"], made.json["scopes"]) == ("shop", ["trials:create", "lines:read"])
    assert made.err == ""

    assert made.json["rate"] == 600
    shown = await cli("token", "create", "--replaces", token_id, "--overlap", "1", "--rate", "6000")
    assert shown.code == 0, shown.err
    new_text = shown.out.strip()
    new_id = new_text.split("_")[1]
    assert new_text not in shown.err
    assert f"The old one, {token_id}, counts for 1 h more" in shown.err

    listed = await cli("token", "list", "--json")
    found = {token["token_id"]: token for token in listed.json["tokens"]}
    assert (found[new_id]["replaces"], found[new_id]["reseller"]) == (token_id, True)
    assert text.split("_")[2] not in listed.out
    assert new_text.split("_")[2] not in listed.out
    assert (found[token_id]["rate"], found[new_id]["rate"]) == (600, 6000)
    table = await cli("token", "list")
    assert "6000/min" in table.out
    assert token_id in table.out
    assert "own lines" in table.out
    assert text.split("_")[2] not in table.out

    assert (await cli("token", "revoke", new_id)).code == 2  # nobody can be asked here
    revoked = await cli("token", "revoke", new_id, "--yes", "--json")
    assert (revoked.code, revoked.json["standing"]) == (0, "revoked")
    again = await cli("token", "create", "--replaces", new_id, "--json")
    assert (again.code, again.json["type"]) == (4, "TokenOver")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("create", "--scope", "lines:read"), 2, "--caller is missing"),
        (("create", "--caller", "shop"), 2, "--scope is missing"),
        (("create", "--caller", "My Shop", "--scope", "bulk"), 2, "--caller must be"),
        (("create", "--caller", "shop", "--scope", "bulk", "--days", "0"), 2, "--days must be"),
        (("create", "--caller", "shop", "--scope", "bulk", "--actor", "A\n"), 2, "--actor must be"),
        (("create", "--caller", "shop", "--scope", "bulk", "--rate", "0"), 2, "--rate must be"),
        (("create", "--replaces", "0" * 16, "--rate", "-1"), 2, "--rate must be"),
        (("create", "--caller", "shop", "--replaces", "0" * 16), 2, "--replaces takes caller"),
        (("create", "--replaces", "0" * 16, "--days", "4000"), 2, "--days must be"),
        (("create", "--replaces", "0" * 16), 3, "no token of that id"),
        (("revoke", "'; DROP TABLE api_token; --", "--yes"), 3, "no token of that id"),
        (("revoke", "0" * 16, "--yes", "--actor", ""), 2, "--actor must be"),
    ],
)
async def test_what_can_not_be_is_told_and_makes_no_token(
    cli: Cli, words: tuple[str, ...], code: int, sentence: str
) -> None:
    before = (await cli("token", "list", "--json")).json
    said = await cli("token", *words, "--json")
    assert said.code == code, said.err
    assert sentence in said.json["message"]
    assert said.json["hint"]
    assert (await cli("token", "list", "--json")).json == before
