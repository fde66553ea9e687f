"""The database: set up to lose nothing, one writer at a time, readers beside it on a snapshot."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from pfs.errors import Kind, PfsError
from pfs.sql import BUSY_TIMEOUT_MS, Database

Run = Callable[[Callable[[], Awaitable[None]]], None]
THREADS, ROUNDS = 6, 15


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/test.sqlite"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    made = Database(url)

    def tables(session: Session) -> None:
        session.connection().execute(text("CREATE TABLE counter (value INTEGER NOT NULL)"))
        session.connection().execute(text("INSERT INTO counter VALUES (0)"))
        session.connection().execute(text("CREATE TABLE parent (id INTEGER PRIMARY KEY)"))
        session.connection().execute(text("CREATE TABLE child (parent INTEGER REFERENCES parent (id))"))

    made.write_now(tables)
    yield made
    made.close()


def value_of(session: Session) -> int:
    return int(session.connection().execute(text("SELECT value FROM counter")).scalar_one())


def add_one(session: Session) -> None:
    """Read first and write afterwards: what fails at once unless the transaction began as a writer."""
    value = value_of(session)
    session.connection().execute(text("UPDATE counter SET value = :value"), {"value": value + 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", BUSY_TIMEOUT_MS)],
)
def test_every_connection_is_set_up_to_lose_nothing(database: Database, name: str, value: object) -> None:
    def ask(session: Session) -> object:
        return session.connection().execute(text(f"PRAGMA {name}")).scalar_one()

    assert database.write_now(ask) == value
    assert database.read_now(ask) == value


def test_what_was_written_is_in_the_file(database: Database, url: str) -> None:
    database.write_now(add_one)
    other = Database(url)
    assert other.read_now(value_of) == 1
    other.close()


def test_work_that_fails_leaves_nothing(database: Database) -> None:
    def fail(session: Session) -> None:
        add_one(session)
        raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        database.write_now(fail)
    assert database.read_now(value_of) == 0


def test_a_reader_writes_nothing(database: Database) -> None:
    database.read_now(add_one)
    assert database.read_now(value_of) == 0


def test_references_are_kept(database: Database) -> None:
    with pytest.raises(IntegrityError):
        database.write_now(lambda session: session.connection().execute(text("INSERT INTO child VALUES (1)")))


def test_two_processes_worth_of_writers_wait_for_one_another(database: Database, url: str) -> None:
    failures: list[BaseException] = []
    together = threading.Barrier(THREADS)

    def work() -> None:
        own = Database(url)  # with a pool, and a limit on writers, of its own: as another process has
        try:
            together.wait(5)
            for _ in range(ROUNDS):
                own.write_now(add_one)
        except BaseException as error:
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert database.read_now(value_of) == THREADS * ROUNDS


def test_many_tasks_read_and_write_at_once(run: Run, database: Database) -> None:
    async def main() -> None:
        seen: list[int] = []

        async def read() -> None:
            seen.append(await database.read(value_of))

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(database.write, add_one)
                nursery.start_soon(read)
        assert await database.read(value_of) == 30
        assert all(0 <= value <= 30 for value in seen)

    run(main)


def test_a_reader_sees_one_moment_however_long_it_looks(database: Database) -> None:
    def look(session: Session) -> tuple[int, int]:
        before = value_of(session)
        writer = threading.Thread(target=database.write_now, args=(add_one,))
        writer.start()
        writer.join(5)
        return before, value_of(session)

    assert database.read_now(look) == (0, 0)
    assert database.read_now(value_of) == 1


def test_a_full_disk_is_told_as_one(tmp_path, run):
    async def main():
        database = Database(f"sqlite:///{tmp_path}/x.sqlite")

        def fill(session):
            session.connection().exec_driver_sql("PRAGMA max_page_count=2")
            session.connection().exec_driver_sql("CREATE TABLE big (x)")
            session.connection().exec_driver_sql("INSERT INTO big VALUES (zeroblob(100000))")

        with pytest.raises(PfsError) as caught:
            await database.write(fill)
        assert caught.value.kind is Kind.NO_SPACE
        with pytest.raises(PfsError) as caught:
            await database.read(lambda session: session.connection().exec_driver_sql("SELECT * FROM nothing"))
        assert caught.value.kind is Kind.IO
        database.close()

    run(main)
