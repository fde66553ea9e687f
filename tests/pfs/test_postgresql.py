"""The database where it is PostgreSQL: one writer at a time there as well. Skipped where it, or its driver, is not."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest

from jobd.store.schema import upgrade
from pfs.accounts.store import Accounts
from pfs.audit.record import follow_all
from pfs.sql import Database, _begin_postgresql

RECORDS, HANG_S = 200, 300
INITDB = shutil.which("initdb") or next(iter(sorted(glob("/usr/lib/postgresql/*/bin/initdb"))), None)

WRITER = """
import sys
from pfs.accounts.store import Accounts
from pfs.sql import Database
accounts = Accounts(Database(sys.argv[1]), numbered=True)
for number in range(int(sys.argv[3])):
    accounts.add_user_now(f"{sys.argv[2]}{number}", admin=False)
"""


class Connection:
    """A connection that notes what it is asked for."""

    def __init__(self, **options: bool) -> None:
        self._options = options
        self.asked: list[str] = []

    def get_execution_options(self) -> dict[str, bool]:
        return self._options

    def exec_driver_sql(self, statement: str) -> None:
        self.asked.append(statement)


def test_who_writes_takes_the_lock_of_all_who_do_and_who_reads_takes_none() -> None:
    writing, reading = Connection(), Connection(writes=False)
    _begin_postgresql(writing)
    _begin_postgresql(reading)
    assert [statement.startswith("SELECT pg_advisory_xact_lock(") for statement in writing.asked] == [True]
    assert reading.asked == []


@pytest.fixture
def url() -> Iterator[str]:
    """A PostgreSQL of the test's own, on a Unix socket; it does not run as root."""
    if INITDB is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("there is no PostgreSQL here, or no psycopg")
    user = _other_than_root()
    with tempfile.TemporaryDirectory(prefix="pfs-sql-", ignore_cleanup_errors=True) as directory:
        if user is not None:
            os.chown(directory, pwd.getpwnam(user).pw_uid, -1)
        data, binaries = f"{directory}/data", Path(INITDB).resolve().parent

        def call(program: str, *words: str) -> None:
            subprocess.run(
                [binaries / program, "-D", data, *words],
                check=True,
                timeout=HANG_S,
                user=user,
                stdout=subprocess.DEVNULL,
                cwd="/",
            )

        call("initdb", "-A", "trust", "-U", "pfs", "-N")
        call("pg_ctl", "-w", "-l", f"{directory}/log", "-o", f"-k {directory} -c listen_addresses=", "start")
        try:
            yield f"postgresql+psycopg://pfs@/postgres?host={directory}"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")


def _other_than_root() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def test_two_processes_that_write_at_once_fail_nothing_and_leave_the_audit_log_whole(url: str) -> None:
    upgrade(url)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, url, name, str(RECORDS)]) for name in ("a", "b")]
    assert [writer.wait(HANG_S) for writer in writers] == [0, 0]
    database = Database(url)
    try:
        audit = Accounts(database, numbered=True).audit
        assert follow_all(audit.lines_now()).number == 2 * RECORDS
    finally:
        database.close()
