"""The tree as a running job sees it through a mount that its node made: its volumes, and nothing else.

It is laid out like the data root, whose names assignments use: `home/ann`, `shared`, `groups/ml`, `jobs/17/data`. What
is not among the job's volumes is not there, whatever its owner may see elsewhere: no other job, no queue, no log.
"""

from collections.abc import Awaitable, Callable, Sequence

from jobd.engine.jobmounts import JobMounts
from jobd.engine.ports import FindUser
from pfs.api import Attr, Entry
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError
from pfs.path import split
from pfs.perm import Domain, DomainKind, Subject
from pfs.tree.virtual import Directory, DomainDirectory, Node, directory_attr, virtual_id

Tree = dict[str, "Tree | DomainDirectory"]


def job_view(mounts: JobMounts, disk: Disk, user: FindUser, subject: Subject) -> Directory:
    """Return the root of the tree for a running job.

    Args:
        user: finds the account whose home it is.
        subject: the job, for its owner.
    """

    async def make() -> Tree:
        tree: Tree = {}
        for volume in mounts.volumes(subject):
            await _plant(tree, volume.source, disk, user, subject)
        return tree

    return _Branch((), make)


async def _plant(tree: Tree, source: str, disk: Disk, user: FindUser, subject: Subject) -> None:
    """Add the domain in which `source` lies."""
    parts, gid = split(source), None
    match parts:
        case ["home", name, *_]:
            owner = await user(name)
            domain, uid, parts = Domain(DomainKind.HOME, name), None if owner is None else owner.uid, parts[:2]
        case ["groups", name, *_]:
            gid = dict(subject.gids).get(name)
            domain, uid, parts = Domain(DomainKind.GROUP, name), None, parts[:2]
        case ["shared", *_]:
            domain, uid, parts = Domain(DomainKind.SHARED), None, parts[:1]
        case ["jobs", number, "data", *_]:
            domain, uid, parts = Domain(DomainKind.JOB, number, subject.user), subject.uid, parts[:3]
        case _:
            raise PfsError(Kind.INTERNAL, f"the volume {source!r} is in no data domain")
    for part in parts[:-1]:
        below = tree.setdefault(part, {})
        assert isinstance(below, dict)
        tree = below
    tree[parts[-1]] = DomainDirectory(domain, disk.domain("/".join(parts), uid, gid))


class _Branch(Directory):
    """A directory on the way to the job's domains."""

    def __init__(self, path: tuple[str, ...], make: Callable[[], Awaitable[Tree]]) -> None:
        self._path = path
        self._make = make

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("job view", subject.job, *self._path))

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a domain, or a directory on the way to one."""
        tree = await self._make()
        if name not in tree:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return self._node(tree, name)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List what is there; a domain that somebody took away does not hide the others."""
        tree, found = await self._make(), []
        for name in sorted(tree):
            try:
                found.append(Entry(name, await self._node(tree, name).attr(subject)))
            except PfsError as error:
                if error.kind is not Kind.NOT_FOUND:
                    raise
        return found

    def _node(self, tree: Tree, name: str) -> Node:
        below = tree[name]
        if isinstance(below, DomainDirectory):
            return below

        async def branch() -> Tree:
            return below

        return _Branch((*self._path, name), branch)
