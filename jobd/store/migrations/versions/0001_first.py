"""The first schema: accounts, keys, jobs with their events and names, texts in jobs/, nodes, settings."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step."""
    _accounts()
    _jobs()
    _texts()
    _nodes_and_settings()


def _accounts() -> None:
    op.create_table(
        "user",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.Column("created_at_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_user_name", "user", ["name"], unique=True)
    op.create_table(
        "key",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("created_at_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user"],
            ["user.name"],
        ),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
    op.create_index("ix_key_user", "key", ["user"], unique=False)


def _jobs() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("spec_text", sa.LargeBinary(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("life", sa.JSON(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("submitted_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_ns", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user"],
            ["user.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user", "idempotency_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_ended_at_ns", "job", ["ended_at_ns"], unique=False)
    op.create_index("ix_job_state", "job", ["state"], unique=False)
    op.create_index("ix_job_user", "job", ["user"], unique=False)
    op.create_table(
        "jobevent",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_jobevent_job_id", "jobevent", ["job_id"], unique=False)
    op.create_table(
        "jobname",
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user"],
            ["user.name"],
        ),
        sa.PrimaryKeyConstraint("user", "name"),
    )


def _texts() -> None:
    op.create_table(
        "draft",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("link", sa.Boolean(), nullable=False),
        sa.Column("submitted", sa.Boolean(), nullable=False),
        sa.Column("born_ns", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user"],
            ["user.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user", "name"),
    )
    op.create_index("ix_draft_mtime_ns", "draft", ["mtime_ns"], unique=False)
    op.create_table(
        "droperror",
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user"],
            ["user.name"],
        ),
        sa.PrimaryKeyConstraint("user", "name"),
    )


def _nodes_and_settings() -> None:
    op.create_table(
        "node",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("attrs", sa.JSON(), nullable=False),
        sa.Column("runtimes", sa.JSON(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("registered_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
