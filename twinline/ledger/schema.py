"""Tells whether the ledger's tables are those of this version, without changing them."""

from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.orm import Session

from twinline.errors import Misconfigured
from twinline.ledger import migrations
from twinline.ledger.engine import Ledger


async def is_current(ledger: Ledger) -> bool:
    """Whether every migration of this version, and no later one, was carried out; raises Unavailable."""
    async with ledger.read() as tx:
        return await tx.session.run_sync(_at_head)


async def require_current(ledger: Ledger) -> None:
    """Raises Misconfigured unless the tables are those of this version, Unavailable."""
    if not await is_current(ledger):
        raise Misconfigured(
            "the ledger is not of this version of twinline",
            hint="Start this version's `twinline worker` once: it brings an older ledger up to date. For a newer one "
            "install the newer twinline here too.",
        )


def _at_head(session: Session) -> bool:
    config = Config()
    # "%" means something to the configuration's own parser.
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    done = MigrationContext.configure(session.connection()).get_current_heads()
    return set(done) == set(ScriptDirectory.from_config(config).get_heads())
