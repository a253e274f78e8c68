"""A record that a person has to look at: it costs other lines nothing, and a newer change of it is tried at once."""

import asyncio
from datetime import timedelta

import pytest

from tests.hosts.lab import FAR, FOREIGN, Lab
from twinline.hosts.errors import NotProven, RecordConflict
from twinline.hosts.ports import Wanted
from twinline.hosts.writer import HostWriter

NAME, OTHER, PASSWORD = "rosewood22", "ash22222222", "pw23456789abcdef"


async def test_what_waits_for_a_person_is_in_no_batch_until_it_is_asked_for(multics: Lab) -> None:
    with multics.accounts.open("ab") as file:
        file.write(f"\nF: {NAME} foreign999\n".encode())
    stuck = multics.ledger.want(NAME, PASSWORD)
    with pytest.raises(RecordConflict):
        await multics.bring(stuck)
    multics.ledger.batches.clear()

    await multics.bring(multics.ledger.want(OTHER, PASSWORD))
    with pytest.raises(RecordConflict, match="waits for a person"):
        await multics.writer.bring(NAME, 1, recheck=True)

    assert multics.ledger.batches == [1]
    assert multics.accounts.read_bytes().startswith(FOREIGN["multics"])
    multics.accounts.write_bytes(multics.accounts.read_bytes().replace(f"F: {NAME} foreign999\n".encode(), b""))
    assert (await multics.bring(stuck)).revision == 1
    async with await multics.login(NAME, PASSWORD):
        pass


async def test_a_block_that_comes_while_a_renewal_gets_stuck_does_not_fail_with_it(oscam: Lab) -> None:
    await oscam.bring(oscam.ledger.want(NAME, PASSWORD))
    writer: HostWriter = oscam.another_writer(deadline=0.05)
    await oscam.tell(do="ignore_reloads", on=True)
    renewing = asyncio.create_task(writer.bring(oscam.ledger.change(NAME, ends_at=FAR + timedelta(days=30)).line_id, 2))
    while not (await oscam.tell(do="stats"))["lost"]:
        pass
    blocking = asyncio.create_task(writer.bring(oscam.ledger.change(NAME, wanted=Wanted.BLOCKED).line_id, 3))
    await asyncio.sleep(0)

    with pytest.raises(NotProven):
        await renewing
    await oscam.tell(do="ignore_reloads", on=False)

    assert (await blocking).revision == 3
    assert oscam.ledger.batches[-2:] == [1, 1]
    await writer.close()
