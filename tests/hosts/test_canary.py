"""The proof of a reload by a record that nobody can use: it harms nobody, and nothing of it stays."""

import asyncio
import re
from random import Random

import pytest

from tests.hosts.conftest import PROTOCOLS
from tests.hosts.files import PASSWORD, carried_out, every_state, half, plan_for
from tests.hosts.judge import Kind, kind_of
from tests.hosts.lab import FOREIGN, Lab
from twinline.hosts import canary
from twinline.hosts.canary import LONG_AGO, ReloadNotProven, prove_reload
from twinline.hosts.daemon import CANARY, USERNAME
from twinline.hosts.errors import Fenced, NotProven, RecordConflict
from twinline.hosts.ports import Half, Wanted
from twinline.ledger.rules import new_username
from twinline.messages import Protocol
from twinline.sandbox.receiver import LoginRefused

NAMES = ("ash22222222", "rosewood22")


class Killed(BaseException):
    """What nothing of ours catches."""


def foreign_part(lab: Lab) -> bytes:
    return lab.accounts.read_bytes()[: len(FOREIGN[lab.host.protocol])]


async def told_of(lab: Lab, name: str) -> str:
    """What the daemon's own page says of one account."""
    if lab.host.protocol == "multics":
        return await lab.page(f"/cccamclient?srvid=1&name={name}&action=xml")
    return await lab.page(f"/oscamapi.html?part=userconfig&user={name}")


async def test_the_reload_is_proven_and_everything_is_as_before(lab: Lab) -> None:
    await lab.bring(lab.ledger.want(NAMES[0], PASSWORD))
    before, inode = kind_of(lab.host.protocol).see(lab.accounts.read_bytes()), lab.accounts.stat().st_ino
    async with await lab.login("oldtom", "tompass1") as neighbour, await lab.login(NAMES[0], PASSWORD) as customer:
        proof = await prove_reload(lab.host, lab.ledger)
        await neighbour.ping()
        await customer.ping()

    assert proof.seen > 0 < proof.gone
    assert kind_of(lab.host.protocol).see(lab.accounts.read_bytes()) == before
    assert CANARY.encode() not in lab.accounts.read_bytes()
    assert CANARY not in await told_of(lab, CANARY)
    assert lab.accounts.stat().st_ino == inode
    assert foreign_part(lab) == FOREIGN[lab.host.protocol]
    assert not lab.ledger.failures


async def test_nobody_can_log_in_with_the_record_and_the_next_proof_takes_a_leftover_away(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> float:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(canary, "_taken_away", killed)
        with pytest.raises(Killed):
            await prove_reload(lab.host, lab.ledger)
    assert CANARY in await told_of(lab, CANARY)
    (left,) = [each for each in kind_of(lab.host.protocol).see(lab.accounts.read_bytes()) if each.user == CANARY]
    assert len(left.password) == 24
    while True:
        # MultiCS looks at end dates every ten seconds, by its own clock.
        try:
            async with await lab.login(CANARY, left.password):
                assert lab.host.protocol == "multics"
        except LoginRefused as refused:
            assert refused.reason
            break

    await prove_reload(lab.host, lab.ledger)

    assert CANARY.encode() not in lab.accounts.read_bytes()
    assert left.password.encode() not in lab.accounts.read_bytes()
    assert CANARY not in await told_of(lab, CANARY)


async def test_a_proof_that_is_interrupted_takes_its_record_away_first(lab: Lab) -> None:
    proving = asyncio.create_task(prove_reload(lab.host, lab.ledger))
    while CANARY.encode() not in lab.accounts.read_bytes():
        await lab.tell(do="stats")
    proving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await proving
    assert CANARY.encode() not in lab.accounts.read_bytes()


async def test_a_daemon_that_ignores_reloads_is_told_and_nothing_is_left(
    oscam: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinline.hosts.factory.OSCAM_DEADLINE", 0.05)
    await oscam.tell(do="ignore_reloads", on=True)
    with pytest.raises(ReloadNotProven) as caught:
        await prove_reload(oscam.host, oscam.ledger)
    await oscam.tell(do="ignore_reloads", on=False)
    assert isinstance(caught.value.cause, NotProven)
    assert not caught.value.left
    assert CANARY.encode() not in oscam.accounts.read_bytes()


async def test_a_daemon_that_loads_nothing_after_the_record_still_has_it_and_that_is_told(
    oscam: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinline.hosts.factory.OSCAM_DEADLINE", 0.05)
    taken_away = canary._taken_away  # pyright: ignore[reportPrivateUsage]

    async def deaf(*words: object) -> object:
        await oscam.tell(do="ignore_reloads", on=True)
        return await taken_away(*words)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(canary, "_taken_away", deaf)
    with pytest.raises(ReloadNotProven) as caught:
        await prove_reload(oscam.host, oscam.ledger)
    await oscam.tell(do="ignore_reloads", on=False)
    assert isinstance(caught.value.cause, NotProven)
    assert caught.value.left


async def test_a_foreign_record_of_that_name_is_left_alone(lab: Lab) -> None:
    record = (
        f"\nF: {CANARY} theirs1\n"
        if lab.host.protocol == "multics"
        else f"[account]\nuser = {CANARY}\npwd = theirs1\ngroup = 1\n"
    )
    before = lab.accounts.read_bytes() + record.encode()
    lab.accounts.write_bytes(before)
    with pytest.raises(ReloadNotProven) as caught:
        await prove_reload(lab.host, lab.ledger)
    assert isinstance(caught.value.cause, RecordConflict)
    assert lab.accounts.read_bytes().startswith(before)


async def test_orders_go_on_beside_a_proof(lab: Lab) -> None:
    async def order(number: int) -> None:
        wanted = lab.ledger.want(f"birch2222{number}", PASSWORD)
        while True:
            try:
                await lab.bring(wanted)
            except Fenced:
                # The proof has overtaken the worker, which tries again.
                continue
            return

    await asyncio.gather(prove_reload(lab.host, lab.ledger), *(order(number) for number in range(2, 8)))
    seen = [each.user for each in kind_of(lab.host.protocol).served(lab.accounts.read_bytes())]
    assert sorted(seen) == sorted(["oldtom", "oldeve", *(f"birch2222{number}" for number in range(2, 8))])


# --- byte for byte


def states(kind: Kind, data: bytes, *halves: Half) -> list[bytes]:
    """Every state of the file while the record comes and goes."""
    found: list[bytes] = []
    for each in halves:
        plan = plan_for(kind.daemon.canary(), data, [each])
        found += every_state(data, plan)
        data = carried_out(data, plan)
    return [*found, data]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_at_no_byte_is_anybody_served_by_it_or_without_their_own(protocol: Protocol) -> None:
    kind = kind_of(protocol)
    data = carried_out(FOREIGN[protocol], plan_for(kind.daemon, FOREIGN[protocol], [half(NAMES[0]), half(NAMES[1])]))
    others = kind.served(data)
    come, again = half(CANARY, 1, ends_at=LONG_AGO), half(CANARY, 3, password="other56789abcdef", ends_at=LONG_AGO)
    gone = half(CANARY, 2, wanted=Wanted.ABSENT, ends_at=LONG_AGO)
    loaded = 0
    for state in states(kind, data, come, again, gone):
        served = kind.served(state)
        assert [each for each in served if each in others] == others
        for each in served:
            if each not in others:
                # MultiCS has no switch: what loads is the whole record, with its end in the past.
                assert (protocol, each.user, str(each.end)) == ("multics", CANARY, "2001-01-01")
        loaded += CANARY in [each.user for each in kind.see(state)]
    assert loaded
    assert CANARY.encode() not in states(kind, data, come, gone)[-1]


def test_no_line_can_have_its_name() -> None:
    assert re.fullmatch(USERNAME, CANARY)
    assert not CANARY[0].isalpha()
    assert all(new_username(Random(seed))[0].isalpha() for seed in range(500))  # noqa: S311 - not for a secret
