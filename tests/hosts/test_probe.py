"""A short look at a real host: helper and daemon answer, or what is in the way; nothing is written, nobody is told."""

import asyncio

import pytest
from pydantic import SecretStr

from tests.hosts.lab import Lab
from tests.hosts.test_clocks import SetClock, set_clock
from twinline.hosts import writer as of_writers
from twinline.hosts.daemon import Check, Daemon
from twinline.hosts.errors import HelperFailed, StatusTrouble
from twinline.hosts.factory import daemon_for, helper_for, writer_for
from twinline.hosts.looking import see_alive
from twinline.hosts.ssh import Helper
from twinline.hosts.writer import HostWriter

__all__ = ["set_clock"]


async def test_a_daemon_that_stops_is_noticed_over_the_same_connection_and_so_is_its_return(lab: Lab) -> None:
    before = lab.accounts.read_bytes()
    assert await lab.writer.probe() is None
    helper = vars(lab.writer)["_helper"]
    await lab.daemon.stop()
    with pytest.raises(StatusTrouble):
        await lab.writer.probe()
    await lab.daemon.start()
    assert await lab.writer.probe() is None
    assert vars(lab.writer)["_helper"] is helper
    assert lab.ledger.said == []
    assert lab.accounts.read_bytes() == before


async def test_a_page_that_refuses_us_or_is_another_one_is_no_sign_of_life(lab: Lab) -> None:
    status = lab.host.status.model_copy(update={"password": SecretStr("another")})
    stranger = writer_for(lab.host.model_copy(update={"status": status}), lab.ledger)
    with pytest.raises(StatusTrouble, match="refused our user or password"):
        await stranger.probe()
    await stranger.close()
    elsewhere = writer_for(lab.host, lab.ledger)
    sign = elsewhere.daemon.sign_of_life()
    elsewhere.daemon.sign_of_life = lambda: Check("/", sign.must)
    with pytest.raises(StatusTrouble, match="HTTP status 200"):
        await elsewhere.probe()
    await elsewhere.close()


async def test_a_daemon_that_hangs_is_not_waited_for_longer_than_it_may(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await lab.writer.probe() is None
    await lab.tell(do="hang", on=True)
    with monkeypatch.context() as hasty, pytest.raises(HelperFailed, match="did not answer within"):
        hasty.setattr(of_writers, "PROBE_SECONDS", 0.1)
        await lab.writer.probe()
    await lab.tell(do="hang", on=False)
    assert await lab.writer.probe() is None


async def test_who_waits_for_a_change_waits_for_no_probe(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connecting, may_connect = asyncio.Event(), asyncio.Event()
    said_before: list[list[str]] = []

    async def connect() -> Helper:
        connecting.set()
        await may_connect.wait()
        return await helper_for(lab.host)

    async def look(helper: Helper, daemon: Daemon) -> None:
        said_before.append(list(lab.ledger.said))
        await see_alive(helper, daemon)

    monkeypatch.setattr(of_writers, "see_alive", look)
    writer = HostWriter(lab.host.name, daemon=daemon_for(lab.host), ledger=lab.ledger, start_helper=connect)
    asked = asyncio.create_task(writer.look())
    await connecting.wait()
    half = lab.ledger.want("rosewood22", "pw23456789abcdef")
    waiting = asyncio.create_task(writer.probe()), asyncio.create_task(writer.bring(half.line_id, half.revision))
    while True:
        await asyncio.sleep(0)
        if vars(writer)["_waiters"]:
            break
    may_connect.set()
    await asyncio.gather(asked, *waiting)
    assert said_before == [["well", "through"]]
    await writer.close()


async def test_a_clock_that_is_wrong_is_told_beside(set_clock: SetClock, lab: Lab) -> None:
    set_clock(300.0)
    apart = await lab.writer.probe()
    assert apart is not None
    assert lab.ledger.clocks == [False]
    set_clock(0.0)
    assert await lab.writer.probe() is None
    assert lab.ledger.clocks == [False, True]
