"""`keys rotate` in a world whose worker keeps running."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from starter import bulk
from tests.cli.conftest import Cli
from twinline.bulk import BulkImport, BulkKind, NewBulk
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.ledger import bulk as in_ledger
from twinline.ledger.bulk_judged import judge
from twinline.rows import Row
from twinline.sandbox.world import World


async def test_keys_are_rotated_under_a_running_worker_and_orders_go_on(cli: Cli, world: World, line: str) -> None:
    ring_file = Path(world.env["TWINLINE_KEYS"])
    before = KeyRing.load(ring_file).primary
    password = (await cli("line", "show", line, "--reveal", "--json")).json["password"]

    rotated = await cli("keys", "rotate")

    primary = KeyRing.load(ring_file).primary
    assert (rotated.code, primary != before) == (0, True)
    assert f'"{primary}"' in rotated.out
    assert "rows of the ledger were sealed again" in rotated.out
    placed = await cli("trial", "rotated@example.com", "--region", "eu", "--order", "T-rotated", "--json")
    assert placed.code == 0, placed.err
    assert (await cli("line", "show", line, "--reveal", "--json")).json["password"] == password
    assert password not in rotated.out


async def test_what_waits_in_a_bulk_run_is_sealed_again_and_can_still_be_ordered(cli: Cli, world: World) -> None:
    ring_file = Path(world.env["TWINLINE_KEYS"])
    keys, now = KeyRing.load(ring_file), datetime.now(UTC)
    fields = {"username": "waits99", "password": "Waits-s3cret.9", "email": "waits@example.com", "pair": "eu1"}
    rows = [Row(1, {**fields, "ends_at": (now + timedelta(days=9)).isoformat()})]
    new, asked = NewBulk(run="waits", job=BulkImport()), bulk.items_of(BulkKind.IMPORT, rows, {})
    ledger = await Ledger.open(world.env["TWINLINE_DATABASE_URL"], keys=keys)
    try:
        async with ledger.write() as tx:
            bulk_id = await in_ledger.record_bulk(tx, new, asked, await judge(tx, new, asked, now=now), now=now)
            await in_ledger.stop_bulk(tx, bulk_id, actor="test", now=now)
    finally:
        await ledger.close()
    assert (await cli("keys", "rotate")).code == 0
    retired = await cli("keys", "retire", keys.primary, "--yes")
    assert retired.code == 0, retired.err

    resumed = await cli("bulk", "resume", "waits", "--json")

    assert (resumed.code, resumed.json["bulk"]["counts"]["done"]) == (0, 1), resumed.out
    revealed = await cli("line", "show", "waits99", "--reveal", "--json")
    assert revealed.json["password"] == fields["password"]


async def test_a_ring_is_not_rotated_when_the_ledger_can_not_be_sealed_again(cli: Cli, world: World) -> None:
    ring_file = Path(world.env["TWINLINE_KEYS"])
    before = ring_file.read_bytes()
    away = cli.with_env(TWINLINE_DATABASE_URL=f"sqlite:///{world.folder}/none.db")
    said = await away("keys", "rotate")
    assert (said.code, "does not exist" in said.err) == (2, True)
    assert ring_file.read_bytes() == before


async def test_an_old_key_is_destroyed_once_nothing_of_the_ledger_needs_it(cli: Cli, world: World, line: str) -> None:
    ring_file = Path(world.env["TWINLINE_KEYS"])
    password = (await cli("line", "show", line, "--reveal", "--json")).json["password"]
    backup = world.folder / "backup.db"
    with sqlite3.connect(world.folder / "ledger.db") as live, sqlite3.connect(backup) as copy:
        live.backup(copy)
    old = KeyRing.load(ring_file).primary
    needed = await cli("keys", "retire", old, "--yes", "--json")
    assert (needed.code, needed.json["type"], "still needed" in needed.json["message"]) == (4, "KeyRingError", True)
    assert (await cli("keys", "rotate")).code == 0

    retired = await cli("keys", "retire", old, "--yes")

    assert (retired.code, "is destroyed" in retired.out) == (0, True), retired.err
    restored = await cli.with_env(TWINLINE_DATABASE_URL=f"sqlite:///{backup}")("line", "show", line, "--reveal")
    assert (restored.code, "was destroyed" in restored.err, password in restored.out) == (4, True, False)
    # Orders of before are read by Temporal's worker, and new ones go on.
    assert (await cli("line", "show", line, "--reveal", "--json")).json["password"] == password
    placed = await cli("renew", line, "--days", "1", "--order", "R-retired", "--json")
    assert placed.code == 0, placed.out
    assert (await cli("order", "show", "the-line", "--json")).code == 0
    assert (await cli("keys", "retire", "k99", "--yes")).code == 4
