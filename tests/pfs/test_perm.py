"""Rights: the whole matrix of domain, role and verb, as a table to be read."""

import pytest

from pfs.perm import Domain, DomainKind, Subject, Verb, allowed

WHO = {
    "ann": Subject("ann"),
    "eve": Subject("eve"),
    "member": Subject("bob", groups=frozenset({"ml"})),
    "other": Subject("dan", groups=frozenset({"hr"})),
    "both": Subject("fay", groups=frozenset({"hr", "ml"})),
    "admin": Subject("zoe", admin=True),
}
WHERE = {
    "home/ann": Domain(DomainKind.HOME, "ann"),
    "groups/ml": Domain(DomainKind.GROUP, "ml"),
    "groups/ann": Domain(DomainKind.GROUP, "ann"),
    "shared": Domain(DomainKind.SHARED),
    "jobs/1": Domain(DomainKind.JOB, "1", "ann"),
    "jobs/2": Domain(DomainKind.JOB, "2", "ann", frozenset({"ml", "it"})),
}
# r: may read, w: may write too, -: may not even know of it
MATRIX = """
                ann     eve     member  other   both    admin
    home/ann    w       -       -       -       -       w
    groups/ml   -       -       w       -       w       w
    groups/ann  -       -       -       -       -       w
    shared      r       r       r       r       r       r
    jobs/1      r       -       -       -       -       r
    jobs/2      r       -       r       -       r       r
"""
HEAD, *ROWS = [line.split() for line in MATRIX.strip().splitlines()]
CELLS = [(row[0], who, right) for row in ROWS for who, right in zip(HEAD, row[1:], strict=True)]


@pytest.mark.parametrize(("where", "who", "right"), CELLS)
def test_rights_are_by_domain(where: str, who: str, right: str) -> None:
    assert allowed(WHO[who], Verb.READ, WHERE[where]) is (right in "rw")
    assert allowed(WHO[who], Verb.WRITE, WHERE[where]) is (right == "w")


def test_the_table_is_whole() -> None:
    assert {(where, who) for where, who, _ in CELLS} == {(where, who) for where in WHERE for who in WHO}
    assert {domain.kind for domain in WHERE.values()} == set(DomainKind)


def test_a_group_of_no_name_shares_nothing() -> None:
    assert not allowed(Subject("eve"), Verb.READ, Domain(DomainKind.JOB, "1", owner="ann", groups=frozenset()))
