"""Stop and ask, through the command line: what is stuck is listed and explained, asked for again, or given up."""

import re
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio

from starter.attention import Untaken
from starter.cli.orders_stuck import late_in_words, untaken_in_words
from tests.cli.conftest import Cli, Said
from twinline.ledger.stuck import LateHost
from twinline.sandbox.mailcatcher import CaughtMail
from twinline.sandbox.world import World

MULTICS, OSCAM = "mc-eu1", "os-eu1"


@contextmanager
def wrong_host_key(world: World, host: str) -> Generator[None]:
    """Trust another box's key for this host."""
    file = world.folder / "known_hosts"
    trusted = file.read_text()
    port = f":{world.box(host).port} "
    lines = trusted.splitlines(keepends=True)
    other = next(line for line in lines if port not in line).split(" ", 1)[1]
    file.write_text("".join(f"{line.split(' ')[0]} {other}" if port in line else line for line in lines))
    world.box(host).drop_connections()
    try:
        yield
    finally:
        file.write_text(trusted)


@contextmanager
def foreign_record(world: World, line: str) -> Generator[None]:
    """Have somebody else write an account of this name to the OSCam host, beside ours if there is one."""
    accounts = world.site(OSCAM).accounts_file
    section = f"\n[account]\nuser = {line}\npwd = somebodys\ngroup = 1\n".encode()
    with accounts.open("ab") as file:
        file.write(section)
    try:
        yield
    finally:
        accounts.write_bytes(accounts.read_bytes().replace(section, b""))


def state_of(said: Said, host: str) -> tuple[str, str | None]:
    """How a half stands on a receipt."""
    (half,) = [half for half in said.json["halves"] if half["host"] == host]
    return half["state"], half["last_error"]


async def stuck(cli: Cli, reason: str, *words: str) -> dict[str, Any]:
    """Place an order, and give the half that waits for a person once it does so for this reason."""
    said = await cli(*words, "--no-wait", "--json")
    assert said.code == 5, said.out
    while True:
        halves = (await cli("order", "list", "--stuck", "--json")).json["halves"]
        for half in halves:
            if half["reason"] == reason and words[words.index("--order" if "--order" in words else "--case") + 1] in (
                order["order"] for order in half["orders"]
            ):
                return half


def sent_to(world: World, address: str) -> list[CaughtMail]:
    return [mail for mail in world.mails if address in str(mail.message["To"])]


@pytest_asyncio.fixture
async def nothing_stuck(cli: Cli) -> AsyncIterator[None]:
    """Each test leaves nothing behind that waits for a person."""
    yield
    listed = await cli("order", "list", "--stuck", "--json")
    nothing: dict[str, object] = {"halves": [], "hosts": [], "others": [], "late": [], "explained": []}
    assert listed.json == {**nothing, "untaken": None, "temporal": "ok"}


async def test_a_stuck_half_is_told_asked_for_and_mailed(cli: Cli, world: World, nothing_stuck: None) -> None:
    with wrong_host_key(world, OSCAM):
        half = await stuck(cli, "HostKeyMismatch", "trial", "stuck@example.com", "--region", "eu", "--order", "S-1")
        assert (half["host"], half["of_the_host"]) == (OSCAM, True)
        line = half["username"]
        await world.mail_catcher.wait_for(lambda mail: "stuck@example.com" in str(mail.message["To"]))
        again = await cli("order", "retry", "S-1", "--json")
        assert (again.code, state_of(again, OSCAM)) == (5, ("failing", "HostKeyMismatch"))

    with foreign_record(world, line):
        # Its host is well again, and now a person has to look at its record there.
        conflict = await cli("order", "retry", "S-1", "--json")
        assert (conflict.code, state_of(conflict, OSCAM)) == (5, ("failing", "RecordConflict"))
        (half,) = (await cli("order", "list", "--stuck", "--json")).json["halves"]
        assert (half["reason"], half["of_the_host"]) == ("RecordConflict", False)
        assert [order["workflow_id"] for order in half["orders"]] == ["trial/cli/S-1"]
        listed = await cli("order", "list", "--stuck")
        assert "trial S-1" in listed.out
        assert "remove or rename the foreign record on the host" in listed.out
        shown = await cli("order", "show", "S-1")
        assert shown.code == 5
        assert "RecordConflict: the accounts file holds a record of this username" in shown.out
        assert "os-eu1 waits for a person: repair what is said above, then `twinline order retry S-1`" in shown.out
        assert f"`twinline order retry --line {line}`" in (await cli("line", "show", line)).out
        # Nobody else waits for it.
        other = await cli("trial", "free@example.com", "--region", "eu", "--order", "S-2", "--json")
        assert other.code == 0

    done = await cli("order", "retry", "S-1", "--actor", "olga", "--json")

    assert (done.code, state_of(done, OSCAM)) == (0, ("applied", None))
    assert done.json["mail"]["kind"] == "second_half"
    first, second = sent_to(world, "stuck@example.com")
    assert "another" not in str(first.message) + str(second.message)
    password = (await cli("line", "show", line, "--reveal", "--json")).json["password"]
    async with await world.receiver(OSCAM, line, password) as receiver:
        await receiver.ping()


async def test_a_block_overtakes_a_renewal_that_is_stuck_and_all_of_a_line_is_asked_for_at_once(
    cli: Cli, world: World, line: str, nothing_stuck: None
) -> None:
    accounts = world.site(OSCAM).accounts_file
    ours = accounts.read_bytes()
    foreign = f"[account]\nuser = {line}\npwd = somebodys\ngroup = 1\n".encode()
    accounts.write_bytes(foreign)
    try:
        await stuck(cli, "RecordConflict", "renew", line, "--days", "1", "--order", "S-3")
        # Tried at once, although the renewal waits.
        half = await stuck(cli, "RecordConflict", "block", line, "--case", "S-4", "--reason", "a test")
        assert [order["order"] for order in half["orders"]] == ["S-3", "S-4"]
    finally:
        accounts.write_bytes(ours)

    asked = await cli("order", "retry", "--line", line, "--json")

    assert asked.code == 0
    assert {one["workflow_id"].split("/")[0] for one in asked.json["workflows"]} == {"renewal", "block"}
    for order, kind in (("S-3", "renewal"), ("S-4", "block")):
        assert (await cli("order", "show", order, "--kind", kind, "--json")).json["halves"][1]["state"] == "removed"
    assert (await cli("unblock", line, "--case", "S-4", "--json")).code == 0


async def test_everything_that_a_host_stopped_is_asked_for_at_once(
    cli: Cli, world: World, line: str, nothing_stuck: None
) -> None:
    with wrong_host_key(world, OSCAM):
        for number in (5, 6):
            await stuck(cli, "HostKeyMismatch", "renew", line, "--days", "1", "--order", f"S-{number}")
    nobody = await cli("order", "retry", "--all-stuck", "--host", MULTICS, "--json")
    assert (nobody.code, nobody.json) == (0, {"workflows": [], "reconcile": []})

    asked = await cli("order", "retry", "--all-stuck", "--host", OSCAM)

    assert asked.code == 0
    assert "renewal/cli/S-5" in asked.out
    assert "renewal/cli/S-6" in asked.out


async def test_an_order_whose_half_went_along_with_another_one_is_asked_for_too(
    cli: Cli, world: World, line: str, nothing_stuck: None
) -> None:
    with wrong_host_key(world, OSCAM):
        await stuck(cli, "HostKeyMismatch", "renew", line, "--days", "1", "--order", "S-10")
    assert (await cli("renew", line, "--days", "1", "--order", "S-11", "--json")).code == 0
    listed = await cli("order", "list", "--stuck", "--json")
    assert listed.json["halves"] == []
    assert "renewal/cli/S-10" in {other["workflow_id"] for other in listed.json["others"]}

    asked = await cli("order", "retry", "--all-stuck", "--json")

    assert "renewal/cli/S-10" in {one["workflow_id"] for one in asked.json["workflows"]}
    shown = await cli("order", "show", "S-10", "--json")
    assert (shown.code, state_of(shown, OSCAM)) == (0, ("applied", None))


async def test_a_half_that_is_given_up_lets_the_order_end_and_stays_on_the_list_until_repaired(
    cli: Cli, world: World, line: str, nothing_stuck: None
) -> None:
    box = world.box(OSCAM)
    await box.refuse(on=True)
    box.drop_connections()
    try:
        assert (await cli("renew", line, "--days", "1", "--order", "S-7", "--no-wait")).code == 5
        while state_of(await cli("order", "show", "S-7", "--json"), OSCAM)[1] != "HostUnreachable":
            pass
        listed = await cli("order", "list", "--stuck", "--json")
        assert (listed.json["halves"], listed.json["hosts"], listed.json["others"]) == ([], [], [])
        (late,) = listed.json["late"]
        assert (late["host"], late["reason"], late["halves"]) == (OSCAM, "HostUnreachable", 1)
        assert [order["order"] for order in late["orders"]] == ["S-7"]
        assert [each["code"] for each in listed.json["explained"]] == ["HostUnreachable"]
        listed = await cli("order", "list", "--stuck")
        nobody, _, first, *others = listed.out.splitlines()
        assert (listed.code, nobody) == (0, "Nothing waits for a person. These go on by themselves:")
        assert first.startswith("Nothing gets through to os-eu1 since 20")
        assert first.endswith(" s). 1 half waits for it: renewal S-7.")
        assert "HostUnreachable: no SSH connection to the host" in others[0]
        assert others[-1] == (
            "  To let an order end without this host: `twinline order abandon S-7 --host os-eu1 --reason TEXT`"
        )
        assert (await cli("order", "list", "--stuck", "--line", "nobody99", "--json")).json["late"] == []
        assert (await cli("order", "list", "--stuck", "--host", MULTICS)).err == "Nothing waits for a person.\n"
        words = ("order", "abandon", "S-7", "--host", OSCAM, "--reason", "the box is away")
        asked = await cli(*words)
        assert asked.code == 2
        assert "Give up the half on os-eu1, and let S-7 end without it?" in asked.err
        given_up = await cli(*words, "--yes", "--json")
        assert (given_up.code, state_of(given_up, OSCAM)) == (5, ("abandoned", "HostUnreachable"))
        shown = await cli("order", "show", "S-7")
        assert shown.code == 5
        assert "mc-eu1 serves the line; os-eu1 was abandoned" in shown.out
        assert "given up (HostUnreachable)" in (await cli("order", "list", "--stuck")).out
    finally:
        await box.refuse(on=False)
    renewed = await cli("renew", line, "--days", "1", "--order", "S-8", "--json")
    assert (renewed.code, state_of(renewed, OSCAM)) == (0, ("applied", None))
    shown = await cli("order", "show", "S-7")
    repaired, changed = shown.err.splitlines()
    assert (shown.code, repaired) == (5, "Since then os-eu1 was brought in step again: it is applied.")
    assert changed.startswith("So it stood when the order ended")
    renewal = ("renew", line, "--days", "1", "--order", "S-8")
    assert (await cli(*renewal)).err == "", "nothing has come after it"
    await cli("renew", line, "--days", "1", "--order", "S-8b")
    again = await cli(*renewal)
    assert again.code == 0
    assert "Both halves serve the line" in again.out
    assert re.search(r"The line has changed since: `twinline line show \w+` tells how it stands", again.err)


async def test_what_makes_no_sense_is_refused_in_words(cli: Cli, line: str) -> None:
    for words, code, kind in (
        (("order", "retry"), 2, "InvalidOrder"),
        (("order", "retry", "S-1", "--all-stuck"), 2, "InvalidOrder"),
        (("order", "retry", "S-1", "--host", OSCAM), 2, "InvalidOrder"),
        (("order", "retry", "no-such-order"), 3, "UnknownOrder"),
        (("order", "retry", "--line", "nobody99"), 3, "UnknownLine"),
        (("order", "retry", "--all-stuck", "--host", "os-eu9"), 3, "UnknownHost"),
        (("order", "list", "--stuck", "--host", "os-eu9"), 3, "UnknownHost"),
        (("order", "retry", "--line", line), 4, "NothingToRetry"),
        (("order", "retry", "the-line", "--actor", "Olga B."), 2, "InvalidOrder"),
        (("order", "abandon", "the-line", "--host", OSCAM, "--reason", "x", "--yes"), 4, "NothingToRetry"),
        (("order", "abandon", "the-line", "--host", OSCAM, "--reason", "a@b.c", "--yes"), 2, "InvalidOrder"),
    ):
        said = await cli(*words, "--json")
        assert (said.code, said.json["type"]) == (code, kind), words
        assert "a@b.c" not in said.out + said.err
    for words in (
        ("order", "list", "--host", OSCAM),
        ("order", "list", "--stuck", "--kind", "trial"),
        ("order", "abandon", "--host", OSCAM, "--reason", "x"),
    ):
        assert (await cli(*words)).code == 2
    # An order that is done is shown as it is.
    done = await cli("order", "retry", "the-line", "--json")
    assert (done.code, done.json["order"]) == (0, "the-line")


@contextmanager
def wrong_clock(world: World, host: str, seconds: float) -> Generator[None]:
    """Set a box's clock so far ahead."""
    box = world.box(host)
    box.clock_ahead = seconds
    box.drop_connections()
    try:
        yield
    finally:
        box.clock_ahead = 0.0
        box.drop_connections()


async def test_a_host_whose_clock_is_off_lets_nobody_in_and_says_what_to_do(
    cli: Cli, world: World, line: str, nothing_stuck: None
) -> None:
    with wrong_clock(world, OSCAM, 600):
        half = await stuck(cli, "ClocksApart", "renew", line, "--days", "1", "--order", "S-9")
        assert (half["host"], half["of_the_host"]) == (OSCAM, True)
        listed = await cli("order", "list", "--stuck")
        assert "ClocksApart: the clocks of the host and of the ledger are more than two minutes apart" in listed.out
        assert "set the host's clock" in listed.out
        shown = await cli("order", "show", "S-9")
        assert "ClocksApart: the clocks of the host and of the ledger" in shown.out
        assert "os-eu1 waits for a person" in shown.out
        checked = await cli("host", "check", OSCAM)
        assert checked.code == 4
        assert "10 min ahead of ours" in checked.out or "600 s ahead of ours" in checked.out
        again = await cli("order", "retry", "S-9", "--json")
        assert (again.code, state_of(again, OSCAM)) == (5, ("failing", "ClocksApart"))
        # A block goes through, with all that came before it, and the host still asks.
        blocked = await cli("block", line, "--case", "S-10", "--reason", "a test", "--json")
        assert (blocked.code, state_of(blocked, OSCAM)) == (0, ("removed", None))
        assert (await cli("order", "retry", "S-9", "--json")).code == 0
        (host,) = (await cli("order", "list", "--stuck", "--json")).json["hosts"]
        assert (host["host"], host["reason"]) == (OSCAM, "ClocksApart")
        assert "nobody yet" in (await cli("order", "list", "--stuck")).out

    lifted = await cli("unblock", line, "--case", "S-10", "--json")
    assert (lifted.code, state_of(lifted, OSCAM)) == (0, ("applied", None))


def test_of_a_host_that_nobody_asked_it_is_not_said_that_it_answers() -> None:
    now = datetime(2031, 5, 6, 12, 0, tzinfo=UTC)
    since = now - timedelta(minutes=5)
    late = LateHost(
        host=OSCAM,
        protocol="oscam",
        down_since=None,
        reason=None,
        halves=1,
        since=since,
        next_attempt=None,
        orders=(),
        terms=(),
    )
    assert late_in_words(late, now=now) == (
        "os-eu1 is behind since 2031-05-06 11:55 UTC (5 min). 1 half waits for it: no order, but Reconcile."
    )
    down = late.model_copy(update={"down_since": since, "halves": 0, "since": None})
    assert late_in_words(down, now=now) == (
        "Nothing gets through to os-eu1 since 2031-05-06 11:55 UTC (5 min). Nothing waits for it yet."
    )


def test_orders_that_no_worker_takes_are_told_with_what_to_do() -> None:
    now = datetime(2031, 5, 6, 12, 0, tzinfo=UTC)
    since = now - timedelta(minutes=5)
    said, hint = untaken_in_words(Untaken(orders=2, since=since, workers=False), now=now)
    assert said.startswith("No worker takes orders. 2 orders stand in Temporal since 2031-05-06")
    assert hint.startswith("Start `twinline worker`.")
    said, hint = untaken_in_words(Untaken(orders=1, since=since, workers=True), now=now)
    assert said.startswith("1 order stands in Temporal since 2031-05-06")
    # A worker that was stopped a minute ago still counts as one that polls.
    assert "whether `twinline worker` still runs" in hint
    assert untaken_in_words(Untaken(orders=0, since=None, workers=False), now=now)[0] == "No worker takes orders."
