"""Groups of accounts: their numbers, and with which ones new jobs are shared."""

from collections.abc import Awaitable, Callable

import pytest

from pfs.accounts.groups import Group
from pfs.accounts.store import Accounts
from pfs.errors import Kind, PfsError
from pfs.names import FIRST_GID
from pfs.sql import Database

Run = Callable[[Callable[[], Awaitable[object]]], object]


@pytest.fixture
def accounts(database: Database) -> Accounts:
    made = Accounts(database, numbered=True)
    for name in ("ann", "bob"):
        made.add_user_now(name, admin=False)
    return made


def test_a_group_has_a_number_of_its_own_which_it_keeps(run: Run, accounts: Accounts) -> None:
    assert [accounts.join_now(*who) for who in (("ml", "ann"), ("hr", "ann"), ("ml", "bob"))] == [
        FIRST_GID + 1,
        FIRST_GID + 2,
        FIRST_GID + 1,
    ]
    for name in ("ann", "bob"):
        accounts.leave_now("ml", name)
    assert accounts.join_now("ml", "bob") == FIRST_GID + 1

    async def main() -> None:
        assert await accounts.group("ml") == (True, FIRST_GID + 1)
        assert await accounts.group("none") == (False, None)

    run(main)


def test_one_person_s_groups_have_no_numbers(database: Database) -> None:
    accounts = Accounts(database, numbered=False)
    accounts.add_user_now("ann", admin=False)
    assert accounts.join_now("ml", "ann") is None


def test_an_account_is_looked_up_with_its_groups_and_their_numbers(run: Run, accounts: Accounts) -> None:
    for group in ("ml", "hr"):
        accounts.join_now(group, "ann")

    async def main() -> None:
        ann = await accounts.user("ann")
        assert ann is not None
        assert ann.groups == {"hr", "ml"}
        assert ann.gids == (("hr", FIRST_GID + 2), ("ml", FIRST_GID + 1))

    run(main)


def test_a_group_that_everybody_left_is_known_still(accounts: Accounts) -> None:
    accounts.join_now("ml", "ann")
    accounts.leave_now("ml", "ann")
    assert (accounts.groups_now(), accounts.members_now("ml")) == (["ml"], [])


def test_one_shares_with_ones_own_groups(accounts: Accounts) -> None:
    accounts.join_now("ml", "ann")
    accounts.join_now("hr", "bob")
    accounts.set_autoshare_now("ann", {"ml"})
    assert accounts.autoshare_now("ann") == {"ml"}
    said = set()
    for group in ("hr", "none"):
        with pytest.raises(PfsError) as caught:
            accounts.set_autoshare_now("ann", {"ml", group})
        assert caught.value.kind is Kind.INVALID
        said.add(caught.value.message.replace(group, "…"))
    assert len(said) == 1
    assert accounts.autoshare_now("ann") == {"ml"}
    accounts.set_autoshare_now("ann", ())
    assert accounts.autoshare_now("ann") == frozenset()


@pytest.mark.parametrize("way", ["left", "removed"])
def test_who_is_out_of_a_group_shares_nothing_with_it(accounts: Accounts, way: str) -> None:
    accounts.join_now("ml", "ann")
    accounts.set_autoshare_now("ann", {"ml"})
    if way == "left":
        accounts.leave_now("ml", "ann")
    else:
        accounts.add_user_now("zoe", admin=True)
        accounts.remove_user_now("ann")
    assert accounts.autoshare_now("ann") == frozenset()
    assert accounts.members_now("ml") == []


# ---- groups that administrators make and remove


def test_a_group_is_made_with_a_title_and_nobody_in_it(accounts: Accounts) -> None:
    assert accounts.add_group_now("ml", " Machines ") == FIRST_GID + 1
    assert accounts.group_now("ml") == Group("ml", "Machines", ())
    accounts.join_now("ml", "bob")
    accounts.set_title_now("ml", "")
    assert accounts.group_now("ml") == Group("ml", "", ("bob",))


@pytest.mark.parametrize(("name", "title", "kind"), [("ml", "", Kind.EXISTS), ("Ml", "", Kind.INVALID)])
def test_a_group_is_made_once_and_by_a_name_that_can_be(accounts: Accounts, name: str, title: str, kind: Kind) -> None:
    accounts.join_now("ml", "ann")
    with pytest.raises(PfsError) as caught:
        accounts.add_group_now(name, title)
    assert caught.value.kind is kind


@pytest.mark.parametrize("title", ["two\nlines", "x" * 201])
def test_a_title_is_one_line(accounts: Accounts, title: str) -> None:
    accounts.add_group_now("ml", "before")
    for ask in (lambda: accounts.add_group_now("hr", title), lambda: accounts.set_title_now("ml", title)):
        with pytest.raises(PfsError) as caught:
            ask()
        assert caught.value.kind is Kind.INVALID
    assert accounts.groups_now() == ["ml"]
    assert accounts.group_now("ml").title == "before"


def test_who_is_in_a_group_that_is_removed_is_in_it_no_more(run: Run, accounts: Accounts) -> None:
    accounts.add_group_now("ml", "Machines")
    accounts.join_now("ml", "ann")
    accounts.set_autoshare_now("ann", {"ml"})
    accounts.remove_group_now("ml")
    assert accounts.groups_now() == []
    assert accounts.numbers_now() == []
    assert accounts.autoshare_now("ann") == frozenset()
    for ask in (
        lambda: accounts.remove_group_now("ml"),
        lambda: accounts.set_title_now("ml", "x"),
        lambda: accounts.group_now("ml"),
        lambda: accounts.limits_now("groups/ml"),
    ):
        with pytest.raises(PfsError, match="no group 'ml'") as caught:
            ask()
        assert caught.value.kind is Kind.NOT_FOUND

    async def main() -> None:
        assert await accounts.group("ml") == (False, None)

    run(main)


@pytest.mark.parametrize("way", ["joined", "made"])
def test_a_group_that_was_removed_is_another_one_by_the_same_number(accounts: Accounts, way: str) -> None:
    accounts.add_group_now("ml", "Machines")
    accounts.add_group_now("hr", "")
    accounts.join_now("ml", "ann")
    accounts.remove_group_now("ml")
    number = accounts.join_now("ml", "bob") if way == "joined" else accounts.add_group_now("ml", "")
    assert number == FIRST_GID + 1
    assert accounts.group_now("ml") == Group("ml", "", ("bob",) if way == "joined" else ())
