"""Accounts: their names and numbers, and keys of which only the fingerprint is kept."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import Session, select

from pfs.accounts.registration import Registration
from pfs.accounts.store import FIRST_UID, Accounts, Identity, Invitation, KeyKind, User
from pfs.errors import Kind, PfsError
from pfs.keys import fingerprint, make_key, url_of_key
from pfs.perm import EVERYTHING, Scope, Subject
from pfs.quota import Limits
from pfs.sql import Database

Run = Callable[[Callable[[], Awaitable[None]]], None]
URL = "http://127.0.0.1:8470"


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


@pytest.mark.parametrize("kind", [KeyKind.USER, KeyKind.NODE])
def test_a_key_proves_whose_it_is(run: Run, accounts: Accounts, kind: KeyKind) -> None:
    accounts.add_user_now("ann", admin=True)
    accounts.add_user_now("bob", admin=False)
    scopes = EVERYTHING if kind is KeyKind.USER else EVERYTHING - {Scope.ADMIN}
    owners = {"ann": Subject("ann", True, uid=FIRST_UID + 1), "bob": Subject("bob", uid=FIRST_UID + 2, scopes=scopes)}
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
            assert replace(await accounts.user("ann"), gids=()) == (await accounts.identify(key)).subject
        accounts.leave_now("a", "ann")
        assert (await accounts.identify(key)).subject.groups == {"b"}
        assert (accounts.members_now("b"), accounts.members_now("a")) == (["ann"], [])

    run(main)


# ---- who is gone


def test_who_is_removed_is_nobody_and_their_keys_open_nothing(run: Run, accounts: Accounts) -> None:
    for name in ("ann", "zoe"):
        accounts.add_user_now(name, admin=True)
    keys = [accounts.make_key_now(kind, "ann", URL) for kind in (KeyKind.USER, KeyKind.NODE)]
    accounts.join_now("lab", "ann")
    accounts.set_limits_now("ann", Limits(1))
    assert accounts.remove_user_now("ann") == FIRST_UID + 1

    async def main() -> None:
        for key in keys:
            with pytest.raises(PfsError) as caught:
                await accounts.identify(key)
            assert caught.value.kind is Kind.UNAUTHENTICATED
        assert await accounts.user("ann") is None
        assert [user.user for user in await accounts.users()] == ["zoe"]
        assert await accounts.password("ann") == (None, False)
        assert await accounts.limits() == {}

    run(main)
    assert (accounts.admins_now(), accounts.members_now("lab")) == (["zoe"], [])
    for call in (
        lambda: accounts.remove_user_now("ann"),
        lambda: accounts.make_key_now(KeyKind.USER, "ann", URL),
        lambda: accounts.join_now("lab", "ann"),
        lambda: accounts.limits_now("ann"),
        lambda: accounts.set_admin_now("ann", admin=True),
        lambda: accounts.set_password_now("ann", "hash"),
    ):
        with pytest.raises(PfsError, match="no user 'ann'"):
            call()


def test_a_name_is_given_again_only_when_nothing_tells_of_its_owner(accounts: Accounts, database: Database) -> None:
    def mention(session: Session) -> None:
        session.connection().exec_driver_sql('CREATE TABLE work ("user" TEXT REFERENCES user (name))')
        session.connection().exec_driver_sql("INSERT INTO work VALUES ('ann')")

    first = accounts.add_user_now("ann", admin=False)
    database.write_now(mention)
    accounts.remove_user_now("ann")
    with pytest.raises(PfsError, match="jobs tell of them") as caught:
        accounts.add_user_now("ann", admin=False)
    assert caught.value.kind is Kind.EXISTS
    database.write_now(lambda session: session.connection().exec_driver_sql("DELETE FROM work") and None)
    assert accounts.add_user_now("ann", admin=False).uid not in (None, first.uid)


def test_there_is_always_an_administrator(accounts: Accounts) -> None:
    accounts.add_user_now("ann", admin=True)
    accounts.add_user_now("bob", admin=False)
    for call in (lambda: accounts.remove_user_now("ann"), lambda: accounts.set_admin_now("ann", admin=False)):
        with pytest.raises(PfsError, match="only administrator") as caught:
            call()
        assert caught.value.kind is Kind.BUSY
    accounts.set_admin_now("bob", admin=True)
    accounts.set_admin_now("ann", admin=False)
    assert accounts.admins_now() == ["bob"]


def test_what_an_administrator_is_told_of_accounts(accounts: Accounts) -> None:
    accounts.add_user_now("bob", admin=True)
    accounts.add_user_now("ann", admin=False)
    accounts.join_now("lab", "ann")
    accounts.set_password_now("ann", "hash")
    accounts.make_key_now(KeyKind.NODE, "ann", URL)
    told = [(each.name, each.admin, each.groups, each.has_password, each.keys) for each in accounts.accounts_now()]
    assert told == [("bob", True, frozenset(), False, 0), ("ann", False, {"lab"}, True, 1)]


# ---- passwords and invitations


def test_another_password_takes_all_tokens_back_but_the_one_that_is_kept(run: Run, accounts: Accounts) -> None:
    for name in ("ann", "bob"):
        accounts.add_user_now(name, admin=False)
    kept, other, bobs = (accounts.make_key_now(KeyKind.USER, name, URL) for name in ("ann", "ann", "bob"))
    node = accounts.make_key_now(KeyKind.NODE, "ann", URL)

    async def good(key: str) -> bool:
        try:
            return bool(await accounts.identify(key))
        except PfsError:
            return False

    async def main() -> None:
        await accounts.set_password("ann", "one", before=None, kept=kept)
        assert [await good(key) for key in (kept, other, bobs, node)] == [True, False, True, True]
        with pytest.raises(PfsError, match="same moment"):
            await accounts.set_password("ann", "two", before=None)
        assert await accounts.password("ann") == ("one", True)
        await accounts.rehash("ann", "anew", before="other")
        assert await accounts.password("ann") == ("one", True)
        await accounts.rehash("ann", "anew", before="one")
        assert await accounts.password("ann") == ("anew", True)
        accounts.set_password_now("ann", "three")
        assert not await good(kept)

    run(main)


def test_an_invitation_is_good_once(run: Run, accounts: Accounts, database: Database) -> None:
    code = accounts.invite_now(URL, admin=False, days=1)
    kept = database.read_now(lambda session: session.exec(select(Invitation)).one().model_dump())
    assert code not in repr(kept)

    async def main() -> None:
        mode = Registration.INVITATION
        with pytest.raises(PfsError, match="cannot be a user name"):
            await accounts.register(mode, code, "Ann", "hash")
        assert await accounts.register(mode, code, "ann", "hash") == Subject("ann", uid=FIRST_UID + 1)
        assert await accounts.password("ann") == ("hash", True)
        for shown in (code, "", "pfsi-x"):
            with pytest.raises(PfsError) as caught:
                await accounts.register(mode, shown, "bob", "hash")
            assert caught.value.kind is Kind.DENIED
        assert await accounts.user("bob") is None

    run(main)


def test_the_first_administrator_comes_in_with_what_was_printed_once(run: Run, accounts: Accounts) -> None:
    code = accounts.invite_now(URL, admin=True, days=1)

    async def main() -> None:
        assert (await accounts.register(Registration.CLOSED, code, "ann", "hash")).admin
        with pytest.raises(PfsError, match="nobody can register here"):
            await accounts.check_may_register(Registration.CLOSED, code)

    run(main)
