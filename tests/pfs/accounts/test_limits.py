"""What users and groups may hold, by the names of holders."""

from collections.abc import Awaitable, Callable

import pytest

from pfs.accounts.store import FIRST_UID, Accounts
from pfs.errors import Kind, PfsError
from pfs.names import FIRST_GID
from pfs.quota import Limits
from pfs.sql import Database

Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture
def accounts(database: Database) -> Accounts:
    made = Accounts(database, numbered=True)
    for name in ("ann", "bob"):
        made.add_user_now(name, admin=False)
    made.join_now("ann", "bob")  # a group may be called like a user
    return made


def test_limits_are_kept_and_changed(run: Run, accounts: Accounts) -> None:
    async def main() -> None:
        assert (await accounts.limits(), accounts.limits_now("ann")) == ({}, Limits())
        for holder in ("ann", "groups/ann"):
            for limits in (Limits(2**62, 7), Limits(None, 0), Limits()):
                accounts.set_limits_now(holder, limits)
                assert accounts.limits_now(holder) == (await accounts.limits())[holder] == limits
        accounts.set_limits_now("groups/ann", Limits(1))
        assert (accounts.limits_now("ann"), accounts.limits_now("bob")) == (Limits(), Limits())

    run(main)


@pytest.mark.parametrize(("holder", "says"), [("eve", "no user 'eve'"), ("groups/ml", "no group 'ml'")])
def test_nobody_limits_who_is_not_there(accounts: Accounts, holder: str, says: str) -> None:
    for call in (accounts.limits_now, accounts.check_holder_now, lambda each: accounts.set_limits_now(each, Limits(1))):
        with pytest.raises(PfsError, match=says) as caught:
            call(holder)
        assert caught.value.kind is Kind.NOT_FOUND


def test_the_number_of_a_holder_is_the_one_that_owns_its_files(
    run: Run, accounts: Accounts, database: Database
) -> None:
    async def main() -> None:
        assert await accounts.number("ann") == FIRST_UID + 1
        assert await accounts.number("groups/ann") == FIRST_GID + 1
        assert (await accounts.number("eve"), await accounts.number("groups/eve")) == (None, None)
        assert await Accounts(database, numbered=False).number("ann") is None

    run(main)
