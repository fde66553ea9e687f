"""Who may do what with what: this one function decides all rights, and nobody else looks at who somebody is.

    object              read                                          write               command
    home/<user>         the user, admins                              the user, admins    -
    groups/<group>      members, admins                               members, admins     -
    shared              everybody                                     nobody (1)          -
    jobs/<id>           owner, admins, members of the job's groups    nobody (2)          owner, admins
    nodes, clusters     everybody                                     -                   whose they are, admins
    an account          its user, admins                              -                   its user
    names of groups (4) everybody                                     -                   -
    the service (3)     everybody                                     everybody           -

(1) only somebody on the head node; (2) only the running job; (3) what it makes for all: jobs/, queue, secrets/ and so
on, where everybody sees what is theirs; (4) and their titles, but not who is in them. `manage` is of accounts: their
passwords and tokens, and that they are gone, for their users. `rule` is for administrators, of whatever it is: what
they decide for others.

A running job acts with its owner's rights on homes, groups and what is shared, though never as an administrator; of
jobs it has its own, to read and write, and no other; and it commands nothing.

A token may do less than its owner (`Scope`): all of them let read what the owner may read.

What somebody may not read does not exist for them: the caller of `allowed` answers NOT_FOUND, so that a
foreign node looks the same whether it is there or not.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Verb(StrEnum):
    """What somebody wants to do."""

    READ = "read"
    WRITE = "write"
    COMMAND = "command"  # say what shall become of a job, a node, a cluster, one's own account
    MANAGE = "manage"  # change how one comes in, passwords and tokens, or come in no more
    RULE = "rule"  # what is for administrators alone


class DomainKind(StrEnum):
    """The kinds of data domain, named as in the tree."""

    HOME = "home"
    GROUP = "groups"
    SHARED = "shared"
    JOB = "jobs"


class Scope(StrEnum):
    """What a token may be used for, beside its owner's own rights."""

    READ = "read"
    WRITE = "write"  # change files of data domains
    SUBMIT = "submit"  # submit jobs, and command jobs and nodes
    ADMIN = "admin"  # what its owner may as an administrator


EVERYTHING = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody who acts.

    Attributes:
        uid: the account's number on every machine (its gid is the same); None where the server serves one person.
        gids: its groups with their numbers, for its jobs; only where an account is looked up by its name.
        job: the running job that acts for its owner; None for people.
        scopes: what the token that they showed may be used for.
    """

    user: str
    admin: bool = False
    groups: frozenset[str] = frozenset()
    uid: int | None = None
    gids: tuple[tuple[str, int], ...] = ()
    job: int | None = None
    scopes: frozenset[Scope] = EVERYTHING


@dataclass(frozen=True, slots=True)
class Domain:
    """A tree of ordinary files with one rule.

    Attributes:
        name: the user, the group, the job's number; "" for shared.
        owner: the job's owner; only for jobs.
        groups: the groups that the job is shared with; only for jobs.
    """

    kind: DomainKind
    name: str = ""
    owner: str = ""
    groups: frozenset[str] = field(default_factory=frozenset)


class ThingKind(StrEnum):
    """The kinds of what has no files of its own."""

    NODE = "node"
    CLUSTER = "cluster"
    ACCOUNT = "account"
    GROUP_NAMES = "group names"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Thing:
    """What the service keeps, beside data.

    Attributes:
        owner: whose it is; "" for the datacenter's.
    """

    kind: ThingKind
    owner: str = ""


SERVICE = Thing(ThingKind.SERVICE)
GROUP_NAMES = Thing(ThingKind.GROUP_NAMES)
EVERY_JOB = Domain(DomainKind.JOB)  # nobody's in particular: who may read it may read all

_NEEDED = {
    Verb.READ: frozenset[Scope](),
    Verb.COMMAND: frozenset({Scope.SUBMIT}),
    Verb.MANAGE: frozenset({Scope.READ, Scope.WRITE, Scope.SUBMIT}),
    Verb.RULE: frozenset[Scope](),
}


def allowed(subject: Subject, verb: Verb, what: Domain | Thing) -> bool:
    """Tell whether `subject` may `verb` this."""
    if verb is Verb.WRITE:
        needed = frozenset({Scope.WRITE if isinstance(what, Domain) else Scope.SUBMIT})
    else:
        needed = _NEEDED[verb]
    if not needed <= subject.scopes:
        return False
    if verb is Verb.RULE:
        return subject.admin
    if isinstance(what, Domain):
        return _allowed_of_domain(subject, verb, what)
    return subject.job is None and _allowed_of_thing(subject, verb, what)


def _allowed_of_domain(subject: Subject, verb: Verb, domain: Domain) -> bool:
    if verb not in (Verb.READ, Verb.WRITE):
        is_command = verb is Verb.COMMAND and domain.kind is DomainKind.JOB and subject.job is None
        return is_command and _owns(subject, domain.owner)
    match domain.kind:
        case DomainKind.HOME:
            return _owns(subject, domain.name)
        case DomainKind.GROUP:
            return subject.admin or domain.name in subject.groups
        case DomainKind.SHARED:
            return verb is Verb.READ
        case DomainKind.JOB if subject.job is not None:
            return domain.name == str(subject.job)
        case DomainKind.JOB:
            reader = _owns(subject, domain.owner) or bool(subject.groups & domain.groups)
            return reader and verb is Verb.READ


def _allowed_of_thing(subject: Subject, verb: Verb, thing: Thing) -> bool:
    match thing.kind:
        case ThingKind.NODE | ThingKind.CLUSTER:
            return verb is Verb.READ or (verb is Verb.COMMAND and _owns(subject, thing.owner))
        case ThingKind.ACCOUNT if verb is Verb.READ:
            return _owns(subject, thing.owner)
        case ThingKind.ACCOUNT:
            return verb in (Verb.COMMAND, Verb.MANAGE) and _is(subject, thing.owner)
        case ThingKind.GROUP_NAMES:
            return verb is Verb.READ
        case ThingKind.SERVICE:
            return verb in (Verb.READ, Verb.WRITE)


def _is(subject: Subject, owner: str) -> bool:
    return owner != "" and subject.user == owner


def _owns(subject: Subject, owner: str) -> bool:
    return subject.admin or _is(subject, owner)
