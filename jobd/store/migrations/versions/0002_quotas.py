"""Quotas of accounts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "quota",
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("files", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user"],
            ["user.name"],
        ),
        sa.PrimaryKeyConstraint("user"),
    )
