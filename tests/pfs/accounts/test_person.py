"""Who somebody is, for people, and what else is otherwise with an account."""

import pytest
from sqlmodel import select

from pfs.accounts.person import Person, check_email, check_fullname
from pfs.accounts.store import Accounts, Changed, KeyKind, User
from pfs.audit.record import record_in
from pfs.errors import Kind, PfsError
from pfs.sql import Database

URL = "http://127.0.0.1:8470"


@pytest.fixture
def accounts(database: Database) -> Accounts:
    made = Accounts(database, numbered=True)
    made.add_user_now("zoe", admin=True)
    made.add_user_now("ann", admin=False, person=Person(" Ann Example ", "ann@example.org"), password="hash")
    return made


def recorded(accounts: Accounts) -> list[str]:
    found = [record_in(line) for line in accounts.audit.lines_now()]
    return [" ".join([each.what, *(f"{name}={value}" for name, value in each.more.items())]) for each in found]


@pytest.mark.parametrize("text", ["", "Ann", "Ann Example-Ö", "X" * 200, "黎明"])
def test_names_that_people_have(text: str) -> None:
    assert check_fullname(f" {text} ") == text


@pytest.mark.parametrize("text", ["", "a@b", "ann+x@example.org"])
def test_addresses_that_people_have(text: str) -> None:
    assert check_email(f" {text} ") == text


@pytest.mark.parametrize("text", ["ann", "ann@", "@example.org", "a b@example.org", "a@b@c", "a@b\nc"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(PfsError) as caught:
        check_email(text)
    assert caught.value.kind is Kind.INVALID


def test_an_account_tells_who_it_is(accounts: Accounts) -> None:
    accounts.join_now("ml", "ann")
    accounts.set_autoshare_now("ann", {"ml"})
    told = accounts.account_now("ann")
    assert (told.person, told.groups, told.autoshare) == (Person("Ann Example", "ann@example.org"), {"ml"}, {"ml"})
    assert accounts.accounts_now()[1] == told
    with pytest.raises(PfsError, match="no user 'eve'"):
        accounts.account_now("eve")


@pytest.mark.parametrize("person", [Person("two\nlines"), Person("x" * 201), Person("", "no address")])
def test_an_account_of_nobody_is_not_made(accounts: Accounts, person: Person) -> None:
    with pytest.raises(PfsError) as caught:
        accounts.add_user_now("bob", admin=False, person=person)
    assert caught.value.kind is Kind.INVALID
    assert [each.name for each in accounts.accounts_now()] == ["zoe", "ann"]


def test_what_is_not_named_stays_as_it_is(accounts: Accounts) -> None:
    accounts.change_now("ann", Changed(email=""))
    assert accounts.account_now("ann").person == Person("Ann Example", "")
    accounts.change_now("ann", Changed(fullname="Ann"))
    assert accounts.account_now("ann").person == Person("Ann", "")
    assert (accounts.account_now("ann").admin, accounts.account_now("ann").has_password) == (False, True)


def test_all_of_a_change_is_done_and_recorded_each_for_itself(accounts: Accounts) -> None:
    accounts.join_now("ml", "ann")
    before = len(recorded(accounts))
    accounts.change_now("ann", Changed("A", "a@b", admin=True, autoshare=frozenset({"ml"}), password="other"))
    assert recorded(accounts)[before:] == [
        *("user.set fields=fullname,email", "user.admin admin=yes", "autoshare.set groups=ml", "password.set")
    ]


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        (Changed(fullname="x", email="no address"), Kind.INVALID),
        (Changed(fullname="x", autoshare=frozenset({"hr"})), Kind.INVALID),
        (Changed(fullname="x", admin=False), Kind.BUSY),
    ],
)
def test_of_a_change_that_cannot_be_nothing_is_done(accounts: Accounts, changed: Changed, kind: Kind) -> None:
    before = recorded(accounts)
    with pytest.raises(PfsError) as caught:
        accounts.change_now("zoe", changed)
    assert caught.value.kind is kind
    assert accounts.account_now("zoe").person == Person()
    assert recorded(accounts) == before


def test_another_password_takes_back_all_tokens_but_the_one_that_is_kept(accounts: Accounts) -> None:
    keys = [accounts.make_key_now(KeyKind.USER, name, URL) for name in ("ann", "ann", "zoe")]
    accounts.change_now("ann", Changed(password="other", kept=keys[1]))
    assert [len(accounts.keys_now(name)) for name in ("ann", "zoe")] == [1, 1]
    accounts.change_now("ann", Changed(password="third", kept=keys[2]))
    assert [len(accounts.keys_now(name)) for name in ("ann", "zoe")] == [0, 1]


def test_of_who_is_gone_nothing_is_kept(accounts: Accounts, database: Database) -> None:
    accounts.remove_user_now("ann")
    kept = database.read_now(lambda session: session.exec(select(User).where(User.name == "ann")).one())
    assert (kept.fullname, kept.email, kept.password) == ("", "", None)
