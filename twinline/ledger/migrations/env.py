"""Alembic's entry: runs on the connection that `twinline.ledger.migrate` hands over, inside its transaction."""

from alembic import context
from sqlalchemy import Connection

from twinline.ledger.models import Row

connection = context.config.attributes["connection"]
if not isinstance(connection, Connection):
    raise TypeError("migrations are started by twinline.ledger.migrate alone")
context.configure(
    connection=connection,
    target_metadata=Row.metadata,
    # SQLite changes most of a table only by copying it.
    render_as_batch=True,
    # Both databases roll a failed migration back as a whole.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
