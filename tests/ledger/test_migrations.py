"""The migrations make exactly the tables that the code uses, and protect what must not change."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlmodel import text

from tests.ledger.support import Desk
from twinline.errors import Misconfigured
from twinline.keys import KeyRing
from twinline.ledger import Ledger, migrate, models


def _differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), models.Row.metadata))


async def test_an_empty_database_gets_exactly_the_tables_of_the_code(tmp_path: Path, keys: KeyRing) -> None:
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", keys=keys)
    try:
        async with ledger.write() as tx:
            assert await (await tx.session.connection()).run_sync(_differences) != []
        await ledger.migrate()
        async with ledger.write() as tx:
            assert await (await tx.session.connection()).run_sync(_differences) == []
    finally:
        await ledger.close()


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
