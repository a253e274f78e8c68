"""A line's life on one host, through a real sshd, as the running daemon and its customers see it."""

import asyncio
from datetime import timedelta

import pytest

from tests.hosts.lab import FAR, FOREIGN, Lab
from twinline.hosts.errors import FileTrouble, RecordConflict
from twinline.hosts.ports import Wanted
from twinline.sandbox.receiver import LoginRefused


async def test_a_new_line_can_log_in_as_soon_as_it_is_proven(lab: Lab) -> None:
    proven = await lab.bring(lab.ledger.want("rosewood22", "pw23456789abcdef"))

    assert proven.revision == 1
    async with await lab.login("rosewood22", "pw23456789abcdef") as session:
        await session.ping()


async def test_a_line_lives_through_renewal_block_unblock_and_end(lab: Lab) -> None:
    ledger = lab.ledger
    await lab.bring(ledger.want("rosewood22", "pw23456789abcdef"))
    session = await lab.login("rosewood22", "pw23456789abcdef")

    await lab.bring(ledger.change("rosewood22", ends_at=FAR + timedelta(days=30)))
    await session.ping()

    await lab.bring(ledger.change("rosewood22", wanted=Wanted.BLOCKED))
    await session.closed.wait()
    with pytest.raises(LoginRefused):
        await lab.login("rosewood22", "pw23456789abcdef")

    await lab.bring(ledger.change("rosewood22", wanted=Wanted.PRESENT))
    back = await lab.login("rosewood22", "pw23456789abcdef")

    await lab.bring(ledger.change("rosewood22", wanted=Wanted.ABSENT))
    await back.closed.wait()
    with pytest.raises(LoginRefused):
        await lab.login("rosewood22", "pw23456789abcdef")


async def test_foreign_records_inode_and_other_sessions_stay_as_they_were(lab: Lab) -> None:
    foreign = FOREIGN[lab.host.protocol]
    inode = lab.accounts.stat().st_ino
    async with await lab.login("oldtom", "tompass1") as tom, await lab.login("oldeve", "evepass1") as eve:
        for number in range(5):
            await lab.bring(lab.ledger.want(f"guest{number}", "pw23456789abcdef"))
        await lab.bring(lab.ledger.change("guest1", wanted=Wanted.BLOCKED))
        await lab.bring(lab.ledger.change("guest2", wanted=Wanted.ABSENT))
        await tom.ping()
        await eve.ping()

    assert lab.accounts.read_bytes().startswith(foreign)
    assert lab.accounts.stat().st_ino == inode


async def test_changes_that_wait_together_are_one_batch_and_one_reload(lab: Lab) -> None:
    # However slow this machine is: a second reload would only come of impatience.
    writer = lab.another_writer(deadline=30.0)
    halves = [lab.ledger.want(f"guest{number}", "pw23456789abcdef") for number in range(60)]

    await asyncio.gather(*(writer.bring(each.line_id, each.revision) for each in halves))

    assert lab.ledger.batches == [60]
    begun = {"multics": "Config file Changed...", "oscam": "Refresh Accounts requested"}[lab.host.protocol]
    assert sum(begun in line for line in lab.daemon.log.lines) == 1
    await writer.close()


async def test_a_freed_slot_is_scrubbed_and_used_again(lab: Lab) -> None:
    await lab.bring(lab.ledger.want("rosewood22", "pw23456789abcdef"))
    size = lab.accounts.stat().st_size
    await lab.bring(lab.ledger.change("rosewood22", wanted=Wanted.ABSENT))
    await lab.bring(lab.ledger.want("ash22222222", "other56789abcdef"))
    await lab.bring(lab.ledger.want("elm22222222", "third56789abcdef"))

    content = lab.accounts.read_bytes()
    assert b"pw23456789abcdef" not in content
    assert b"rosewood22" not in content
    assert len(content) == size


async def test_a_foreign_record_of_that_name_stops_only_that_line(lab: Lab) -> None:
    before = lab.accounts.read_bytes()
    taken, free = lab.ledger.want("oldtom", "pw23456789abcdef"), lab.ledger.want("ash22222222", "other56789abcdef")

    outcomes = await asyncio.gather(lab.bring(taken), lab.bring(free), return_exceptions=True)

    assert isinstance(outcomes[0], RecordConflict)
    assert not isinstance(outcomes[1], BaseException)
    assert lab.accounts.read_bytes().startswith(before)


async def test_a_missing_accounts_file_is_named_and_never_created(lab: Lab) -> None:
    lab.accounts.rename(lab.accounts.with_suffix(".away"))

    with pytest.raises(FileTrouble, match="does not exist"):
        await lab.bring(lab.ledger.want("rosewood22", "pw23456789abcdef"))

    assert not lab.accounts.exists()
    assert lab.ledger.failures == [("rosewood22", "FileTrouble")]


async def test_a_password_change_closes_the_old_session_and_never_leaves_the_line_off(lab: Lab) -> None:
    await lab.bring(lab.ledger.want("rosewood22", "pw23456789abcdef"))
    old = await lab.login("rosewood22", "pw23456789abcdef")

    await lab.bring(lab.ledger.change("rosewood22", password="new3456789abcdef"))

    await old.closed.wait()
    async with await lab.login("rosewood22", "new3456789abcdef") as session:
        await session.ping()


async def test_an_edit_by_hand_between_two_batches_is_kept(lab: Lab) -> None:
    await lab.bring(lab.ledger.want("rosewood22", "pw23456789abcdef"))
    extra = {"multics": b"F: handmade handpass1\n", "oscam": b"[account]\nuser = handmade\npwd = handpass1\n"}
    with lab.accounts.open("ab") as file:
        file.write(extra[lab.host.protocol])

    await lab.bring(lab.ledger.want("ash22222222", "other56789abcdef"))

    assert extra[lab.host.protocol] in lab.accounts.read_bytes()
    async with await lab.login("handmade", "handpass1"), await lab.login("ash22222222", "other56789abcdef"):
        pass
