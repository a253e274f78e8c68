"""The migrations make exactly the tables that the code uses, and protect what must not change."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlmodel import select, text

from tests.ledger.support import Desk
from twinline.errors import Misconfigured
from twinline.keys import KeyRing
from twinline.ledger import Ledger, migrate, migrations, models
from twinline.ledger.schema import is_current


def _upgrade_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), models.Row.metadata))


async def test_an_empty_database_gets_exactly_the_tables_of_the_code(empty: str, keys: KeyRing) -> None:
    ledger = await Ledger.open(empty, keys=keys)
    try:
        assert not await is_current(ledger)
        async with ledger.write() as tx:
            assert await (await tx.session.connection()).run_sync(_differences) != []
        await ledger.migrate()
        async with ledger.write() as tx:
            assert await (await tx.session.connection()).run_sync(_differences) == []
        assert await is_current(ledger)
    finally:
        await ledger.close()


async def test_every_step_keeps_what_the_ledger_held_before_it(empty: str, keys: KeyRing) -> None:
    """There are no steps back: whoever has to go back restores the backup from before the upgrade."""
    ledger = await Ledger.open(empty, keys=keys)
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    steps = [script.revision for script in scripts.walk_revisions()][::-1]
    try:
        for step in steps:
            async with ledger.write() as tx:
                await (await tx.session.connection()).run_sync(_upgrade_to, step)
                if step == steps[0]:
                    values = "('old', 'oscam', '2026-01-01 00:00:00')"
                    insert = text(f"INSERT INTO host (name, protocol, created_at) VALUES {values}")  # noqa: S608
                    await (await tx.session.connection()).execute(insert)
        assert await is_current(ledger)
        async with ledger.write() as tx:
            assert await (await tx.session.connection()).run_sync(_differences) == []
            (host,) = (await tx.session.exec(select(models.Host))).all()
            assert (host.name, host.attention) == ("old", None)
            assert host.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    finally:
        await ledger.close()


def test_the_last_migration_is_known_without_alembic() -> None:
    """Loading it would cost every command that looks whether the ledger is of its version."""
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads() == [migrations.HEAD]
    loaded = "import sys, twinline.ledger.schema; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0


async def test_migrating_again_changes_nothing(desk: Desk) -> None:
    recorded = await desk.trial()
    before = await desk.view(recorded.username)
    await desk.ledger.migrate()
    await migrate(desk.store.url)
    assert await desk.view(recorded.username) == before


async def test_a_ledger_of_a_newer_version_is_left_alone(desk: Desk) -> None:
    async with desk.ledger.write() as tx:
        await (await tx.session.connection()).execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Misconfigured, match=r"newer version of twinline \(to 9999\)") as refusal:
        await desk.ledger.migrate()
    assert "Install that version" in refusal.value.hint


@pytest.mark.parametrize("change", ["UPDATE event SET who = 'nobody'", "DELETE FROM event"])
async def test_no_event_can_be_changed_or_removed(desk: Desk, change: str) -> None:
    await desk.trial()
    before = await desk.rows(models.Event)
    with pytest.raises(IntegrityError, match="append-only"):
        async with desk.ledger.write() as tx:
            await (await tx.session.connection()).execute(text(change))
    assert await desk.rows(models.Event) == before
