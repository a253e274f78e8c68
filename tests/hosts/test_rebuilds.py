"""Whatever became of an accounts file, a rebuild makes it what the ledger wants, and nobody else's records change.

`make soak` tries more damage.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.testing import ActivityEnvironment

import activities.rebuild
from activities.rebuild import RebuildActivities
from tests.hosts.files import END, PASSWORD, carried_out, half, plan_for
from tests.hosts.judge import KINDS, Kind
from tests.hosts.lab import FOREIGN, Lab, MemoryLedger, run_lab
from tests.support.sshd import run_sshd
from twinline.hosts import writer as writing
from twinline.hosts.drift import Expected
from twinline.hosts.ports import Half, Proven, Wanted
from twinline.rebuild import ACCOUNT_SHUT, RebuildStep, RebuildStepped
from twinline.sandbox.receiver import LoginRefused

OTHER_PASSWORD: Final = "other56789abcdef"
STEPS_AT_MOST: Final = 20

WANTED: Final = (
    half("anna22", 3),
    half("bert33", 2),
    half("carl44"),
    half("dora55", 4, wanted=Wanted.BLOCKED),
    half("emil66", 2, wanted=Wanted.ABSENT, ends_at=None),
    half("fred77", 2, password=OTHER_PASSWORD),
)
BEHIND: Final = half("gert88")
"""Its order has not reached the host."""
LONG_AGO: Final = tuple(
    replace(half(each.username, password=PASSWORD), ends_at=END) for each in WANTED if each.username != "carl44"
)
"""When those who are blocked and gone by now were served, and one was not there yet."""
NEWCOMERS: Final = {
    "multics": b"F: handmade handpass1\n",
    "oscam": b"[account]\nuser = handmade\npwd = handpass1\ngroup = 1\n",
}


class WholeLedger(MemoryLedger):
    """Also what Reconcile and rebuilds ask of a ledger."""

    async def expected(self, host: str) -> list[Expected]:
        behind = await self.behind(host)
        return [Expected(each, behind=each.line_id in behind) for each in self.wanted.values()]

    async def still(self, host: str, expected: Sequence[Expected]) -> list[Expected]:
        behind = await self.behind(host)
        return [replace(each, behind=each.behind or each.half.line_id in behind) for each in expected]

    async def behind(self, host: str) -> dict[str, int]:
        known = {line_id: proven.revision for line_id, proven in self.known.items()}
        return {
            each.line_id: each.revision for each in self.wanted.values() if each.revision > known.get(each.line_id, 0)
        }

    def knows(self, halves: Sequence[Half], *, behind: Sequence[Half] = ()) -> None:
        """Want these, and have proof of the first."""
        self.wanted = {each.line_id: each for each in (*halves, *behind)}
        self.known = {each.line_id: Proven(each.line_id, each.revision, each.wanted) for each in halves}
        self.stopped.clear()


class NoClock:
    async def look(self, handed_out: object) -> None:
        """Nothing to see."""


def activities_of(lab: Lab) -> RebuildActivities:
    """What a worker would do on this host."""
    return RebuildActivities(lab.writer, cast("Any", lab.ledger), cast("Any", NoClock()))


async def stepped(lab: Lab, after: str = "") -> RebuildStepped:
    step = RebuildStep(host=lab.host.name, after=after)
    return await ActivityEnvironment().run(activities_of(lab).rebuild_step, step)


async def rebuilt(lab: Lab) -> RebuildStepped:
    """Go through passes until one of them finds nothing to do, or nothing that we can do."""
    after, changed, found = "", False, None
    for _ in range(STEPS_AT_MOST):
        found = await stepped(lab, after)
        changed, after = changed or found.changed > 0, found.next_after or ""
        if found.proven or (not after and not changed):
            return found
        changed = changed and bool(after)
    raise AssertionError(f"it never ends: {found}")


# --- random damage


@dataclass(frozen=True)
class Damage:
    """What happened to a file, where it counts from the line `which` on."""

    what: str
    which: int
    byte: int


damages = st.lists(
    st.builds(
        Damage,
        what=st.sampled_from(("drop", "garble", "insert", "append", "cut", "copy", "switch")),
        which=st.integers(0, 5),
        byte=st.integers(0, 127),
    ),
    max_size=4,
)
beginnings = st.sampled_from(("right", "wiped", "long ago"))


def file_of(kind: Kind, beginning: str) -> bytes:
    """How the file was before it was damaged further."""
    data = FOREIGN[kind.protocol] + b"\n"
    if beginning == "wiped":
        return data
    data = carried_out(data, plan_for(kind.daemon, data, LONG_AGO))
    return data if beginning == "long ago" else carried_out(data, plan_for(kind.daemon, data, WANTED))


def damaged(kind: Kind, data: bytes, damage: Damage) -> bytes:
    """The file after this, too."""
    width = kind.daemon.width
    places = sorted(kind.daemon.survey(data).slots.values())
    start = places[damage.which % len(places)] if places else len(data)
    slot = data[start : start + width]
    at = start + damage.byte % width
    match damage.what:
        case "drop":
            return data[:start] + kind.daemon.free_slot()[: len(slot)] + data[start + width :]
        case "garble":
            return data[:at] + b"x" + data[at + 1 :] if data[at : at + 1].isalnum() else data
        case "insert":
            return data[:start] + NEWCOMERS[kind.protocol] + data[start:]
        case "append":
            return data + b"\n" + NEWCOMERS[kind.protocol]
        case "cut":
            return data[:start]
        case "copy":
            return data + slot
        case _:
            return data.replace(b"disabled = 1", b"disabled = 0").replace(b"\n#: ", b"\nF: ")


@asynccontextmanager
async def one_lab(folder: Path, kind: Kind) -> AsyncGenerator[Lab]:
    async with AsyncExitStack() as stack:
        sshd = await stack.enter_async_context(run_sshd(folder / "sshd"))
        ledger = WholeLedger()
        yield await stack.enter_async_context(run_lab(kind.protocol, folder / "host", sshd, ledger=ledger))


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Several steps and batches for a handful of lines."""
    monkeypatch.setattr(activities.rebuild, "AT_ONCE", 2)
    monkeypatch.setattr(writing, "BATCH_LIMIT", 2)
    yield


async def check(lab: Lab, kind: Kind, beginning: str, what: Sequence[Damage]) -> None:
    """Damage the file, start the daemon anew, rebuild, and see that all is as it must be."""
    ledger = cast("WholeLedger", lab.ledger)
    ledger.knows(WANTED, behind=[BEHIND])
    data = file_of(kind, beginning)
    for each in what:
        data = damaged(kind, data, each)
    await lab.daemon.stop()
    lab.accounts.write_bytes(data)
    lab.daemon = lab.fresh_daemon()
    await lab.daemon.start()
    foreign = kind.daemon.survey(data).foreign

    found = await rebuilt(lab)

    after = lab.accounts.read_bytes()
    assert [each for each in kind.see(after) if each.user in foreign] == [
        each for each in kind.see(data) if each.user in foreign
    ]
    # What is not ours any more after this damage, and has the name of a line, is for a person.
    taken = foreign & {each.username for each in ledger.wanted.values()}
    assert {left.code for left in (*found.failed, *found.refused)} <= ({"RecordConflict"} if taken else set())
    assert found.proven or taken
    present = [each for each in ledger.wanted.values() if each.wanted is Wanted.PRESENT and each.username not in taken]
    # Who looks like ours and is in no ledger is reported by `drift check`, and left alone as well.
    ours = {each.username for each in ledger.wanted.values()} - taken
    served = {(each.user, each.password, each.mark) for each in kind.served(after) if each.user in ours}
    assert served == {(each.username, each.password, each.mark) for each in present}
    assert found.held == len(present)


def go(folder: Path, kind: Kind, examples: int) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        lab = runner.run(stack.enter_async_context(one_lab(folder, kind)))

        @settings(max_examples=examples, deadline=None)
        @given(beginning=beginnings, what=damages)
        def lives(beginning: str, what: list[Damage]) -> None:
            runner.run(check(lab, kind, beginning, what))

        try:
            lives()
        finally:
            runner.run(stack.aclose())


@pytest.mark.usefixtures("few_at_once")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_any_damage_is_repaired(folder: Path, kind: Kind) -> None:
    go(folder, kind, 8)


@pytest.mark.usefixtures("few_at_once")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
async def test_who_must_not_be_served_is_taken_off_in_the_first_step(folder: Path, kind: Kind) -> None:
    async with one_lab(folder, kind) as lab:
        cast("WholeLedger", lab.ledger).knows(WANTED)
        lab.accounts.write_bytes(file_of(kind, "long ago"))
        await lab.restart_daemon()

        first = await stepped(lab)

        assert (first.changed, first.still_to_come) == (2, 4)
        for shut in WANTED[3:5]:
            with pytest.raises(LoginRefused):
                await lab.login(shut.username, PASSWORD)
        assert (await rebuilt(lab)).proven


async def test_an_account_that_was_shut_in_the_daemons_own_pages_is_for_a_person(folder: Path) -> None:
    page = "/cccamclient?srvid=1&name=anna22&action="
    async with one_lab(folder, KINDS[0]) as lab:
        await lab.bring(lab.ledger.want("anna22", PASSWORD))
        await lab.page(f"{page}disable")
        found = await rebuilt(lab)
        assert (found.proven, found.held, found.failed) == (False, 0, ())
        assert [(left.code, left.lines, left.asks) for left in found.refused] == [(ACCOUNT_SHUT, 1, True)]
        await lab.page(f"{page}enable")
        assert (await rebuilt(lab)).proven


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.usefixtures("few_at_once")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_a_great_deal_of_damage_is_repaired(folder: Path, kind: Kind) -> None:
    go(folder, kind, 400)
