"""The migrations: what they make, and that a database of a former version comes along."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import inspect, text

from jobd.identity import FIRST_CLUSTER, Cluster
from jobd.job import Job
from jobd.life.life import State, fold
from jobd.store.db import JobStore
from jobd.store.schema import MIGRATIONS, metadata, upgrade
from pfs.accounts.store import Accounts
from pfs.errors import PfsError
from pfs.keys import fingerprint, make_key
from pfs.names import FIRST_GID
from pfs.quota import Limits
from pfs.sql import Database, make_engine

KEY = make_key("http://x", "s")
OLD_SPEC = {
    "name": "a",
    "title": "A title",
    "groups": [{"name": "main", "count": 1, "argv": ["sh", "-c", "x"], "image": None, "env": {}, "cpus": None}],
    "src": None,
    "max_duration_s": 60.0,
    "grace_s": 30.0,
    "priority": 40,
    "end": "all",
    "on_error": "stop",
    "private": False,
}
OLD_SPEC["groups"][0]["memory_bytes"] = None
OLD_LIFE = {
    "state": "FAILED",
    "reason": "exit code 3",
    "changed_at_ns": 9,
    "submitted_at_ns": 1,
    "started_at_ns": 5,
    "ended_at_ns": 9,
    "attempt": 1,
    "node": "cmn0",
    "exit_code": 3,
    "kill_requested": None,
    "stop_end": None,
}
OLD_EVENTS = [
    {"event": "submitted", "time_ns": 1},
    {"event": "prepared", "time_ns": 1},
    {"event": "placed", "time_ns": 4, "node": "cmn0"},
    {"event": "started", "time_ns": 5},
    {"event": "ended", "time_ns": 9, "code": 3, "reason": "", "out_of_memory": False},
]


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/x.sqlite"


def migrate(url: str, revision: str) -> None:
    """Bring a database to some version."""
    config = Config()
    config.set_main_option("script_location", str(files("jobd.store") / "migrations"))
    engine = make_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def make_old(url: str, *states: str) -> str:
    """Make a database of the version before, with a job in each of the states; return a key of its account."""
    migrate(url, "0002")
    engine = make_engine(url)
    with engine.begin() as connection:
        for number, state in enumerate(states, start=1):
            life = OLD_LIFE | {"state": state, "ended_at_ns": 9 if state == "FAILED" else None}
            insert(
                connection,
                "job",
                {"id": number, "user": "ann", "name": "a", "title": "A title", "state": state}
                | {"spec_text": b"the text", "spec": json.dumps(OLD_SPEC), "life": json.dumps(life)}
                | {"submitted_at_ns": 1, "ended_at_ns": life["ended_at_ns"], "idempotency_key": f"k{number}"},
            )
            for event in OLD_EVENTS:
                row = {"job_id": number, "time_ns": event["time_ns"], "event": json.dumps(event)}
                insert(connection, "jobevent", row)
            insert(connection, "jobname", {"user": "ann", "name": f"n{number}", "job_id": number})
        insert(connection, "user", {"name": "ann", "admin": True, "created_at_ns": 1})
        insert(connection, "key", {"fingerprint": fingerprint(KEY), "kind": "user", "user": "ann", "created_at_ns": 1})
        insert(connection, "quota", {"user": "ann", "size_bytes": 7, "files": None})
        insert(connection, "setting", {"name": "datacenter", "value": "dc1"})
        insert(
            connection,
            "node",
            {"id": "cmn0", "name": "n0", "attrs": '{"cpuCount": 4}', "runtimes": '["docker"]'}
            | {"boot_id": "b", "registered_at_ns": 1, "seen_at_ns": 2},
        )
        insert(
            connection,
            "draft",
            {"user": "ann", "name": "a.yaml", "content": b"x", "link": False, "submitted": True}
            | {"born_ns": 1, "mtime_ns": 3},
        )
    engine.dispose()
    return KEY


def insert(connection, table: str, row: dict[str, object]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    values = ", ".join(f":{name}" for name in row)
    connection.execute(text("PRAGMA defer_foreign_keys=ON"))
    connection.execute(text(f'INSERT INTO "{table}" ({names}) VALUES ({values})'), row)


def test_the_migrations_make_just_the_tables_of_the_program(url):
    upgrade(url)
    upgrade(url)
    engine = make_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata()) == []
        indices = {index["name"]: index for index in inspect(connection).get_indexes("job")}
    assert indices["ix_job_task"]["unique"]
    assert {name for name, index in indices.items() if index.get("dialect_options")} == set(indices)
    engine.dispose()


def test_a_file_of_a_step_is_named_after_its_version_and_the_newest_is_the_last():
    scripts = ScriptDirectory(str(MIGRATIONS))
    named = {Path(step.path).name.partition("_")[0]: step.revision for step in scripts.walk_revisions()}
    assert all(name == version for name, version in named.items())
    assert scripts.get_current_head() == max(named)


def test_what_a_database_that_is_up_to_date_needs_is_not_loaded(url):
    upgrade(url)
    program = f"import sys; from jobd.store.schema import upgrade; upgrade({url!r}); print('alembic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n"


def test_a_database_of_a_newer_program_is_refused(url):
    upgrade(url)
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(CommandError, match="9999"):
        upgrade(url)


def test_accounts_nodes_and_jobs_that_are_over_come_along(url, run):
    key = make_old(url, "FAILED", "FAILED")
    upgrade(url)
    database = Database(url)
    store, accounts = JobStore(database), Accounts(database, numbered=True)

    async def main() -> None:
        assert (await accounts.identify(key)).subject.user == "ann"
        assert accounts.limits_now("ann").size_bytes == 7
        assert store.setting_now("datacenter") == "dc1"
        [node] = await store.nodes()
        assert (node.id, node.attrs, node.runtimes, node.gpus) == ("cmn0", {"cpuCount": 4}, ["docker"], [])
        [draft] = await store.drafts("ann", 0)
        assert (draft.name, draft.mtime_ns) == ("a.yaml", 3)
        job = await store.job(2)
        assert isinstance(job, Job)
        assert (job.spec.groups[0].argv, job.spec.priority) == (("sh", "-c", "x"), 40)
        assert (job.life.state, job.life.exit_code, job.life.nodes) == (State.FAILED, 3, ("cmn0",))
        assert fold(await store.history(2)) == job.life
        assert await store.spec_text(2) == b"the text"
        assert await store.standing("ann", "n2") == 2
        assert [each.id for each in await store.listed("ann", 9)] == [2, 1]

    run(main)
    database.close()


def test_nodes_become_first_instances_in_one_cluster_that_nobody_is_yet(url):
    make_old(url, "FAILED")
    migrate(url, "0003")
    engine = make_engine(url)
    with engine.begin() as connection:
        insert(connection, "setting", {"name": "cluster_id", "value": "clabc"})
        insert(connection, "membership", {"group": "research", "user": "ann"})
        insert(connection, "reservation", {"node_id": "cmn0", "gpu": "", "group": "research"})
    engine.dispose()
    upgrade(url)
    database = Database(url)
    store = JobStore(database)
    assert store.clusters_now() == [Cluster("clabc", "", FIRST_CLUSTER, is_default=True)]
    [node] = store.nodes_now()
    assert (node.entry_id, node.cluster_id, node.owner, node.instance) == ("cmn0", "clabc", "", "")
    assert (node.attrs, node.boot_id, node.seen_at_ns) == ({"cpuCount": 4}, "b", 2)
    assert store.policy_now().node_groups == {"cmn0": {"research"}}
    assert Accounts(database, numbered=True).numbers_now() == [("research", FIRST_GID + 1)]
    assert store.setting_now("cluster_id") is None
    database.close()


def test_jobs_that_are_not_over_have_to_end_under_the_version_that_started_them(url):
    make_old(url, "FAILED", "RUNNING")
    for _ in range(2):
        with pytest.raises(PfsError, match="1 jobs of this datacenter are not over"):
            upgrade(url)
    engine = make_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "0002"
        assert connection.execute(text("SELECT COUNT(spec_text) FROM job")).scalar_one() == 2
    engine.dispose()


def test_what_a_home_might_hold_its_owner_may_hold(url):
    make_old(url, "FAILED")
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE quota SET size_bytes = 10, files = NULL"))
    engine.dispose()
    upgrade(url)
    database = Database(url)
    assert Accounts(database, numbered=False).limits_now("ann") == Limits(10, None)
    database.close()


def test_keys_of_nodes_stay_their_owners_and_machines_of_the_gone_are_gone(url):
    migrate(url, "0011")
    engine = make_engine(url)
    clusters = {"": "cl0", "ann": "cl1", "bob": "cl2"}
    with engine.begin() as connection:
        people = {"root": None, "ann": None, "bob": 5}
        for name, gone_ns in people.items():
            row = {"name": name, "admin": name == "root", "created_at_ns": 1, "removed_at_ns": gone_ns}
            insert(connection, "user", row)
        for kind, scopes in (("node", "admin read submit write"), ("join", ""), ("user", "admin read")):
            for name in ("root", "ann"):
                row = {"fingerprint": f"{kind} {name}", "kind": kind, "user": name, "created_at_ns": 1}
                insert(connection, "key", row | {"label": "", "scopes": scopes})
        for owner, cluster in clusters.items():
            insert(connection, "cluster", {"id": cluster, "owner": owner, "name": "c", "is_default": True})
            times = {"registered_at_ns": 1, "seen_at_ns": 2}
            what = {"attrs": "{}", "runtimes": "[]", "gpus": "[]", "boot_id": "b", "instance": "", "said": ""}
            node = {"id": f"cm{owner}", "entry_id": f"cm{owner}", "name": "n", "cluster_id": cluster, "owner": owner}
            insert(connection, "node", node | what | times)
            insert(connection, "reservation", {"node_id": f"cm{owner}", "gpu": "", "group": "lab"})
            insert(connection, "closure", {"node_id": f"cm{owner}", "by": "root", "why": "", "since_ns": 1})
    engine.dispose()
    upgrade(url)
    engine = make_engine(url)
    with engine.connect() as connection:
        scopes = dict(connection.execute(text("SELECT fingerprint, scopes FROM key")).all())
        left = {
            table: set(connection.execute(text(f"SELECT {column} FROM {table}")).scalars())
            for table, column in (("node", "id"), ("cluster", "owner"), ("reservation", "node_id"))
        }
    engine.dispose()
    assert scopes == {
        "node root": "admin read submit write",
        "node ann": "read submit write",
        "join root": "admin",
        "join ann": "",
        "user root": "admin read",
        "user ann": "admin read",
    }
    assert left == {"node": {"cm", "cmann"}, "cluster": {"", "ann"}, "reservation": {"cm", "cmann"}}
