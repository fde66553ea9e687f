"""The database: set up to lose nothing, one writer at a time, readers beside it on a snapshot."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session
from trio.testing import wait_all_tasks_blocked

from pfs.errors import Kind, PfsError
from pfs.sql import BUSY_TIMEOUT_MS, Database

Run = Callable[[Callable[[], Awaitable[None]]], None]
THREADS, ROUNDS = 6, 15
COUNTER = text("SELECT value FROM counter")


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
    return int(session.connection().execute(COUNTER).scalar_one())


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


class Gathered:
    """A database whose writer is held up, so that everything that is written meanwhile is one moment's.

    Attributes:
        commits: how many transactions were committed since.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._go_on = threading.Event()
        self.commits = 0
        event.listen(database._engine, "commit", self._count)

    def _count(self, _connection: object) -> None:
        self.commits += 1

    async def __aenter__(self) -> trio.Nursery:
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        nursery.start_soon(self._database.write, lambda _: self._go_on.wait(5))
        await wait_all_tasks_blocked()
        return nursery

    async def __aexit__(self, *what: Any) -> None:
        await wait_all_tasks_blocked()
        self._go_on.set()
        await self._manager.__aexit__(*what)


def test_what_is_written_at_one_moment_is_committed_together(run: Run, database: Database) -> None:
    async def main() -> None:
        results: list[int] = []

        async def write(number: int) -> None:
            def work(session: Session) -> int:
                add_one(session)
                return number

            results.append(await database.write(work))

        gathered = Gathered(database)
        async with gathered as nursery:
            for number in range(20):
                nursery.start_soon(write, number)
        assert sorted(results) == list(range(20))
        assert gathered.commits == 2
        assert await database.read(value_of) == 20

    run(main)


def test_one_that_fails_harms_no_other_of_its_moment(run: Run, database: Database) -> None:
    async def main() -> None:
        told: list[str] = []

        def fail(session: Session) -> None:
            add_one(session)
            raise ValueError("the reason")

        def refer_to_nothing(session: Session) -> None:
            add_one(session)
            session.connection().execute(text("INSERT INTO child VALUES (1)"))

        async def write(work: Callable[[Session], None]) -> None:
            try:
                await database.write(work)
            except (ValueError, IntegrityError) as error:
                told.append(type(error).__name__)

        async with Gathered(database) as nursery:
            for work in (add_one, fail, add_one, refer_to_nothing, fail, add_one):
                nursery.start_soon(write, work)
        assert sorted(told) == ["IntegrityError", "ValueError", "ValueError"]
        assert await database.read(value_of) == 3

    run(main)


def test_where_a_transaction_is_lost_nobody_hears_of_success(run: Run, database: Database) -> None:
    async def main() -> None:
        told: list[BaseException | None] = []

        def lose(session: Session) -> None:
            session.connection().exec_driver_sql("ROLLBACK")  # what SQLite does itself where a disk is full
            raise ValueError("the reason")

        async def write(work: Callable[[Session], None]) -> None:
            try:
                await database.write(work)
                told.append(None)
            except Exception as error:
                told.append(error)

        async with Gathered(database) as nursery:
            for work in (add_one, lose, add_one):
                nursery.start_soon(write, work)
        assert len(told) == 3
        assert None not in told
        assert await database.read(value_of) == 0
        await database.write(add_one)
        assert await database.read(value_of) == 1

    run(main)


def test_who_is_cancelled_in_the_queue_has_written_nothing_and_others_have(run: Run, database: Database) -> None:
    async def main() -> None:
        gone = trio.CancelScope()

        async def write_not() -> None:
            with gone:
                await database.write(add_one)

        async with Gathered(database) as nursery:
            nursery.start_soon(write_not)
            nursery.start_soon(database.write, add_one)
            await wait_all_tasks_blocked()
            gone.cancel()
        assert await database.read(value_of) == 1

    run(main)


def test_who_is_cancelled_while_it_is_written_hears_what_came_of_it(run: Run, database: Database) -> None:
    async def main() -> None:
        began, go_on, heard = trio.Event(), threading.Event(), []
        scopes = [trio.CancelScope(), trio.CancelScope()]

        def slow(session: Session) -> None:
            add_one(session)
            trio.from_thread.run_sync(began.set)
            go_on.wait(5)

        async def write(scope: trio.CancelScope, work: Callable[[Session], None]) -> None:
            with scope:
                await database.write(work)
                heard.append(work)

        async with trio.open_nursery() as nursery, Gathered(database) as gathered:
            for scope, work in zip(scopes, (slow, add_one), strict=True):
                gathered.start_soon(write, scope, work)
            nursery.start_soon(_cancel_then, began, scopes, go_on)
        assert len(heard) == 2
        assert await database.read(value_of) == 2

    run(main)


async def _cancel_then(began: trio.Event, scopes: list[trio.CancelScope], go_on: threading.Event) -> None:
    await began.wait()
    for scope in scopes:
        scope.cancel()
    await wait_all_tasks_blocked()
    go_on.set()


def test_a_reader_sees_one_moment_however_long_it_looks(database: Database) -> None:
    def look(session: Session) -> tuple[int, int]:
        before = value_of(session)
        writer = threading.Thread(target=database.write_now, args=(add_one,))
        writer.start()
        writer.join(5)
        return before, value_of(session)

    assert database.read_now(look) == (0, 0)
    assert database.read_now(value_of) == 1


def test_a_look_at_a_row_is_made_at_once_where_somebody_says_how(run: Run, database: Database) -> None:
    where: list[int] = []

    def work(connection: Connection) -> int:
        where.append(threading.get_ident())
        return int(connection.execute(COUNTER).scalar_one())

    async def at_once(look: Callable[[], Any]) -> Any:
        return look()

    async def main() -> None:
        assert await database.look(work) == 0
        database.run = at_once
        await database.write(add_one)
        assert await database.look(work) == 1
        assert [each == threading.get_ident() for each in where] == [False, True]
        with pytest.raises(ZeroDivisionError):
            await database.look(lambda connection: 1 // 0)

    run(main)


def test_each_statement_of_a_look_sees_what_was_written_before_it(run: Run, database: Database) -> None:
    def work(connection: Connection) -> tuple[int, int]:
        before = connection.execute(COUNTER).scalar_one()
        writer = threading.Thread(target=database.write_now, args=(add_one,))
        writer.start()
        writer.join(5)
        return before, connection.execute(COUNTER).scalar_one()

    async def main() -> None:
        assert await database.look(work) == (0, 1)

    run(main)


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
