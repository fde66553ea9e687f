"""Accounts: their names and numbers, and keys of which only the fingerprint is kept."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlmodel import Session, SQLModel, select

from pfs.accounts import FIRST_UID, Accounts, Identity, Key, KeyKind, Membership, Quota, User
from pfs.errors import Kind, PfsError
from pfs.keys import fingerprint, make_key, url_of_key
from pfs.perm import Subject
from pfs.quota import Limits
from pfs.sql import Database

Run = Callable[[Callable[[], Awaitable[None]]], None]
URL = "http://127.0.0.1:8470"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/pfs.sqlite")
    tables = [SQLModel.metadata.tables[table.__tablename__] for table in (User, Key, Quota, Membership)]
    made.write_now(lambda session: SQLModel.metadata.create_all(session.connection(), tables=tables))
    yield made
    made.close()


@pytest.fixture
def accounts(database: Database) -> Accounts:
    return Accounts(database, numbered=True)


def test_names_that_can_be_had(accounts: Accounts) -> None:
    for name in ("a", "ann", "ann.b", "ann_b-c", "ann@example.org", "a" * 64, "a1"):
        assert accounts.add_user_now(name, admin=False).user == name


def test_names_that_cannot_be_had(accounts: Accounts) -> None:
    for name in ("", "Ann", "1ann", ".ann", "-ann", "a/b", "..", "a b", "ann\n", "änn", "a" * 65, "a\0", "a:b"):
        with pytest.raises(PfsError, match="cannot be a user name") as caught:
            accounts.add_user_now(name, admin=False)
        assert caught.value.kind is Kind.INVALID


def test_a_name_is_had_once(accounts: Accounts) -> None:
    accounts.add_user_now("ann", admin=False)
    with pytest.raises(PfsError, match="'ann'") as caught:
        accounts.add_user_now("ann", admin=True)
    assert caught.value.kind is Kind.EXISTS


def test_numbers_go_up_and_none_is_given_again(accounts: Accounts, database: Database) -> None:
    first = [accounts.add_user_now(name, admin=False).uid for name in ("ann", "bob", "eve")]
    assert first == [FIRST_UID + 1, FIRST_UID + 2, FIRST_UID + 3]

    def remove(session: Session) -> None:
        for user in session.exec(select(User).where(User.name != "ann")).all():
            session.delete(user)

    database.write_now(remove)
    assert accounts.add_user_now("dan", admin=False).uid == FIRST_UID + 4
    assert accounts.add_user_now("bob", admin=False).uid == FIRST_UID + 5


def test_where_the_server_is_not_root_accounts_have_no_numbers(database: Database) -> None:
    assert Accounts(database, numbered=False).add_user_now("ann", admin=False).uid is None


@pytest.mark.parametrize("kind", KeyKind)
def test_a_key_proves_whose_it_is(run: Run, accounts: Accounts, kind: KeyKind) -> None:
    accounts.add_user_now("ann", admin=True)
    accounts.add_user_now("bob", admin=False)
    owners = {"ann": Subject("ann", True, uid=FIRST_UID + 1), "bob": Subject("bob", uid=FIRST_UID + 2)}
    keys = {name: accounts.make_key_now(kind, name, URL) for name in owners}

    async def main() -> None:
        for name, key in keys.items():
            assert url_of_key(key) == URL
            assert await accounts.identify(key) == Identity(kind, owners[name])

    run(main)


def test_keys_differ(accounts: Accounts) -> None:
    accounts.add_user_now("ann", admin=False)
    assert len({accounts.make_key_now(KeyKind.USER, "ann", URL) for _ in range(10)}) == 10


def test_what_is_no_key_of_ours_proves_nobody(run: Run, accounts: Accounts) -> None:
    accounts.add_user_now("ann", admin=False)
    key = accounts.make_key_now(KeyKind.USER, "ann", URL)

    async def main() -> None:
        for wrong in ("", "x", key[:-1], key + "x", key.upper(), fingerprint(key), make_key(URL, "x"), "' OR 1=1 --"):
            with pytest.raises(PfsError, match="does not know this token") as caught:
                await accounts.identify(wrong)
            assert caught.value.kind is Kind.UNAUTHENTICATED

    run(main)


def test_nobody_gets_a_key_for_who_is_not_there(accounts: Accounts) -> None:
    with pytest.raises(PfsError, match="no user 'ann'") as caught:
        accounts.make_key_now(KeyKind.USER, "ann", URL)
    assert caught.value.kind is Kind.NOT_FOUND


def test_only_the_fingerprint_of_a_key_is_on_the_disk(tmp_path: Path, accounts: Accounts) -> None:
    accounts.add_user_now("ann", admin=False)
    key = accounts.make_key_now(KeyKind.USER, "ann", URL)
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.name.startswith("pfs.sqlite"))
    assert fingerprint(key).encode() in written
    assert key.encode() not in written
    assert key.rpartition(".")[2].encode() not in written


def test_everybody_and_one(run: Run, accounts: Accounts) -> None:
    accounts.add_user_now("bob", admin=False)
    accounts.add_user_now("ann", admin=True)

    async def main() -> None:
        assert {(user.user, user.admin) for user in await accounts.users()} == {("ann", True), ("bob", False)}
        assert await accounts.user("bob") == Subject("bob", uid=FIRST_UID + 1)
        assert await accounts.user("eve") is None

    run(main)


def test_limits_are_kept_and_changed(run: Run, accounts: Accounts) -> None:
    for name in ("ann", "bob"):
        accounts.add_user_now(name, admin=False)

    async def main() -> None:
        assert (await accounts.limits(), accounts.limits_now("ann")) == ({}, Limits())
        for limits in (Limits(2**62, 7), Limits(None, 0), Limits()):
            accounts.set_limits_now("ann", limits)
            assert accounts.limits_now("ann") == (await accounts.limits())["ann"] == limits
        assert accounts.limits_now("bob") == Limits()

    run(main)


def test_nobody_limits_who_is_not_there(accounts: Accounts) -> None:
    for call in (lambda: accounts.limits_now("ann"), lambda: accounts.set_limits_now("ann", Limits(1))):
        with pytest.raises(PfsError, match="no user 'ann'") as caught:
            call()
        assert caught.value.kind is Kind.NOT_FOUND


def test_whoever_a_key_proves_has_the_groups_of_now(run: Run, accounts: Accounts) -> None:
    for name in ("ann", "bob"):
        accounts.add_user_now(name, admin=False)
    key = accounts.make_key_now(KeyKind.USER, "ann", URL)

    async def main() -> None:
        for groups in (set(), {"a"}, {"a", "b"}):
            for group in groups:
                accounts.join_now(group, "ann")
            accounts.join_now("c", "bob")
            assert (await accounts.identify(key)).subject.groups == groups
            assert (await accounts.user("ann")) == (await accounts.identify(key)).subject
        accounts.leave_now("a", "ann")
        assert (await accounts.identify(key)).subject.groups == {"b"}
        assert (accounts.members_now("b"), accounts.members_now("a")) == (["ann"], [])

    run(main)
