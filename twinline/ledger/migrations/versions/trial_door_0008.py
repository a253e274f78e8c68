"""The trial door, and how many requests a token may send."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("api_token", sa.Column("rate", sa.Integer(), nullable=False, server_default="600"))
    op.create_table(
        "trial_request",
        sa.Column("identity", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary()),
        sa.Column("person_hash", sa.LargeBinary(), nullable=False),
        sa.Column("range_hash", sa.LargeBinary()),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_trial_request")),
    )
    op.create_index(op.f("ix_trial_request_person_hash"), "trial_request", ["person_hash"])
    op.create_index(op.f("ix_trial_request_range_hash_at"), "trial_request", ["range_hash", "at"])
