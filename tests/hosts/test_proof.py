"""Nothing is called proven that the running daemon does not hold, however right the file is."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.helper_process import helper, setup_for
from tests.hosts.judge import daemon_of, kind_of
from tests.hosts.lab import FAR, Lab, run_lab
from tests.support.sshd import Sshd
from twinline.hosts.errors import NotProven, StatusTrouble
from twinline.hosts.factory import daemon_for, helper_for
from twinline.hosts.helper_program import STATUS_CONNECTIONS, holds, load
from twinline.hosts.ports import Half, Wanted
from twinline.hosts.writer import PROOF_TRIES, HostWriter, checks_of
from twinline.sandbox import multics_pages, oscam_pages
from twinline.sandbox.multics_clients import UNMARKED, Mark, Roster
from twinline.sandbox.multics_parser import parse
from twinline.sandbox.oscam_parser import parse_users

NAME, PASSWORD, OTHER = "rosewood22", "pw23456789abcdef", "other56789abcdef"
HALF = Half(NAME, NAME, PASSWORD, Wanted.PRESENT, FAR, 2, "2-0badcafe")

# --- what the pages must show, case by case


def multics_proves(half: Half, record: str, *, marks: Mark = UNMARKED, server: int = 1) -> bool:
    """Whether MultiCS' pages, with this record loaded on this server, prove the half on server 1."""
    ports = "".join(f"CCCAM PORT: {12_000 + number}\n{record if number == server else ''}\n" for number in (1, 2))
    roster = Roster(parse("main", {"main": f"[P1]\n{ports}".encode()}.get))
    client = next(iter(roster.clients), None)
    view = multics_pages.View(roster, 0.0, 1.0)
    pages: dict[str, str] = {}
    checks = checks_of(daemon_of("multics"), half)
    for path in (check["path"] for check in checks):
        if path.startswith("/cccam?"):
            answer = multics_pages.json_list(view, roster.servers[0])
        elif client is None or server != 1:
            answer = None
        else:
            client.marks = marks
            answer = (multics_pages.client_xml if "action=xml" in path else multics_pages.client_page)(view, client)
        pages[path] = "" if answer is None else answer.body.decode("latin-1")
    return holds({"checks": checks}, pages)


def oscam_proves(half: Half, section: str) -> bool:
    """Whether OSCam's pages, with this section loaded, prove the half."""
    accounts = parse_users(f"[account]\nuser = {NAME}\n{section}".encode()).accounts if section else ()
    view = oscam_pages.View(accounts, [], 0.0, 1.0, time.time(), 0.0, readonly=False, hides_idle=False)
    checks = checks_of(daemon_of("oscam"), half)
    pages: dict[str, str] = {}
    for path in (check["path"] for check in checks):
        if "part=userstats" in path:
            answer = oscam_pages.userstats(view, NAME)
        elif accounts:
            answer = oscam_pages.userconfig(view, accounts[0])
        else:
            answer = oscam_pages.api_error(view, "user not exist")
        pages[path] = answer.body.decode("latin-1")
    return holds({"checks": checks}, pages)


@pytest.mark.parametrize("flags", range(8))
def test_multics_proves_a_line_only_with_its_mark_and_date_and_without_any_flag(flags: int) -> None:
    ends, marks = ("2031-05-06 14", "2031-05-06 13", "2031-05-07 14", "2030-05-06 14"), ("2-0badcafe", "1-0badcafe")
    for end, mark in product(ends, (*marks, "2-0badcaf", "12-0badcafe")):
        record = f"F: {NAME} {PASSWORD} 0 {{ enddate={end}; rev={mark} }}"
        right = end == ends[0] and mark == marks[0] and not flags
        assert multics_proves(HALF, record, marks=Mark(flags)) == right, record
    assert not multics_proves(HALF, f"F: {NAME} {PASSWORD} 0 {{ enddate={ends[0]} }}", marks=Mark(flags))
    assert not multics_proves(HALF, "", marks=Mark(flags))


@pytest.mark.parametrize("wanted", [Wanted.BLOCKED, Wanted.ABSENT])
@pytest.mark.parametrize("flags", range(8))
def test_multics_proves_an_absence_only_while_it_lists_nobody_of_that_name(wanted: Wanted, flags: int) -> None:
    gone = replace(HALF, wanted=wanted)
    for mark in ("1-0badcafe", "2-0badcafe"):
        record = f"F: {NAME} {PASSWORD} 0 {{ enddate=2031-05-06 14; rev={mark} }}"
        assert not multics_proves(gone, record, marks=Mark(flags))
    assert multics_proves(gone, "")
    assert multics_proves(gone, f"F: {NAME}2 {PASSWORD}")


def test_multics_proves_nothing_by_a_server_that_is_not_the_one_of_the_inventory() -> None:
    record = f"F: {NAME} {PASSWORD} 0 {{ enddate=2031-05-06 14; rev=2-0badcafe }}"
    assert multics_proves(HALF, record)
    assert not multics_proves(HALF, record, server=2)


def test_oscam_proves_a_line_only_with_its_mark_date_and_password_and_enabled() -> None:
    days, marks, passwords = ("2031-05-06", "2031-05-07"), ("2-0badcafe", "1-0badcafe"), (PASSWORD, OTHER, "")
    for end, mark, password, disabled in product(days, marks, passwords, (0, 1)):
        section = f"pwd = {password}\nexpdate = {end}\ndescription = {mark}\ndisabled = {disabled}\n"
        right = (end, mark, password, disabled) == (days[0], marks[0], PASSWORD, 0)
        assert oscam_proves(HALF, section) == right, section
    assert not oscam_proves(HALF, "")


@pytest.mark.parametrize("wanted", [Wanted.BLOCKED, Wanted.ABSENT])
def test_oscam_proves_an_absence_only_by_an_account_that_is_unknown_or_disabled(wanted: Wanted) -> None:
    gone = replace(HALF, wanted=wanted)
    assert oscam_proves(gone, "")
    assert oscam_proves(gone, "disabled = 1\n")
    assert not oscam_proves(gone, "expdate = 2020-01-01\n")


# --- a daemon that does not hold what the file says


@asynccontextmanager
async def impatient(lab: Lab, *, deadline: float = 0.05, **described: Any) -> AsyncGenerator[HostWriter]:
    """A writer that gives a proof up soon; `described` is what the inventory says otherwise of the host."""
    host = lab.host.model_copy(update=described)
    daemon = daemon_for(host)
    daemon.deadline = deadline
    writer = HostWriter(host.name, daemon=daemon, ledger=lab.ledger, start_helper=partial(helper_for, host))
    yield writer
    await writer.close()


async def refusals(writer: HostWriter, halves: Sequence[Half]) -> list[BaseException | None]:
    """Why each of these halves could not be brought about; None for one that was."""
    bringing = (writer.bring(half.line_id, half.revision) for half in halves)
    found = await asyncio.gather(*bringing, return_exceptions=True)
    return [each if isinstance(each, BaseException) else None for each in found]


async def test_a_daemon_that_ignores_its_reloads_proves_no_kind_of_change(lab: Lab) -> None:
    ledger = lab.ledger
    async with impatient(lab) as writer:
        for name in ("renewed22", "blocked22", "password22", "removed22"):
            ledger.want(name, PASSWORD)
        await asyncio.gather(*(writer.bring(name, 1) for name in ledger.wanted))
        await lab.tell(do="ignore_reloads", on=True)
        changes = [
            ledger.want("added2222", PASSWORD),
            ledger.change("renewed22", ends_at=FAR + timedelta(days=30)),
            ledger.change("blocked22", wanted=Wanted.BLOCKED),
            ledger.change("password22", password=OTHER),
            ledger.change("removed22", wanted=Wanted.ABSENT),
        ]

        found = await refusals(writer, changes)

        assert [type(each) for each in found] == [NotProven] * 5
        look_at = {"multics": "CCCAM PORT", "oscam": "httpreadonly"}[lab.host.protocol]
        assert all(isinstance(each, NotProven) and each.attention and look_at in each.hint for each in found)
        assert sorted(ledger.failures) == sorted((half.line_id, "NotProven") for half in changes)
        assert all(proven.revision == 1 for proven in ledger.known.values())
    await lab.tell(do="ignore_reloads", on=False)
    await asyncio.gather(*(lab.bring(change) for change in changes))


async def test_what_stays_unproven_costs_later_batches_one_reload_and_nobody_else_a_try(oscam: Lab) -> None:
    ledger = oscam.ledger
    await oscam.tell(do="ignore_reloads", on=True)
    async with impatient(oscam) as writer:

        async def reloads_for(*halves: Half) -> int:
            before = (await oscam.tell(do="stats"))["lost"]
            assert {type(each) for each in await refusals(writer, halves)} == {NotProven}
            return (await oscam.tell(do="stats"))["lost"] - before

        stuck = ledger.want(NAME, PASSWORD)
        assert await reloads_for(stuck) == PROOF_TRIES
        assert await reloads_for(stuck) == 1
        fresh = ledger.want("ash22222222", PASSWORD)
        assert await reloads_for(stuck, fresh) == PROOF_TRIES
        assert await reloads_for(stuck, fresh) == 1
        # Another change of the same line is another matter.
        assert await reloads_for(ledger.change(NAME, ends_at=FAR + timedelta(days=1))) == PROOF_TRIES


async def test_the_right_mark_with_another_password_is_no_proof_on_oscam(oscam: Lab) -> None:
    async with impatient(oscam) as writer:
        await writer.bring(oscam.ledger.want(NAME, PASSWORD).line_id, 1)
        change = oscam.ledger.change(NAME, password=OTHER)
        await oscam.tell(do="ignore_reloads", on=True)
        await oscam.page(f"/oscamapi.html?part=userconfig&action=Save&user={NAME}&description={change.mark}")

        assert [type(each) for each in await refusals(writer, [change])] == [NotProven]

    await oscam.tell(do="ignore_reloads", on=False)
    await oscam.bring(change)
    async with await oscam.login(NAME, OTHER):
        pass


async def test_a_line_that_somebody_disabled_in_multics_own_pages_is_not_proven(multics: Lab) -> None:
    async with impatient(multics) as writer:
        await writer.bring(multics.ledger.want(NAME, PASSWORD).line_id, 1)
        await multics.page(f"/cccamclient?srvid=1&name={NAME}&action=disable")
        change = multics.ledger.change(NAME, ends_at=FAR + timedelta(days=1))

        assert [type(each) for each in await refusals(writer, [change])] == [NotProven]

    await multics.page(f"/cccamclient?srvid=1&name={NAME}&action=enable")
    await multics.bring(change)


async def not_proven_where(lab: Lab, **described: Any) -> None:
    """With a host that the inventory describes otherwise than it is, neither an addition nor a block is proven."""
    await lab.bring(lab.ledger.want(NAME, PASSWORD))
    halves = [lab.ledger.change(NAME, wanted=Wanted.BLOCKED), lab.ledger.want("ash22222222", PASSWORD)]
    async with impatient(lab, state_dir=str(lab.folder / "another_state"), **described) as writer:
        assert [type(each) for each in await refusals(writer, halves)] == [NotProven] * 2


async def test_a_daemon_that_reads_another_file_proves_nothing(lab: Lab) -> None:
    other = lab.folder / "other"
    other.write_bytes(lab.accounts.read_bytes())
    await not_proven_where(lab, accounts_file=str(other))


async def test_another_server_of_multics_than_that_of_the_inventory_proves_nothing(multics: Lab) -> None:
    await not_proven_where(multics, server_id=2)


async def test_pages_that_refuse_our_password_prove_nothing_and_are_named(lab: Lab) -> None:
    gone = lab.ledger.want(NAME, PASSWORD, wanted=Wanted.ABSENT)
    async with impatient(lab, status=lab.host.status.model_copy(update={"user": "somebody"})) as writer:
        assert [type(each) for each in await refusals(writer, [gone])] == [StatusTrouble]


# --- a block is over when the session is gone


async def test_a_block_is_proven_on_oscam_only_when_the_session_is_gone(folder: Path, sshd: Sshd) -> None:
    async with run_lab("oscam", folder / "host", sshd, timescale=0.3) as lab:
        await lab.bring(lab.ledger.want(NAME, PASSWORD))
        session = await lab.login(NAME, PASSWORD)
        await lab.bring(lab.ledger.change(NAME, wanted=Wanted.BLOCKED))
        assert (await lab.tell(do="stats"))["sessions"] == []
        await session.closed.wait()


# --- how long a reload takes


async def test_a_flag_that_goes_late_does_not_pass_for_a_slow_reload(multics: Lab) -> None:
    """Else the next batch would wait twice that long: an expired account comes back up to ten seconds later."""

    def visible() -> float:
        return (load(str(multics.folder / "state" / "window")) or {"visible": known})["visible"]

    known = 0.0
    await multics.bring(multics.ledger.want(NAME, PASSWORD))
    await multics.page(f"/cccamclient?srvid=1&name={NAME}&action=disable")
    known = visible()
    async with impatient(multics, deadline=60.0) as writer:
        bringing = asyncio.create_task(writer.bring(multics.ledger.change(NAME).line_id, 2))
        async with asyncio.timeout(30):
            while (measured := visible()) == known:
                await multics.page("/")
        await multics.page(f"/cccamclient?srvid=1&name={NAME}&action=enable")
        await bringing
    assert visible() == measured


async def test_a_page_that_hangs_is_not_asked_for_every_line(folder: Path) -> None:
    asked: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: asked.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    accounts = folder / "accounts"
    accounts.write_bytes(b"")
    setup = setup_for(accounts, folder / "state", kind_of("multics"), status_url=f"http://127.0.0.1:{port}")
    probes = [
        {"id": str(number), "checks": [{"path": f"/{number}", "must": ["x"], "must_not": []}]} for number in range(99)
    ]
    async with helper(setup) as running:
        answer = await running.ask({"do": "probe", "token": [1, 1], "probes": probes, "deadline": 0.0, "trigger": None})
    assert answer["status_error"] == "unreachable"
    assert len(asked) <= 2 * STATUS_CONNECTIONS
    for writer in asked:
        writer.close()
    server.close()
