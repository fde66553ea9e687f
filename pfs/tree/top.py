"""The top of a datacenter's tree: the data domains, and what other packages add beside them.

README.txt  home/<user>/  groups/  shared/  public → shared  …
"""

from collections.abc import Mapping, Sequence

from pfs.accounts import Accounts
from pfs.api import Attr, Entry
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError
from pfs.perm import Domain, DomainKind, Subject, Verb, allowed
from pfs.tree.virtual import Directory, DomainDirectory, Link, Node, StaticDirectory, Text, directory_attr, virtual_id

ACCOUNTS_VALID_S = 5.0  # so late may a new account's home be seen
DOMAIN_DIRECTORIES = ("home", "groups", "shared", "jobs")


def home_of(user: str) -> str:
    """Return the directory of an account's home, in the data root and in the tree."""
    return f"{DomainKind.HOME}/{user}"


def make_home_now(disk: Disk, user: Subject) -> None:
    """Make sure that an account has a home."""
    disk.make_directory_now(home_of(user.user), 0o700, user.uid)


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
            "README.txt": Text(("README.txt",), text, made_at_ns),
            "home": HomesDirectory(accounts, disk, made_at_ns),
            "groups": StaticDirectory("groups", {}, made_at_ns),
            "shared": DomainDirectory(Domain(DomainKind.SHARED), disk.domain("shared", None)),
            "public": Link(virtual_id("public"), "shared", made_at_ns),
            **others,
        },
        made_at_ns,
    )


class HomesDirectory(Directory):
    """`home/`: one's own, and for admins everybody's."""

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
        owner: Subject | None = None
        if name == subject.user:
            owner = subject  # who asks every few microseconds need not be looked up each time
        elif allowed(subject, Verb.READ, Domain(DomainKind.HOME, name)):
            owner = await self._accounts.user(name)
        if owner is None:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return self._home(owner)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List the homes that `subject` may read."""
        found = []
        for user in await self._accounts.users():
            if allowed(subject, Verb.READ, Domain(DomainKind.HOME, user.user)):
                try:
                    found.append(Entry(user.user, await self._home(user).attr(subject)))
                except PfsError as error:  # one home that somebody took away does not hide the others
                    if error.kind is not Kind.NOT_FOUND:
                        raise
        return found

    def _home(self, owner: Subject) -> DomainDirectory:
        home = self._homes.get((owner.user, owner.uid))
        if home is None:
            domain = Domain(DomainKind.HOME, owner.user)
            home = DomainDirectory(domain, self._disk.domain(home_of(owner.user), owner.uid))
            self._homes[owner.user, owner.uid] = home
        return home
