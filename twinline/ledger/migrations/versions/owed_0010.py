"""Halves remember what the customer still has to be told of them; of lines that are there nothing new is told."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("half", sa.Column("owed", sa.String(128)))
    where = sa.text("owed IS NOT NULL")
    op.create_index("ix_half_owed", "half", ["host"], sqlite_where=where, postgresql_where=where)
