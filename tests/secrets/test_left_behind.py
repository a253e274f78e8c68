"""What the lives of some customers leave behind: no password and no address where it does not belong, and after an
erasure nothing at all of who was forgotten.

Everything is real but the daemons. The search itself is tested last, by words that are planted for it.
"""

import asyncio
import base64
import contextlib
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
import pytest_asyncio
from sqlmodel import SQLModel, select
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client

from starter import bulk
from starter.client import Twinline
from starter.desk import Desk
from tests.api.conftest import Api, new_token, served
from tests.cli.conftest import Cli
from tests.support.search import Search, look_in_files, look_in_temporal
from tests.support.world import FAST
from twinline.bulk import BulkImport, BulkKind, NewBulk
from twinline.codec import data_converter
from twinline.errors import LineClosed, TrialAlreadyUsed, Unavailable
from twinline.keys import KeyRing
from twinline.ledger import Ledger, models
from twinline.ledger import bulk as in_ledger
from twinline.ledger.bulk_judged import judge
from twinline.ledger.lines import unseal
from twinline.ledger.queries import line_view, reveal_password
from twinline.messages import (
    ORDERS_QUEUE,
    BlockOrder,
    CloseOrder,
    MoveOrder,
    NameOf,
    Order,
    PasswordOrder,
    PurchaseOrder,
    Receipt,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
    erase_workflow_id,
)
from twinline.rows import Row
from twinline.sandbox.sites import PairPlan
from twinline.sandbox.world import World
from twinline.tokens import NewToken, Scope

PAIRS = (PairPlan("eu1", region="eu"), PairPlan("us1", region="us"))
JANE, JOHN, KATE = "jane.roe@example.com", "john.doe@example.com", "kate.poe@example.com"
LIZ = "liz.moe@example.com"
MEG, TOM, SUE, RON = "meg.loe@example.com", "tom.coe@example.com", "sue.hoe@example.com", "ron.voe@example.com"
BROUGHT = {
    MEG: ("megloe1", "Meg-s3cret.91"),
    TOM: ("tomcoe1", "Tom-s3cret.92"),
    SUE: ("suehoe1", "Sue-s3cret.93"),
    RON: ("megloe1", "Ron-s3cret.94"),
}
"""Whom bulk imports bring: under which name, with which password."""
REASON = "Jane Roe shares with her neighbours"
OVERLAP_HOURS = 0.0003
SEALED: Mapping[type[SQLModel], tuple[str, tuple[str, ...]]] = {
    models.Line: ("line", ("password", "email")),
    models.Mail: ("mail", ("body",)),
    models.BulkItem: ("bulk_item", ("body",)),
}
"""Name and columns of the tables that hold something sealed."""


@dataclass
class Story:
    """The lives of three customers: Jane goes, John stays, Kate goes later."""

    world: World
    twinline: Twinline
    client: Client
    keys: KeyRing
    ledger: Ledger
    cli: Cli
    sheet: Path
    """A file of rows, which lies where an operator has it."""
    names: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    passwords: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    async def order(self, order: Order) -> Receipt:
        """Place an order and see it done."""
        status = await self.twinline.place(order, patience=timedelta(seconds=60))
        assert status.done
        assert status.receipt is not None
        return status.receipt

    async def opened(self, who: str, order: Order) -> str:
        """A new line of somebody; its name."""
        name = (await self.order(order)).username
        self.names.setdefault(who, []).append(name)
        await self.note_password(who, name)
        return name

    async def note_password(self, who: str, name: str) -> None:
        """Remember the password that a line has now."""
        async with self.ledger.read() as tx:
            password = (await reveal_password(tx, name)).get_secret_value()
        self.passwords.setdefault(who, []).append(password)

    def secrets(self) -> dict[str, str]:
        """All passwords there ever were, and all addresses, by label."""
        passwords = {f"{who}'s password {n}": word for who in self.names for n, word in enumerate(self.passwords[who])}
        return passwords | {f"{who}'s address": who for who in self.names}

    def all_about(self, who: str) -> dict[str, str]:
        """Everything that tells of one person, by label."""
        about = {label: word for label, word in self.secrets().items() if label.startswith(who)}
        about |= {f"{who}'s name {number}": word for number, word in enumerate(self.names[who])}
        return about | ({f"{who}'s reason": REASON} if who == JANE else {})

    def files(self) -> Iterator[Path]:
        """Every file of the world but the customers' own mailboxes and the daemons' own logs."""
        for path in self.world.folder.rglob("*"):
            if path.suffix != ".eml" and "stand-in" not in path.name:
                yield path

    @property
    def accounts(self) -> list[Path]:
        return [self.world.site(host.name).accounts_file for host in self.world.inventory.hosts]

    async def look_in_ledger(self, search: Search) -> None:
        """Look through every row, with what is sealed in it opened."""
        tables: list[type[SQLModel]] = list(models.Row.__subclasses__())
        async with self.ledger.read() as tx:
            for table in tables:
                for row in await tx.session.exec(select(table)):
                    values = row.model_dump()
                    name, columns = SEALED.get(table, ("", ()))
                    for column in columns:
                        sealed = values[f"{column}_sealed"]
                        values[column] = unseal(self.keys, name, values["id"], column, sealed) if sealed else b""
                    for column, value in values.items():
                        text = value if isinstance(value, bytes) else str(value)
                        search.look(f"ledger {table.__name__}.{column}", text)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def story(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Story]:
    async with told_in(tmp_path_factory.mktemp("left")) as told:
        await asyncio.gather(janes_life(told), johns_life(told), kates_life(told))
        await what_bulk_runs_bring(told)
        yield told


@contextlib.asynccontextmanager
async def told_in(folder: Path) -> AsyncGenerator[Story]:
    """A world with two pairs and a worker, in which nothing has happened yet."""
    async with World(folder, pairs=PAIRS, timescale=FAST, grace=10) as world:
        await world.start_worker()
        keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
        client = await Client.connect(world.temporal.address, data_converter=data_converter(keys))
        ledger = await Ledger.open(world.env["TWINLINE_DATABASE_URL"], keys=keys)
        try:
            yield Story(world, Twinline(client), client, keys, ledger, Cli(world.env), folder.with_suffix(".csv"))
        finally:
            await ledger.close()


async def janes_life(story: Story) -> None:
    """Two lines, with every kind of order, all over at the end, and orders that were refused."""
    first = await story.opened(JANE, TrialOrder(order="T-jane", email=JANE, region="eu", caller="shop"))
    await story.order(PasswordOrder(order="W-jane", line=first))
    await story.note_password(JANE, first)
    await story.order(BlockOrder(case="AB-1", line=first, reason=REASON))
    await story.order(UnblockOrder(case="AB-1", line=first))
    await story.order(RenewalOrder(order="R-jane", line=first, days=30))
    await story.order(MoveOrder(order="M-jane", line=first, pair="us1", overlap_hours=OVERLAP_HOURS))
    await story.order(CloseOrder(order="C-jane", line=first))
    second = await story.opened(JANE, PurchaseOrder(order="P-jane", email=JANE.upper(), region="eu", days=30))
    await story.order(CloseOrder(order="C-jane-2", line=second))
    with pytest.raises(TrialAlreadyUsed):
        await story.order(TrialOrder(order="T-jane-2", email=JANE, region="eu"))
    with pytest.raises(LineClosed):
        await story.order(RenewalOrder(order="R-jane-2", line=first, days=30))
    # Somebody ends an order in Temporal's own pages before a worker has taken it.
    handle = await story.client.start_workflow(
        NameOf.TRIAL,
        TrialOrder(order="T-jane-9", email=JANE, region="eu"),
        id="trial/cli/T-jane-9",
        task_queue=ORDERS_QUEUE,
        start_delay=timedelta(hours=1),
    )
    await handle.terminate()


async def johns_life(story: Story) -> None:
    """A line that stays, on a host that is away for a while: failures stand in histories, in a rebuild's too."""
    name = await story.opened(JOHN, PurchaseOrder(order="P-john", email=JOHN, region="us", days=30))
    await story.world.box("os-us1").refuse(on=True)
    story.world.box("os-us1").drop_connections()
    placed = await story.twinline.place(RenewalOrder(order="R-john", line=name, days=30), patience=timedelta(seconds=2))
    assert not placed.done
    assert (await story.cli("host", "rebuild", "os-us1", "--yes", "--timeout", "1")).code == 5
    await story.world.box("os-us1").refuse(on=False)
    await story.twinline.retry_now("renewal/cli/R-john")
    await story.order(RenewalOrder(order="R-john", line=name, days=30))
    rebuilt = await story.cli("host", "rebuild", "os-us1", "--yes", "--json")
    assert (rebuilt.code, rebuilt.json["done"]) == (0, True), rebuilt.out


async def kates_life(story: Story) -> None:
    """A line that is over."""
    name = await story.opened(KATE, TrialOrder(order="T-kate", email=KATE, region="eu"))
    await story.order(CloseOrder(order="C-kate", line=name))


async def what_bulk_runs_bring(story: Story) -> None:
    """Meg comes over; Tom's row is refused at once, Ron's by its workflow; Sue's waits in a run that was stopped."""
    for who, (name, password) in BROUGHT.items():
        story.names[who], story.passwords[who] = [name], [password]
    (john,) = story.names[JOHN]
    ends_at = (datetime.now(UTC) + timedelta(days=90)).isoformat()
    story.sheet.write_text(
        "username,password,email,ends_at\n"
        + f"{BROUGHT[MEG][0]},{BROUGHT[MEG][1]},{MEG},{ends_at}\n"
        + f"{john},{BROUGHT[TOM][1]},{TOM},{ends_at}\n"
    )
    await waits(story, "late", RON, ends_at)
    await waits(story, "never", SUE, ends_at)
    words = ("bulk", "import", str(story.sheet), "--run", "old-shop", "--pair", "eu1")
    done = await story.cli(*words, "--skip-invalid", "--yes", "--json")
    assert (done.json["bulk"]["counts"]["done"], done.json["bulk"]["counts"]["refused"]) == (1, 1), done.out
    late = await story.cli("bulk", "resume", "late", "--json")
    assert (late.code, late.json["items"]["items"][0]["problem"]["type"]) == (4, "UsernameTaken"), late.out


async def waits(story: Story, run: str, who: str, ends_at: str) -> None:
    """A run that was stopped before anything of it was ordered."""
    name, password = BROUGHT[who]
    row = Row(1, {"username": name, "password": password, "email": who, "ends_at": ends_at, "pair": "eu1"})
    new, now = NewBulk(run=run, job=BulkImport()), datetime.now(UTC)
    asked = bulk.items_of(BulkKind.IMPORT, [row], {})
    async with story.ledger.write() as tx:
        bulk_id = await in_ledger.record_bulk(tx, new, asked, await judge(tx, new, asked, now=now), now=now)
        await in_ledger.stop_bulk(tx, bulk_id, actor="ann", now=now)


def read(url: str) -> bytes:
    with urlopen(url) as answer:  # noqa: S310 - our own URL
        return answer.read()


async def test_no_password_and_no_address_stands_where_it_does_not_belong(story: Story) -> None:
    words = story.secrets()
    everywhere, opened = Search(words), Search(words)
    names = look_in_files(
        everywhere, (path for path in story.files() if path not in story.accounts), story.world.folder
    )
    assert {"temporal.db", "ledger.db", "log", "journal.0", "window"} <= names, "the search looks in the wrong place"
    ids = await look_in_temporal(story.client, story.keys, sealed=everywhere, opened=opened)
    assert {"trial/shop/T-jane", "trial/cli/T-jane-2", "trial/cli/T-jane-9", "renewal/cli/R-jane-2"} <= ids
    assert {
        "reconcile/mc-eu1",
        "rebuild/os-us1",
        "bulk/cli/old-shop",
        "import/cli/old-shop:1",
        "import/cli/late:1",
    } <= ids
    everywhere.look("the server's metrics", await asyncio.to_thread(read, story.world.temporal.metrics_url))
    counted = await asyncio.to_thread(read, story.world.metrics_url)
    everywhere.look("the worker's metrics", counted)
    assert b"twinline_orders_total" in counted
    assert b"temporal_request_total" in counted
    assert everywhere.finds == set()
    # The log that was looked through is that of a worker which tells what it does.
    log = [json.loads(line) for line in (story.world.folder / "worker" / "log").read_text().splitlines()[1:]]
    assert {"T-jane", "T-jane-2", "R-john"} <= {line.get("order") for line in log}
    assert "HostUnreachable" in {line.get("error") for line in log}
    assert {"activity", "attempt", "run_id", "task_queue", "line", "host"} <= {key for line in log for key in line}

    # Orders carry addresses, sealed; passwords are in no payload.
    of_addresses = {find.where for find in opened.finds if "address" in find.what}
    assert {"history trial/shop/T-jane", "history trial/cli/T-jane-2", "history purchase/cli/P-john"} <= of_addresses
    assert {find for find in opened.finds if "password" in find.what} == set()

    served = Search(words)
    look_in_files(served, story.accounts, story.world.folder)
    assert {find.what for find in served.finds} == {f"{JOHN}'s password 0", f"{MEG}'s password 0"}


async def test_no_command_tells_a_password_or_an_address(story: Story) -> None:
    (john,) = story.names[JOHN]
    jane = story.names[JANE][0]
    said = Search(story.secrets())
    commands: Mapping[str, set[int]] = {
        f"line show {john}": {0},
        "line list": {0},
        "order show T-jane --caller shop": {0},
        "order show AB-1 --kind block": {0},
        "order show T-jane-2": {4},
        "order list": {0},
        "order list --stuck": {0},
        "order retry R-john": {0},
        "order abandon R-john --host os-us1 --reason gone --yes": {4},
        "drift check": {0},
        "host check": {0, 5},
        "doctor": {0, 5},
        f"trial {JANE} --region eu --order T-jane-3": {4},
        f"trial {JANE}@ --region eu --order T-jane-4": {2},
        f"purchase {JANE} --region none --order P-jane-5 --days 3": {3},
        f"purchase {JOHN} --region us --order P-john --days 31": {4},
        f"renew {jane} --days 3 --order R-jane-3": {4},
        f"close {jane} --order C-jane-3 --yes": {4},
        f"erase {JOHN} --yes": {4},
        f"erase nobody.{JOHN} --yes": {3},
        f"erase {JOHN}@ --yes": {2},
        "bulk list": {0},
        "bulk show old-shop": {5},
        "bulk show never": {4},
        "bulk show late --state refused": {4},
        "bulk cancel late": {0},
        f"bulk import {story.sheet} --run other --pair eu1 --dry-run": {4},
        f"bulk import {story.sheet} --run other --pair eu9 --yes": {2},
        f"bulk import {story.sheet} --run old-shop --region eu --yes": {4},
        f"bulk block --file {story.sheet} --run other --reason x --yes": {2},
        "order show old-shop:1": {0},
        "order show late:1": {4},
    }
    unexpected: list[object] = []
    for command, codes in commands.items():
        words = command.split()
        for options in ((), ("--json",)):
            one = await story.cli(*words, *options)
            unexpected += [] if one.code in codes else [(words[:2], int(one.code), one.out, one.err)]
            said.look(f"{words[:2]} {options}", one.out + one.err)
    assert unexpected == []
    assert said.finds == set()
    assert (await story.cli("line", "show", john, "--reveal")).out.count(story.passwords[JOHN][0]) == 1


async def test_no_answer_of_the_api_tells_a_password_or_an_address(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    said, ends_at = Search(story.secrets()), (datetime.now(UTC) + timedelta(days=90)).isoformat()
    rows = [
        {"username": name, "password": password, "email": who, "ends_at": ends_at}
        for who, (name, password) in BROUGHT.items()
    ]
    wrong = [{**rows[0], "password": f"{rows[0]['password']}#"}, {**rows[1], "email": f"{TOM}@"}, {TOM: "x"}]
    whole = story.sheet.read_bytes()
    caplog.set_level("DEBUG")
    async with served(Desk(story.ledger, story.twinline)) as port:
        api = Api(port, await new_token(story.ledger, NewToken(caller="cli", scopes=frozenset(Scope))))
        for path in ("imports", "imports/dry-run", "blocks"):
            for body in ({"rows": rows}, {"rows": wrong}, {"rows": rows, "pair": TOM}, {MEG: 1, "rows": rows}):
                reply = await api("POST", f"/v1/bulk/{path}", {"run": "late", "pair": "eu1", **body}, Prefer="wait=30")
                said.look(f"POST {path} {list(body)} {reply.status}", reply.body)
            for data in (whole, b"\xff" + whole, whole + b'"' + whole, whole.replace(b"email", b"mail")):
                reply = await api("POST", f"/v1/bulk/{path}?run=late&pair=eu1", data, Content_Type="text/csv")
                said.look(f"POST {path} file {reply.status}", reply.body)
        for run in ("old-shop", "late", "never"):
            for rest in ("", "/items"):
                reply = await api.get(f"/v1/bulk/runs/{run}{rest}")
                assert reply.status == 200
                said.look(f"GET {run}{rest}", reply.body)
        said.look("GET order", (await api.get("/v1/orders/import~old-shop:1")).body)
    said.look("the log of the API", caplog.text)
    assert said.places > 30
    assert said.finds == set()


async def test_who_waits_in_a_stopped_import_is_found_by_address_and_forgotten(story: Story) -> None:
    about = story.all_about(SUE)
    before = Search(about)
    await story.look_in_ledger(before)
    assert {find.what for find in before.finds} == set(about)
    by_name = await story.cli("erase", BROUGHT[SUE][0], "--yes", "--json")
    assert (by_name.code, by_name.json["type"]) == (3, "UnknownLine")

    erased = await story.cli("erase", SUE.upper(), "--yes", "--caller", "privacy", "--json")

    assert (erased.code, erased.json) == (0, {"lines": [], "items": 1})
    await nothing_is_left_of(story, about, story.all_about(JOHN))
    assert (await story.cli("erase", SUE, "--yes")).code == 3
    resumed = await story.cli("bulk", "resume", "never", "--json")
    assert (resumed.code, resumed.json["items"]["items"][0]["problem"]["type"]) == (4, "LineErased")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def without_jane(story: Story) -> Story:
    """The world after Jane was erased, by another spelling of her address."""
    before = Search(story.all_about(JANE))
    await story.look_in_ledger(before)
    assert {find.what for find in before.finds} >= {f"{JANE}'s address", f"{JANE}'s name 0", f"{JANE}'s reason"}
    erased = await story.cli("erase", JANE.title(), "--yes", "--caller", "privacy", "--timeout", "60", "--json")
    assert erased.code == 0, erased.out
    assert {len(line["hosts"]) for line in erased.json["lines"]} == {2, 4}
    assert all(line["done"] for line in erased.json["lines"])
    for line in erased.json["lines"]:
        handle = story.client.get_workflow_handle(erase_workflow_id(line["line"]))
        told = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        assert all(f"**{host}**: seen to hold nothing of it" in told.current_details for host in line["hosts"])
        assert told.current_details.endswith("Nothing tells whose line it was any more.")
    return story


async def test_nothing_tells_of_a_customer_who_was_erased(without_jane: Story) -> None:
    await nothing_is_left_of(without_jane, without_jane.all_about(JANE), without_jane.all_about(JOHN))


async def nothing_is_left_of(story: Story, about: Mapping[str, str], of_john: Mapping[str, str]) -> None:
    gone, stays = Search(about), Search(of_john)
    for search in (gone, stays):
        look_in_files(search, story.files(), story.world.folder)
        await look_in_temporal(story.client, story.keys, sealed=search, opened=search)
        await story.look_in_ledger(search)
    assert gone.finds == set()
    # The same search still finds who stays, wherever he belongs.
    assert {"history purchase/cli/P-john", "ledger Line.username", "ledger Line.password", "ledger Mail.body"} <= (
        stays.found()
    )


async def test_erasing_again_says_so_and_commands_about_the_line_do_too(without_jane: Story) -> None:
    story = without_jane
    jane = story.names[JANE][0]
    for who in (JANE, jane):
        again = await story.cli("erase", who, "--yes")
        assert (again.code, "was erased before" in again.out) == (0, True)
    for words in (["line", "show", jane], ["renew", jane, "--days", "3", "--order", "R-late"]):
        said = await story.cli(*words, "--json")
        assert (said.code, said.json["type"]) == (3, "LineErased")
    repeated = await story.cli("trial", JANE, "--region", "eu", "--order", "T-jane", "--caller", "shop", "--json")
    assert (repeated.code, repeated.json["type"]) == (3, "LineErased")
    assert (await story.cli("host", "check")).code in (0, 5)
    assert (await story.cli("drift", "check")).code == 0


async def test_a_host_that_is_down_delays_an_erasure_and_nothing_is_forgotten_before(story: Story) -> None:
    box, (name,) = story.world.box("os-eu1"), story.names[KATE]
    about = story.all_about(KATE)
    await box.refuse(on=True)
    box.drop_connections()
    begun = await story.cli("erase", name, "--yes", "--timeout", "1")
    assert (begun.code, "waits until os-eu1 is seen to hold nothing of it" in begun.out) == (5, True), begun.out
    waiting = await story.cli("erase", KATE, "--yes", "--timeout", "0", "--json")
    assert (waiting.code, [line["done"] for line in waiting.json["lines"]]) == (5, [False])
    in_ledger = Search(about)
    await story.look_in_ledger(in_ledger)
    assert set(about) == {find.what for find in in_ledger.finds}
    await box.refuse(on=False)

    done = await story.cli("erase", name, "--yes", "--timeout", "60", "--json")

    assert (done.code, [line["done"] for line in done.json["lines"]]) == (0, [True]), done.out
    await nothing_is_left_of(story, about, story.all_about(JOHN))


async def test_a_host_that_is_gone_for_good_holds_up_no_erasure_once_somebody_answers_for_it(story: Story) -> None:
    box = story.world.box("os-eu1")
    name = await story.opened(LIZ, TrialOrder(order="T-liz", email=LIZ, region="eu"))
    line_id = (await story.order(CloseOrder(order="C-liz", line=name))).line
    await box.refuse(on=True)
    box.drop_connections()
    unknown = await story.cli("erase", name, "--yes", "--host-is-gone", "os-eu9", "--json")
    assert (unknown.code, unknown.json["type"], unknown.json["hint"]) == (
        3,
        "UnknownHalf",
        "They were on: mc-eu1 and os-eu1.",
    )
    begun = await story.cli("erase", name, "--yes", "--timeout", "1")
    assert (begun.code, "--host-is-gone HOST" in begun.out) == (5, True), begun.out

    done = await story.cli("erase", name, "--yes", "--host-is-gone", "os-eu1", "--caller", "privacy", "--timeout", "60")
    await box.refuse(on=False)

    assert (done.code, "mc-eu1 holds nothing of it, nobody looked at os-eu1" in done.out) == (0, True), done.out
    async with story.ledger.read() as tx:
        events = (await tx.session.exec(select(models.Event).where(models.Event.line_id == line_id))).all()
    (told,) = [event for event in events if event.what == "erasure.host_gone"]
    assert (told.who, told.why) == ("privacy", f"erase/{line_id}: os-eu1")


async def test_the_search_finds_whatever_is_planted(story: Story) -> None:
    password, address = story.passwords[JOHN][0], JOHN
    words = {"password": password, "address": address}
    plain = await Client.connect(story.world.temporal.address)
    for client, name in ((plain, "planted-plain"), (story.client, "planted-sealed")):
        await client.start_workflow(
            "Nobody", {"text": f"for {address}: {password}"}, id=name, task_queue="nobody", memo={"to": address}
        )
    await plain.start_workflow("Nobody", id=f"planted-{address}", task_queue="nobody")
    state = Path(story.world.inventory.hosts[0].state_dir)
    (state / "journal.2").write_bytes(b"{" + base64.b64encode(b"x" + password.encode() + b"y") + b"}")
    (story.world.folder / "worker" / "log").open("a").write(f"refused: {password.encode().hex()}\n")
    async with story.ledger.write() as tx:
        tx.session.add(models.Event(at=datetime.now(UTC), who="cli", what="planted", why=f"about {address}"))

    def what(search: Search, where: str) -> set[str]:
        return {find.what for find in search.finds if find.where.endswith(where)}

    in_files, sealed, opened, in_ledger = (Search(words) for _ in range(4))
    look_in_files(in_files, (path for path in story.files() if path not in story.accounts), story.world.folder)
    await story.look_in_ledger(in_ledger)
    async with asyncio.timeout(30):
        # Temporal's lists lag behind.
        while not what(sealed, f"list planted-{address}"):
            await look_in_temporal(story.client, story.keys, sealed=sealed, opened=opened)
    assert what(in_files, "state/journal.2") == {"password"}
    assert what(in_files, "worker/log") == {"password"}
    assert "address" in {find.what for find in in_files.finds if "ledger.db" in find.where}
    assert {"password", "address"} == {find.what for find in in_files.finds if "temporal.db" in find.where}
    assert what(in_ledger, "Event.why") == {"address"}
    assert what(sealed, "history planted-plain") == {"password", "address"}
    assert what(sealed, "list planted-plain") == {"address"}
    assert what(sealed, "history planted-sealed") == set()
    assert what(opened, "history planted-sealed") == {"password", "address"}
    assert what(opened, "list planted-sealed") == {"address"}


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(10))
async def test_erasures_outlive_kills_of_worker_and_server(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a plan, not a secret
    async with told_in(tmp_path / "world") as story:
        await asyncio.gather(janes_life(story), johns_life(story), kates_life(story))
        about = story.all_about(JANE) | story.all_about(KATE)
        async with story.ledger.read() as tx:
            ids = [(await line_view(tx, name)).line_id for who in (JANE, KATE) for name in story.names[who]]

        async def erased(line_id: str) -> None:
            while True:
                with contextlib.suppress(Unavailable):
                    status = await story.twinline.erase(line_id, patience=timedelta(seconds=10))
                    if status is not None and status.done:
                        return

        erasing = asyncio.gather(*(erased(line_id) for line_id in ids))
        for victim in chance.choices(("worker", "server"), k=3):
            # A moment somewhere in the middle; whether it was one is of no matter to what must hold.
            await asyncio.sleep(chance.uniform(0, 3))
            if victim == "worker":
                await story.world.kill_worker()
                await story.world.start_worker()
            else:
                await story.world.temporal.kill()
                await story.world.temporal.start()
        await erasing
        await nothing_is_left_of(story, about, story.all_about(JOHN))
