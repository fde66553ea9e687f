"""Keys of nodes that are bound to their machines."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step; keys of before are good for any machine."""
    op.add_column("key", sa.Column("machine", sa.String(), nullable=False, server_default=""))
    op.create_index("ix_key_machine", "key", ["machine"])
