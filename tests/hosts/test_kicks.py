"""A password change closes the old session; a helper that dies over it leaves nobody switched off."""

import asyncio
from typing import Any

import pytest

from tests.hosts.crashes import Driver, Fault, Step
from tests.hosts.helper_process import apply_request, image_in, stored
from tests.hosts.judge import kind_of
from tests.hosts.lab import Lab
from twinline.hosts.factory import daemon_for, setup_for
from twinline.hosts.helper_program import Helper
from twinline.hosts.ports import Half, Wanted
from twinline.hosts.writer import checks_of, kick_of
from twinline.sandbox.receiver import LoginRefused

NAME, OLD, NEW = "rosewood22", "pw23456789abcdef", "new3456789abcdef"
KIND = kind_of("multics")


def asking(action: str) -> Step:
    """The question with which a helper switches the account."""
    target = f"GET /cccamclient?srvid=1&name={NAME}&action={action} HTTP/1.1"
    return Step(request=1, name="sendto", target=target)


WRITTEN = Step(request=1, name="close", target="state/lock")
NOTED = Step(request=1, name="rename", target="state/kick.new to state/kick", nth=3)
"""The third time that it notes what is owed: that nothing is any more."""

DEATHS = {
    "before off": Fault(at=asking("disable"), how="before"),
    "between off and on": Fault(at=asking("enable"), how="before"),
    "after on": Fault(at=NOTED, how="before"),
}


def reloads_of(lab: Lab) -> int:
    return sum("Config file Changed..." in line for line in lab.daemon.log.lines)


async def dies_over_a_password_change(lab: Lab, driver: Driver, change: Half, death: Fault) -> None:
    """Have a helper carry out a password change, and die over it."""
    daemon = daemon_for(lab.host)
    setup = setup_for(lab.host).as_request()
    helper = Helper(setup)
    image = image_in(KIND, helper.read({}))
    plan = image.plan([change], [])
    request: dict[str, Any] = apply_request(
        image,
        plan,
        number=lab.ledger.number,
        kicks=[kick_of(daemon, change, plan.kicks[change.line_id])],
        probes=[{"id": change.line_id, "checks": checks_of(daemon, change)}],
        trigger={"method": "close"},
        deadline=5.0,
    )
    await asyncio.sleep(helper.wait_ms() / 1000)
    # In a thread: the daemon that it asks runs in this one.
    requests = [{"do": "hello", "setup": setup}, request]
    assert (await asyncio.to_thread(lambda: driver.run(lab.folder, requests, fault=death))).died
    assert stored(lab.folder / "state", "kick")["kicks"]


@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
async def test_whoever_dies_over_a_kick_the_next_batch_finishes_it(multics: Lab, driver: Driver, death: Fault) -> None:
    await multics.bring(multics.ledger.want(NAME, OLD))
    old = await multics.login(NAME, OLD)
    change = multics.ledger.change(NAME, password=NEW)
    await dies_over_a_password_change(multics, driver, change, death)
    reloads = reloads_of(multics)

    await multics.bring(change)

    # The daemon holds the change already: all that is left is the kick.
    assert reloads_of(multics) == reloads
    await old.closed.wait()
    async with await multics.login(NAME, NEW) as session:
        await session.ping()
    assert stored(multics.folder / "state", "kick")["kicks"] == []


@pytest.mark.parametrize("death", ["before off", "between off and on"])
async def test_a_block_is_proven_although_a_kick_was_left_over_and_its_end_finds_the_line_on(
    multics: Lab, driver: Driver, death: str
) -> None:
    await multics.bring(multics.ledger.want(NAME, OLD))
    await dies_over_a_password_change(multics, driver, multics.ledger.change(NAME, password=NEW), DEATHS[death])

    await multics.bring(multics.ledger.change(NAME, wanted=Wanted.BLOCKED))

    with pytest.raises(LoginRefused):
        await multics.login(NAME, NEW)
    assert stored(multics.folder / "state", "kick")["kicks"] == []
    await multics.bring(multics.ledger.change(NAME, wanted=Wanted.PRESENT))
    async with await multics.login(NAME, NEW) as session:
        await session.ping()


async def test_a_renewal_after_the_death_still_closes_the_old_session(multics: Lab, driver: Driver) -> None:
    await multics.bring(multics.ledger.want(NAME, OLD))
    old = await multics.login(NAME, OLD)
    change = multics.ledger.change(NAME, password=NEW)
    await dies_over_a_password_change(multics, driver, change, Fault(at=WRITTEN, how="after"))

    await multics.bring(multics.ledger.change(NAME))

    await old.closed.wait()


async def test_a_change_that_is_no_password_change_closes_no_session(multics: Lab) -> None:
    await multics.bring(multics.ledger.want(NAME, OLD))
    async with await multics.login(NAME, OLD) as session:
        await multics.bring(multics.ledger.change(NAME))
        await session.ping()
    assert not (multics.folder / "state" / "kick").exists()
