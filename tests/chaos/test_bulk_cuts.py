"""kill -9 of the worker, and of the command line that began it, in the middle of a bulk run: every item once.

Everything is real but the two daemons.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import func, select

from starter.cli.hosts_checked import expected_on, inspect_all
from tests.cli.conftest import SCRIPT, Cli, start_script
from tests.support.world import FAST
from twinline.bulk import ItemState
from twinline.hosts.check import Verdict
from twinline.keys import KeyRing
from twinline.ledger import Ledger, models
from twinline.ledger.queries import LineFilter, list_lines, reveal_password
from twinline.messages import HalfState, OrderKind
from twinline.sandbox.sites import PairPlan
from twinline.sandbox.world import World

BETWEEN_LOOKS = 0.05


class Cuts:
    """A world in which bulk runs go on while worker and command line are killed."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self.world = world
        self.ledger = ledger
        self.cli = Cli(world.env)

    async def taken(self, kind: OrderKind) -> int:
        """How many orders of this kind the ledger has."""
        async with self.ledger.read() as tx:
            query = select(func.count()).select_from(models.Order).where(models.Order.kind == kind)
            return (await tx.session.exec(query)).one()

    async def begin_and_cut(self, *words: str, kind: OrderKind, after: int) -> None:
        """Begin a run as a person does, and kill who began it and the worker after so many of its orders."""
        process = await start_script(SCRIPT, "bulk", *words, "--yes", env=self.world.env)
        await self._cut(kind, after)
        if process.returncode is None:
            process.kill()
        out, err = await process.communicate()
        assert b"Traceback" not in out + err, err.decode()
        await self.world.start_worker()

    async def cut(self, kind: OrderKind, *, after: int) -> None:
        """Kill the worker after so many orders of this kind, and start it again."""
        await self._cut(kind, after)
        await self.world.start_worker()

    async def _cut(self, kind: OrderKind, after: int) -> None:
        while await self.taken(kind) < after:  # noqa: ASYNC110 - the worker is another process
            await asyncio.sleep(BETWEEN_LOOKS)
        await self.world.kill_worker()


async def cut_an_import(running: Cuts, sheet: Path, ends_at: datetime, *, items: int, moments: list[int]) -> None:
    """Take so many lines over; it goes on by itself, and who asks for it again has asked for the same."""
    sheet.write_text(
        "username,password,email,ends_at\n"
        + "".join(f"{name},{word},{name}@example.org,{ends_at}\n" for name, word in passwords(items).items())
    )
    words = ("import", str(sheet), "--run", "come", "--pair", "eu1")
    await running.begin_and_cut(*words, kind=OrderKind.IMPORT, after=moments[0])
    for moment in moments[1:]:
        await running.cut(OrderKind.IMPORT, after=moment)
    again = await running.cli("bulk", *words, "--yes", "--json")
    assert (again.code, again.json["bulk"]["counts"]["done"]) == (0, items), again.out


async def cut_an_extension(running: Cuts, *, items: int, moments: list[int]) -> None:
    """Give every line a day."""
    words = ("extend", "--region", "eu", "--days", "1", "--run", "more")
    await running.begin_and_cut(*words, kind=OrderKind.EXTENSION, after=moments[0])
    for moment in moments[1:]:
        await running.cut(OrderKind.EXTENSION, after=moment)
    resumed = await running.cli("bulk", "resume", "more", "--json")
    assert (resumed.code, resumed.json["bulk"]["counts"]["done"]) == (0, items), resumed.out


def passwords(items: int) -> Mapping[str, str]:
    """Of so many lines, by name."""
    return {f"line{number}": f"S3cret-{number}" for number in range(items)}


@asynccontextmanager
async def cuts_in(folder: Path) -> AsyncGenerator[Cuts]:
    """A world with a worker, in which nothing has happened yet."""
    async with World(folder, pairs=(PairPlan("eu1", region="eu"),), timescale=FAST, grace=30) as world:
        await world.start_worker()
        ledger = await Ledger.open(
            world.env["TWINLINE_DATABASE_URL"], keys=KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
        )
        try:
            yield Cuts(world, ledger)
        finally:
            await ledger.close()


async def every_item_was_done_once(running: Cuts, *, items: int, ends_at: datetime, grants: int) -> None:
    """One line for each row with one grant of each run, and hosts that hold what the ledger says."""
    world, ledger = running.world, running.ledger
    async with ledger.read() as tx:
        lines = (await list_lines(tx, LineFilter(), limit=1000)).lines
        kept = {line.username: (await reveal_password(tx, line.username)).get_secret_value() for line in lines}
        orders = (await tx.session.exec(select(models.Order))).all()
        left = (await tx.session.exec(select(models.BulkItem).where(models.BulkItem.state != ItemState.PLACED))).all()
    assert (kept, list(left)) == (passwords(items), [])
    assert (len(orders), {order.settled_at is None for order in orders}) == (items * grants, {False})
    for line in lines:
        assert (len(line.grants), line.ends_at) == (grants, ends_at)
        assert {(half.state, half.proven) for half in line.halves} == {(HalfState.APPLIED, line.revision)}
    assert list(world.mails) == [], "nobody is mailed"
    hosts = world.inventory.hosts
    for findings in await inspect_all(hosts, await expected_on(ledger, hosts)):
        wrong = [one for one in findings if one.item in ("lines", "loaded accounts") and one.verdict is not Verdict.OK]
        assert wrong == []


@pytest.mark.timeout(240)
async def test_an_import_outlives_a_kill_of_the_worker_and_of_who_began_it(tmp_path: Path) -> None:
    ends_at = datetime.now(UTC) + timedelta(days=30)
    async with cuts_in(tmp_path / "world") as running:
        await cut_an_import(running, tmp_path / "lines.csv", ends_at, items=10, moments=[2])
        await every_item_was_done_once(running, items=10, ends_at=ends_at, grants=1)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_runs_of_sixty_outlive_many_kills(tmp_path: Path, seed: int) -> None:
    chance, items = random.Random(seed), 60  # noqa: S311 - a plan, not a secret
    ends_at = datetime.now(UTC) + timedelta(days=30)
    async with cuts_in(tmp_path / "world") as running:
        moments = [sorted(chance.sample(range(1, items), 4)) for _ in range(2)]
        await cut_an_import(running, tmp_path / "lines.csv", ends_at, items=items, moments=moments[0])
        await cut_an_extension(running, items=items, moments=moments[1])
        await every_item_was_done_once(running, items=items, ends_at=ends_at + timedelta(days=1), grants=2)
