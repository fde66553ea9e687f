"""Rights: the whole matrix of object, role and verb, as a table to be read; and that nobody else decides them."""

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

import cli
import jobd
import pfs
from pfs.perm import (
    EVERY_JOB,
    GROUP_NAMES,
    SERVICE,
    Domain,
    DomainKind,
    Scope,
    Subject,
    Thing,
    ThingKind,
    Verb,
    allowed,
)

WHO = {
    "ann": Subject("ann"),
    "eve": Subject("eve"),
    "member": Subject("bob", groups=frozenset({"ml"})),
    "other": Subject("dan", groups=frozenset({"hr"})),
    "both": Subject("fay", groups=frozenset({"hr", "ml"})),
    "admin": Subject("zoe", admin=True),
    "job_1": Subject("ann", groups=frozenset({"ml"}), job=1),
    "reader": Subject("ann", groups=frozenset({"ml"}), scopes=frozenset({Scope.READ})),
    "writer": Subject("ann", scopes=frozenset({Scope.READ, Scope.WRITE})),
    "agent": Subject("ann", scopes=frozenset({Scope.READ, Scope.SUBMIT})),
}
WHAT: dict[str, Domain | Thing] = {
    "home/ann": Domain(DomainKind.HOME, "ann"),
    "groups/ml": Domain(DomainKind.GROUP, "ml"),
    "groups/ann": Domain(DomainKind.GROUP, "ann"),
    "shared": Domain(DomainKind.SHARED),
    "jobs/1": Domain(DomainKind.JOB, "1", "ann"),
    "jobs/2": Domain(DomainKind.JOB, "2", "ann", frozenset({"ml", "it"})),
    "every_job": EVERY_JOB,
    "ann's_node": Thing(ThingKind.NODE, "ann"),
    "a_node": Thing(ThingKind.NODE),
    "ann's_cluster": Thing(ThingKind.CLUSTER, "ann"),
    "a_cluster": Thing(ThingKind.CLUSTER),
    "users/ann": Thing(ThingKind.ACCOUNT, "ann"),
    "group_names": GROUP_NAMES,
    "service": SERVICE,
}
# r: may read, w: write, c: command, m: manage, u: rule; -: nothing, may not even know of it
MATRIX = """
                   ann   eve  member  other  both  admin  job_1  reader  writer  agent
    home/ann       rw    -    -       -      -     rwu    rw     r       rw      r
    groups/ml      -     -    rw      -      rw    rwu    rw     r       -       -
    groups/ann     -     -    -       -      -     rwu    -      -       -       -
    shared         r     r    r       r      r     ru     r      r       r       r
    jobs/1         rc    -    -       -      -     rcu    rw     r       r       rc
    jobs/2         rc    -    r       -      r     rcu    -      r       r       rc
    every_job      -     -    -       -      -     rcu    -      -       -       -
    ann's_node     rc    r    r       r      r     rcu    -      r       r       rc
    a_node         r     r    r       r      r     rcu    -      r       r       r
    ann's_cluster  rc    r    r       r      r     rcu    -      r       r       rc
    a_cluster      r     r    r       r      r     rcu    -      r       r       r
    users/ann      rcm   -    -       -      -     ru     -      r       r       rc
    group_names    r     r    r       r      r     ru     -      r       r       r
    service        rw    rw   rw      rw     rw    rwu    -      r       r       rw
"""
LETTERS = {Verb.READ: "r", Verb.WRITE: "w", Verb.COMMAND: "c", Verb.MANAGE: "m", Verb.RULE: "u"}
HEAD, *ROWS = [line.split() for line in MATRIX.strip().splitlines()]
CELLS = [(row[0], who, rights) for row in ROWS for who, rights in zip(HEAD, row[1:], strict=True)]


@pytest.mark.parametrize(("what", "who", "rights"), CELLS)
def test_who_may_do_what(what: str, who: str, rights: str) -> None:
    found = "".join(letter for verb, letter in LETTERS.items() if allowed(WHO[who], verb, WHAT[what]))
    assert found == rights.strip("-")


def test_the_table_is_whole() -> None:
    assert [(what, who) for what, who, _ in CELLS] == list(product(WHAT, WHO))
    assert {each.kind for each in WHAT.values()} == {*DomainKind, *ThingKind}
    assert set(LETTERS) == set(Verb)


def test_who_may_do_anything_may_read() -> None:
    for who, what, verb in product(WHO.values(), WHAT.values(), Verb):
        assert allowed(who, Verb.READ, what) or not allowed(who, verb, what)


def test_a_group_of_no_name_shares_nothing() -> None:
    assert not allowed(Subject("eve"), Verb.READ, Domain(DomainKind.JOB, "1", owner="ann", groups=frozenset()))


# ---- nobody else decides

# what looks at who somebody is, and decides no right by it
ELSEWHERE = {
    "pfs/accounts/store.py": "makes accounts administrators",
    "pfs/server/administering.py": "tells of accounts",
    "pfs/accounts/keyring.py": "says who somebody is",
    "pfs/accounts/enrolment.py": "hands on what a join token is for",
    "jobd/engine/sessions.py": "refuses a key for the datacenter's nodes whose owner has no say over these any more",
    "pfs/server/entrance.py": "gives no token that may do more than the one that asks for it",
    "jobd/files/jobs.py": "lists one's own names beside the jobs that one may read",
    "jobd/rest/desk.py": "lists one's own jobs among those that one may read",
    "pfs/accounts/registration.py": "of an invitation: whom it makes",
    "pfs/disk/attr.py": "of Powers, which are given to it",
    "cli/server/accounts.py": "prints accounts",
    "cli/mount/connecting.py": "of what the server told the mount",
}
FACTS = ("admin", "scopes")
WORDS = re.compile(r"\.(admin|scopes)\b|subject\.user\b")  # without one of them nothing `looks`


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield the modules in which somebody may look; to parse all of them takes long."""
    for package in (pfs, jobd, cli):
        folder = Path(package.__file__ or "").parent
        for file in sorted(folder.rglob("*.py")):
            text = file.read_text()
            if WORDS.search(text):
                yield f"{folder.name}/{file.relative_to(folder)}", ast.parse(text)


def looks(node: ast.AST) -> bool:
    """Tell whether somebody asks here what somebody may because of who they are."""
    if isinstance(node, ast.Attribute):
        return node.attr in FACTS and isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
        sides = [node.left, *node.comparators]
        users = [side for side in sides if isinstance(side, ast.Attribute) and side.attr in ("user", "owner")]
        people = [ast.unparse(side) for side in users if ast.unparse(side).endswith("subject.user")]
        return bool(people) and len(users) == len(sides)
    return False


def test_rights_are_decided_in_one_place() -> None:
    found = {
        (name, node.lineno): ast.unparse(node)
        for name, tree in modules()
        if name != "pfs/perm.py" and name not in ELSEWHERE
        for node in ast.walk(tree)
        if looks(node)
    }
    assert found == {}


def test_the_exceptions_are_none_too_many() -> None:
    trees = dict(modules())
    assert [name for name in ELSEWHERE if not any(looks(node) for node in ast.walk(trees[name]))] == []
