"""Clusters; nodes with several instances, known again by a token instead of their name, and nodes of users.

All that is there is the datacenter's: its nodes are the first instances of as many nodes, in one cluster, which is the
default. Which machine each is, is found out when it says hello under its name.
"""

import json
import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FIRST_CLUSTER = "GradientNode Cluster"


def upgrade() -> None:
    """Apply this step."""
    database = op.get_bind()
    nodes = [dict(row) for row in database.execute(sa.text("SELECT * FROM node ORDER BY id")).mappings()]
    reservations = [dict(row) for row in database.execute(sa.text("SELECT * FROM reservation")).mappings()]
    cluster_id = database.execute(sa.text("SELECT value FROM setting WHERE name = 'cluster_id'")).scalar()
    # a table that others refer to is not changed in place by SQLite: both are made anew
    op.drop_table("reservation")
    op.drop_table("node")
    _tables()
    if nodes:
        cluster_id = cluster_id or f"cl{secrets.token_hex(4)}"
        _insert("cluster", [{"id": cluster_id, "owner": "", "name": FIRST_CLUSTER, "is_default": True}])
    new = {"cluster_id": cluster_id, "owner": "", "instance": "", "said": ""}
    _insert("node", [{**node, "entry_id": node["id"], **new} for node in nodes])
    _insert("reservation", reservations)
    op.execute("DELETE FROM setting WHERE name = 'cluster_id'")


def _tables() -> None:
    op.create_table(
        "cluster",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("owner", "name"),
    )
    op.create_table(
        "node",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("entry_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("cluster_id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("said", sa.String(), nullable=False),
        sa.Column("attrs", sa.JSON(), nullable=False),
        sa.Column("runtimes", sa.JSON(), nullable=False),
        sa.Column("gpus", sa.JSON(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("registered_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_node_entry_id", "node", ["entry_id"], unique=False)
    op.create_table(
        "reservation",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("gpu", sa.String(), nullable=False),
        sa.Column("group", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"]),
        sa.PrimaryKeyConstraint("node_id", "gpu", "group"),
    )


def _insert(table: str, rows: list[dict[str, Any]]) -> None:
    """Put rows into a table, as they were read by a plain statement: JSON as text, or decoded by the driver."""
    for read in rows:
        row = {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in read.items()}
        columns = ", ".join(f'"{name}"' for name in row)
        values = ", ".join(f":{name}" for name in row)
        op.get_bind().execute(sa.text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), row)
