"""A database with a long history: many finished jobs, made by SQL from one that really ran through the store."""

import sqlite3
import time
from pathlib import Path

import trio

from jobd.life.events import Ended, Event, Place, Placed, Prepared, Started, Submitted
from jobd.life.life import fold
from jobd.spec.spec import parse_spec
from jobd.store.db import JobStore
from jobd.store.jobs import DAY_NS, LISTED_DAYS
from jobd.store.tables import DraftRow
from pfs.accounts.store import Accounts
from pfs.sql import Database

SECOND_NS = 1_000_000_000
SPEC = b"command: python train.py --epochs 90\nimage: python:3.11-slim\nresources: '[]'\n"


def fill(data_root: str | Path, count: int, *, recent: int = 0) -> None:
    """Add `count` finished jobs of the first account to the database of a data root that nobody serves now.

    Args:
        recent: so many of them ended within the days that listings show, the others in the two years before.
    """
    file = str(Path(data_root, "server/pfs.sqlite"))
    now_ns = time.time_ns()
    listed_ns = LISTED_DAYS * DAY_NS
    first = trio.run(_finish_one, file, now_ns)
    database = sqlite3.connect(file, isolation_level=None)
    # what is written here is of no use where it is not whole: nothing is written twice for that
    database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-500000")
    database.execute("BEGIN EXCLUSIVE")
    last = database.execute("SELECT MAX(id) FROM job").fetchone()[0]
    # times of ends grow with the numbers, as they do in life
    old, new = count - 1 - recent, max(recent, 1)
    database.execute(
        "CREATE TEMP TABLE made AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
        " SELECT i + :last AS id, CASE WHEN i <= :old THEN :now - :listed - (:old - i + 1) * (730 * :day / :count)"
        " ELSE :now - (:count - i + 1) * (:listed / :new) + :listed / :new / 2 END AS ended FROM n",
        {"count": count - 1, "last": last, "old": old, "now": now_ns, "listed": listed_ns, "day": DAY_NS, "new": new},
    )
    columns = "user, name, title, state, life"
    database.execute(
        f"INSERT INTO job (id, {columns}, submitted_at_ns, changed_at_ns, ended_at_ns)"
        f" SELECT made.id, {columns}, ended - 60000000000, ended, ended FROM made, job WHERE job.id = ?",
        (first,),
    )
    database.execute(
        "INSERT INTO jobspec (job_id, text, spec) SELECT made.id, text, spec FROM made, jobspec WHERE job_id = ?",
        (first,),
    )
    database.execute(
        "INSERT INTO jobevent (job_id, time_ns, event) SELECT made.id, ended, event FROM made, jobevent"
        " WHERE jobevent.job_id = ? ORDER BY made.id, jobevent.id",
        (first,),
    )
    database.execute("DROP TABLE made")
    database.execute("COMMIT")
    database.execute("PRAGMA journal_mode=WAL")
    database.close()


async def _finish_one(file: str, now_ns: int) -> int:
    """Make one job and let it end; return its number."""
    database = Database(f"sqlite:///{file}")
    user = (await Accounts(database, numbered=False).users())[0].user
    ended_ns = now_ns - 800 * DAY_NS
    spec = parse_spec(SPEC, "old")
    begun: list[Event] = [Submitted(time_ns=ended_ns - 60 * SECOND_NS), Prepared(time_ns=ended_ns - 60 * SECOND_NS)]
    rest: list[Event] = [
        Placed(time_ns=ended_ns - 59 * SECOND_NS, places=(Place("cmold"),)),
        Started(time_ns=ended_ns - 58 * SECOND_NS),
        Ended(time_ns=ended_ns, code=0),
    ]
    draft = DraftRow(user=user, name="old.yaml", content=SPEC, submitted=True, born_ns=now_ns, mtime_ns=now_ns)
    store = JobStore(database)
    [job], _ = await store.submit(draft, ["old"], spec=spec, events=begun, life=fold(begun), key=None)
    await store.record(job.id, rest, fold([*begun, *rest]))
    database.close()
    return job.id
