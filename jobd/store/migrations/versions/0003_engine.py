"""Gangs, arrays and GPUs; groups of accounts, and what is reserved for them.

What is asked for moves out of the row of a job, which is written at every event. Jobs that are over are taken along:
their history is put into the words of today, and from it follows where they stand. Jobs that are not over are
refused: what runs on a node is known to it by what the former version wrote, so they have to end under that version.
"""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from pfs.errors import Kind, PfsError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ENDS = ("SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_LOST")
_NEW_OF_JOB: Mapping[str, Any] = {
    "continue_from": None,
    "retry": None,
    "depends_on": [],
    "array": None,
    "git": None,
    "mounts": [],
    "hold": False,
    "shm_bytes": None,
    "paddle": None,
}
_NEW_OF_GROUP: Mapping[str, Any] = {"gpus": [], "nodes": [], "require": [], "service": False}


def upgrade() -> None:
    """Apply this step."""
    _refuse_what_is_not_over()
    _administration()
    _texts_and_nodes()
    _new_columns()
    _take_along()
    _old_columns()


def _refuse_what_is_not_over() -> None:
    query = sa.text("SELECT COUNT(*) FROM job WHERE state NOT IN :ends").bindparams(
        sa.bindparam("ends", _ENDS, expanding=True)
    )
    count = op.get_bind().execute(query).scalar_one()
    if count:
        raise PfsError(
            Kind.INVALID,
            f"{count} jobs of this datacenter are not over: let them end, or kill them, with the version of pfs that"
            " started them, and then start this one",
        )


def _administration() -> None:
    op.create_table(
        "membership",
        sa.Column("group", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["user.name"]),
        sa.PrimaryKeyConstraint("group", "user"),
    )
    op.create_index("ix_membership_user", "membership", ["user"], unique=False)
    op.create_table(
        "reservation",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("gpu", sa.String(), nullable=False),
        sa.Column("group", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"]),
        sa.PrimaryKeyConstraint("node_id", "gpu", "group"),
    )
    op.create_table(
        "alias",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sa.UniqueConstraint("model"),
    )
    op.create_table(
        "network",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("swarm", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "usage",
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["user.name"]),
        sa.PrimaryKeyConstraint("user"),
    )


def _texts_and_nodes() -> None:
    op.add_column("node", sa.Column("gpus", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("draft", sa.Column("kept_at_ns", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE draft SET kept_at_ns = mtime_ns")
    op.drop_index("ix_draft_mtime_ns", "draft")
    op.create_index("ix_draft_kept", "draft", ["user", "kept_at_ns"], unique=False)
    op.create_index(
        "ix_draft_scratch",
        "draft",
        ["kept_at_ns"],
        unique=False,
        sqlite_where=sa.text("submitted = 0"),
        postgresql_where=sa.text("NOT submitted"),
    )
    op.create_index("ix_jobname_job_id", "jobname", ["job_id"], unique=False)


def _new_columns() -> None:
    op.create_table(
        "jobspec",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.add_column("job", sa.Column("changed_at_ns", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("job", sa.Column("removed_at_ns", sa.BigInteger(), nullable=True))


def _old_columns() -> None:
    for name in ("ix_job_ended_at_ns", "ix_job_state", "ix_job_user"):
        op.drop_index(name, "job")
    # not as a batch, which makes the table anew: other tables refer to it
    op.add_column("job", sa.Column("array_id", sa.Integer(), sa.ForeignKey("job.id")), inline_references=True)
    op.add_column("job", sa.Column("array_index", sa.Integer()))
    op.drop_column("job", "spec_text")
    op.drop_column("job", "spec")
    shown = "array_id IS NULL AND removed_at_ns IS NULL"
    for name, columns, where in (
        ("ix_job_not_over", ["id"], "ended_at_ns IS NULL"),
        ("ix_job_shown", ["ended_at_ns"], shown),
        ("ix_job_shown_of_user", ["user", "ended_at_ns"], shown),
    ):
        _partial_index(name, columns, where, unique=False)
    _partial_index("ix_job_task", ["array_id", "array_index"], "array_id IS NOT NULL", unique=True)


def _partial_index(name: str, columns: list[str], where: str, *, unique: bool) -> None:
    kept = sa.text(where)
    op.create_index(name, "job", columns, unique=unique, sqlite_where=kept, postgresql_where=kept)


# ---- what is taken along


def _take_along() -> None:
    database = op.get_bind()
    database.execute(sa.text("INSERT INTO jobspec (job_id, text, spec) SELECT id, spec_text, spec FROM job"))
    keep = sa.text("UPDATE job SET life = :life, changed_at_ns = :changed_at_ns WHERE id = :id")
    keep_spec = sa.text("UPDATE jobspec SET spec = :spec WHERE job_id = :id")
    keep_event = sa.text("UPDATE jobevent SET event = :event WHERE id = :id")
    history = sa.text("SELECT id, event FROM jobevent WHERE job_id = :id ORDER BY id")
    for job in database.execute(sa.text("SELECT id, spec, life FROM job ORDER BY id")).all():
        spec, life = _spec(_json(job.spec)), _json(job.life)
        events = {row.id: _json(row.event) for row in database.execute(history, {"id": job.id})}
        new = json.dumps(_life(life, spec, list(events.values())))
        database.execute(keep_spec, {"id": job.id, "spec": json.dumps(spec)})
        database.execute(keep, {"id": job.id, "life": new, "changed_at_ns": life["changed_at_ns"]})
        for event_id, event in events.items():
            database.execute(keep_event, {"id": event_id, "event": json.dumps(_event(event, spec))})


def _json(value: Any) -> dict[str, Any]:
    """Return a JSON column as its driver gives it to a plain statement: text, or decoded."""
    return dict(json.loads(value) if isinstance(value, str) else value)


def _spec(spec: dict[str, Any]) -> dict[str, Any]:
    groups = [{**_NEW_OF_GROUP} | group for group in spec["groups"]]
    return {**_NEW_OF_JOB} | spec | {"groups": groups}


def _terms(spec: Mapping[str, Any]) -> dict[str, Any]:
    terms = {key: spec[key] for key in ("end", "on_error", "priority", "max_duration_s")}
    return terms | {"services": [False], "retries": 0, "retry_on": [], "fetches": False, "is_array": False}


def _event(event: dict[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    match event["event"]:
        case "submitted":
            return event | {"terms": _terms(spec), "held_by": ""}
        case "placed":
            return {key: event[key] for key in ("event", "time_ns")} | {"places": [{"node": event["node"], "gpus": []}]}
    return event


def _life(life: dict[str, Any], spec: Mapping[str, Any], events: list[dict[str, Any]]) -> dict[str, Any]:
    kept = {key: value for key, value in life.items() if key != "node"}
    terms = _terms(spec)
    process = None if life["node"] is None else _process(life, events)
    return kept | {
        "terms": terms,
        "priority": terms["priority"],
        "max_duration_s": terms["max_duration_s"],
        "processes": [] if process is None else [process],
        "fetched": process is not None,
        "placed_at_ns": next((event["time_ns"] for event in events if event["event"] == "placed"), None),
        "first_failure": None if process is None or process["failed"] is None else 0,
    }


def _process(life: Mapping[str, Any], events: list[dict[str, Any]]) -> dict[str, Any]:
    last = next(event for event in reversed(events) if event["event"] in ("ended", "start-failed", "node-lost"))
    return {
        "node": life["node"],
        "gpus": [],
        "started_at_ns": life["started_at_ns"],
        "ended_at_ns": life["ended_at_ns"],
        "code": last.get("code", 125),
        "reason": last.get("reason", last.get("text", "")),
        "failed": life["state"] if life["state"] in ("FAILED", "OUT_OF_MEMORY", "NODE_LOST") else None,
        "result": "",
    }
