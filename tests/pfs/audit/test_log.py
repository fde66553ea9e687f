"""The audit log in SQL: with what it tells of or not at all, whole, and read like a file."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from sqlmodel import Session

from pfs.audit.log import REACH_EVERY_S, REFUSED_EVERY_S, WORDS, AuditLog, add, audited, reaches_as_admin
from pfs.audit.origin import acting
from pfs.audit.record import Record, follow_all, record_in
from pfs.errors import Kind, PfsError
from pfs.perm import Domain, DomainKind, Scope, Subject
from pfs.sql import Database
from tests.pfs.world import kind_of

Run = Callable[[Callable[[], Awaitable[object]]], object]
ROOT = Subject("root", admin=True)
HOME_OF_BOB = Domain(DomainKind.HOME, "bob")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(database: Database, clock: Clock) -> AuditLog:
    return AuditLog(database, clock)


def told(log: AuditLog) -> list[tuple[str, str, str, str, str]]:
    found = map(record_in, log.lines_now())
    return [(each.who, each.source, each.what, each.on, each.result) for each in found]


def nothing(session: Session) -> str:
    return "done"


def failing(session: Session) -> None:
    raise PfsError(Kind.EXISTS, "there is one")


def test_what_is_done_is_recorded_with_who_did_it_and_from_where(database: Database, log: AuditLog) -> None:
    with acting("ann", "10.0.0.7", "3fa9"):
        work = audited("group.join", "groups/ml", nothing, user="bob", why=None, note="")
    assert database.write_now(work) == "done"
    assert told(log) == [("ann", "10.0.0.7#3fa9", "group.join", "groups/ml", "done")]
    assert [record_in(line).more for line in log.lines_now()] == [{"user": "bob"}]


def test_what_fails_is_not_recorded_as_done_and_the_chain_stays_whole(run: Run, database: Database) -> None:
    log = AuditLog(database)

    async def write(work: Callable[[Session], object]) -> None:
        try:
            await database.write(audited("user.add", "users/bob", work))
        except PfsError:
            return

    async def main() -> None:
        async with trio.open_nursery() as nursery:  # they share transactions
            for number in range(30):
                nursery.start_soon(write, failing if number % 3 == 0 else nothing)

    run(main)
    assert follow_all(log.lines_now()).number == 20


def test_several_who_write_at_once_make_one_chain(tmp_path: Path, database: Database, log: AuditLog, run: Run) -> None:
    other = Database(f"sqlite:///{tmp_path}/pfs.sqlite")

    async def write(into: Database) -> None:
        for _ in range(10):
            await into.write(audited("setting.set", "settings/x", nothing))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, database)
            nursery.start_soon(write, other)

    run(main)
    other.close()
    assert follow_all(log.lines_now()).number == 20


def test_what_comes_of_something_is_recorded_before_whoever_asked_hears_of_it(run: Run, log: AuditLog) -> None:
    async def main() -> None:
        with acting("ann", "10.0.0.7"):
            async with log.about("ctl", "jobs/17", said="kill"):
                pass
            assert len(told(log)) == 1
            with pytest.raises(PfsError, match="not yours"):
                async with log.about("ctl", "jobs/18", said="kill"):
                    raise PfsError(Kind.FORBIDDEN, "not yours")

    run(main)
    assert [(on, result) for *_, on, result in told(log)] == [("jobs/17", "done"), ("jobs/18", "forbidden")]


def test_whoever_tries_too_often_does_not_fill_the_disk(run: Run, log: AuditLog, clock: Clock) -> None:
    async def attempt(kind: Kind) -> None:
        with pytest.raises(PfsError):
            async with log.about("login", "users/ann"):
                raise PfsError(kind, "no")

    async def main() -> None:
        with acting("", "10.0.0.7"):
            for kind in (Kind.UNAUTHENTICATED, Kind.UNAUTHENTICATED, *[Kind.TOO_MANY] * 5):
                await attempt(kind)
            clock.now_s += REFUSED_EVERY_S
            await attempt(Kind.TOO_MANY)

    run(main)
    assert [result for *_, result in told(log)] == [*["unauthenticated"] * 2, *["too-many"] * 2]


def test_only_an_administrator_reaches_what_others_may_not() -> None:
    shared_with_root = Domain(DomainKind.JOB, "17", "ann", frozenset({"ml"}))
    cases = {
        (ROOT, HOME_OF_BOB): True,
        (ROOT, Domain(DomainKind.HOME, "root")): False,
        (ROOT, Domain(DomainKind.SHARED)): False,
        (ROOT, Domain(DomainKind.GROUP, "ml")): True,
        (Subject("root", admin=True, groups=frozenset({"ml"})), shared_with_root): False,
        (ROOT, shared_with_root): True,
        (Subject("bob"), HOME_OF_BOB): False,
        (Subject("ann"), HOME_OF_BOB): False,
        (Subject("root", admin=False, scopes=frozenset({Scope.READ})), HOME_OF_BOB): False,
    }
    assert {case: reaches_as_admin(*case) for case in cases} == cases


def test_an_administrator_who_reads_anothers_files_is_recorded_once_an_hour_for_each_key(
    run: Run, log: AuditLog, clock: Clock
) -> None:
    async def main() -> None:
        for key in ("k1", "k1", "k2"):
            with acting("root", "10.0.0.7", key):
                await log.reached(ROOT, HOME_OF_BOB)
                await log.reached(ROOT, Domain(DomainKind.JOB, "17", "bob"))
                await log.reached(Subject("bob"), HOME_OF_BOB)
        clock.now_s += REACH_EVERY_S
        with acting("root", "10.0.0.7", "k1"):
            await log.reached(ROOT, HOME_OF_BOB)

    run(main)
    assert [(source[-2:], on) for _, source, _, on, _ in told(log)] == [
        ("k1", "home/bob"),
        ("k1", "jobs/17"),
        ("k2", "home/bob"),
        ("k2", "jobs/17"),
        ("k1", "home/bob"),
    ]


def test_the_lines_are_read_like_a_file(run: Run, database: Database, log: AuditLog) -> None:
    async def main() -> None:
        assert (await log.extent(), await log.read(0, 100)) == ((0, 0), b"")
        for number in range(5):
            await database.write(audited("user.add", f"users/{'x' * number}", nothing))
        whole = "".join(f"{line}\n" for line in log.lines_now()).encode()
        assert (await log.extent())[0] == len(whole)
        for offset in range(0, len(whole) + 2, 7):
            for size in (1, 50, 200, 10_000):
                assert await log.read(offset, size) == whole[offset : offset + size]

    run(main)


def test_a_word_that_nobody_explains_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        audited("user.frobnicate", "users/ann", nothing)
    assert all(said for said in WORDS.values())


def test_no_two_records_have_one_number(database: Database) -> None:
    database.write_now(audited("user.add", "users/ann", nothing))
    record = Record(0, "ann", "local", "login", "x")

    def twice(session: Session) -> None:
        add(session, record)
        add(session, record)

    database.write_now(twice)
    assert follow_all(AuditLog(database).lines_now()).number == 3


def test_an_error_of_the_log_itself_hides_no_other(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(work: object) -> None:
        raise PfsError(Kind.NO_SPACE, "the disk is full")

    async def attempt(kind: Kind | None) -> None:
        async with AuditLog(database).about("ctl", "jobs/17"):
            if kind is not None:
                raise PfsError(kind, "no")

    monkeypatch.setattr(database, "write", refuse)
    assert run(lambda: kind_of(attempt(Kind.FORBIDDEN))) is Kind.FORBIDDEN
    assert run(lambda: kind_of(attempt(None))) is Kind.NO_SPACE


def test_who_reaches_while_nothing_can_be_recorded_reaches_nothing_then_either(
    run: Run, log: AuditLog, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(work: object) -> None:
        raise PfsError(Kind.NO_SPACE, "the disk is full")

    with monkeypatch.context() as full:
        full.setattr(database, "write", refuse)
        for _ in range(2):
            assert run(lambda: kind_of(log.reached(ROOT, HOME_OF_BOB))) is Kind.NO_SPACE
    run(lambda: log.reached(ROOT, HOME_OF_BOB))
    assert [record_in(line).what for line in log.lines_now()] == ["admin.reach"]


def test_every_word_is_said_somewhere() -> None:
    root = Path(__file__).parents[3]
    sources = [path.read_text() for name in ("pfs", "jobd", "cli") for path in (root / name).rglob("*.py")]
    said = {word for text in sources for word in re.findall(r"\(\s*\"([a-z.]+)\"", text)}
    said |= {word for text in sources for word in re.findall(r"audit\.about, \"([a-z]+)\"", text)}
    assert set(WORDS) - said == set()
