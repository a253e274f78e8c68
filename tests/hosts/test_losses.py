"""Accounts that the file has lost: written again before a reload drops them, or the host stops."""

import asyncio
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import pytest

from tests.hosts.lab import FOREIGN, Lab, MemoryLedger
from twinline.hosts import drift
from twinline.hosts import writer as writing
from twinline.hosts.errors import BlastGuard, RecordConflict, ShrunkenFile, StatusTrouble
from twinline.hosts.losses import FLOOR, Loss, loss
from twinline.hosts.ports import Batch, Half, Named, Proven, Wanted
from twinline.hosts.waiting import Waiters
from twinline.hosts.writer import HostWriter
from twinline.sandbox.receiver import LoginRefused, Receiver

PASSWORD = "pw23456789abcdef"
STRANGERS = [f"stranger{number:02}" for number in range(FLOOR + 1)]


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is in the middle of writing here, unless a test says so."""
    monkeypatch.setattr(writing, "SECOND_LOOK_SECONDS", 0.01)


def strangers(lab: Lab) -> bytes:
    """Further accounts of others."""
    if lab.host.protocol == "multics":
        return "".join(f"F: {name} tompass1\n" for name in STRANGERS).encode()
    return "".join(f"[account]\nuser = {name}\npwd = tompass1\ngroup = 1\n" for name in STRANGERS).encode()


async def served(lab: Lab, count: int) -> list[Half]:
    """Lines that the daemon holds."""
    halves = [lab.ledger.want(f"guest{number:02}", PASSWORD) for number in range(count)]
    await asyncio.gather(*(lab.bring(each) for each in halves))
    return halves


async def with_strangers(lab: Lab) -> bytes:
    """Add the accounts of others behind ours, have them loaded, and give the whole file."""
    with lab.accounts.open("ab") as file:
        file.write(strangers(lab))
    # The change makes the daemon load the file, and the writer see it.
    await lab.bring(lab.ledger.want("herald22", PASSWORD))
    return lab.accounts.read_bytes()


def put_unseen(lab: Lab, content: bytes) -> None:
    """Replace the file without a reload: MultiCS does not see a rename, OSCam sees nothing by itself."""
    fresh = lab.accounts.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.chmod(0o600)
    fresh.rename(lab.accounts)


async def all_there(*sessions: Receiver) -> None:
    for session in sessions:
        await session.ping()
        await session.leave()


class TestRule:
    """Names that the daemon serves and the file does not hold."""

    LINES: Mapping[str, Named] = {
        "anna22": Named("1", Wanted.PRESENT),
        "bert33": Named("2", Wanted.BLOCKED),
        "carl44": Named("3", Wanted.ABSENT),
    }

    def test_only_what_must_be_served_is_a_loss(self) -> None:
        found = loss({"tom", "eve", *self.LINES}, served=10, lines=self.LINES, others=None)
        assert (found.lines, found.others) == ({"1"}, {"tom", "eve"})

    def test_where_accounts_stand_elsewhere_too_only_those_known_from_the_file_are_lost(self) -> None:
        found = loss({"tom", "eve", *self.LINES}, served=10, lines=self.LINES, others={"eve", "max"})
        assert (found.lines, found.others) == ({"1"}, {"eve"})

    @pytest.mark.parametrize(("count", "allowed"), [(100, 20), (419, 20), (420, 21), (5_000, 250)])
    def test_twenty_or_one_in_twenty_may_go(self, count: int, allowed: int) -> None:
        names = frozenset(str(number) for number in range(allowed))
        assert not Loss(lines=names, served=count).too_great
        assert not Loss(others=names, served=count).too_great
        assert Loss(lines=names, others=frozenset({"one more"}), served=count).too_great


async def test_who_wants_a_line_written_again_is_not_served_by_an_old_proof() -> None:
    waiters = Waiters()
    old, again = waiters.add("1", 2), waiters.add("1", 0, afresh=True)
    waiters.answer(Proven("1", 2, Wanted.PRESENT), afresh=False)
    assert (old.done(), again.done(), waiters.afresh()) == (True, False, {"1"})
    waiters.answer(Proven("1", 2, Wanted.PRESENT), afresh=True)
    assert again.done()
    assert not waiters


async def test_an_old_file_is_repaired_at_the_same_revisions_and_nobody_else_is_dropped(lab: Lab) -> None:
    halves = await served(lab, 4)
    old = lab.accounts.read_bytes()
    ledger = lab.ledger
    await lab.bring(ledger.change("guest00", wanted=Wanted.ABSENT))
    await lab.bring(ledger.change("guest01", wanted=Wanted.BLOCKED))
    await lab.bring(ledger.change("guest02", password="new3456789abcdef"))
    fresh = ledger.want("ash22222222", PASSWORD)
    await lab.bring(fresh)
    proven = dict(ledger.known)
    tom = await lab.login("oldtom", "tompass1")
    same = await lab.login("guest03", PASSWORD)
    lab.accounts.write_bytes(old)

    outcome = await lab.writer.restore([half.line_id for half in [*halves, fresh]])

    assert set(outcome.values()) == {None}
    assert ledger.known == proven
    assert ledger.failures == []
    await all_there(
        tom, same, await lab.login("guest02", "new3456789abcdef"), await lab.login(fresh.username, PASSWORD)
    )
    for gone in ("guest00", "guest01"):
        with pytest.raises(LoginRefused):
            await lab.login(gone, PASSWORD)


async def test_a_block_that_comes_while_many_lines_are_written_again_does_not_wait_for_them(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "BATCH_LIMIT", 3)
    ledger, opened = lab.ledger, asyncio.Event()

    async def open_batch(host: str, limit: int, also: AbstractSet[str] = frozenset()) -> Batch:
        batch = await MemoryLedger.open_batch(ledger, host, limit, also)
        opened.set()
        return batch

    monkeypatch.setattr(ledger, "open_batch", open_batch)
    halves = [ledger.want(f"guest{number:02}", PASSWORD) for number in range(15)]
    ledger.known |= {each.line_id: Proven(each.line_id, each.revision, each.wanted) for each in halves}
    restoring = asyncio.create_task(lab.writer.restore([each.line_id for each in halves]))
    await opened.wait()

    await lab.bring(ledger.change(halves[-1].username, wanted=Wanted.BLOCKED))

    assert not restoring.done()
    assert len(ledger.batches) <= 3
    with pytest.raises(LoginRefused):
        await lab.login(halves[-1].username, PASSWORD)
    assert set((await restoring).values()) == {None}
    assert max(ledger.batches) <= 4
    await all_there(*[await lab.login(each.username, PASSWORD) for each in halves[:-1]])
    with pytest.raises(LoginRefused):
        await lab.login(halves[-1].username, PASSWORD)


async def test_a_line_that_an_old_date_has_ended_is_opened_again(multics: Lab) -> None:
    (half,) = await served(multics, 1)
    right = multics.accounts.read_bytes()
    session = await multics.login("guest00", PASSWORD)
    old = re.sub(rb"enddate=\d{4}", b"enddate=2001", right[right.index(b"F: guest00") :])
    while not (await multics.tell(do="stats"))["armed"]:
        pass
    multics.accounts.write_bytes(right[: right.index(b"F: guest00")] + old)
    await session.closed.wait()
    put_unseen(multics, right)
    look = await multics.writer.look([half])
    (found,) = drift.compare(multics.writer.daemon, [drift.Expected(half, behind=False)], look).lines
    assert (found.kinds, found.repaired) == ((drift.Kind.LOADED_OTHERWISE,), True)

    assert await multics.writer.restore([half.line_id]) == {half.line_id: None}

    await all_there(await multics.login("guest00", PASSWORD))


async def test_a_line_that_cannot_be_restored_stops_no_other(lab: Lab) -> None:
    first, second = await served(lab, 2)
    spoilt = {"multics": b"F: guest00 handmade1\n", "oscam": b"[account]\nuser = guest00\npwd = handmade1\n"}
    lab.accounts.write_bytes(FOREIGN[lab.host.protocol] + b"\n" + spoilt[lab.host.protocol])

    outcome = await lab.writer.restore([first.line_id, second.line_id])

    assert isinstance(outcome[first.line_id], RecordConflict)
    assert outcome[second.line_id] is None


async def test_what_the_file_lost_is_written_again_before_another_lines_reload_drops_it(lab: Lab) -> None:
    await served(lab, 3)
    session, tom = await lab.login("guest01", PASSWORD), await lab.login("oldtom", "tompass1")
    put_unseen(lab, FOREIGN[lab.host.protocol] + b"\n")

    await lab.bring(lab.ledger.want("ash22222222", PASSWORD))

    assert lab.ledger.batches[-1] == 4
    await all_there(session, tom, await lab.login("ash22222222", PASSWORD))


async def test_a_file_that_shrank_stops_the_host_before_a_reload_until_it_is_put_back(lab: Lab) -> None:
    await served(lab, 3)
    whole = await with_strangers(lab)
    sessions = [await lab.login(name, "tompass1") for name in ("oldtom", STRANGERS[0], STRANGERS[-1])]
    sessions.append(await lab.login("guest01", PASSWORD))
    shrunken = whole.replace(strangers(lab), b"")
    put_unseen(lab, shrunken)
    blocked = lab.ledger.change("guest00", wanted=Wanted.BLOCKED)

    for each in (blocked, lab.ledger.want("ash22222222", PASSWORD)):
        with pytest.raises(ShrunkenFile, match=f"lacks {len(STRANGERS)} of the"):
            await lab.bring(each)
    with pytest.raises(ShrunkenFile):
        await lab.writer.look()

    assert lab.accounts.read_bytes() == shrunken
    for session in sessions:
        await session.ping()
    put_unseen(lab, whole)
    await lab.bring(blocked)
    await all_there(*sessions)


async def test_a_loss_that_somebody_accepts_is_accepted_once(lab: Lab) -> None:
    await served(lab, 2)
    whole = await with_strangers(lab)
    stranger, guest = await lab.login(STRANGERS[0], "tompass1"), await lab.login("guest01", PASSWORD)
    put_unseen(lab, FOREIGN[lab.host.protocol] + b"\n")
    again = lab.ledger.want("ash22222222", PASSWORD)

    with lab.writer.accepting_losses():
        await lab.bring(again)

    await stranger.closed.wait()
    await all_there(guest)
    put_unseen(lab, whole)
    await lab.bring(lab.ledger.change("guest00", wanted=Wanted.BLOCKED))
    put_unseen(lab, FOREIGN[lab.host.protocol] + b"\n")
    with pytest.raises(ShrunkenFile):
        await lab.bring(lab.ledger.change("guest00", wanted=Wanted.PRESENT))


async def test_the_loss_of_others_is_noticed_by_a_worker_that_never_saw_them(multics: Lab) -> None:
    lab = multics
    await served(lab, 1)
    whole = await with_strangers(lab)
    await lab.writer.close()
    put_unseen(lab, whole.replace(strangers(lab), b""))
    fresh = lab.another_writer()

    with pytest.raises(ShrunkenFile):
        await fresh.bring(lab.ledger.want("ash22222222", PASSWORD).line_id, 1)

    await fresh.close()


async def test_accounts_that_stand_in_other_files_of_multics_are_no_loss(multics: Lab) -> None:
    main = multics.folder / "multics.cfg"
    text = main.read_text()
    main.write_text(text.replace("[P1]", strangers(multics).decode() + "[P1]"))
    await served(multics, 1)
    async with await multics.login(STRANGERS[0], "tompass1") as stranger:
        await stranger.ping()
    # The picture is made anew from a file that never held them.
    await multics.writer.close()
    await multics.bring(multics.ledger.want("ash22222222", PASSWORD))


async def test_a_file_that_is_being_written_just_now_is_looked_at_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served(lab, 1)
    whole = await with_strangers(lab)
    put_unseen(lab, b"")
    looks: list[Loss] = []

    def judged(
        missing: AbstractSet[str], *, served: int, lines: Mapping[str, Named], others: AbstractSet[str] | None
    ) -> Loss:
        looks.append(loss(missing, served=served, lines=lines, others=others))
        if len(looks) == 1:
            put_unseen(lab, whole)
        return looks[-1]

    monkeypatch.setattr(writing, "loss", judged)
    await lab.bring(lab.ledger.want("ash22222222", PASSWORD))
    assert [each.too_great for each in looks[:2]] == [True, False]


async def test_whom_the_blast_guard_holds_back_hears_it_and_everybody_else_goes_on(lab: Lab) -> None:
    await served(lab, 2)
    ledger = lab.ledger
    held = ledger.change("guest00", wanted=Wanted.ABSENT)
    ledger.withheld = frozenset({held.line_id})
    session = await lab.login("guest00", PASSWORD)

    outcomes = await asyncio.gather(
        lab.bring(held),
        lab.bring(ledger.change("guest01", wanted=Wanted.BLOCKED)),
        lab.bring(ledger.want("ash22222222", PASSWORD)),
        return_exceptions=True,
    )

    assert [type(outcome).__name__ for outcome in outcomes] == ["BlastGuard", "Proven", "Proven"]
    assert isinstance(outcomes[0], BlastGuard)
    assert ledger.failures == [(held.line_id, "BlastGuard")]
    await session.ping()
    # Once the ledger is put right, it goes on.
    ledger.withheld = frozenset()
    await lab.bring(held)
    await session.closed.wait()


async def test_a_daemon_that_is_away_is_written_to_as_ever(multics: Lab) -> None:
    lab = multics
    await served(lab, 1)
    await lab.writer.close()
    await lab.daemon.stop()
    writer: HostWriter = lab.another_writer(deadline=0.05)
    with pytest.raises(StatusTrouble):
        await writer.bring(lab.ledger.want("ash22222222", PASSWORD).line_id, 1)
    assert b"ash22222222" in lab.accounts.read_bytes()
    await writer.close()
    await lab.daemon.start()
