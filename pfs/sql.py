"""The database: one engine, one writer at a time, all of it in worker threads.

What many tasks write at one moment is committed together: while one transaction is on its way to the disk, the next
pieces of work gather, and then share a transaction. Should one of them fail, all of it is taken back and done again
with a savepoint for each, so that one that fails leaves nothing and harms no other. Nobody hears of success before the
disk has it.

SQLite is tuned to lose nothing that was acknowledged: WAL with `synchronous=FULL` (a power cut with NORMAL loses the
last transactions), and every transaction that will write begins as IMMEDIATE (one that read first and writes
afterwards fails at once with SQLITE_BUSY_SNAPSHOT, and no waiting helps). PostgreSQL lets many write at once, and what
is written here counts on one: the number of an audit record follows from the last one, and somebody is the last
administrator, or not. So whoever writes there holds one lock, until all of it is committed.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import trio
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from pfs.errors import Kind, PfsError

T = TypeVar("T")

Run = Callable[[Callable[[], Any]], Awaitable[Any]]

log = logging.getLogger(__name__)

READERS_MAX = 8
TOGETHER_MAX = 256
BUSY_TIMEOUT_MS = 10_000
WRITERS_LOCK = 0x706673  # of one database; nothing else takes such locks there


def make_engine(url: str) -> Engine:
    """Return an engine for `url`, with SQLite set up as this module's docstring says."""
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if make_url(url).get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    if make_url(url).get_backend_name() == "postgresql":
        event.listen(engine, "begin", _begin_postgresql)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not by the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Any) -> None:
    options = connection.get_execution_options()
    if options.get("looks"):
        return
    writes = options.get("writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: Any) -> None:
    if connection.get_execution_options().get("writes", True):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})")


@dataclass(eq=False)
class _Piece(Generic[T]):
    """A piece of work that waits for its transaction, and what came of it: a result, or an error."""

    work: Callable[[Session], T]
    result: T | None = None
    error: BaseException | None = None
    done: bool = False

    def outcome(self) -> T:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # there is one, and T may include None


class Database:
    """Runs pieces of work in transactions; a piece is a plain function of a `Session`.

    A piece runs in a worker thread and must not touch anything of the event loop; what it returns must be
    usable without the session (plain values, or rows loaded whole). It may be run twice; then only the second time
    counts.

    Attributes:
        run: runs what takes but a moment, at once where it can; in a thread, where it is not given.
    """

    run: Run | None = None

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        self._waiting: list[_Piece[Any]] = []
        self._turn = trio.Lock()
        self._readers = trio.CapacityLimiter(READERS_MAX)

    async def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a transaction and return its result once it is committed to disk.

        Who is cancelled before his work began has written nothing; later on he hears first what came of it.
        """
        piece = _Piece(work)
        self._waiting.append(piece)
        try:
            await self._turn.acquire()
        except trio.Cancelled:
            if piece in self._waiting:
                self._waiting.remove(piece)
                raise
            with trio.CancelScope(shield=True):
                await self._turn.acquire()
        try:
            while not piece.done:
                together, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._write_together, together)
        finally:
            self._turn.release()
        return piece.outcome()

    def _write_together(self, pieces: list[_Piece[Any]]) -> None:
        """Commit all of `pieces` but those that fail; where the disk or the database fails, none of them."""
        try:
            if not self._write_at_once(pieces):
                with _told(), self._engine.begin() as connection:
                    for piece in pieces:
                        _do_apart(connection, piece)
        except Exception as error:
            for piece in pieces:
                piece.error = piece.error or _own(error)
        for piece in pieces:
            piece.done = True

    def _write_at_once(self, pieces: list[_Piece[Any]]) -> bool:
        """Commit all of `pieces`; tells whether none failed, else nothing was written."""
        doing = False
        try:
            with _told(), self._engine.begin() as connection:
                doing = True
                for piece in pieces:
                    piece.result = _do(connection, piece.work)
                doing = False
        except Exception:
            if not doing:
                raise
            return False
        return True

    async def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` on a snapshot and return its result."""
        return await trio.to_thread.run_sync(self.read_now, work, limiter=self._readers)

    async def look(self, work: Callable[[Connection], T]) -> T:
        """Like `read`, for work that finds a row or two by their keys: to change threads takes longer than that.

        Each of its statements sees what was written before it: a snapshot takes as long as finding a row.
        """
        if self.run is None:
            return await trio.to_thread.run_sync(self._look_now, work, limiter=self._readers)
        looked: T = await self.run(lambda: self._look_now(work))
        return looked

    def write_now(self, work: Callable[[Session], T]) -> T:
        """Like `write`, for callers without an event loop."""
        piece = _Piece(work)
        self._write_together([piece])
        return piece.outcome()

    def read_now(self, work: Callable[[Session], T]) -> T:
        """Like `read`, for callers without an event loop."""
        with (
            _told(),
            self._engine.connect().execution_options(writes=False) as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            return work(session)

    def _look_now(self, work: Callable[[Connection], T]) -> T:
        with _told(), self._engine.connect().execution_options(writes=False, looks=True) as connection:
            return work(connection)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _do_apart(connection: Connection, piece: _Piece[Any]) -> None:
    """Do one piece within a savepoint; what it did is taken back where it fails."""
    connection.exec_driver_sql("SAVEPOINT piece")
    try:
        piece.result = _do(connection, piece.work)
    except Exception as error:
        piece.error = error
        # fails where a full disk has ended the whole transaction, and with it all pieces
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT piece")
    connection.exec_driver_sql("RELEASE SAVEPOINT piece")


def _do(connection: Connection, work: Callable[[Session], T]) -> T:
    """Do a piece of work in a transaction that somebody else ends."""
    with _told(), Session(connection, expire_on_commit=False, join_transaction_mode="rollback_only") as session:
        result = work(session)
        session.flush()
        return result


def _own(error: Exception) -> Exception:
    """Return an error for one more task to raise: one that several raise would tell of all of them."""
    if not isinstance(error, PfsError):
        return error
    own = PfsError(error.kind, error.message)
    own.__cause__ = error
    return own


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell a database that refuses as a failure of the service, and not as a defect."""
    try:
        yield
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise PfsError(Kind.NO_SPACE, "the server's disk is full; its administrator must make room") from error
        log.warning("the database refuses: %s", error.orig)
        raise PfsError(Kind.IO, "the server's database refuses; its log says why") from error
