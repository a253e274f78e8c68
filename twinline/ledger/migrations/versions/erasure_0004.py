"""Erasure: since when nothing of a line is left that tells whose it was."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("line", sa.Column("erased_at", sa.DateTime(timezone=True)))
