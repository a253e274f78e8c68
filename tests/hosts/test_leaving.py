"""A line that is to be forgotten: its host is seen to hold nothing of it, or somebody is told where it still stands."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.hosts.helper_process import helper, setup_for
from tests.hosts.judge import KINDS
from tests.hosts.lab import FOREIGN, Lab
from twinline.hosts.errors import FileTrouble, RecordConflict, TracesLeft
from twinline.hosts.helper_program import store
from twinline.hosts.ports import Half, Wanted
from twinline.hosts.ssh import encode
from twinline.hosts.writer import HostWriter

NAME, PASSWORD = "rosewood22", "pw23456789abcdef"
NEIGHBOUR = "rosewood223"
"""Begins like the other one."""


async def ended(lab: Lab) -> Half:
    """A line that was served and must be absent; its neighbour stays."""
    await lab.bring(lab.ledger.want(NEIGHBOUR, "other56789abcdef"))
    await lab.bring(lab.ledger.want(NAME, PASSWORD))
    return lab.ledger.change(NAME, wanted=Wanted.ABSENT)


def words_in(lab: Lab) -> list[str]:
    """The files of the host in which the line stands."""
    files = [lab.accounts, *Path(lab.host.state_dir).iterdir()]
    return [file.name for file in files if re.search(rf"\b({NAME}|{PASSWORD})\b".encode(), file.read_bytes())]


async def test_a_host_that_dropped_a_line_holds_nothing_of_it(lab: Lab) -> None:
    half = await ended(lab)
    assert words_in(lab) == [lab.accounts.name]
    await lab.writer.vacate(half)
    assert words_in(lab) == []
    assert NEIGHBOUR.encode() in lab.accounts.read_bytes()
    # Nothing is left to be done, and it can be asked again.
    before = lab.accounts.read_bytes()
    await lab.writer.vacate(half)
    assert lab.accounts.read_bytes() == before


async def not_in_time(_: HostWriter) -> None:
    """In place of the scrub: the worker ends before it has come to anything."""
    await asyncio.Event().wait()


async def test_what_a_worker_left_when_it_died_before_the_scrub_is_taken_out(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = await ended(lab)
    with monkeypatch.context() as patch:
        patch.setattr(HostWriter, "_tidy", not_in_time)
        await lab.bring(half)
        await lab.writer.close()
    assert words_in(lab) == [lab.accounts.name]
    second = lab.another_writer()
    await second.vacate(half)
    await second.close()
    assert words_in(lab) == []


async def test_a_line_that_came_back_with_an_old_file_is_taken_off_again(lab: Lab) -> None:
    half = await ended(lab)
    old = lab.accounts.read_bytes()
    await lab.writer.vacate(half)
    lab.accounts.write_bytes(old)
    await lab.restart_daemon()
    async with await lab.login(NAME, PASSWORD):
        pass
    await lab.writer.vacate(half)
    assert words_in(lab) == []


async def test_a_copy_that_somebody_keeps_in_state_dir_is_named(lab: Lab) -> None:
    half = await ended(lab)
    copy = Path(lab.host.state_dir) / "accounts.bak"
    await lab.bring(half)
    copy.write_text(f"user = {NAME}\n")
    with pytest.raises(TracesLeft, match=r"still stands in accounts\.bak$"):
        await lab.writer.vacate(half)
    copy.unlink()
    await lab.writer.vacate(half)


async def test_a_record_of_the_name_that_is_not_ours_stays_and_is_told(multics: Lab) -> None:
    half = await ended(multics)
    await multics.writer.vacate(half)
    theirs = f"F: {NAME} foreign999\n".encode()
    with multics.accounts.open("ab") as file:
        file.write(theirs)
    with pytest.raises((RecordConflict, TracesLeft)):
        await multics.writer.vacate(half)
    assert multics.accounts.read_bytes().endswith(theirs)
    assert multics.accounts.read_bytes().startswith(FOREIGN["multics"])


async def test_who_waits_is_told_when_the_host_can_not_be_looked_at(multics: Lab) -> None:
    half = await ended(multics)
    await multics.writer.vacate(half)
    multics.accounts.rename(multics.accounts.with_suffix(".away"))
    with pytest.raises(FileTrouble, match="does not exist"):
        await multics.writer.vacate(half)


async def test_a_batch_that_was_not_settled_counts_as_a_trace(folder: Path) -> None:
    accounts, state = folder / "Cccam.cfg", folder / "state"
    accounts.write_bytes(FOREIGN["multics"])
    state.mkdir()
    async with helper(setup_for(accounts, state, KINDS[0])) as running:
        asked = {"do": "traces", "words": [NAME, PASSWORD]}
        assert (await running.ask(asked))["found"] == []
        ops = [[[0, encode(b"#"), encode(NAME.encode())]]]
        store(str(state / "journal.1"), {"seq": 1, "state": "pending", "token": [1, 1], "batch": "b", "ops": ops})
        assert (await running.ask(asked))["found"] == ["journal.1"]
        (state / "kick").write_text(f'{{"on": "/user?login={NAME}"}}')
        assert (await running.ask(asked))["found"] == ["kick", "journal.1"]
        assert (await running.ask({"do": "traces", "words": [NAME[:-1]]}))["found"] == ["journal.1"]
