"""What waits can be counted without going through everything there ever was."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    for name, table, column, waits in (
        ("ix_mail_waiting", "mail", "created_at", "state NOT IN ('accepted', 'refused')"),
        ("ix_grant_open", "grant", "ends_at", "ended_at IS NULL"),
    ):
        where = sa.text(waits)
        op.create_index(name, table, [column], sqlite_where=where, postgresql_where=where)
