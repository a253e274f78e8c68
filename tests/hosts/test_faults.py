"""Hosts on which something goes wrong or somebody else writes, through a real sshd, proven by the running daemon."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from tests.hosts.conftest import PROTOCOLS
from tests.hosts.crashes import Driver, Fault, Step
from tests.hosts.helper_process import apply_request, image_in
from tests.hosts.judge import kind_of
from tests.hosts.lab import FAR, FOREIGN, Lab, run_lab
from twinline.hosts.errors import Fenced, HelperFailed, LedgerSetBack, NotProven, StatusTrouble
from twinline.hosts.factory import daemon_for, setup_for
from twinline.hosts.helper_program import Helper
from twinline.hosts.ports import Batch, Half, Proven, Token, Wanted
from twinline.hosts.writer import HostWriter
from twinline.messages import Protocol
from twinline.sandbox.ssh_box import SshBox

BEFORE_THE_COMMIT_BYTE = Fault(at=Step(request=1, name="pwrite64", target="oscam.user", nth=2), how="before")
"""The second write of a batch that adds one line to a free slot."""

PASSWORD = "pw23456789abcdef"
DAY = timedelta(days=1)


class Boxed:
    """A box of the sandbox as a door."""

    def __init__(self, box: SshBox, known_hosts: Path) -> None:
        self.port, self.user, self.key, self.known_hosts = box.port, box.user, box.client_key, known_hosts


@pytest_asyncio.fixture(params=PROTOCOLS)
async def boxed(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[tuple[Lab, SshBox]]:
    """A lab behind a box of the sandbox, whose connections a test can cut."""
    box = SshBox(folder / "box", client_key=folder / "client_key")
    await box.start()
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(box.known_hosts_line)
    async with run_lab(cast("Protocol", request.param), folder / "host", Boxed(box, known_hosts)) as lab:
        yield lab, box
    await box.stop()


def served(lab: Lab) -> list[str]:
    """Who could log in if the daemon read the file now."""
    return [account.user for account in kind_of(lab.host.protocol).served(lab.accounts.read_bytes())]


async def test_a_connection_cut_in_the_middle_of_a_batch_is_made_good_by_the_next_try(
    boxed: tuple[Lab, SshBox],
) -> None:
    lab, box = boxed
    await lab.bring(lab.ledger.want("ash22222222", PASSWORD))
    await lab.tell(do="hang", on=True)
    wanted = lab.ledger.want("rosewood22", PASSWORD)
    bringing = asyncio.create_task(lab.bring(wanted))
    while "rosewood22" not in served(lab):
        await lab.tell(do="stats")

    box.drop_connections()
    with pytest.raises(HelperFailed):
        await bringing

    await lab.tell(do="hang", on=False)
    assert (await lab.bring(wanted)).revision == 1
    assert served(lab) == ["oldtom", "oldeve", "ash22222222", "rosewood22"]
    assert ("rosewood22", "HelperFailed") in lab.ledger.failures


async def test_a_daemon_that_ignores_its_reloads_is_never_called_proven(oscam: Lab) -> None:
    writer = oscam.another_writer(deadline=0.05)
    await oscam.tell(do="ignore_reloads", on=True)
    wanted = oscam.ledger.want("rosewood22", PASSWORD)

    with pytest.raises(NotProven):
        await writer.bring(wanted.line_id, 1)

    assert oscam.ledger.failures == [("rosewood22", "NotProven")]
    assert not oscam.ledger.known
    await oscam.tell(do="ignore_reloads", on=False)
    assert (await writer.bring(wanted.line_id, 1)).revision == 1
    await writer.close()


async def test_a_host_whose_daemon_is_away_is_not_well_until_the_daemon_is_back(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "twinline.hosts.writer")
    await lab.bring(lab.ledger.want("guest22222", PASSWORD))
    writer = lab.another_writer(deadline=0.05)
    await lab.daemon.stop()
    lab.ledger.said.clear()
    with pytest.raises(StatusTrouble):
        await writer.bring("guest22222", lab.ledger.want("guest22222", PASSWORD, ends_at=FAR + DAY).revision)
    # Nor does a look find more, although the file can be read.
    assert (await writer.look()).listed is None
    assert set(lab.ledger.said) == {"StatusTrouble"}
    assert [record.__dict__["error"] for record in caplog.records] == ["StatusTrouble"]

    lab.daemon = lab.fresh_daemon()
    await lab.daemon.start()
    lab.ledger.said.clear()
    await writer.look()
    await writer.bring("guest22222", 2)

    assert lab.ledger.said == ["well", "through"]
    assert [record.getMessage() for record in caplog.records][1:] == ["the host is well again"]
    await writer.close()


async def test_a_trigger_lost_in_the_deaf_window_is_noticed_and_pulled_again(multics: Lab) -> None:
    writer = multics.another_writer(deadline=0.3)
    await writer.bring(multics.ledger.want("ash22222222", PASSWORD).line_id, 1)
    while (await multics.tell(do="stats"))["reloading"]:
        pass
    # Somebody else closes the file, and the daemon takes its time over that.
    await multics.tell(do="freeze_parse", on=True)
    os.close(os.open(multics.accounts, os.O_WRONLY | os.O_APPEND))
    while not (await multics.tell(do="stats"))["reloading"]:
        pass
    bringing = asyncio.create_task(writer.bring(multics.ledger.want("rosewood22", PASSWORD).line_id, 1))
    while not (await multics.tell(do="stats"))["lost"]:
        pass
    await multics.tell(do="freeze_parse", on=False)

    assert (await bringing).revision == 1
    async with await multics.login("rosewood22", PASSWORD):
        pass
    await writer.close()


async def test_a_half_that_cannot_be_proven_keeps_no_other_waiting(multics: Lab) -> None:
    writer = multics.another_writer(deadline=0.5)
    await writer.bring(multics.ledger.want("ash22222222", PASSWORD).line_id, 1)
    # An operator switched the account off in the daemon's own pages.
    await multics.page("/cccamclient?srvid=1&name=ash22222222&action=disable")
    stuck = multics.ledger.change("ash22222222", ends_at=FAR + timedelta(days=1))
    stuck_task = asyncio.create_task(writer.bring(stuck.line_id, 2))

    await writer.bring(multics.ledger.want("rosewood22", PASSWORD).line_id, 1)

    assert not stuck_task.done()
    await multics.page("/cccamclient?srvid=1&name=ash22222222&action=enable")
    assert (await stuck_task).revision == 2
    await writer.close()


async def test_two_hundred_orders_at_once_are_few_batches(lab: Lab) -> None:
    first = [lab.ledger.want(f"guest{number}", PASSWORD) for number in range(20)]
    await asyncio.gather(*(lab.bring(each) for each in first))
    blocked = [lab.ledger.change(each.username, wanted=Wanted.BLOCKED) for each in first]
    fresh = [lab.ledger.want(f"fresh{number}", PASSWORD) for number in range(180)]
    lab.ledger.batches.clear()

    await asyncio.gather(*(lab.bring(each) for each in (*fresh, *blocked)))

    assert len(lab.ledger.batches) <= 3
    assert sum(lab.ledger.batches) == 200
    assert set(served(lab)) == {"oldtom", "oldeve", *(each.username for each in fresh)}


async def test_two_writers_on_one_host_lose_nothing(lab: Lab) -> None:
    writers = [lab.writer, lab.another_writer()]
    halves = [lab.ledger.want(f"guest{number}", PASSWORD) for number in range(40)]

    async def until_proven(writer: HostWriter, half: Half) -> Proven:
        while True:
            try:
                return await writer.bring(half.line_id, half.revision)
            except (Fenced, HelperFailed):
                continue

    await asyncio.gather(*(until_proven(writers[number % 2], each) for number, each in enumerate(halves)))

    assert sorted(served(lab)) == sorted(["oldtom", "oldeve", *(each.username for each in halves)])
    await writers[1].close()


async def test_a_batch_that_was_overtaken_can_no_longer_give_back_what_was_blocked(lab: Lab) -> None:
    wanted = lab.ledger.want("rosewood22", PASSWORD)

    class Delayed(type(lab.ledger)):
        """Hands out its batch only after another writer's batch was opened and carried out."""

        async def open_batch(self, host: str, limit: int, also: AbstractSet[str] = frozenset()) -> Batch:
            old = Batch(Token(1, 1), (wanted,))
            lab.ledger.number = 1
            lab.ledger.change("rosewood22", wanted=Wanted.BLOCKED)
            await lab.writer.bring("rosewood22", 2)
            return old

        async def fence(self, host: str) -> Token:
            return await lab.ledger.fence(host)

    late = lab.another_writer(ledger=Delayed(wanted={"rosewood22": wanted}))
    with pytest.raises(Fenced):
        await late.bring("rosewood22", 1)
    assert served(lab) == ["oldtom", "oldeve"]
    await late.close()


@pytest.mark.parametrize("connected", [True, False])
async def test_a_ledger_that_was_set_back_writes_nothing_until_its_epoch_is_raised(
    lab: Lab, *, connected: bool
) -> None:
    for number in range(3):
        await lab.bring(lab.ledger.want(f"guest{number}", PASSWORD))
    if not connected:
        await lab.writer.close()
    lab.ledger.number = 1
    again = lab.ledger.change("guest0", wanted=Wanted.BLOCKED)
    before = lab.accounts.read_bytes()
    # More often than the ledger would need to catch up with the host, batch by batch.
    for _ in range(4):
        with pytest.raises(LedgerSetBack, match="batch 1/"):
            await lab.bring(again)
    assert lab.accounts.read_bytes() == before
    assert lab.ledger.failures == [("guest0", "LedgerSetBack")] * 4

    lab.ledger.epoch += 1
    await lab.bring(again)
    assert "guest0" not in served(lab)


async def test_a_ledger_that_fails_once_fails_who_waits_and_nobody_later(
    multics: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = multics.ledger.open_batch

    async def fails_once(host: str, limit: int, also: AbstractSet[str]) -> Batch:
        monkeypatch.setattr(multics.ledger, "open_batch", real)
        raise ConnectionError("the database is away")

    monkeypatch.setattr(multics.ledger, "open_batch", fails_once)
    wanted = multics.ledger.want("rosewood22", PASSWORD)
    with pytest.raises(ConnectionError):
        await multics.bring(wanted)
    assert (await multics.bring(wanted)).revision == 1


async def test_a_revision_that_the_ledger_does_not_know_is_refused(multics: Lab) -> None:
    await multics.bring(multics.ledger.want("rosewood22", PASSWORD))
    with pytest.raises(ValueError, match="no revision 7"):
        await multics.writer.bring("rosewood22", 7)


# --- who else writes


async def test_what_oscams_own_pages_regenerated_is_laid_out_again_and_nobody_is_dropped(oscam: Lab) -> None:
    await oscam.bring(oscam.ledger.want("rosewood22", PASSWORD))
    await oscam.bring(oscam.ledger.want("ash22222222", PASSWORD))
    async with await oscam.login("rosewood22", PASSWORD) as ours, await oscam.login("oldtom", "tompass1") as tom:
        await oscam.page("/user_edit.html?user=oldtom&action=Save&description=seen")
        assert b"~~~~" not in oscam.accounts.read_bytes()

        await oscam.bring(oscam.ledger.change("ash22222222", ends_at=FAR + timedelta(days=3)))

        await ours.ping()
        await tom.ping()
    found = oscam.accounts.read_bytes()
    survey = daemon_for(oscam.host).survey(found)
    assert set(survey.slots) == {"rosewood22", "ash22222222"}
    assert not survey.strays
    assert b"description                   = seen" in found


async def test_a_batch_that_was_cut_short_is_completed_before_a_new_layout(oscam: Lab, driver: Driver) -> None:
    await oscam.bring(oscam.ledger.want("rosewood22", PASSWORD))
    kind, setup = kind_of("oscam"), setup_for(oscam.host).as_request()
    image = image_in(kind, Helper(setup).read({}))
    slot = image.slots["rosewood22"]
    copy = bytes(image.data[slot : slot + kind.daemon.width])
    wanted = oscam.ledger.want("ash22222222", PASSWORD)
    request = apply_request(image, image.plan([wanted], []), number=oscam.ledger.number)
    requests = [{"do": "hello", "setup": setup}, request]
    assert driver.run(oscam.folder, requests, fault=BEFORE_THE_COMMIT_BYTE).died
    assert "ash22222222" not in served(oscam)
    assert "ash22222222" in image_in(kind, Helper(setup).read({})).slots
    with oscam.accounts.open("ab") as file:
        file.write(b"# a copy by hand\n" + copy)

    await oscam.bring(wanted)

    survey = daemon_for(oscam.host).survey(oscam.accounts.read_bytes())
    assert set(survey.slots) == {"rosewood22", "ash22222222"}
    assert not survey.strays


async def test_an_edit_that_oscams_own_pages_took_back_is_written_again(oscam: Lab) -> None:
    await oscam.bring(oscam.ledger.want("rosewood22", PASSWORD))
    writer = oscam.another_writer(deadline=0.05)
    await oscam.tell(do="ignore_reloads", on=True)
    wanted = oscam.ledger.want("ash22222222", PASSWORD)
    with pytest.raises(NotProven):
        await writer.bring(wanted.line_id, 1)
    assert "ash22222222" in served(oscam)
    # Saved from memory, which never held the new line.
    await oscam.page("/user_edit.html?user=oldtom&action=Save&description=seen")
    assert "ash22222222" not in served(oscam)
    await oscam.tell(do="ignore_reloads", on=False)

    await oscam.bring(wanted)

    assert sorted(served(oscam)) == ["ash22222222", "oldeve", "oldtom", "rosewood22"]
    await writer.close()


async def test_a_line_that_a_human_put_on_top_of_a_multics_file_moves_ours_back_to_slots(multics: Lab) -> None:
    await multics.bring(multics.ledger.want("rosewood22", PASSWORD))
    await multics.bring(multics.ledger.want("ash22222222", PASSWORD))
    inode = multics.accounts.stat().st_ino
    async with await multics.login("ash22222222", PASSWORD) as ash, await multics.login("oldtom", "tompass1") as tom:
        content = b"F: handmade handpass1\n" + multics.accounts.read_bytes()
        multics.accounts.write_bytes(content)

        await multics.bring(multics.ledger.change("rosewood22", ends_at=FAR + timedelta(days=3)))

        await ash.ping()
        await tom.ping()
    found = multics.accounts.read_bytes()
    survey = daemon_for(multics.host).survey(found)
    assert list(survey.slots) == ["rosewood22"]
    assert found.startswith(b"F: handmade handpass1\n" + FOREIGN["multics"])
    assert sorted(served(multics)) == ["ash22222222", "handmade", "oldeve", "oldtom", "rosewood22"]
    assert multics.accounts.stat().st_ino == inode


async def test_an_editor_that_saves_by_rename_loses_nothing(lab: Lab) -> None:
    await lab.bring(lab.ledger.want("rosewood22", PASSWORD))
    extra: dict[str, Sequence[bytes]] = {
        "multics": (b"F: handmade handpass1\n",),
        "oscam": (b"[account]\nuser = handmade\npwd = handpass1\n",),
    }
    fresh = lab.accounts.with_suffix(".new")
    fresh.write_bytes(lab.accounts.read_bytes() + extra[lab.host.protocol][0])
    fresh.rename(lab.accounts)

    await lab.bring(lab.ledger.want("ash22222222", PASSWORD))

    async with await lab.login("handmade", "handpass1"), await lab.login("ash22222222", PASSWORD):
        assert sorted(served(lab)) == ["ash22222222", "handmade", "oldeve", "oldtom", "rosewood22"]
