"""The spine: hosts, pairs, lines with their grants, blocks and halves, orders, events, mails, fences."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "fence",
        sa.Column("host", sa.String(32), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_fence")),
    )
    op.create_table(
        "host",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("protocol", sa.String(16), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("down_since", _MOMENT),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_host")),
    )
    op.create_table(
        "pair",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("multics", sa.String(32), nullable=False),
        sa.Column("oscam", sa.String(32), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["multics"], ["host.name"], name=op.f("fk_pair_multics")),
        sa.ForeignKeyConstraint(["oscam"], ["host.name"], name=op.f("fk_pair_oscam")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pair")),
    )
    op.create_index(op.f("ix_pair_region"), "pair", ["region"])
    op.create_table(
        "line",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("username", sa.String(20), nullable=False),
        sa.Column("username_casefold", sa.String(20), nullable=False),
        sa.Column("password_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("email_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("person_hash", sa.LargeBinary(), nullable=False),
        sa.Column("pair", sa.String(32), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("ends_at", _MOMENT),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("closed_at", _MOMENT),
        sa.ForeignKeyConstraint(["pair"], ["pair.name"], name=op.f("fk_line_pair")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_line")),
        sa.UniqueConstraint("username", name=op.f("uq_line_username")),
        sa.UniqueConstraint("username_casefold", name=op.f("uq_line_username_casefold")),
    )
    op.create_index(op.f("ix_line_pair_state"), "line", ["pair", "state"])
    op.create_index(op.f("ix_line_person_hash"), "line", ["person_hash"])
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("who", sa.String(32), nullable=False),
        sa.Column("what", sa.String(32), nullable=False),
        sa.Column("why", sa.String(255), nullable=False),
        sa.Column("line_id", sa.String(16)),
        sa.Column("before", sa.Text()),
        sa.Column("after", sa.Text()),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_event_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index(op.f("ix_event_line_id"), "event", ["line_id"])
    op.create_table(
        "half",
        sa.Column("line_id", sa.String(16), nullable=False),
        sa.Column("host", sa.String(32), nullable=False),
        sa.Column("protocol", sa.String(16), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("proven", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("proven_state", sa.String(16)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String(64)),
        sa.Column("next_attempt", _MOMENT),
        sa.Column("proven_at", _MOMENT),
        sa.Column("behind_since", _MOMENT),
        sa.ForeignKeyConstraint(["host"], ["host.name"], name=op.f("fk_half_host")),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_half_line_id")),
        sa.PrimaryKeyConstraint("line_id", "host", name=op.f("pk_half")),
    )
    op.create_index(
        "ix_half_behind",
        "half",
        ["host"],
        sqlite_where=sa.text("wanted > proven"),
        postgresql_where=sa.text("wanted > proven"),
    )
    op.create_index(op.f("ix_half_host"), "half", ["host"])
    op.create_table(
        "mail",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("line_id", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("ref", sa.String(128), nullable=False),
        sa.Column("message_id", sa.String(255), nullable=False),
        sa.Column("body_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String(64)),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("accepted_at", _MOMENT),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_mail_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail")),
        sa.UniqueConstraint("line_id", "kind", "ref", name=op.f("uq_mail_line_id_kind_ref")),
    )
    op.create_table(
        "order",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("identity", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("caller", sa.String(32), nullable=False),
        sa.Column("ref", sa.String(128), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("line_id", sa.String(16), nullable=False),
        sa.Column("grant_id", sa.String(16)),
        sa.Column("block_id", sa.String(16)),
        sa.Column("recorded", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.String(255), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("settled_at", _MOMENT),
        sa.Column("receipt", sa.Text()),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_order_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order")),
        sa.UniqueConstraint("identity", name=op.f("uq_order_identity")),
    )
    op.create_index(op.f("ix_order_caller_ref"), "order", ["caller", "ref"])
    op.create_index(op.f("ix_order_created_at_id"), "order", ["created_at", "id"])
    op.create_index(op.f("ix_order_line_id"), "order", ["line_id"])
    op.create_table(
        "block",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("line_id", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(16), nullable=False),
        sa.Column("case", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(32), nullable=False),
        sa.Column("order_id", sa.String(16), nullable=False),
        sa.Column("set_at", _MOMENT, nullable=False),
        sa.Column("until", _MOMENT),
        sa.Column("lifted_at", _MOMENT),
        sa.Column("lifted_by_order_id", sa.String(16)),
        sa.ForeignKeyConstraint(["lifted_by_order_id"], ["order.id"], name=op.f("fk_block_lifted_by_order_id")),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_block_line_id")),
        sa.ForeignKeyConstraint(["order_id"], ["order.id"], name=op.f("fk_block_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_block")),
    )
    op.create_index(op.f("ix_block_line_id"), "block", ["line_id"])
    op.create_index(
        "uq_block_active",
        "block",
        ["line_id", "owner", "case"],
        unique=True,
        sqlite_where=sa.text("lifted_at IS NULL"),
        postgresql_where=sa.text("lifted_at IS NULL"),
    )
    op.create_table(
        "grant",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("line_id", sa.String(16), nullable=False),
        sa.Column("order_id", sa.String(16), nullable=False),
        sa.Column("plan", sa.String(16), nullable=False),
        sa.Column("starts_at", _MOMENT, nullable=False),
        sa.Column("ends_at", _MOMENT, nullable=False),
        sa.Column("started_late_at", _MOMENT),
        sa.Column("ended_at", _MOMENT),
        sa.Column("ending", sa.String(16)),
        sa.Column("ended_revision", sa.Integer()),
        sa.ForeignKeyConstraint(["line_id"], ["line.id"], name=op.f("fk_grant_line_id")),
        sa.ForeignKeyConstraint(["order_id"], ["order.id"], name=op.f("fk_grant_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grant")),
        sa.UniqueConstraint("order_id", name=op.f("uq_grant_order_id")),
    )
    op.create_index(op.f("ix_grant_line_id"), "grant", ["line_id"])
    op.create_table(
        "trial",
        sa.Column("person_hash", sa.LargeBinary(), nullable=False),
        sa.Column("order_id", sa.String(16), nullable=False),
        sa.Column("used_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["order.id"], name=op.f("fk_trial_order_id")),
        sa.PrimaryKeyConstraint("person_hash", name=op.f("pk_trial")),
    )

    _refuse_changes_of_events()


def _refuse_changes_of_events() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'event is append-only' USING ERRCODE = 'restrict_violation'; END $$"
        )
        op.execute(
            "CREATE TRIGGER event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event "
            "FOR EACH STATEMENT EXECUTE FUNCTION event_is_append_only()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER event_no_{change.lower()} BEFORE {change} ON event "
            "BEGIN SELECT RAISE(ABORT, 'event is append-only'); END"
        )
