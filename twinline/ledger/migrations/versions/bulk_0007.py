"""Bulk runs: what was asked for, and each item with its result."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "bulk",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("identity", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("caller", sa.String(32), nullable=False),
        sa.Column("run", sa.String(48), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("settled_at", _MOMENT),
        sa.Column("cancelled_at", _MOMENT),
        sa.Column("cancelled_by", sa.String(32)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bulk")),
        sa.UniqueConstraint("identity", name=op.f("uq_bulk_identity")),
    )
    op.create_index(op.f("ix_bulk_created_at_id"), "bulk", ["created_at", "id"])
    op.create_table(
        "bulk_item",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("bulk_id", sa.String(16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("identity", sa.String(255)),
        sa.Column("line_id", sa.String(16)),
        sa.Column("person_hash", sa.LargeBinary()),
        sa.Column("body_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("error", sa.String(64)),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("retryable", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["bulk_id"], ["bulk.id"], name=op.f("fk_bulk_item_bulk_id")),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_bulk_item_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bulk_item")),
        sa.UniqueConstraint("bulk_id", "number", name=op.f("uq_bulk_item_bulk_id_number")),
    )
    op.create_index(op.f("ix_bulk_item_line_id"), "bulk_item", ["line_id"])
    op.create_index(op.f("ix_bulk_item_person_hash"), "bulk_item", ["person_hash"])
