"""Accounts have full names and e-mail addresses, groups have titles, and may be gone."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step; of who is there already nothing more is known."""
    for table, name in (("user", "fullname"), ("user", "email"), ("usergroup", "title")):
        op.add_column(table, sa.Column(name, sa.String(), nullable=False, server_default=""))
    op.add_column("usergroup", sa.Column("removed_at_ns", sa.BigInteger(), nullable=True))
