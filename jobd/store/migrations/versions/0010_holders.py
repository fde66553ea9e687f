"""Quotas of groups as well as users, and quotas of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step; what homes may hold, their owners may hold."""
    op.create_table(
        "newquota",
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("files", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("holder"),
    )
    op.execute('INSERT INTO newquota (holder, size_bytes, files) SELECT "user", size_bytes, files FROM quota')
    op.drop_table("quota")
    op.rename_table("newquota", "quota")
    op.create_table(
        "jobquota",
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=True),
        sa.Column("waiting", sa.Integer(), nullable=True),
        sa.Column("gpus", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("holder"),
    )
