"""Hosts, and what happened to a line, as people and programs are told."""

from datetime import UTC, datetime, timedelta

import pytest

from starter.cli.hosts_shown import answers_in_words
from starter.hosts_seen import HostSeen
from tests.cli.alone import Alone
from tests.cli.conftest import Cli
from twinline.ledger.looks import HostLook, HostLooks
from twinline.sandbox.world import World

NOW = datetime(2031, 5, 6, 12, 0, tzinfo=UTC)


async def test_hosts_are_listed_with_what_they_serve_and_wait_for(cli: Cli, world: World, line: str) -> None:
    said = await cli("host", "list", "--json")
    assert said.code == 0, said.err
    found = {host["host"]: host for host in said.json["hosts"]}
    assert sorted(found) == sorted(host.name for host in world.inventory.hosts)
    served = (await cli("line", "list", "--pair", "eu1", "--state", "present", "--json")).json["lines"]
    assert found["mc-eu1"]["served"] == found["os-eu1"]["served"] == len(served) > 0
    assert found["mc-eu1"]["pairs"] == [{"pair": "eu1", "region": "eu", "capacity": 5000}]
    assert found["mc-eu1"]["attention"] is None
    assert found["mc-eu1"]["last_proof"] is not None
    shown = await cli("host", "list", "mc-eu1")
    assert (shown.code, shown.out.splitlines()[1].split()[:4]) == (0, ["mc-eu1", "MultiCS", "eu1", "eu"])
    assert "os-eu1" not in shown.out
    unknown = await cli("host", "list", "nowhere", "--json")
    assert (unknown.code, unknown.json["type"]) == (3, "UnknownHost")


@pytest.mark.parametrize(
    ("minutes_ago", "code", "answered", "words"),
    [
        (None, None, None, "nobody looked yet"),
        (1, None, 1.0, "for 5 h (100 %)"),
        (1, None, 0.99999, "for 5 h (99.9 %)"),
        (1, "StatusTrouble", 0.791, "not for 5 h (79.1 %)"),
        (10, None, 1.0, "nobody looked for 10 min (100 %)"),
        (2000, None, None, "nobody looked for 33 h"),
    ],
)
def test_since_when_a_host_answers_is_said_in_words(
    minutes_ago: int | None, code: str | None, answered: float | None, words: str
) -> None:
    looked = None
    if minutes_ago is not None:
        last = HostLook(at=NOW - timedelta(minutes=minutes_ago), code=code)
        looked = HostLooks(last=last, since=NOW - timedelta(hours=5))
    view = HostSeen(
        host="os-eu1",
        protocol="oscam",
        pairs=(),
        served=0,
        behind=0,
        given_up=0,
        attention=None,
        down_since=None,
        down_code=None,
        last_proof=None,
        looked=looked,
        answered=answered,
    )
    assert answers_in_words(view, now=NOW, every=timedelta(minutes=1)) == words


async def test_what_waits_on_a_host_is_counted_although_nothing_answers(alone: Alone) -> None:
    said = await Cli(alone.env)("host", "list", "--json")
    assert [(host["served"], host["behind"], host["last_proof"]) for host in said.json["hosts"]] == [(0, 1, None)] * 2


async def test_an_order_that_there_is_not_is_called_as_it_was_asked_for(cli: Cli, line: str) -> None:
    # Where Temporal answers: else it might still wait there.
    said = await cli("order", "show", "A-none", "--kind", "block", "--line", line)
    assert (said.code, said.err.splitlines()[0]) == (3, 'there is no order "A-none" of caller "cli"')


async def test_the_events_of_a_line_are_told_newest_first_in_words_and_by_pages(alone: Alone) -> None:
    cli = Cli(alone.env)
    said = await cli("line", "events", alone.line, "--json")
    assert [event["what"] for event in said.json["events"]] == ["grant.given", "block.set", "line.opened"]
    assert said.json["events"][0]["after"]["state"] == "blocked"
    first = await cli("line", "events", alone.line, "--limit", "1", "--json")
    rest = await cli("line", "events", alone.line, "--cursor", first.json["cursor"], "--json")
    assert first.json["events"] + rest.json["events"] == said.json["events"]
    assert rest.json["cursor"] is None
    shown = await cli("line", "events", alone.line)
    assert "state: present \u2192 blocked" in shown.out
    assert "blocks: none \u2192 abuse/A-alone" in shown.out
    assert (await cli("line", "events", "nobody99", "--json")).code == 3
    assert (await cli("line", "events", alone.line, "--cursor", "x", "--json")).code == 2
