"""Moves: which halves a line leaves, until when they are kept, and since when they must hold it no longer."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("half", sa.Column("leaving_order", sa.String(16)))
    op.add_column("half", sa.Column("leaves_at", sa.DateTime(timezone=True)))
    op.add_column("half", sa.Column("left_at", sa.DateTime(timezone=True)))
