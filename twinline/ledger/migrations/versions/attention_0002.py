"""Remember what waits for a person: a half for its record, a host for itself."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("half", sa.Column("attention", sa.String(64)))
    op.add_column("host", sa.Column("attention", sa.String(64)))
