"""Who may do what: rights are by data domain, and this one function decides them.

    domain          read                                            write
    home/<user>     the user, admins                                the user, admins
    groups/<group>  members, admins                                 members, admins
    shared          everybody                                       nobody (only somebody on the head node)
    jobs/<id>       owner, admins, members of the job's groups      nobody (only the running job)

What somebody may not read does not exist for them: the caller of `allowed` answers NOT_FOUND, so that a
foreign node looks the same whether it is there or not.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Verb(StrEnum):
    """What somebody wants to do with a domain."""

    READ = "read"
    WRITE = "write"


class DomainKind(StrEnum):
    """The kinds of data domain, named as in the tree."""

    HOME = "home"
    GROUP = "groups"
    SHARED = "shared"
    JOB = "jobs"


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody who acts.

    Attributes:
        uid: the account's number on every machine (its gid is the same); None where the server serves one person.
    """

    user: str
    admin: bool = False
    groups: frozenset[str] = frozenset()
    uid: int | None = None


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


def allowed(subject: Subject, verb: Verb, domain: Domain) -> bool:
    """Tell whether `subject` may `verb` what lies in `domain`."""
    match domain.kind:
        case DomainKind.HOME:
            return subject.admin or subject.user == domain.name
        case DomainKind.GROUP:
            return subject.admin or domain.name in subject.groups
        case DomainKind.SHARED:
            return verb is Verb.READ
        case DomainKind.JOB:
            reader = subject.admin or subject.user == domain.owner or bool(subject.groups & domain.groups)
            return reader and verb is Verb.READ
