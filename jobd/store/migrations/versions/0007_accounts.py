"""Passwords, invitations, accounts that were removed, and keys that end."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step; keys of before never end, and open what they opened."""
    op.add_column("user", sa.Column("password", sa.String(), nullable=True))
    op.add_column("user", sa.Column("removed_at_ns", sa.BigInteger(), nullable=True))
    op.add_column("key", sa.Column("label", sa.String(), nullable=False, server_default=""))
    op.add_column("key", sa.Column("scopes", sa.String(), nullable=False, server_default="admin read submit write"))
    for name in ("expires_at_ns", "idle_ns", "used_at_ns"):
        op.add_column("key", sa.Column(name, sa.BigInteger(), nullable=True))
    op.create_table(
        "invitation",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.Column("until_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
