"""Orders from the command line to both daemons and the mailbox, with the ledger on PostgreSQL and two workers."""

import asyncio
import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from starter.client import Twinline
from tests.cli.conftest import Cli, Said, WorkerProcess
from tests.postgresql.conftest import LEDGER
from tests.support.postgresql import GUARDED, Cluster
from twinline.ledger import Ledger, postgresql
from twinline.messages import HalfState, OrderStatus, PurchaseOrder, TrialOrder
from twinline.sandbox.world import World

HOSTS = ("mc-eu1", "os-eu1")
SOON = timedelta(seconds=60)


def states(said: Said) -> list[str]:
    assert said.code == 0, said.out + said.err
    return [half["state"] for half in said.json["halves"]]


async def password_of(cli: Cli, line: str) -> str:
    return str((await cli("line", "show", line, "--reveal", "--json")).json["password"])


def failed(said: Said) -> list[dict[str, Any]]:
    return [one for one in said.json if one["verdict"] == "fail"]


async def test_a_line_lives_from_its_trial_to_its_close(cli: Cli, world: World) -> None:
    trial = await cli("trial", "ann@example.com", "--region", "eu", "--order", "T-1", "--json")
    assert states(trial) == ["applied", "applied"]
    line = trial.json["username"]
    password = await password_of(cli, line)
    sessions = [await world.receiver(host, line, password) for host in HOSTS]

    assert states(await cli("renew", line, "--days", "30", "--order", "R-1", "--json")) == ["applied", "applied"]
    for session in sessions:
        await session.ping()
    blocked = await cli("block", line, "--case", "A-1", "--reason", "a test", "--json")
    assert states(blocked) == ["removed", "removed"]
    for session in sessions:
        await session.closed.wait()
    assert states(await cli("unblock", line, "--case", "A-1", "--json")) == ["applied", "applied"]
    assert states(await cli("password", line, "--order", "P-1", "--json")) == ["applied", "applied"]
    async with await world.receiver(HOSTS[0], line, await password_of(cli, line)):
        pass
    assert states(await cli("close", line, "--order", "C-1", "--yes", "--json")) == ["removed", "removed"]
    kinds = [one["kind"] for one in (await cli("order", "list", "--line", line, "--json")).json["orders"]]
    assert sorted(kinds) == ["block", "close", "password", "renewal", "trial", "unblock"]
    assert len([mail for mail in world.mails if "ann@example.com" in str(mail.message["To"])]) >= 4


def applied(status: OrderStatus) -> str:
    """The name of a line that both daemons hold."""
    assert status.receipt is not None
    assert [half.state for half in status.receipt.halves] == [HalfState.APPLIED, HalfState.APPLIED]
    return status.receipt.username


async def test_many_orders_at_once_by_two_workers_are_all_done_and_the_same_one_is_one(
    twinline: Twinline, cli: Cli
) -> None:
    orders = [PurchaseOrder(order=f"B-{n}", email=f"b{n}@example.com", region="eu", days=30) for n in range(20)]
    same = TrialOrder(order="S-1", email="same@example.com", region="eu")
    done = await asyncio.gather(*(twinline.place(order, patience=SOON) for order in [*orders, *[same] * 50]))
    names = [applied(status) for status in done]
    assert len(set(names[: len(orders)])) == len(orders)
    assert len(set(names[len(orders) :])) == 1
    assert len(set(names)) == len(orders) + 1
    for host in HOSTS:
        checked = await cli("drift", "check", host, "--json")
        assert checked.code == 0, checked.out


async def test_what_a_worker_leaves_behind_the_other_brings_to_its_end(
    twinline: Twinline, workers: list[WorkerProcess]
) -> None:
    orders = [TrialOrder(order=f"K-{n}", email=f"k{n}@example.com", region="eu") for n in range(8)]
    placing = [asyncio.create_task(twinline.place(order, patience=SOON)) for order in orders]
    assert await workers[0].stop() == 0
    try:
        assert len({applied(status) for status in await asyncio.gather(*placing)}) == len(orders)
    finally:
        await workers[0].start()


async def test_the_doctor_finds_nothing_wrong(cli: Cli) -> None:
    said = await cli("doctor", "--json")
    assert [one for one in said.json if one["verdict"] != "ok"] == []
    found = {(one["subject"], one["item"]): one["message"] for one in said.json}
    assert "opens (PostgreSQL " in found["ledger", "tables"]
    assert found["ledger", "clock"] == "as ours"


@pytest.mark.parametrize(
    ("user", "password", "database", "said"),
    [
        (GUARDED, "hunter2", LEDGER, "refuses our user or password"),
        ("twinline", None, "elsewhere", "has no database of that name"),
    ],
)
async def test_the_doctor_says_why_it_is_not_let_in(
    cli: Cli, cluster: Cluster, user: str, password: str | None, database: str, said: str
) -> None:
    wrong = cli.with_env(TWINLINE_DATABASE_URL=cluster.url(database, user=user, password=password))
    examined = await wrong("doctor", "--json")
    (one,) = [one for one in failed(examined) if one["subject"] == "ledger"]
    assert said in one["message"]
    assert one["retryable"]
    assert "hunter2" not in examined.out + examined.err
    shown = await wrong("line", "list")
    assert shown.code == 6
    assert "hunter2" not in shown.out + shown.err


async def test_the_doctor_tells_an_old_server_an_empty_database_and_a_clock_that_is_off(
    cli: Cli, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster.database() as url:
        examined = await cli.with_env(TWINLINE_DATABASE_URL=url)("doctor", "--json")
        (one,) = [one for one in failed(examined) if one["subject"] == "ledger"]
        assert "start `twinline worker`, which migrates" in one["hint"]

    async def later(_: Ledger) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=10)

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "now", later)
        (one,) = [one for one in failed(await cli("doctor", "--json")) if one["item"] == "clock"]
        assert one["message"] == "600 s ahead of ours"
    monkeypatch.setattr(postgresql, "OLDEST", 99)
    (one,) = [one for one in failed(await cli("doctor", "--json")) if one["subject"] == "ledger"]
    assert "twinline needs 99 or newer" in one["message"]


def run(cluster: Cluster, program: str, *words: str | Path) -> None:
    """Run one of PostgreSQL's programs as an administrator would."""
    env = {**os.environ, "PGHOST": str(cluster.folder), "PGUSER": "postgres"}
    command: Sequence[str | Path] = [cluster.programs / program, *words]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def test_a_restored_backup_is_obeyed_again_after_a_refence(
    cli: Cli, cluster: Cluster, workers: list[WorkerProcess], tmp_path: Path
) -> None:
    kept = await cli("trial", "kept@example.com", "--region", "eu", "--order", "D-1", "--json")
    run(cluster, "pg_dump", "--format=custom", f"--file={tmp_path / 'dump'}", LEDGER)
    lost = await cli("trial", "lost@example.com", "--region", "eu", "--order", "D-2", "--json")
    assert states(kept) == states(lost) == ["applied", "applied"]

    assert await asyncio.gather(*(worker.stop() for worker in workers)) == [0, 0]
    cluster.drop(LEDGER)
    cluster.create(LEDGER)
    await asyncio.to_thread(
        run, cluster, "pg_restore", "--no-owner", "--role=twinline", f"--dbname={LEDGER}", tmp_path / "dump"
    )
    await asyncio.gather(*(worker.start() for worker in workers))

    line = kept.json["username"]
    assert (await cli("renew", line, "--days", "1", "--order", "D-3", "--no-wait", "--json")).code == 5
    async with asyncio.timeout(30):
        while True:
            stuck = (await cli("order", "list", "--stuck", "--json")).json["halves"]
            if [half["reason"] for half in stuck] == ["LedgerSetBack", "LedgerSetBack"]:
                break
    refenced = await cli("host", "refence", "--all", "--yes", "--json")
    assert refenced.code == 0
    assert [one["unknown"] for one in refenced.json] == [[lost.json["username"]]] * 2
    assert states(await cli("order", "retry", "D-3", "--json")) == ["applied", "applied"]
