"""A host's clock minutes off: nobody is let in by it, everybody who must lose access does, and it ends by itself."""

import asyncio
import logging
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.lab import Lab
from twinline.hosts import ssh
from twinline.hosts.clocks import MOST_APART, ClockFacts, apart
from twinline.hosts.errors import ClocksApart
from twinline.hosts.ports import Wanted
from twinline.sandbox.receiver import LoginRefused

NAME, OTHER, LATE, PASSWORD = "rosewood22", "ash22222222", "elm22222222", "pw23456789abcdef"
SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(own_python: None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Sets the hosts' clocks so many seconds ahead, those of helpers that run already too."""
    ahead = folder / "ahead"
    ahead.write_text("0")
    faked = f"import time;right=time.time;time.time=lambda:right()+float(open({str(ahead)!r}).read());import sys"
    before = ssh.BOOTSTRAP
    monkeypatch.setattr(ssh, "BOOTSTRAP", before.replace("'import sys", shlex.quote(faked)[:-1]))
    assert before != ssh.BOOTSTRAP

    def set_to(seconds: float) -> None:
        ahead.write_text(str(seconds))

    return set_to


@pytest.fixture
def always_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look at a clock is good for the next batch."""
    monkeypatch.setattr("twinline.hosts.writer.CLOCK_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("asked", "theirs", "answered", "off"),
    [
        (100.0, 100.5, 101.0, 0.0),
        (100.0, 100.0, 101.0, 0.0),
        (100.0, 221.0, 101.0, 120.0),
        (100.0, 221.5, 101.0, 120.5),
        (100.0, -20.5, 101.0, -120.5),
        # Ours was set back in between.
        (101.0, 100.5, 100.0, 0.0),
    ],
)
def test_only_what_no_round_trip_explains_counts(asked: float, theirs: float, answered: float, off: float) -> None:
    facts = ClockFacts(asked=asked, theirs=theirs, answered=answered)
    assert facts.off == off
    assert (apart(facts) is not None) is (abs(off) > MOST_APART)


def test_the_error_says_which_way_and_how_far() -> None:
    ahead, behind = (apart(ClockFacts(asked=0.0, theirs=theirs, answered=0.0)) for theirs in (7_200.0, -125.0))
    assert "2 h ahead of the ledger's" in str(ahead)
    assert "2 min behind the ledger's" in str(behind)


@pytest.mark.parametrize("off", [-125.0, 125.0, 3 * 86_400.0])
async def test_nobody_is_let_in_by_a_wrong_clock_and_the_next_look_goes_on(
    multics: Lab, set_clock: SetClock, off: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    set_clock(off)
    before = multics.accounts.read_bytes()
    half = multics.ledger.want(NAME, PASSWORD)

    with pytest.raises(ClocksApart) as stopped:
        await multics.bring(half)

    assert stopped.value.attention
    assert not stopped.value.of_one_line
    assert multics.accounts.read_bytes() == before
    assert multics.ledger.failures == [(NAME, "ClocksApart")]
    assert multics.ledger.clocks[-1] is False
    assert [record.__dict__["host"] for record in caplog.records] == ["mc-eu1"]
    assert PASSWORD not in caplog.text

    set_clock(0)
    assert (await multics.bring(half)).revision == 1
    assert multics.ledger.clocks[-1] is True
    assert "the host's clock is right again" in caplog.text


@pytest.mark.parametrize("off", [-110.0, 110.0])
async def test_less_than_two_minutes_stop_nothing(multics: Lab, set_clock: SetClock, off: float) -> None:
    set_clock(off)
    assert (await multics.bring(multics.ledger.want(NAME, PASSWORD))).revision == 1


async def test_who_must_lose_access_loses_it_by_any_clock_and_who_waits_is_told(
    lab: Lab, set_clock: SetClock, always_looked: None
) -> None:
    for name in (NAME, OTHER):
        await lab.bring(lab.ledger.want(name, PASSWORD))
    session = await lab.login(NAME, PASSWORD)
    set_clock(-600)

    outcomes = await asyncio.gather(
        lab.bring(lab.ledger.want(LATE, PASSWORD)),
        lab.bring(lab.ledger.change(NAME, wanted=Wanted.BLOCKED)),
        lab.bring(lab.ledger.change(OTHER, wanted=Wanted.ABSENT)),
        return_exceptions=True,
    )

    assert isinstance(outcomes[0], ClocksApart)
    assert [outcome.wanted for outcome in outcomes[1:] if not isinstance(outcome, BaseException)] == [
        Wanted.BLOCKED,
        Wanted.ABSENT,
    ]
    await session.closed.wait()
    for name in (NAME, OTHER, LATE):
        with pytest.raises(LoginRefused):
            await lab.login(name, PASSWORD)
    # The batch got through, and yet the host is not well.
    assert lab.ledger.clocks[-1] is False
    # The lifting of a block lets somebody in.
    with pytest.raises(ClocksApart):
        await lab.bring(lab.ledger.change(NAME, wanted=Wanted.PRESENT))

    set_clock(0)
    for name in (NAME, LATE):
        await lab.writer.bring(name, lab.ledger.wanted[name].revision)
        async with await lab.login(name, PASSWORD):
            pass


async def test_a_clock_that_goes_wrong_under_a_kept_connection_is_noticed(
    multics: Lab, set_clock: SetClock, always_looked: None
) -> None:
    await multics.bring(multics.ledger.want(NAME, PASSWORD))
    set_clock(300)
    with pytest.raises(ClocksApart):
        await multics.bring(multics.ledger.want(OTHER, PASSWORD))


async def test_a_look_at_the_host_says_so_although_nobody_waits(multics: Lab, set_clock: SetClock) -> None:
    set_clock(300)
    look = await multics.writer.look()
    assert look.listed is not None
    assert multics.ledger.clocks == [False]
    set_clock(0)
    await multics.writer.look()
    assert multics.ledger.clocks == [False, True]


async def test_the_clock_of_the_ledger_decides_and_not_this_machines(multics: Lab, set_clock: SetClock) -> None:
    half = multics.ledger.want(NAME, PASSWORD)
    multics.ledger.clock_ahead = 300.0
    with pytest.raises(ClocksApart, match="behind"):
        await multics.bring(half)
    set_clock(300)
    assert (await multics.bring(half)).revision == 1


async def test_a_line_that_the_file_lost_goes_along_with_a_block_by_any_clock(
    oscam: Lab, set_clock: SetClock, always_looked: None
) -> None:
    await oscam.bring(oscam.ledger.want(NAME, PASSWORD))
    kept = oscam.accounts.read_bytes()
    await oscam.bring(oscam.ledger.want(OTHER, PASSWORD))
    session = await oscam.login(OTHER, PASSWORD)
    oscam.accounts.write_bytes(kept)
    set_clock(600)

    await oscam.bring(oscam.ledger.change(NAME, wanted=Wanted.BLOCKED))

    await session.ping()
    await session.leave()
    async with await oscam.login(OTHER, PASSWORD):
        pass
