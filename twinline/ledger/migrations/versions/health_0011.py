"""Short looks at hosts, and for which error a host is down."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("host", sa.Column("down_code", sa.String(64)))
    op.create_table(
        "health_sample",
        sa.Column("host", sa.String(32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("code", sa.String(64)),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("host", "at", name=op.f("pk_health_sample")),
    )
