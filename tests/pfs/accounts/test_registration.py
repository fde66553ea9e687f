"""Who may make an account: the whole table."""

import pytest

from pfs.accounts.registration import Invited, Registration, may_register
from pfs.errors import Kind, PfsError

NOW = 1000
SHOWN = {
    "nothing": ("", None),
    "good": ("code", Invited(admin=False, until_ns=NOW + 1)),
    "for an admin": ("code", Invited(admin=True, until_ns=NOW + 1)),
    "over": ("code", Invited(admin=False, until_ns=NOW)),
    "over for an admin": ("code", Invited(admin=True, until_ns=NOW)),
    "made up": ("code", None),
}
TABLE = """
    mode        shown               answer
    closed      nothing             nobody can register
    closed      good                nobody can register
    closed      for an admin        admin
    closed      over                nobody can register
    closed      over for an admin   nobody can register
    closed      made up             nobody can register
    invitation  nothing             an invitation is needed
    invitation  good                user
    invitation  for an admin        admin
    invitation  over                not good
    invitation  over for an admin   not good
    invitation  made up             not good
    open        nothing             user
    open        good                user
    open        for an admin        admin
    open        over                not good
    open        over for an admin   not good
    open        made up             not good
"""
ROWS = [(row[4:16].strip(), row[16:36].strip(), row[36:].strip()) for row in TABLE.strip("\n").splitlines()[1:]]


@pytest.mark.parametrize(("mode", "shown", "answer"), ROWS)
def test_who_may_register(mode: str, shown: str, answer: str) -> None:
    if answer in ("user", "admin"):
        assert may_register(Registration(mode), *SHOWN[shown], NOW) is (answer == "admin")
    else:
        with pytest.raises(PfsError, match=answer) as caught:
            may_register(Registration(mode), *SHOWN[shown], NOW)
        assert caught.value.kind is Kind.DENIED


def test_the_table_is_whole() -> None:
    assert {(mode, shown) for mode, shown, _ in ROWS} == {
        (mode.value, shown) for mode in Registration for shown in SHOWN
    }
