"""Keys and tokens: what they open, what ends them, and what is told of them."""

from collections.abc import Awaitable, Callable

import pytest
from sqlmodel import Session, select

from pfs.accounts import keyring
from pfs.accounts.keyring import DAY_NS, USED_EVERY_NS, KeyKind, Terms, key_name
from pfs.accounts.store import Accounts
from pfs.accounts.tables import Key
from pfs.errors import Kind, PfsError
from pfs.keys import fingerprint
from pfs.perm import EVERYTHING, Scope
from pfs.sql import Database
from tests.pfs.world import kind_of

Run = Callable[[Callable[[], Awaitable[object]]], object]
URL = "http://127.0.0.1:8470"
START_NS = 1_700_000_000 * 10**9


class Clock:
    def __init__(self) -> None:
        self.now_ns = START_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many tokens one may have."""
    monkeypatch.setattr(keyring, "TOKENS_MAX", 5)
    return 5


@pytest.fixture
def accounts(database: Database, clock: Clock) -> Accounts:
    made = Accounts(database, numbered=True, clock=clock)
    for name in ("ann", "bob"):
        made.add_user_now(name, admin=name == "ann")
    return made


async def is_good(accounts: Accounts, key: str) -> bool:
    return await kind_of(accounts.identify(key)) is not Kind.UNAUTHENTICATED


@pytest.mark.parametrize(("kind", "days"), [(KeyKind.USER, 30), (KeyKind.NODE, 90)])
def test_a_key_ends_when_it_was_not_used_for_long(
    run: Run, accounts: Accounts, clock: Clock, kind: KeyKind, days: int
) -> None:
    key = accounts.make_key_now(kind, "ann", URL)

    async def main() -> None:
        for _ in range(3):
            clock.now_ns += days * DAY_NS - 1
            assert await is_good(accounts, key)
        clock.now_ns += days * DAY_NS
        assert not await is_good(accounts, key)

    run(main)


def test_a_key_for_some_days_ends_on_its_day_however_it_is_used(run: Run, accounts: Accounts, clock: Clock) -> None:
    key = accounts.make_key_now(KeyKind.USER, "ann", URL, Terms("ci", days=90))

    async def main() -> None:
        clock.now_ns += 60 * DAY_NS
        assert await is_good(accounts, key)
        clock.now_ns += 30 * DAY_NS
        assert not await is_good(accounts, key)
        assert accounts.keys_now("ann") == []

    run(main)


def test_when_a_key_was_used_is_noted_every_few_minutes(run: Run, accounts: Accounts, clock: Clock) -> None:
    key = accounts.make_key_now(KeyKind.USER, "ann", URL)

    def used() -> int | None:
        return accounts.keys_now("ann")[0].used_at_ns

    async def main() -> None:
        assert used() is None
        await accounts.identify(key)
        assert used() == START_NS
        clock.now_ns += USED_EVERY_NS - 1
        await accounts.identify(key)
        assert used() == START_NS
        clock.now_ns += 1
        await accounts.identify(key)
        assert used() == START_NS + USED_EVERY_NS

    run(main)


def test_a_disk_that_is_full_keeps_nobody_out(
    run: Run, accounts: Accounts, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = accounts.make_key_now(KeyKind.USER, "ann", URL)

    async def full(work: object) -> None:
        raise PfsError(Kind.NO_SPACE, "the server's disk is full")

    monkeypatch.setattr(database, "write", full)

    async def main() -> None:
        assert await is_good(accounts, key)

    run(main)
    assert "the server's disk is full" in caplog.text


def test_what_is_told_of_a_key_is_not_the_key(run: Run, accounts: Accounts, database: Database) -> None:
    key = accounts.make_key_now(KeyKind.USER, "ann", URL, Terms("my\x1b laptop" + "x" * 100, frozenset({Scope.READ})))
    [known] = accounts.keys_now("ann")
    assert known.name == key_name(key)
    assert (known.kind, known.scopes, known.created_at_ns) == (KeyKind.USER, {Scope.READ}, START_NS)
    assert known.label == ("my laptop" + "x" * 100)[:64]
    assert known.ends_at_ns == START_NS + 30 * DAY_NS
    secret = key.rpartition(".")[2]
    rows = database.read_now(lambda session: [row.model_dump() for row in session.exec(select(Key)).all()])
    assert secret not in repr((known, rows))
    assert fingerprint(key) in repr(rows)


def test_a_key_that_does_less_than_its_owner(run: Run, accounts: Accounts) -> None:
    for scopes in (frozenset({Scope.READ}), frozenset({Scope.READ, Scope.SUBMIT}), EVERYTHING):
        key = accounts.make_key_now(KeyKind.USER, "ann", URL, Terms(scopes=scopes))

        async def main(key: str = key, scopes: frozenset[Scope] = scopes) -> None:
            subject = (await accounts.identify(key)).subject
            assert (subject.scopes, subject.admin) == (scopes, Scope.ADMIN in scopes)

        run(main)


def test_a_key_is_taken_back_by_its_name(run: Run, accounts: Accounts) -> None:
    first, second = (accounts.make_key_now(KeyKind.USER, "ann", URL) for _ in range(2))
    other = accounts.make_key_now(KeyKind.USER, "bob", URL)

    async def main() -> None:
        await accounts.revoke("ann", key_name(first))
        assert [await is_good(accounts, key) for key in (first, second, other)] == [False, True, True]
        for name in (key_name(first), key_name(other), "", "nonsense"):
            with pytest.raises(PfsError, match="has no key") as caught:
                await accounts.revoke("ann", name)
            assert caught.value.kind is Kind.NOT_FOUND
        assert accounts.revoke_now("ann", None) == 1
        assert [await is_good(accounts, key) for key in (second, other)] == [False, True]

    run(main)


def test_nobody_has_tokens_without_end_but_those_that_ended_make_room(
    accounts: Accounts, clock: Clock, few: int
) -> None:
    def make() -> None:
        accounts.make_key_now(KeyKind.USER, "ann", URL, Terms(days=1))

    for _ in range(few):
        make()
    accounts.make_key_now(KeyKind.NODE, "ann", URL)
    with pytest.raises(PfsError, match="take some back") as caught:
        make()
    assert caught.value.kind is Kind.TOO_MANY
    clock.now_ns += DAY_NS
    make()
    assert sorted(key.kind for key in accounts.keys_now("ann")) == [KeyKind.NODE, KeyKind.USER]


def test_who_logs_in_again_and_again_loses_the_token_that_was_used_least_lately(
    run: Run, accounts: Accounts, clock: Clock, few: int
) -> None:
    first, second = (accounts.make_key_now(KeyKind.USER, "ann", URL) for _ in range(2))

    async def main() -> None:
        clock.now_ns += USED_EVERY_NS
        await accounts.identify(first)
        clock.now_ns += 1
        for _ in range(few - 1):
            accounts.make_key_now(KeyKind.USER, "ann", URL)
        assert len(accounts.keys_now("ann")) == few
        assert [await is_good(accounts, key) for key in (first, second)] == [True, False]

    run(main)


def test_keys_of_before_there_were_ends_never_end(run: Run, accounts: Accounts, database: Database) -> None:
    key = accounts.make_key_now(KeyKind.USER, "ann", URL)

    def forget(session: Session) -> None:
        session.exec(select(Key)).one().idle_ns = None

    database.write_now(forget)
    accounts._clock.now_ns += 10_000 * DAY_NS  # type: ignore[attr-defined]

    async def main() -> None:
        assert await is_good(accounts, key)

    run(main)
