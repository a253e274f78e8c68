"""Texts of mails that are to be forgotten are found without reading the others."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    where = sa.text("length(body_sealed) > 0")
    op.create_index("ix_mail_kept", "mail", ["created_at"], sqlite_where=where, postgresql_where=where)
