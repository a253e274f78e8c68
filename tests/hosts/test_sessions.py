"""Who stays connected and who does not, observed on real TCP connections while everything goes wrong."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.hosts.between import Stop, Turnstile, Wire, kill_helpers, through, turnstile_to, wire_to
from tests.hosts.crashes import Driver, Fault, Step
from tests.hosts.helper_process import apply_request, image_in, stored
from tests.hosts.judge import kind_of
from tests.hosts.lab import FAR, Lab, run_lab
from tests.support.sshd import Sshd
from twinline.hosts.errors import HostError, HostUnreachable
from twinline.hosts.factory import OSCAM_REINIT, setup_for, writer_for
from twinline.hosts.helper_program import Helper
from twinline.hosts.ports import Half, Proven, Wanted
from twinline.hosts.writer import HostWriter
from twinline.inventory import Host

NAME, OTHER, OLD, NEW = "rosewood22", "ash22222222", "pw23456789abcdef", "new3456789abcdef"

# --- a kick that is broken off


@dataclass
class Scene:
    """A MultiCS host on which a customer and others are connected, and the ways to it."""

    lab: Lab
    host: Host
    sshd: Sshd
    wire: Wire
    turnstile: Turnstile
    writer: HostWriter
    """The worker that something happens to."""
    next_writer: HostWriter


@asynccontextmanager
async def scene_in(folder: Path, sshd: Sshd) -> AsyncGenerator[Scene]:
    async with run_lab("multics", folder / "host", sshd) as lab, wire_to(sshd.port) as wire:
        daemon_port = int(lab.host.status.url.rsplit(":", 1)[1])
        async with turnstile_to(daemon_port) as turnstile:
            host = through(lab.host, wire=wire, turnstile=turnstile, known_hosts=folder / "known_hosts")
            writers = writer_for(host, lab.ledger), writer_for(host, lab.ledger)
            yield Scene(lab, host, sshd, wire, turnstile, *writers)
            for writer in writers:
                await writer.close()


async def the_helper_dies(scene: Scene, stop: Stop) -> None:
    await kill_helpers(scene.sshd)
    stop.go_on(lost=True)


async def the_connection_is_cut(scene: Scene, stop: Stop) -> None:
    scene.wire.cut()
    stop.go_on()


async def the_worker_ends(scene: Scene, stop: Stop) -> None:
    await scene.writer.close()
    stop.go_on()


async def the_daemon_restarts(scene: Scene, stop: Stop) -> None:
    await scene.lab.restart_daemon()
    stop.go_on(lost=True)


async def the_host_loses_its_power(scene: Scene, stop: Stop) -> None:
    scene.wire.down = True
    scene.wire.cut()
    await kill_helpers(scene.sshd)
    stop.go_on(lost=True)
    await scene.lab.restart_daemon()
    with pytest.raises(HostUnreachable):
        await scene.next_writer.bring(NAME, scene.lab.ledger.wanted[NAME].revision)
    scene.wire.down = False


Mishap = Callable[[Scene, Stop], Awaitable[None]]
MISHAPS: tuple[Mishap, ...] = (
    the_helper_dies,
    the_connection_is_cut,
    the_worker_ends,
    the_daemon_restarts,
    the_host_loses_its_power,
)
POINTS = [(f"action={word}", answered) for word in ("disable", "enable") for answered in (False, True)]
IN_SHORT = (
    (the_helper_dies, POINTS[3]),
    (the_connection_is_cut, POINTS[1]),
    (the_worker_ends, POINTS[2]),
    (the_daemon_restarts, POINTS[1]),
    (the_host_loses_its_power, POINTS[2]),
)
"""What `make test` has time for; all mishaps at all points are for `make soak`."""


def name_of(mishap: Mishap, point: tuple[str, bool]) -> str:
    words, answered = point
    return f"{mishap.__name__} {'after' if answered else 'before'} {words}"


CASES = [
    pytest.param(
        mishap,
        point,
        id=name_of(mishap, point),
        marks=() if (mishap, point) in IN_SHORT else pytest.mark.soak,
    )
    for mishap in MISHAPS
    for point in POINTS
]


async def at_last(writer: HostWriter, half: Half) -> Proven:
    """Retry as an order does."""
    async with asyncio.timeout(90):
        while True:
            try:
                return await writer.bring(half.line_id, half.revision)
            except HostError:
                continue


@pytest.mark.parametrize(("mishap", "point"), CASES)
async def test_a_kick_that_is_broken_off_leaves_nobody_off_and_is_finished(
    folder: Path, sshd: Sshd, mishap: Mishap, point: tuple[str, bool]
) -> None:
    async with scene_in(folder, sshd) as scene:
        lab, ledger = scene.lab, scene.lab.ledger
        await asyncio.gather(*(lab.bring(ledger.want(name, OLD)) for name in (NAME, OTHER)))
        old, other = await lab.login(NAME, OLD), await lab.login(OTHER, OLD)
        tom = await lab.login("oldtom", "tompass1")
        change = ledger.change(NAME, password=NEW)
        words, answered = point
        stop = scene.turnstile.stop_at(words, answered=answered)
        bringing = asyncio.create_task(scene.writer.bring(NAME, change.revision))
        await stop.reached.wait()

        await mishap(scene, stop)

        await asyncio.wait([bringing])
        # Whoever comes next, for whomever, ends what was begun.
        await at_last(scene.next_writer, ledger.change(OTHER, ends_at=FAR + timedelta(days=1)))
        if not old.connected:
            await (await lab.login(NAME, NEW)).leave()
        await at_last(scene.next_writer, change)
        await old.closed.wait()
        async with await lab.login(NAME, NEW) as session:
            await session.ping()
        assert stored(lab.folder / "state", "kick")["kicks"] == []
        if mishap not in (the_daemon_restarts, the_host_loses_its_power):
            await other.ping()
            await tom.ping()


# --- everything else drops nobody


async def half_written(lab: Lab, driver: Driver, half: Half) -> None:
    """Have a helper die in the middle of a batch that adds this line."""
    setup, kind = setup_for(lab.host).as_request(), kind_of(lab.host.protocol)
    image = image_in(kind, Helper(setup).read({}))
    request = apply_request(image, image.plan([half], []), number=lab.ledger.number)
    second_write = Step(request=1, name="pwrite64", target=lab.accounts.name, nth=2)
    fault = Fault(at=second_write, how="before")
    assert driver.run(lab.folder, [{"do": "hello", "setup": setup}, request], fault=fault).died
    assert image_in(kind, Helper(setup).read({})).recover


async def somebody_moves_our_records(lab: Lab) -> None:
    if lab.host.protocol == "multics":
        lab.accounts.write_bytes(b"F: handmade handpass1\n" + lab.accounts.read_bytes())
    else:
        await lab.page("/user_edit.html?user=oldeve&action=Save&description=seen")


async def reload_storm(lab: Lab) -> None:
    """Thirty requests for a reload, with no pause between them."""
    for _ in range(30):
        if lab.host.protocol == "multics":
            os.close(os.open(lab.accounts, os.O_WRONLY | os.O_APPEND))
            await asyncio.sleep(0)
        else:
            await lab.page(OSCAM_REINIT)


async def test_renewals_other_lines_new_layouts_recoveries_and_reload_storms_drop_nobody(
    lab: Lab, driver: Driver
) -> None:
    ledger = lab.ledger
    lines = [f"guest{number}" for number in range(6)]
    await asyncio.gather(*(lab.bring(ledger.want(name, OLD)) for name in lines))
    sessions = [await lab.login(name, OLD) for name in lines[:3]]
    sessions += [await lab.login("oldtom", "tompass1"), await lab.login("oldeve", "evepass1")]
    renewed, blocked, removed = lines[0], lines[3], lines[4]

    async def all_connected(*changes: Half) -> None:
        await asyncio.gather(*(lab.bring(change) for change in changes))
        for session in sessions:
            await session.ping()

    await all_connected(ledger.change(renewed, ends_at=FAR + timedelta(days=30)))
    await all_connected(
        ledger.want("fresh2222", OLD),
        ledger.change(blocked, wanted=Wanted.BLOCKED),
        ledger.change(removed, wanted=Wanted.ABSENT),
    )
    # The slot of the removed one is scrubbed and used again.
    await all_connected(ledger.want("fresh3333", OLD), ledger.change(blocked, wanted=Wanted.PRESENT))
    await somebody_moves_our_records(lab)
    await all_connected(*(ledger.change(name, ends_at=FAR + timedelta(days=60)) for name in lines[:2]))
    late = ledger.want("fresh4444", OLD)
    # The writer that is to find the half written file is one of another process.
    await lab.writer.close()
    await half_written(lab, driver, late)
    await all_connected(late, ledger.change(renewed, ends_at=FAR + timedelta(days=90)))
    await reload_storm(lab)
    await all_connected(ledger.want("fresh5555", OLD))
    assert ledger.failures == []
    for session in sessions:
        await session.leave()
