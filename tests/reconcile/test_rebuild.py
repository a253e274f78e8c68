"""A host whose file is gone, or years old, holds every line again: all real but the daemons."""

import asyncio
import random
import shutil
from datetime import timedelta

import pytest

from starter.rebuilds import Rebuilds, waits_for_a_person
from tests.cli.test_hosts import put_back
from tests.reconcile.conftest import HOSTS, House
from twinline.ledger import models
from twinline.ledger.rules import BLAST_FLOOR
from twinline.messages import HalfState, Recorded, TrialOrder
from twinline.rebuild import RebuildStatus, rebuild_workflow_id
from twinline.sandbox.receiver import LoginRefused

OTHER = {"mc-eu1": "os-eu1", "os-eu1": "mc-eu1"}
SOON = timedelta(seconds=30)


async def replaced(house: House, host: str, content: bytes) -> None:
    """Another box stands in the place of the old one, with this accounts file and nothing that we knew of it."""
    daemon, site = house.world.daemon(host), house.world.site(host)
    await daemon.stop()
    for old in site.state_dir.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    site.accounts_file.write_bytes(content)
    await daemon.start()


def others(house: House, host: str) -> bytes:
    """An accounts file as somebody else wrote it, before twinline came."""
    return house.world.site(host).accounts_text().encode()


async def in_order(house: House, host: str) -> bool:
    """Whether ledger, file and daemon agree about every line."""
    return (await house.cli("drift", "check", host)).code == 0


async def refused(house: House, host: str, line: Recorded) -> bool:
    """Whether its customer can't log in."""
    try:
        session = await house.world.receiver(host, line.username, await house.desk.password(line.username))
    except LoginRefused:
        return True
    await session.leave()
    return False


async def until_it_says(house: House, host: str, error: str) -> RebuildStatus:
    """Wait until the rebuild tells that this is in its way."""
    async with asyncio.timeout(SOON.total_seconds()):
        while True:
            status = await Rebuilds(house.client).status(host)
            if status is not None and error in (status.last_error, status.asks, *(each.code for each in status.left)):
                return status
            await asyncio.sleep(0.05)


async def noted(house: House, host: str) -> list[str]:
    """What the ledger keeps of rebuilds of this host."""
    events = [each for each in await house.desk.rows(models.Event) if each.what.startswith("host.rebuild_")]
    return [each.what.removeprefix("host.rebuild_") for each in events if f'"{host}"' in (each.after or "")]


async def test_a_box_that_was_replaced_holds_every_line_again_and_nobody_else_notices(house: House) -> None:
    host = "os-eu1"
    lines = await house.served(5)
    _, given_up, blocked, ended, _ = lines
    await house.desk.block(blocked.username)
    house.desk.now = ended.ends_at
    await house.desk.end(ended)
    for each in HOSTS:
        await house.reconcile(each)
    await house.desk.renew(given_up.username)
    await house.desk.abandon(host, given_up.line_id)
    watching = [
        await house.world.receiver(OTHER[host], each.username, await house.desk.password(each.username))
        for each in (lines[0], lines[-1])
    ]
    await replaced(house, host, others(house, host))
    strangers = [await house.world.receiver(host, each.user, each.password) for each in house.world.site(host).foreign]

    said = await house.cli("host", "rebuild", host, "--yes", "--json", "--reason", "new disk", "--actor", "olga")

    assert (said.code, said.err) == (0, "")
    assert (said.json["done"], said.json["held"], said.json["left"]) == (True, said.json["should_hold"], [])
    assert (said.json["actor"], said.json["reason"]) == ("olga", "new disk")
    assert await in_order(house, host)
    assert await refused(house, host, blocked)
    assert await refused(house, host, ended)
    assert {half.state for half in (await house.desk.view(given_up.username)).halves if half.host == host} == {
        HalfState.APPLIED
    }
    assert house.world.read_accounts(host).startswith(others(house, host))
    for session in [*watching, *strangers]:
        await session.ping()
        await session.leave()
    assert (await noted(house, host))[-2:] == ["begun", "done"]
    await house.reconcile(OTHER[host])


async def test_a_file_of_long_ago_brings_back_nobody_who_was_blocked_or_has_left(house: House) -> None:
    host = "mc-eu1"
    kept, abuser, gone = await house.served(3)
    old = house.world.read_accounts(host)
    await house.desk.block(abuser.username)
    await house.desk.renew(kept.username)
    house.desk.now = gone.ends_at
    await house.desk.end(gone)
    for each in HOSTS:
        await house.reconcile(each)
    await replaced(house, host, old)
    watching = {
        line.username: await house.world.receiver(host, line.username, await house.desk.password(line.username))
        for line in (kept, abuser, gone)
    }

    unasked = await house.cli("host", "rebuild", host)
    assert (unasked.code, "2 lines to take off" in unasked.err, "add --yes" in unasked.err) == (2, True, True), (
        unasked.err
    )
    said = await house.cli("host", "rebuild", host, "--yes")

    assert (said.code, f"{host} holds all of its" in said.out) == (0, True)
    await watching[abuser.username].closed.wait()
    await watching[gone.username].closed.wait()
    await watching[kept.username].ping()
    await watching[kept.username].leave()
    assert await refused(house, host, abuser)
    assert await refused(house, host, gone)
    assert await in_order(house, host)


@pytest.mark.parametrize("host", HOSTS)
async def test_of_a_host_that_is_in_order_nothing_is_written_or_reloaded(house: House, host: str) -> None:
    await house.served(1)
    path = house.world.site(host).accounts_file
    before = path.read_bytes(), path.stat(), (await house.world.daemon(host).stats()).reloads

    # Nothing would be changed, so nobody has to be asked.
    said = await house.cli("host", "rebuild", host, "--json")

    assert (said.code, said.json["done"], said.json["changed"]) == (0, True, 0)
    after = path.read_bytes(), path.stat(), (await house.world.daemon(host).stats()).reloads
    assert (after[0], after[2], after[1].st_ino, after[1].st_mtime_ns) == (
        before[0],
        before[2],
        before[1].st_ino,
        before[1].st_mtime_ns,
    )


async def test_it_goes_on_through_every_outage_and_asked_for_twice_it_is_one(house: House) -> None:
    host = "os-eu1"
    (line,) = await house.served(1)
    box, daemon = house.world.box(host), house.world.daemon(host)
    await replaced(house, host, others(house, host))
    await box.refuse(on=True)
    box.drop_connections()
    handle = house.client.get_workflow_handle(rebuild_workflow_id(host))

    begun = await house.cli("host", "rebuild", host, "--yes", "--no-wait", "--json")
    run = (await handle.describe()).run_id
    assert (begun.code, begun.json["done"]) == (5, False)
    await until_it_says(house, host, "HostUnreachable")
    await house.world.stop_worker()
    nobody = await house.cli("host", "rebuild", host, "--timeout", "0", "--json")
    assert (nobody.code, nobody.json["type"]) == (5, "NotTakenYet")
    await house.world.start_worker()
    order = TrialOrder(caller="shop", order="T-rebuilding", email="meanwhile@example.org", region="eu")
    await house.twinline.place(order, patience=timedelta(0))
    await daemon.stop()
    await box.refuse(on=False)
    again = await house.cli("host", "rebuild", host, "--no-wait")
    assert again.code == 5
    await until_it_says(house, host, "StatusTrouble")
    await daemon.start()
    done = await house.cli("host", "rebuild", host, "--json")

    assert (done.code, done.json["done"]) == (0, True)
    assert (await handle.describe()).run_id == run
    assert (await house.twinline.place(order, patience=SOON)).done
    assert await in_order(house, host)
    assert not await refused(house, host, line)


async def test_a_record_that_is_not_ours_is_left_to_a_person_and_then_it_goes_on(house: House) -> None:
    host = "mc-eu1"
    one, other = await house.served(2)
    theirs = f"F: {one.username} theirs1234\n".encode()
    await replaced(house, host, others(house, host) + theirs)

    said = await house.cli("host", "rebuild", host, "--yes", "--json")

    assert (said.code, said.json["asks"], said.json["done"]) == (4, "RecordConflict", False)
    (left,) = said.json["left"]
    assert (left["code"], left["lines"], left["asks"]) == ("RecordConflict", 1, True)
    assert not await refused(house, host, other)
    assert theirs in house.world.read_accounts(host)
    words = await house.cli("host", "rebuild", host)
    assert (words.code, "remove or rename" in words.err) == (4, True)
    async with asyncio.timeout(SOON.total_seconds()):
        while True:
            stuck = (await house.cli("order", "list", "--stuck", "--json")).json["others"]
            if {"workflow_id": rebuild_workflow_id(host), "reason": "RecordConflict"} in stuck:
                break
    assert f"`twinline host rebuild {host}`" in (await house.cli("order", "list", "--stuck")).out
    path = house.world.site(host).accounts_file
    await put_back(house.world.daemon(host), path, path.read_bytes().replace(theirs, b"#" * (len(theirs) - 1) + b"\n"))
    while not (await house.world.daemon(host).stats()).armed:
        pass
    done = await house.cli("host", "rebuild", host, "--json")
    assert (done.code, done.json["done"], done.json["asks"]) == (0, True, None)
    assert await in_order(house, host)


async def test_a_file_that_lost_accounts_of_a_daemon_that_serves_them_asks_before_anybody_is_dropped(
    house: House,
) -> None:
    host = "os-eu1"
    lines = await house.served(BLAST_FLOOR + 1)
    watching = await house.world.receiver(host, lines[0].username, await house.desk.password(lines[0].username))
    path = house.world.site(host).accounts_file
    path.write_bytes(b"# restored from nowhere\n")

    said = await house.cli("host", "rebuild", host, "--yes", "--json")
    assert (said.code, said.json["asks"], said.json["changed"]) == (4, "ShrunkenFile", 0)
    assert path.read_bytes() == b"# restored from nowhere\n"
    unasked = await house.cli("host", "rebuild", host, "--accept-loss")
    assert (unasked.code, "those of others too, will be dropped" in unasked.err) == (2, True)
    done = await house.cli("host", "rebuild", host, "--accept-loss", "--yes", "--json")

    assert (done.code, done.json["done"]) == (0, True)
    await watching.ping()
    await watching.leave()
    assert (await noted(house, host))[-3:] == ["begun", "loss_accepted", "done"]
    path.write_bytes(path.read_bytes() + others(house, host))
    assert (await house.reconcile(host)).error is None


async def test_a_new_host_key_is_for_a_person_who_goes_on_or_lets_it_be(house: House) -> None:
    host = "os-eu1"
    await house.served(1)
    known = house.world.folder / "known_hosts"
    right = known.read_text()
    keys = [line.split() for line in right.splitlines()]
    # As it looks where a box has got the key of another one.
    known.write_text("".join(f"{name} {kind} {keys[0][2]}\n" for name, kind, _ in keys))
    house.world.box(host).drop_connections()
    for _ in range(2):
        asked = await house.cli("host", "rebuild", host, "--yes", "--json")
        assert (asked.code, asked.json["asks"]) == (4, "HostKeyMismatch")
        stopped = await house.cli("host", "rebuild", host, "--stop", "--json")
        assert (stopped.code, stopped.json["stopped_by"], stopped.json["asks"]) == (0, "cli", None)
    assert (await house.cli("host", "rebuild", host, "--yes")).code == 4
    known.write_text(right)
    assert (await house.cli("host", "rebuild", host, "--json")).json["done"]


async def test_it_is_stopped_as_far_as_it_is(house: House) -> None:
    host = "mc-eu1"
    await house.served(1)
    nothing = await house.cli("host", "rebuild", host, "--stop", "--json")
    assert (nothing.code, nothing.json["type"]) == (3, "UnknownRebuild")
    box = house.world.box(host)
    await box.refuse(on=True)
    box.drop_connections()
    assert (await house.cli("host", "rebuild", host, "--yes", "--no-wait")).code == 5
    status = await until_it_says(house, host, "HostUnreachable")
    assert (status.done, waits_for_a_person(status)) == (False, False)

    said = await house.cli("host", "rebuild", host, "--stop", "--actor", "olga", "--reason", "it goes back")

    assert (said.code, f"The rebuild of {host} was stopped by olga" in said.out) == (0, True)
    await box.refuse(on=False)
    assert (await noted(house, host))[-2:] == ["begun", "stopped"]
    assert (await house.reconcile(host)).error is None


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_workers_that_are_killed_in_the_middle_of_it_leave_nothing_undone(house: House, seed: int) -> None:
    host = HOSTS[seed % 2]
    chance = random.Random(seed)  # noqa: S311 - the same again when it is repeated
    lines = await house.served(60)
    await replaced(house, host, others(house, host))
    await house.world.kill_worker()
    assert (await house.cli("host", "rebuild", host, "--yes", "--no-wait")).code == 5
    for _ in range(3):
        await house.world.start_worker()
        await asyncio.sleep(chance.random() / 2)
        await house.world.kill_worker()
    await house.world.start_worker()
    done = await house.cli("host", "rebuild", host, "--json", "--yes", "--timeout", "300")
    assert (done.code, done.json["done"], done.json["held"]) == (0, True, done.json["should_hold"])
    assert await in_order(house, host)
    assert not await refused(house, host, chance.choice(lines))
    assert house.world.read_accounts(host).startswith(others(house, host))
