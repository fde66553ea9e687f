"""What jobs did with their GPUs."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step; of jobs of before nothing is known."""
    op.add_column("job", sa.Column("gpu_use", sa.JSON(), nullable=True))
