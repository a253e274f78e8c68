"""The ledger's tables over time; each migration serves SQLite and PostgreSQL.

A file in `versions` ends in the number of its migration, each of which follows the one before.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, column, inspect, select, table

from twinline.errors import Misconfigured

_FOLDER: Final = Path(__file__).parent
HEAD: Final = max(path.stem.rpartition("_")[2] for path in (_FOLDER / "versions").glob("*.py"))
"""The last one."""
_DONE: Final = table("alembic_version", column("version_num"))
"""Where Alembic keeps the last one that was carried out."""


def is_at_head(connection: Connection) -> bool:
    """Whether every migration of this version, and no later one, was carried out."""
    if not inspect(connection).has_table(_DONE.name):
        return False
    return set(connection.scalars(select(_DONE.c.version_num))) == {HEAD}


def upgrade(connection: Connection) -> None:
    """Bring the tables to this version inside the connection's transaction.

    Raises Misconfigured when a newer version of twinline has changed them: going on could spoil its data.
    """
    if is_at_head(connection):
        return
    # Loading it takes a while, which a ledger that is of this version should not cost.
    from alembic import command  # noqa: PLC0415 - slow
    from alembic.config import Config  # noqa: PLC0415 - slow
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - slow
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - slow

    config = Config()
    # "%" means something to the configuration's own parser.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    unknown = set(MigrationContext.configure(connection).get_current_heads()) - known
    if unknown:
        raise Misconfigured(
            f"the ledger was migrated by a newer version of twinline (to {', '.join(sorted(unknown))})",
            hint="Install that version here too, or restore the backup from before the upgrade.",
        )
    command.upgrade(config, "head")
