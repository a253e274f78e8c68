"""Drift between ledger, file and daemon, found and repaired in a world with everything real but the daemons."""

from pathlib import Path

import pytest
from temporalio.client import Client

from tests.cli.conftest import Cli
from tests.cli.test_hosts import put_back
from twinline.codec import data_converter
from twinline.keys import KeyRing
from twinline.messages import reconcile_workflow_id
from twinline.sandbox.receiver import LoginRefused
from twinline.sandbox.world import World
from twinline.schedules import sync_schedules


async def password_of(cli: Cli, line: str) -> str:
    """The line's password, as an operator would look it up."""
    return str((await cli("line", "show", line, "--reveal", "--json")).json["password"])


async def test_a_world_in_step_has_no_drift(cli: Cli, world: World, line: str) -> None:
    said = await cli("drift", "check")
    assert (said.code, said.err) == (0, "")
    assert said.out.count("no drift among") == len(world.inventory.hosts)


async def test_a_file_from_yesterday_is_told_line_by_line_and_repaired_without_dropping_anybody(
    cli: Cli, world: World, line: str
) -> None:
    """The file comes back with an old end, and without a line that was sold since."""
    path = world.site("mc-eu1").accounts_file
    yesterday = path.read_bytes()
    fresh = (await cli("trial", "fresh@example.com", "--region", "eu", "--order", "T-fresh", "--json")).json["username"]
    assert (await cli("renew", line, "--days", "3", "--order", "R-drift")).code == 0
    password = await password_of(cli, line)
    async with await world.receiver("mc-eu1", line, password) as session:
        await put_back(world.daemon("mc-eu1"), path, yesterday.ljust(len(path.read_bytes()), b"\n"))

        said = await cli("drift", "check", "mc-eu1", "--json")
        words = await cli("drift", "check", "mc-eu1")
        assert said.code == words.code == 4
        (host,) = said.json
        kinds = {each["username"]: each["kinds"] for each in host["drift"]["lines"]}
        assert kinds[fresh] == ["missing"]
        assert kinds[line] == ["end", "mark"]
        assert "to be served, and not in the file" in words.out
        assert password not in said.out + words.out

        repaired = await cli("drift", "repair", "mc-eu1", "--yes", "--json")
        assert repaired.code == 0, repaired.err
        (done,) = repaired.json
        assert {each["username"] for each in done["found"]["drift"]} == {line, fresh}
        assert (await cli("drift", "check", "mc-eu1")).code == 0
        await session.ping()
    async with await world.receiver("mc-eu1", fresh, await password_of(cli, fresh)):
        pass


async def test_a_line_that_somebody_switched_on_again_is_taken_away_only_when_that_is_meant(
    cli: Cli, world: World
) -> None:
    name = (await cli("trial", "off@example.com", "--region", "eu", "--order", "T-off", "--json")).json["username"]
    password = await password_of(cli, name)
    path = world.site("mc-eu1").accounts_file
    served = path.read_bytes()
    assert (await cli("block", name, "--case", "AB-drift", "--reason", "shared")).code == 0
    blocked = path.read_bytes()
    at = blocked.index(f"#: {name} ".encode())
    await put_back(world.daemon("mc-eu1"), path, blocked[:at] + b"F" + blocked[at + 1 :])
    async with await world.receiver("mc-eu1", name, password) as session:
        unasked = await cli("drift", "repair", "mc-eu1")
        assert (unasked.code, "add --yes" in unasked.err) == (2, True)

        repaired = await cli("drift", "repair", "mc-eu1", "--yes")

        assert (repaired.code, "1 lines repaired" in repaired.out) == (0, True)
        await session.closed.wait()
    with pytest.raises(LoginRefused):
        await world.receiver("mc-eu1", name, password)
    assert served != blocked


async def test_a_host_that_is_away_is_told_and_not_mistaken_for_drift(cli: Cli, world: World, line: str) -> None:
    await world.box("os-eu1").stop()
    try:
        said = await cli("drift", "check", "os-eu1", "--json")
    finally:
        await world.box("os-eu1").start()
    assert said.code == 6
    assert said.json == [{"host": "os-eu1", "drift": None, "error": "HostUnreachable"}]


async def test_a_restored_ledger_stops_until_hosts_are_told_to_obey_it_again(cli: Cli, world: World, line: str) -> None:
    refused = await cli("host", "refence", "mc-eu1")
    assert (refused.code, "add --yes" in refused.err) == (2, True)
    nobody = await cli("host", "refence", "--yes")
    assert (nobody.code, "--all" in nobody.err) == (2, True)

    said = await cli("host", "refence", "mc-eu1", "--yes", "--json")

    (host,) = said.json
    assert (said.code, host["host"], host["epoch"] > 1, host["unknown"], host["error"]) == (0, "mc-eu1", True, [], None)
    assert (await cli("renew", line, "--days", "1", "--order", "R-refenced")).code == 0


async def test_every_host_has_its_schedule_and_a_paused_one_stays_paused(cli: Cli, world: World, line: str) -> None:

    keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
    client = await Client.connect(world.temporal.address, data_converter=data_converter(keys))
    hosts = [host.name for host in world.inventory.hosts]
    paused = client.get_schedule_handle(reconcile_workflow_id("us-left"))
    await sync_schedules(client, [*hosts, "us-left"])
    await paused.pause(note="being repaired")
    await sync_schedules(client, [*hosts, "us-left"])
    state = (await paused.describe()).schedule.state
    assert (state.paused, state.note) == (True, "being repaired")
    await paused.delete()
    for host in hosts:
        found = await client.get_schedule_handle(reconcile_workflow_id(host)).describe()
        assert found.schedule.state.paused is False
