"""A helper is held at one of its system calls while somebody else acts: another helper, or a human."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from tests.hosts.crashes import Driver, Step
from tests.hosts.files import half
from tests.hosts.helper_process import HelperProcess, Refused, apply_request, helper, image_in, setup_for, stored
from tests.hosts.judge import KINDS, Kind
from tests.hosts.playing import played
from tests.hosts.scenes import NAME, NEIGHBOUR, Stage, holding, scene
from tests.support.root import require_root
from twinline.hosts.helper_program import Trouble, signature
from twinline.hosts.image import Image
from twinline.hosts.ports import Wanted
from twinline.hosts.ssh import HelperSetup

pytestmark = pytest.mark.usefixtures("small_files")

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
ALDER, BIRCH = half(NAME, 1), half(NEIGHBOUR, 1)


WITHOUT_LEASE: Final = ("setpriv", "--bounding-set", "-lease")
"""Words in front of a helper that the system grants no lease on a file of somebody else: nothing keeps a human out."""


def theirs(stage: Stage) -> None:
    """Give the accounts file to somebody else, who lets us write to it."""
    require_root("gives a file to another user")
    os.chown(stage.accounts, 65_534, 65_534)


def told(stage: Stage) -> HelperSetup:
    """What a helper of this stage is told."""
    return setup_for(stage.accounts, stage.state_dir, stage.kind, status_url=stage.pages.url)


async def while_held(
    driver: Driver,
    stage: Stage,
    running: HelperProcess,
    request: dict[str, Any],
    at: Step,
    act: Callable[[], None],
    side: Literal["before", "after"] = "before",
) -> dict[str, Any]:
    """Ask a helper, act while it stands at a step, and return its answer."""
    await asyncio.to_thread(driver.attach, running.process.pid, stage.folder, at, side)
    asking = asyncio.create_task(running.ask(request))
    held = asyncio.create_task(asyncio.to_thread(driver.held))
    await asyncio.wait((asking, held), return_when=asyncio.FIRST_COMPLETED)
    if not held.done():
        # It will never come to the step; the driver finds that out by its end.
        running.process.kill()
    await held
    try:
        act()
    finally:
        await asyncio.to_thread(driver.release)
    return await asking


@every_kind
async def test_what_a_human_changes_while_we_read_does_not_pass_for_what_was_read(
    kind: Kind, folder: Path, driver: Driver
) -> None:
    with played(folder, kind) as stage:
        stage.put({"accounts": holding(kind, ALDER)})
        theirs(stage)

        def by_hand() -> None:
            stage.accounts.write_bytes(stage.accounts.read_bytes().replace(b"tompass1", b"tompass2"))

        async with helper(told(stage), before=WITHOUT_LEASE) as running:
            read = Step(request=1, name="pread64", target="accounts")
            image = image_in(kind, await while_held(driver, stage, running, {"do": "read"}, read, by_hand, "after"))
            plan = image.plan([half(NAME, 2, wanted=Wanted.BLOCKED)], [])
            with pytest.raises(Refused, match="changed"):
                await running.ask(apply_request(image, plan))
        assert stage.accounts.read_bytes() == holding(kind, ALDER).replace(b"tompass1", b"tompass2")


@every_kind
async def test_what_a_human_changes_before_we_close_does_not_pass_for_ours(
    kind: Kind, folder: Path, driver: Driver
) -> None:
    with played(folder, kind) as stage:
        stage.put({"accounts": holding(kind, ALDER)})
        theirs(stage)

        def by_hand() -> None:
            with stage.accounts.open("r+b") as file:
                file.seek(stage.accounts.read_bytes().index(b"tompass1"))
                file.write(b"tompass2")

        async with helper(told(stage), before=WITHOUT_LEASE) as running:
            image = await running.read(kind)
            request = apply_request(image, image.plan([half(NAME, 2, wanted=Wanted.BLOCKED)], []))
            second = Step(request=1, name="close", target="accounts", nth=2)
            image.signature = (await while_held(driver, stage, running, request, second, by_hand))["signature"]
            again = apply_request(image, image.plan([half(NAME, 3)], []), number=2, batch="b2")
            with pytest.raises(Refused, match="changed"):
                await running.ask(again)
            assert b"tompass2" in bytes((await running.read(kind)).data)


async def test_two_helpers_do_not_forget_each_others_kicks(folder: Path, driver: Driver) -> None:
    kind = KINDS[0]
    first = scene(kind, "password", holding(kind, ALDER, BIRCH), half(NAME, 2, password="another23"))
    with played(folder, kind) as stage:
        stage.put(first.files)
        asked: list[dict[str, Any]] = []

        def another_batch() -> None:
            """Owe a kick that nothing makes due, as a batch does whose daemon has not loaded it yet."""
            image = Image(kind.daemon, stage.accounts.read_bytes(), signature(stage.accounts.stat()), recover=False)
            plan = image.plan([half(NEIGHBOUR, 2, password="another23")], [])
            never = [{"path": "/cccam?action=json", "must": ["not on this page"], "must_not": []}]
            kick = {"id": NEIGHBOUR, "off": "/off", "on": "/on", "ready": never, "settled": []}
            asked.append(apply_request(image, plan, number=8, batch="b8", kicks=[kick]))
            try:
                stage.helper.apply(asked[0])
            except Trouble as trouble:
                assert trouble.code == "lock_held"
            else:
                asked.clear()

        async with helper(told(stage)) as running:
            switching = f"GET /cccamclient?srvid=1&name={NAME}&action=disable HTTP/1.1"
            step = Step(request=1, name="sendto", target=switching)
            answer = await while_held(driver, stage, running, stage.request(first), step, another_batch)
        assert answer["proven"] == [NAME]
        for request in asked:
            stage.helper.apply(request)
        assert [kick["id"] for kick in stored(stage.state_dir, "kick")["kicks"]] == [NEIGHBOUR]
