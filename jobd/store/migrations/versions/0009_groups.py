"""Groups with numbers of their own, and what is shared with them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step; groups that are there get their numbers in the order of their names."""
    op.create_table(
        "usergroup",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_usergroup_name", "usergroup", ["name"], unique=True)
    op.execute('INSERT INTO usergroup (name) SELECT DISTINCT "group" FROM membership ORDER BY "group"')
    op.create_table(
        "autoshare",
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("group", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["user.name"]),
        sa.PrimaryKeyConstraint("user", "group"),
    )
    op.create_table(
        "jobgroup",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("group", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("job_id", "group"),
    )
    op.create_index("ix_jobgroup_of_group", "jobgroup", ["group", "job_id"])
