"""Orders through the command line, in a world with everything real but the daemons."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from tests.cli.conftest import Cli, Said
from twinline.hosts import factory
from twinline.sandbox.receiver import LoginRefused
from twinline.sandbox.world import World

RECEIPT = ["order", "kind", "line", "username", "plan", "ends_at", "blocks", "halves", "mail", "workflow_id"]
HALF = ["host", "protocol", "state", "revision", "attempts", "last_error", "next_attempt"]


def accounts(world: World) -> list[bytes]:
    """Every accounts file as it stands."""
    return [world.read_accounts(host.name) for host in world.inventory.hosts]


async def test_a_trial_prints_exactly_the_receipt_of_the_contract(cli: Cli) -> None:
    said = await cli("trial", "anna@example.com", "--region", "eu", "--order", "T-1", "--json")
    assert (said.code, said.err) == (0, "")
    receipt = said.json
    assert list(receipt) == RECEIPT
    assert [list(half) for half in receipt["halves"]] == [HALF, HALF]
    assert list(receipt["mail"]) == ["kind", "state", "message_id"]
    assert receipt["workflow_id"] == "trial/cli/T-1"
    assert [half["state"] for half in receipt["halves"]] == ["applied", "applied"]


async def test_the_same_order_again_is_the_same_line_and_says_so_in_words(cli: Cli, world: World) -> None:
    # A line of its own: what others do to theirs is told too.
    order = ("trial", "again@example.com", "--region", "eu", "--order", "T-again")
    line = (await cli(*order, "--json")).json["username"]
    before = accounts(world)
    said = await cli(*order)
    assert (said.code, said.err) == (0, "")
    assert line in said.out
    assert said.out.rstrip().endswith("Both halves serve the line; the mail was accepted.")
    assert accounts(world) == before


async def test_a_line_is_bought_blocked_renewed_and_unblocked(cli: Cli, line: str) -> None:
    bought = await cli("purchase", "--line", line, "--days", "30", "--order", "P-1", "--json")
    assert (bought.code, bought.json["plan"], bought.json["username"]) == (0, "paid", line)

    blocked = await cli("block", line, "--case", "AB-1", "--reason", "[b]shared[/b] with others")
    assert blocked.code == 0
    assert "[b]shared[/b] with others" in blocked.out
    assert "Both halves refuse the line (blocked by abuse); the mail was accepted." in blocked.out

    renewed = await cli("renew", line, "--days", "5", "--order", "R-1", "--json")
    assert renewed.code == 0
    assert [half["state"] for half in renewed.json["halves"]] == ["removed", "removed"]
    assert [block["case"] for block in renewed.json["blocks"]] == ["AB-1"]

    payment = await cli("unblock", line, "--case", "AB-1", "--owner", "payment", "--json")
    assert (payment.code, payment.json["type"]) == (3, "UnknownBlock")

    lifted = await cli("unblock", line, "--case", "AB-1", "--json")
    assert (lifted.code, lifted.json["blocks"]) == (0, [])
    assert [half["state"] for half in lifted.json["halves"]] == ["applied", "applied"]


async def test_a_password_is_changed_and_a_line_is_closed_for_good(cli: Cli, world: World) -> None:
    opened = await cli("trial", "gone@example.com", "--region", "eu", "--order", "T-gone", "--json")
    name = opened.json["username"]
    old = (await cli("line", "show", name, "--reveal", "--json")).json["password"]
    async with await world.receiver("mc-eu1", name, old) as multics, await world.receiver("os-eu1", name, old) as oscam:
        changed = await cli("password", name, "--order", "PW-1", "--json")
        assert (changed.code, changed.json["mail"]["kind"]) == (0, "password")
        await multics.closed.wait()
        await oscam.closed.wait()
    new = (await cli("line", "show", name, "--reveal", "--json")).json["password"]
    assert new not in changed.out
    async with await world.receiver("mc-eu1", name, new), await world.receiver("os-eu1", name, new):
        pass

    unasked = await cli("close", name, "--order", "C-1")
    assert (unasked.code, "add --yes" in unasked.err) == (2, True)
    closed = await cli("close", name, "--order", "C-1", "--yes")
    assert closed.code == 0
    assert "Both halves refuse the line; the mail was accepted." in closed.out
    for host in ("mc-eu1", "os-eu1"):
        with pytest.raises(LoginRefused):
            await world.receiver(host, name, new)
    refused = await cli("renew", name, "--days", "30", "--order", "R-gone", "--json")
    assert (refused.code, refused.json["type"]) == (4, "LineClosed")


async def test_a_new_customer_can_buy_at_once(cli: Cli) -> None:
    said = await cli(
        "purchase",
        "berta@example.com",
        "--region",
        "eu",
        "--days",
        "30",
        "--order",
        "P-2",
        "--caller",
        "shop",
        "--json",
    )
    assert (said.code, said.json["plan"], said.json["workflow_id"]) == (0, "paid", "purchase/shop/P-2")


REFUSED = {
    "unknown region": (
        ("trial", "emil@example.com", "--region", "mars", "--order", "X-1"),
        (3, "UnknownRegion", 'there is no region "mars"'),
    ),
    "full region": (
        ("trial", "emil@example.com", "--region", "us", "--order", "X-2"),
        (4, "RegionFull", "full"),
    ),
    "order id again with another body": (
        ("trial", "emil@example.com", "--region", "eu", "--order", "the-line"),
        (4, "OrderConflict", "used before for something else"),
    ),
    "order id again for another kind": (
        ("purchase", "emil@example.com", "--region", "eu", "--days", "30", "--order", "the-line"),
        (4, "OrderConflict", "used before for something else"),
    ),
    "renewal of an unknown line": (
        ("renew", "nobody99", "--days", "30", "--order", "X-5"),
        (3, "UnknownLine", 'there is no line "nobody99"'),
    ),
    "trial for an address that had one": (
        ("trial", "Line+again@example.com", "--region", "eu", "--order", "X-7"),
        (4, "TrialAlreadyUsed", "had a trial before"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_is_refused_with_a_sentence_and_leaves_nothing(
    cli: Cli, world: World, line: str, case: str
) -> None:
    words, (code, kind, sentence) = REFUSED[case]
    if case == "full region":
        filled = await cli("trial", "first.in.us@example.com", "--region", "us", "--order", "the-only-one")
        assert filled.code == 0
    files, orders = accounts(world), (await cli("order", "list", "--json")).json
    said = await cli(*words, "--json")
    assert said.code == code
    assert list(said.json) == ["type", "message", "hint", "retryable"]
    assert said.json["type"] == kind
    assert sentence in said.json["message"]
    assert said.json["hint"]
    assert "emil" not in said.out + said.err
    assert accounts(world) == files
    assert (await cli("order", "list", "--json")).json == orders


async def test_a_refused_order_tells_why_and_an_order_is_known_by_the_id_of_the_api_too(cli: Cli, line: str) -> None:
    for words in (("order", "show", "X-30"), ("order", "watch", "X-30")):
        await cli("trial", "emil@example.com", "--region", "mars", "--order", "X-30")
        said = await cli(*words, "--json")
        assert (said.code, said.json["type"]) == (3, "UnknownRegion")
    # Its id is free, and nothing of it can be taken back.
    for words in (("order", "show", "X-31"), ("order", "cancel", "X-30", "--reason", "x", "--yes")):
        assert (await cli(*words, "--json")).json["type"] == "UnknownOrder"
    blocked = await cli("block", line, "--case", "X-32", "--reason", "a test", "--json")
    assert (await cli("unblock", line, "--case", "X-32")).code == 0
    by_line = await cli("order", "show", "X-32", "--kind", "block", "--line", line, "--json")
    by_id = await cli("order", "show", blocked.json["workflow_id"].replace("/cli/", "~").replace("/", "~"), "--json")
    page = (
        f"{cli.env['TWINLINE_TEMPORAL_UI']}/namespaces/default/workflows/{quote(blocked.json['workflow_id'], safe='')}"
    )
    assert by_id.json == by_line.json == {**blocked.json, "temporal_ui": page}
    assert f"Temporal  {page}\n" in (await cli("order", "show", "X-32", "--kind", "block", "--line", line)).out
    # Where nobody told where Temporal's web interface is, there is no link.
    alone = cli.with_env(TWINLINE_TEMPORAL_UI="")
    assert (await alone("order", "show", "X-32", "--kind", "block", "--line", line, "--json")).json == blocked.json


async def test_a_line_tells_what_goes_on_for_it_and_where_to_look(cli: Cli, line: str) -> None:
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await cli("block", line, "--case", "X-33", "--reason", "a test", "--until", until)
    shown = await cli("line", "show", line, "--json")
    found = {each["workflow_id"]: each["temporal_ui"] for each in shown.json["workflows"]}
    open_grants = [grant["grant_id"] for grant in shown.json["grants"] if grant["ended_at"] is None]
    terms = {f"term/{shown.json['line_id']}/{grant}" for grant in open_grants}
    assert terms
    assert {each.partition("/cli/X-33/")[0] for each in found} == {*terms, "until/block"}
    said = (await cli("line", "show", line)).out
    for workflow_id, page in found.items():
        assert page.endswith(f"/namespaces/default/workflows/{quote(workflow_id, safe='')}")
        assert f"goes on  {page}\n" in said
    assert (await cli("unblock", line, "--case", "X-33")).code == 0
    alone = await cli.with_env(TWINLINE_TEMPORAL_UI="")("line", "show", line)
    assert alone.out.count("goes on  term/") == len(terms)
    assert "until/block" not in alone.out


async def test_in_words_an_error_is_a_sentence_and_a_hint_on_standard_error(cli: Cli) -> None:
    said = await cli("renew", "nobody99", "--days", "30", "--order", "X-20")
    assert (said.code, said.out) == (3, "")
    sentence, hint = said.err.splitlines()
    assert 'there is no line "nobody99"' in sentence
    assert hint.startswith("  ")


async def test_a_host_that_is_down_delays_its_half_and_the_same_order_waits_for_it(
    cli: Cli, world: World, line: str
) -> None:
    box = world.box("os-eu1")
    await box.refuse(on=True)
    box.drop_connections()
    try:
        said = await explained(cli, "R-down", "HostUnreachable", "the mail was accepted", line=line)
        assert said.code == 5
        assert "HostUnreachable: no SSH connection to the host" in said.out
        assert "check that the host is up" in said.out
        assert (
            "mc-eu1 serves the line; os-eu1 follows: twinline keeps trying, and `twinline order show R-down` tells how "
            "far it is; the mail was accepted." in said.out
        )
        shown = await cli("order", "show", "R-down", "--json")
        assert (shown.code, list(shown.json)) == (5, [*RECEIPT, "temporal_ui"])
        assert shown.json["halves"][1]["last_error"] == "HostUnreachable"
        behind = (await cli("line", "list", "--behind", "--json")).json
        assert [view["username"] for view in behind["lines"]] == [line]
        still_open = await cli("order", "list", "--open")
        assert "R-down" in still_open.out
        assert "still goes on" in still_open.out
    finally:
        await box.refuse(on=False)
    again = await cli("renew", line, "--days", "1", "--order", "R-down", "--timeout", "20", "--json")
    assert again.code == 0
    assert again.json["ends_at"] == shown.json["ends_at"]


async def explained(cli: Cli, order: str, *words: str, line: str) -> Said:
    """Place a renewal, and give what is shown of it once that tells all these words; it must not be done by then."""
    said = await cli("renew", line, "--days", "1", "--order", order, "--no-wait")
    while not all(word in said.out for word in words):
        assert said.code == 5, said.out
        said = await cli("order", "show", order)
    return said


async def test_wrong_keys_keep_a_line_waiting_and_say_what_to_correct(cli: Cli, world: World, line: str) -> None:
    known_hosts = world.folder / "known_hosts"
    trusted = known_hosts.read_text().splitlines(keepends=True)
    key = world.folder / "keys" / "mc-eu1"
    right = key.read_bytes()
    # The MultiCS box refuses another box's key, and the OSCam box shows a key that belongs to another box.
    key.write_bytes((world.folder / "keys" / "mc-us1").read_bytes())
    port = f":{world.box('os-eu1').port} "
    other = next(entry for entry in trusted if port not in entry).split(" ", 1)[1]
    known_hosts.write_text("".join(f"{entry.split(' ')[0]} {other}" if port in entry else entry for entry in trusted))
    for host in ("mc-eu1", "os-eu1"):
        world.box(host).drop_connections()
    try:
        said = await explained(cli, "R-keys", "HostLoginRefused", "HostKeyMismatch", line=line)
        assert "HostLoginRefused: the host does not accept our SSH key" in said.out
        assert "HostKeyMismatch: the host shows another SSH host key" in said.out
        assert "mc-eu1 follows" in said.out
        assert "os-eu1 waits for a person" in said.out
        checked = await cli("host", "check", "mc-eu1", "os-eu1", "--json")
        assert checked.code == 4
        failed = {(one["subject"], one["item"]): one["hint"] for one in checked.json if one["verdict"] == "fail"}
        assert list(failed) == [("mc-eu1", "login key"), ("os-eu1", "host key")]
        assert "authorized_keys" in failed["mc-eu1", "login key"]
        assert "find out why the host key changed" in failed["os-eu1", "host key"]
    finally:
        key.write_bytes(right)
        known_hosts.write_text("".join(trusted))
    assert (await cli("order", "retry", "R-keys", "--timeout", "20")).code == 0


async def test_a_missing_file_and_a_foreign_record_of_that_name_keep_a_line_waiting(
    cli: Cli, world: World, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long `host check` waits for a reload that never comes here.
    monkeypatch.setattr(factory, "OSCAM_DEADLINE", 0.2)
    missing, taken = world.site("mc-eu1").accounts_file, world.site("os-eu1").accounts_file
    aside = missing.with_suffix(".aside")
    ours = taken.read_bytes()
    foreign = f"[account]\nuser = {line}\npwd = somebodys\ngroup = 1\n".encode()
    # By rename, so that the daemon goes on watching the same file; one that it could not find when it looks at its
    # files again after a reload, it would never watch again.
    while not (await world.daemon("mc-eu1").stats()).armed:
        pass
    missing.rename(aside)
    taken.write_bytes(foreign)
    try:
        said = await explained(cli, "R-file", "FileTrouble", "RecordConflict", line=line)
        assert "FileTrouble: the accounts file or state_dir cannot be used as it is" in said.out
        assert "RecordConflict: the accounts file holds a record of this username" in said.out
        # Other lines, which the daemon serves and the file has lost, may stand behind it again.
        assert taken.read_bytes().startswith(foreign)
        assert taken.read_bytes().count(line.encode()) == 1
        checked = await cli("host", "check", "mc-eu1", "os-eu1", "--json")
        assert checked.code == 4
        failed = [(one["subject"], one["item"], one["message"]) for one in checked.json if one["verdict"] == "fail"]
        assert ("mc-eu1", "accounts file", "does not exist (accounts file: No such file or directory)") in failed
        assert ("os-eu1", "lines", f"records that are not ours, with the username of a line: 1 ({line})") in failed
    finally:
        aside.rename(missing)
        taken.write_bytes(ours)
    again = await cli("order", "retry", "R-file", "--timeout", "20")
    assert again.code == 0, again.out


async def test_the_password_is_shown_only_when_asked_for(cli: Cli, world: World, line: str) -> None:
    revealed = await cli("line", "show", line, "--reveal", "--json")
    assert revealed.code == 0
    password = revealed.json["password"]
    async with await world.receiver("mc-eu1", line, password) as receiver:
        await receiver.ping()
    assert password in (await cli("line", "show", line, "--reveal")).out
    for words in (("line", "show", line), ("line", "list"), ("order", "show", "the-line"), ("order", "list")):
        for more in ((), ("--json",)):
            said = await cli(*words, *more)
            assert said.code == 0
            assert password not in said.out + said.err


async def test_lines_are_listed_by_what_they_are(cli: Cli, line: str) -> None:
    await cli("trial", "zoe@example.com", "--region", "eu", "--order", "T-list")
    every = (await cli("line", "list", "--json")).json["lines"]
    assert line in [view["username"] for view in every]
    assert (await cli("line", "list", "--region", "mars", "--json")).json == {"lines": [], "cursor": None}
    present = (await cli("line", "list", "--state", "present", "--pair", "eu1", "--in-step", "--json")).json["lines"]
    assert {view["pair"] for view in present} == {"eu1"}
    first = (await cli("line", "list", "--limit", "1", "--json")).json
    rest = (await cli("line", "list", "--cursor", first["cursor"], "--json")).json
    assert first["lines"] + rest["lines"] == every
    wrong = await cli("line", "list", "--state", "gone", "--json")
    assert (wrong.code, wrong.json["type"]) == (2, "InvalidOrder")


async def test_orders_are_shown_and_listed(cli: Cli, line: str) -> None:
    shown = await cli("order", "show", "the-line", "--json")
    assert (shown.code, shown.json["username"]) == (0, line)
    listed = (await cli("order", "list", "--line", line, "--kind", "trial", "--settled", "--json")).json["orders"]
    assert [order["ref"] for order in listed] == ["the-line"]
    for words in (("no-such-order",), ("the-line", "--caller", "shop"), ("the-line", "--kind", "renewal")):
        missing = await cli("order", "show", *words, "--json")
        assert (missing.code, missing.json["type"]) == (3, "UnknownOrder")


async def test_an_order_of_before_is_not_told_as_how_the_line_stands_now(cli: Cli, line: str) -> None:
    order = ("renew", line, "--days", "1", "--order", "R-shown")
    assert (await cli(*order)).code == 0
    assert (await cli("order", "show", "R-shown")).err == ""
    await cli("block", line, "--case", "AB-shown", "--reason", "a test", "--owner", "operator")
    shown = await cli("order", "show", "R-shown")
    await cli("unblock", line, "--case", "AB-shown", "--owner", "operator")
    assert "Both halves serve the line" in shown.out
    assert "So it stood when the order ended" in shown.err
    assert f"`twinline line show {line}`" in shown.err


async def test_a_block_and_its_lifting_are_told_apart_by_their_kind(cli: Cli, line: str) -> None:
    await cli("block", line, "--case", "AB-7", "--reason", "a test", "--owner", "operator")
    await cli("unblock", line, "--case", "AB-7", "--owner", "operator")
    both = await cli("order", "show", "AB-7", "--json")
    assert (both.code, both.json["type"]) == (2, "InvalidOrder")
    one = await cli("order", "show", "AB-7", "--kind", "unblock", "--line", line, "--json")
    assert (one.code, one.json["kind"]) == (0, "unblock")


async def test_no_wait_comes_back_at_once_and_the_order_goes_on(cli: Cli, world: World, line: str) -> None:
    await world.daemon("mc-eu1").switch("ignore_reloads", on=True)
    try:
        said = await cli("renew", line, "--days", "1", "--order", "R-nowait", "--no-wait", "--json")
        assert said.code == 5
        assert [half["state"] for half in said.json.get("halves", [])[:1]] != ["applied"]
    finally:
        await world.daemon("mc-eu1").switch("ignore_reloads", on=False)
    assert (await cli("renew", line, "--days", "1", "--order", "R-nowait", "--timeout", "20")).code == 0
