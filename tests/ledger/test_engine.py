"""Opening the ledger, its transactions, and what becomes of a database that is not well."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy.exc import StatementError

from tests.ledger.support import START, Desk
from twinline.errors import Misconfigured, Unavailable
from twinline.keys import KeyRing
from twinline.ledger import Ledger, models

ANOTHER = """
import sqlite3, sys
ledger = sqlite3.connect(sys.argv[1])
print(ledger.execute("SELECT capacity FROM pair WHERE name = 'eu1'").fetchone()[0])
ledger.close()
"""
"""A process that looks into the ledger and leaves; the last one takes the write-ahead log with it."""


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}


async def test_the_database_and_its_companions_are_ours_alone(tmp_path: Path, keys: KeyRing) -> None:
    path = tmp_path / "ledger.db"
    mask = os.umask(0)
    try:
        ledger = await Ledger.open(f"sqlite:///{path}", keys=keys)
        await ledger.migrate()
        modes = modes_in(tmp_path)
        await ledger.close()
    finally:
        os.umask(mask)
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


async def test_an_accepted_order_is_synced_to_the_disk_before_anybody_hears_of_it(sqlite_desk: Desk) -> None:
    async with sqlite_desk.ledger.write() as tx:
        connection = await tx.session.connection()
        settings = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


async def test_a_path_with_the_signs_of_a_url_is_taken_as_it_is(tmp_path: Path, keys: KeyRing) -> None:
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/100% led#ger.db", keys=keys)
    await ledger.migrate()
    await ledger.close()
    assert (tmp_path / "100% led#ger.db").exists()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "no url",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://twinline:hunter2@db.example.com/twinline",
        "postgresql+psycopg2://twinline:hunter2@db.example.com/twinline",
        "postgresql://twinline:hunter2@db.example.com",
    ],
)
async def test_a_url_that_names_no_file_is_refused_without_being_shown(url: str, keys: KeyRing) -> None:
    with pytest.raises(Misconfigured, match="TWINLINE_DATABASE_URL") as refusal:
        await Ledger.open(url, keys=keys)
    assert "sqlite:////" in refusal.value.hint
    assert "hunter2" not in f"{refusal.value!r} {refusal.value.hint}"


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path, keys: KeyRing) -> None:
    with pytest.raises(Misconfigured, match="cannot be opened: No such file"):
        await Ledger.open(f"sqlite:///{tmp_path}/nowhere/ledger.db", keys=keys)


async def test_a_file_that_is_no_database_is_a_mistake_in_the_settings(tmp_path: Path, keys: KeyRing) -> None:
    (tmp_path / "ledger.db").write_text("a shopping list, long enough to be looked at" * 50)
    with pytest.raises(Misconfigured, match="not a database"):
        await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", keys=keys)


async def test_a_ledger_that_was_not_migrated_says_so(tmp_path: Path, keys: KeyRing) -> None:
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", keys=keys)
    try:
        with pytest.raises(Misconfigured, match="lacks tables"):
            async with ledger.write() as tx:
                await tx.session.get(models.Line, "1")
    finally:
        await ledger.close()


async def test_a_ledger_that_is_opened_once_more_loses_nothing_to_other_processes(
    sqlite_desk: Desk, keys: KeyRing
) -> None:
    async def seen_by_another() -> int:
        words = (sys.executable, "-c", ANOTHER, str(sqlite_desk.path))
        told = await asyncio.to_thread(subprocess.run, words, check=True, capture_output=True)
        return int(told.stdout)

    second = await Ledger.open(f"sqlite:///{sqlite_desk.path}", keys=keys)
    try:
        await seen_by_another()
        for capacity, ledger in ((4_321, sqlite_desk.ledger), (1_234, second)):
            async with ledger.write() as tx:
                pair = await tx.session.get(models.Pair, "eu1")
                assert pair is not None
                pair.capacity = capacity
            assert await seen_by_another() == capacity
    finally:
        await second.close()


async def test_a_locked_ledger_is_unavailable_for_writers_until_it_is_free_again(
    sqlite_desk: Desk, keys: KeyRing
) -> None:
    impatient = await Ledger.open(f"sqlite:///{sqlite_desk.path}", keys=keys, patience=0.01)
    other = sqlite3.connect(sqlite_desk.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked") as refusal:
            async with impatient.write():
                pytest.fail("two writers at once")
        assert refusal.value.retryable
        async with impatient.read() as tx:
            assert await tx.session.get(models.Pair, "eu1") is not None
        other.execute("ROLLBACK")
        async with impatient.write() as tx:
            assert await tx.session.get(models.Pair, "eu1") is not None
    finally:
        other.close()
        await impatient.close()


async def test_a_damaged_ledger_is_unavailable(sqlite_desk: Desk, keys: KeyRing) -> None:
    await sqlite_desk.trial()
    await sqlite_desk.ledger.close()
    content = bytearray(sqlite_desk.path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    sqlite_desk.path.write_bytes(content)
    with pytest.raises(Unavailable, match="damaged"):
        await Ledger.open(f"sqlite:///{sqlite_desk.path}", keys=keys)


async def test_nothing_of_a_block_that_raises_stays(desk: Desk) -> None:
    with pytest.raises(RuntimeError):
        async with desk.ledger.write() as tx:
            tx.session.add(models.Host(name="late", protocol="oscam", created_at=START))
            await tx.session.flush()
            raise RuntimeError
    assert "late" not in {host.name for host in await desk.rows(models.Host)}


async def test_who_comes_second_with_something_unique_may_come_again(desk: Desk) -> None:
    recorded = await desk.trial()
    (trial,) = await desk.rows(models.Trial)
    with pytest.raises(Unavailable, match="same moment") as refusal:
        async with desk.ledger.write() as tx:
            again = models.Trial(person_hash=trial.person_hash, order_id=recorded.order_id, used_at=START)
            tx.session.add(again)
    assert refusal.value.retryable


async def test_a_driver_error_does_not_show_what_was_written(desk: Desk) -> None:
    recorded = await desk.trial()
    with pytest.raises(Unavailable) as refusal:
        async with desk.ledger.write() as tx:
            line = await tx.session.get(models.Line, recorded.line_id)
            assert line is not None
            tx.session.add(models.Line(**line.model_dump(exclude={"id"}), id="another"))
    assert recorded.username not in repr(refusal.value.__cause__)
    assert "[SQL parameters hidden" in str(refusal.value.__cause__)


async def test_a_moment_without_a_zone_is_refused(desk: Desk) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - that is what is refused
    with pytest.raises(StatementError, match="without a zone"):
        async with desk.ledger.write() as tx:
            tx.session.add(models.Host(name="naive", protocol="oscam", created_at=naive))
    desk.now = naive
    with pytest.raises(ValueError, match="without a zone"):
        await desk.trial()


async def test_moments_come_back_in_utc_to_the_microsecond(desk: Desk) -> None:
    moment = datetime.fromisoformat("2026-03-29T01:59:59.999999+02:00")
    async with desk.ledger.write() as tx:
        tx.session.add(models.Host(name="zoned", protocol="oscam", created_at=moment))
    read = next(host.created_at for host in await desk.rows(models.Host) if host.name == "zoned")
    assert read.isoformat() == "2026-03-28T23:59:59.999999+00:00"


async def test_whoever_is_cancelled_in_the_middle_of_a_transaction_leaves_no_lock_behind(
    desk: Desk, keys: KeyRing
) -> None:
    ledger = await Ledger.open(desk.store.url, keys=keys, patience=1)
    other = replace(desk, ledger=ledger)
    await other.trial()
    gone: list[asyncio.Task[object]] = []
    for turns in range(40):
        gone.append(asyncio.create_task(other.open_batch("mc-eu1")))
        for _ in range(turns):
            await asyncio.sleep(0.0003)
        gone[-1].cancel()
        await asyncio.wait(gone)
        # Kept, as a caller might: the lock must not wait for somebody to collect what was cancelled.
        await other.open_batch("os-eu1")
    assert any(each.cancelled() for each in gone)
    await ledger.close()
