"""Cancellations: when an order was taken back, and which orders must not be taken any more."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("order", sa.Column("cancelled_at", sa.DateTime(timezone=True)))
    op.create_table(
        "withdrawal",
        sa.Column("identity", sa.String(255), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.String(32), nullable=False),
        sa.Column("why", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("identity", name="pk_withdrawal"),
    )
