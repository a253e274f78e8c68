"""Cancelling through the command line: what it prints, what it refuses, and a customer who is really off."""

import pytest

from tests.cli.conftest import Cli
from twinline.sandbox.receiver import LoginRefused
from twinline.sandbox.world import World

HOSTS = ("mc-eu1", "os-eu1")


async def test_a_trial_that_is_cancelled_lets_nobody_in_and_says_so_wherever_it_is_asked(
    cli: Cli, world: World
) -> None:
    placed = await cli("trial", "nora@example.com", "--region", "eu", "--order", "K-1", "--json")
    name = placed.json["username"]
    password = (await cli("line", "show", name, "--reveal", "--json")).json["password"]
    words = ("order", "cancel", "K-1", "--reason", "refunded")
    unasked = await cli(*words)
    assert (unasked.code, unasked.out) == (2, "")

    said = await cli(*words, "--actor", "olga", "--yes")
    again = await cli(*words, "--yes", "--json")

    assert said.code == 0, said.out
    assert "order      cancel K-1" in said.out
    assert "by olga: refunded" in said.out
    assert "Both halves refuse the line; the mail was accepted." in said.out
    assert (again.code, again.json["kind"], again.json["cancelled"]["actor"]) == (0, "cancel", "olga")
    for host in HOSTS:
        with pytest.raises(LoginRefused):
            await world.receiver(host, name, password)
    mails = [str(mail.message["Subject"]) for mail in world.mails if "nora@" in str(mail.message["To"])]
    assert len(mails) == 2
    assert "your order was cancelled" in mails[1]
    shown = await cli("order", "show", "K-1")
    assert shown.code == 4
    assert "The order was cancelled; `twinline order show K-1 --kind cancel` tells" in shown.out
    assert (await cli("order", "show", "K-1", "--kind", "cancel")).code == 0
    listed = await cli("order", "list", "--line", name)
    assert [line.split()[:2] for line in listed.out.splitlines()[1:]] == [["K-1", "cancel"], ["K-1", "trial"]]
    assert "cancelled 20" in listed.out


async def test_what_can_not_be_cancelled_is_refused_with_what_to_do_instead(cli: Cli, line: str) -> None:
    words = ("--reason", "a slip", "--yes", "--json")
    unknown = await cli("order", "cancel", "K-9", *words)
    assert (unknown.code, unknown.json["type"]) == (3, "UnknownOrder")
    await cli("password", line, "--order", "K-2")

    refused = await cli("order", "cancel", "K-2", *words)

    assert (refused.code, refused.json["type"]) == (4, "CannotCancel")
    assert "twinline password" in refused.json["hint"]
    person = await cli("order", "cancel", "K-2", "--reason", "ask ann@example.com", "--yes", "--json")
    assert (person.code, person.json["type"]) == (2, "InvalidOrder")
    assert "ann@" not in person.out
