"""Keys of nodes that are their owners' own for good, and no machines of accounts that are gone."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_RULES = '"user" IN (SELECT name FROM "user" WHERE admin)'
_GONE = "owner <> '' AND owner NOT IN (SELECT name FROM \"user\" WHERE removed_at_ns IS NULL)"


def upgrade() -> None:
    """Apply this step; whose owner is no administrator now is a key for nodes of that owner."""
    op.execute(f"UPDATE key SET scopes = 'read submit write' WHERE kind = 'node' AND NOT {_RULES}")
    op.execute(f"UPDATE key SET scopes = 'admin' WHERE kind = 'join' AND {_RULES}")
    for table in ("closure", "reservation"):
        op.execute(f"DELETE FROM {table} WHERE node_id IN (SELECT id FROM node WHERE {_GONE})")
    for table in ("node", "cluster"):
        op.execute(f"DELETE FROM {table} WHERE {_GONE}")
