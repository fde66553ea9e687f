"""The database: one engine, one writer at a time, all of it in worker threads.

SQLite is tuned to lose nothing that was acknowledged: WAL with `synchronous=FULL` (a power cut with NORMAL loses the
last transactions), and every transaction that will write begins as IMMEDIATE (one that read first and writes
afterwards fails at once with SQLITE_BUSY_SNAPSHOT, and no waiting helps).
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import trio
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from pfs.errors import Kind, PfsError

T = TypeVar("T")

READERS_MAX = 8
BUSY_TIMEOUT_MS = 10_000


def make_engine(url: str) -> Engine:
    """Return an engine for `url`, with SQLite set up as this module's docstring says."""
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if make_url(url).get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not by the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Any) -> None:
    writes = connection.get_execution_options().get("writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Database:
    """Runs pieces of work in transactions; a piece is a plain function of a `Session`.

    A piece runs in a worker thread and must not touch anything of the event loop; what it returns must be
    usable without the session (plain values, or rows loaded whole).
    """

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        self._writer = trio.CapacityLimiter(1)
        self._readers = trio.CapacityLimiter(READERS_MAX)

    async def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a transaction and return its result once it is committed to disk."""
        return await trio.to_thread.run_sync(self.write_now, work, limiter=self._writer)

    async def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` on a snapshot and return its result."""
        return await trio.to_thread.run_sync(self.read_now, work, limiter=self._readers)

    def write_now(self, work: Callable[[Session], T]) -> T:
        """Like `write`, for callers without an event loop."""
        with _told(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            return work(session)

    def read_now(self, work: Callable[[Session], T]) -> T:
        """Like `read`, for callers without an event loop."""
        with (
            _told(),
            self._engine.connect().execution_options(writes=False) as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            return work(session)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell a database that refuses as a failure of the service, and not as a defect."""
    try:
        yield
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise PfsError(Kind.NO_SPACE, "the server's disk is full; its administrator must make room") from error
        raise PfsError(Kind.IO, f"the server's database refuses: {error.orig}") from error
