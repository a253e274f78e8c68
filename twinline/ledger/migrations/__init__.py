"""The ledger's tables over time; each migration serves SQLite and PostgreSQL."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from twinline.errors import Misconfigured


def upgrade(connection: Connection) -> None:
    """Bring the tables to this version inside the connection's transaction.

    Raises Misconfigured when a newer version of twinline has changed them: going on could spoil its data.
    """
    config = Config()
    # "%" means something to the configuration's own parser.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    unknown = set(MigrationContext.configure(connection).get_current_heads()) - known
    if unknown:
        raise Misconfigured(
            f"the ledger was migrated by a newer version of twinline (to {', '.join(sorted(unknown))})",
            hint="Install that version here too, or restore the backup from before the upgrade.",
        )
    command.upgrade(config, "head")
