"""The top of a datacenter's tree: the data domains, and what other packages add beside them.

README.txt  home/<user>/  groups/  shared/  public → shared  …
"""

import contextlib
import os
from collections.abc import Mapping, Sequence

from pfs.accounts.store import Accounts
from pfs.api import Attr, Entry
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError
from pfs.names import OWN_NAMES
from pfs.path import parent_and_name
from pfs.perm import Domain, DomainKind, Subject, Verb, allowed
from pfs.tree.auditfile import AuditFile
from pfs.tree.texts import Text
from pfs.tree.virtual import (
    Directory,
    DomainDirectory,
    Link,
    Node,
    StaticDirectory,
    directory_attr,
    listing,
    virtual_id,
)

ACCOUNTS_VALID_S = 5.0  # so late may the home of a new account, or of a group, be seen
GONE_HOMES, GONE_GROUPS = "home/.trash", "groups/.trash"  # no account and no group can be called that
DOMAIN_DIRECTORIES = ("home", "groups", "shared", "jobs")


def home_of(user: str) -> str:
    """Return the directory of an account's home, in the data root and in the tree."""
    return f"{DomainKind.HOME}/{user}"


def group_home(group: str) -> str:
    """Return the directory of a group, in the data root and in the tree."""
    return f"{DomainKind.GROUP}/{group}"


def make_home_now(disk: Disk, user: Subject) -> None:
    """Make sure that an account has a home."""
    disk.make_directory_now(home_of(user.user), 0o700, user.uid)


def put_home_aside_now(disk: Disk, user: str, number: int) -> str:
    """Move the home of an account that is gone to where only the server's administrator sees it; return where to."""
    return _put_aside_now(disk, DomainKind.HOME, user, f"{GONE_HOMES}/{user}.{number}")


def put_group_aside_now(disk: Disk, group: str, at_ns: int) -> str:
    """Do the same with the files of a group that is gone since that moment."""
    return _put_aside_now(disk, DomainKind.GROUP, group, f"{GONE_GROUPS}/{group}.{at_ns}")


def _put_aside_now(disk: Disk, kind: DomainKind, name: str, where: str) -> str:
    folder, aside = parent_and_name(where)
    disk.make_directory_now(folder, 0o700, None)
    with contextlib.suppress(FileNotFoundError), disk.directory(kind) as here, disk.directory(folder) as gone:
        os.rename(name, aside, src_dir_fd=here, dst_dir_fd=gone)
    return where


def top(accounts: Accounts, disk: Disk, readme: bytes, others: Mapping[str, Node], made_at_ns: int) -> Directory:
    """Return the root of the tree, with what `others` add to it.

    Args:
        made_at_ns: the time that what never changes shows, in nanoseconds since the epoch.
    """

    async def text() -> bytes:
        return readme

    return StaticDirectory(
        "",
        {
            "README.txt": ReadmeFile(("README.txt",), text, made_at_ns),
            "home": HomesDirectory(accounts, disk, made_at_ns),
            "groups": GroupsDirectory(accounts, disk, made_at_ns),
            "shared": SharedFiles(Domain(DomainKind.SHARED), disk.domain("shared", None)),
            "audit": AuditFile(accounts.audit),
            "public": PublicLink(virtual_id("public"), "shared", made_at_ns),
            **others,
        },
        made_at_ns,
    )


class ReadmeFile(Text):
    """How to submit, with an example that works here."""


class SharedFiles(DomainDirectory):
    """Files for everybody, which nobody changes here."""


class PublicLink(Link):
    """To shared/."""


class HomesDirectory(Directory):
    """Your home; for administrators everybody's.

    One's own is there also as `me`, and as `~`, which is not listed.
    """

    def __init__(self, accounts: Accounts, disk: Disk, made_at_ns: int = 0) -> None:
        self._accounts = accounts
        self._disk = disk
        self._made_at_ns = made_at_ns
        self._homes: dict[tuple[str, int | None], DomainDirectory] = {}

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("home"), mtime_ns=self._made_at_ns, valid_s=ACCOUNTS_VALID_S)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return the home of an account."""
        if name in OWN_NAMES:
            return self._own(subject, name)
        owner: Subject | None = None
        if name == subject.user:
            owner = subject  # who asks every few microseconds need not be looked up each time
        elif allowed(subject, Verb.READ, Domain(DomainKind.HOME, name)):
            owner = await self._accounts.user(name)
        if owner is None:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return self._home(owner)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List the homes that `subject` may read, and `me`: what is not listed a mount takes for not there."""
        me = OWN_NAMES[0]
        found = [Entry(me, await self._own(subject, me).attr(subject))]
        for user in await self._accounts.users():
            if allowed(subject, Verb.READ, Domain(DomainKind.HOME, user.user)):
                try:
                    found.append(Entry(user.user, await self._home(user).attr(subject)))
                except PfsError as error:  # one home that somebody took away does not hide the others
                    if error.kind is not Kind.NOT_FOUND:
                        raise
        return found

    def _own(self, subject: Subject, name: str) -> Node:
        return OwnHome(virtual_id("home", name, subject.user), subject.user, self._made_at_ns)

    def _home(self, owner: Subject) -> DomainDirectory:
        home = self._homes.get((owner.user, owner.uid))
        if home is None:
            domain = Domain(DomainKind.HOME, owner.user)
            home = HomeFiles(domain, self._disk.domain(home_of(owner.user), owner.uid))
            self._homes[owner.user, owner.uid] = home
        return home


class OwnHome(Link):
    """To your home."""


class HomeFiles(DomainDirectory):
    """Your files."""

    called = "<user>"


class GroupsDirectory(Directory):
    """The groups that you are in; for administrators all."""

    def __init__(self, accounts: Accounts, disk: Disk, made_at_ns: int = 0) -> None:
        self._accounts = accounts
        self._disk = disk
        self._made_at_ns = made_at_ns
        self._groups: dict[str, DomainDirectory] = {}  # a group keeps its number

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("groups"), mtime_ns=self._made_at_ns, valid_s=ACCOUNTS_VALID_S)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return the directory of a group."""
        if not self._is_for(subject, name):
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        found = self._groups.get(name)
        if found is None:
            is_there, gid = await self._accounts.group(name)
            if not is_there:
                raise PfsError(Kind.NOT_FOUND, "no such file or directory")
            found = self._groups[name] = group_directory(self._disk, name, gid)
        return found

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List the groups whose files `subject` may read."""
        names = await self._accounts.groups()
        return await listing(self, subject, [name for name in names if self._is_for(subject, name)])

    def _is_for(self, subject: Subject, name: str) -> bool:
        return allowed(subject, Verb.READ, Domain(DomainKind.GROUP, name))


class GroupFiles(DomainDirectory):
    """Files that all members may change."""

    called = "<group>"


def group_directory(disk: Disk, name: str, gid: int | None) -> DomainDirectory:
    """Return the door to the files of a group."""
    return GroupFiles(Domain(DomainKind.GROUP, name), disk.domain(group_home(name), None, gid))
