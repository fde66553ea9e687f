"""The numbers by which the kernel knows our files: what they stand for, and for how long.

The server knows nodes by an id, users know them by a path, the kernel by a number. The table ties the three:

    (datacenter, node id)  ◀─identity─▶  Inode.number  ◀─names─▶  (number of the directory, name)

A node that is seen at two paths is one inode with two names (a hard link), or, where it can have but one name,
an inode that has moved. A name that leads to another node than before leads to another inode from then on; the
former one may be left without any name while programs hold it open. Paths are not stored: they are read off the
names up to the datacenter's root, so that renaming a directory moves everything below it in one step.

A server's disk soon gives the id of a node that is gone to a new one, while the kernel may still hold the former inode.
With a file that does no harm. A removed directory is dead to the kernel for ever, whatever we say of it later: when its
id is seen again, that is another inode.

An inode stays as long as the kernel counts on it (one for every answer that named it, taken back by `forget`),
a program holds it open, or an inode below it stays. Numbers are the node ids where these are free: so they are
the same after the next mount, and programs that remember them (git, rsync) find their files unchanged.

There may be hundreds of thousands of them: almost all are files with one name, and an inode has nothing of its own
that only others need.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Any

from pfs.api import Attr
from pfs.errors import Kind, PfsError
from pfs.path import join
from pfs.validity import held_for

ROOT = 1
NUMBER_MAX = 2**64 - 2  # the kernel takes the highest one for "not known"
_NOTHING: "Mapping[str, Inode]" = MappingProxyType({})


@dataclass(slots=True)
class Node:
    """What the kernel is told of a node.

    Attributes:
        shown: the same in the kernel's form, once it was needed.
        aged: the same for a shorter time, as a listing told it last.
    """

    number: int
    generation: int
    attr: Attr
    shown: Any = field(default=None, init=False, repr=False, compare=False)
    aged: "Node | None" = field(default=None, init=False, repr=False, compare=False)

    def for_s(self, valid_s: float) -> "Node":
        """Return the same for so many seconds; the same object again where it was asked for the same last."""
        if self.attr.valid_s == valid_s:
            return self
        if self.aged is None or self.aged.attr.valid_s != valid_s:
            self.aged = Node(self.number, self.generation, held_for(self.attr, valid_s))
        return self.aged


@dataclass(slots=True, eq=False)
class Inode:
    """One node as the kernel knows it.

    Attributes:
        number: what the kernel calls it; with `generation` never used for another node.
        datacenter: whose node it is; empty for the root of the mount.
        node_id: the server's name for it; None for the fixed inodes: the root and the datacenters' roots.
        names: where it stands, as (number of the directory, name), the newest last.
        children: the inodes below it that the table knows, by name.
        lookups: how many answers the kernel has had that named it.
        opens: how many open files and directories there are.
        size: bytes that the kernel may take it to have, at most.
        told: the last answer, None when it holds no more.
        pages: size, mtime and ctime of the content whose pages the kernel has; None when that is not known.
        unread: no file of it was ever opened, so that the kernel has no page of it.
        changed: the value of `Inodes.changes` at the last change that went through this mount.
        directory: it is one.
        removed: this mount has taken its last name away.
        former: what its node was called before the server had made it.
        target: where it leads, of a link that leads there for ever; None where that has to be asked for.
    """

    number: int
    generation: int
    datacenter: str
    node_id: int | None
    names: tuple[tuple[int, str], ...] = ()
    children: "Mapping[str, Inode]" = field(default_factory=lambda: _NOTHING)
    lookups: int = 0
    opens: int = 0
    size: int = 0
    told: Node | None = None
    changed: int = 0
    former: int | None = None
    target: str | None = None
    pages: tuple[int, int, int] | None = None
    unread: bool = True
    directory: bool = False
    removed: bool = False

    @property
    def gone(self) -> bool:
        """True for a directory whose id the server may have used for another node since."""
        return self.directory and self.removed and not self.names

    @property
    def fixed(self) -> bool:
        """True for what is described without asking: the roots of the datacenters, and what shows these."""
        return self.node_id is None

    @property
    def lasting(self) -> bool:
        """True for what always stays, and has no name: the roots of the mount and of the datacenters."""
        return self.fixed or self.number == ROOT


@dataclass(frozen=True, slots=True)
class Base:
    """A folder that a mount shows instead of its datacenters.

    Attributes:
        path: in the datacenter, "" for all of it.
        node_id: of the folder; None for all of a datacenter.
    """

    datacenter: str
    path: str
    node_id: int | None


class Inodes:
    """All inodes of a mount.

    Args:
        datacenters: the names that the root directory shows.
        base: what it is instead.

    Attributes:
        changes: how many changes have gone through this mount.
        breaks: how often it was said that others change something.
    """

    def __init__(self, datacenters: Sequence[str], base: Base | None = None) -> None:
        top = base or Base("", "", None)
        root = Inode(ROOT, 0, top.datacenter, top.node_id, directory=True)
        self._base = top.path
        self._inodes: dict[int, Inode] = {ROOT: root}
        self._nodes: dict[tuple[str, int], Inode] = {}  # those whose number is not their node's id
        if root.node_id is not None:
            self._nodes[root.datacenter, root.node_id] = root
        self._generations: dict[str, int] = {}
        for index, datacenter in enumerate(datacenters):
            self._generations[datacenter] = index
            if base is not None:
                continue
            inode = Inode(ROOT + 1 + index, 0, datacenter, None)
            self._inodes[inode.number] = inode
            self._link(root, datacenter, inode)
        self._free = self._first_free = ROOT + 1 + len(datacenters)
        self.changes = 0
        self.breaks = 0

    def __len__(self) -> int:
        return len(self._inodes)

    def __contains__(self, number: int) -> bool:
        return number in self._inodes

    def get(self, number: int) -> Inode:
        """Return the inode that the kernel calls `number`.

        Raises:
            PfsError: STALE when it has been forgotten.
        """
        try:
            return self._inodes[number]
        except KeyError:
            raise PfsError(Kind.STALE, f"inode {number} is not known any more") from None

    def of_node(self, datacenter: str, node_id: int) -> int | None:
        """Return what the kernel calls a node; None when it does not know it."""
        inode = self._of_node(datacenter, node_id)
        return None if inode is None else inode.number

    def _of_node(self, datacenter: str, node_id: int) -> Inode | None:
        if (inode := self._nodes.get((datacenter, node_id))) is not None:
            return inode
        inode = self._inodes.get(node_id)
        own = inode is not None and inode.node_id == node_id and inode.datacenter == datacenter
        return inode if own else None

    def numbers(self, datacenter: str) -> list[int]:
        """Return what the kernel calls the nodes of a datacenter that it knows."""
        return [inode.number for inode in self._inodes.values() if inode.datacenter == datacenter]

    def child(self, parent: int, name: str) -> Inode | None:
        """Return what the name led to when it was last seen."""
        return self.get(parent).children.get(name)

    def places(self, number: int) -> list[tuple[str, str]]:
        """Return every (datacenter, path) where the inode stands, the newest first; none once it is unlinked."""
        inode = self.get(number)
        if inode.lasting:
            return [(inode.datacenter, self._path_of(inode))] if inode.datacenter else []
        places = []
        for parent, name in reversed(inode.names):
            place = self._place(self._inodes[parent])
            if place is not None:
                places.append((place[0], join(place[1], name)))
        return places

    def path(self, inode: Inode) -> str | None:
        """Return the path where the inode was seen last, in its datacenter; None when it has no name."""
        place = self._place(inode)
        return None if place is None else place[1]

    def enter(self, parent: int, name: str, node_id: int, *, sole: bool) -> Inode:
        """Note that `name` leads to the node and that the kernel is being told so: it counts as one lookup.

        Args:
            sole: the node has this one name, so that any other is a former one.
        """
        directory = self.get(parent)
        inode = directory.children.get(name)
        if inode is not None and inode.node_id == node_id and len(inode.names) == 1:
            inode.lookups += 1
            return inode
        inode = self._of_node(directory.datacenter, node_id)
        if inode is None or inode.gone:
            inode = self._new(directory.datacenter, node_id)
        inode.lookups += 1
        loose = self._unlink(directory, name)
        if sole:
            for other, other_name in inode.names:
                loose += self._unlink(self._inodes[other], other_name)
        self._link(directory, name, inode)
        self._prune(*loose)
        return inode

    def adopt(self, datacenter: str, former: int, node_id: int) -> int | None:
        """Note the server's id of a node that was known by another one till now; return what the kernel calls it."""
        inode, other = self._of_node(datacenter, former), self._of_node(datacenter, node_id)
        if inode is None or (other is not None and not other.gone):
            return None
        inode.former, inode.node_id = former, node_id  # a listing of a while ago may still speak of the former one
        self._nodes[datacenter, former] = self._nodes[datacenter, node_id] = inode
        return inode.number

    def unlink(self, parent: int, name: str) -> None:
        """Note that the name is gone."""
        self._prune(*self._removed(self._unlink(self.get(parent), name)))

    def rename(self, parent: int, name: str, new_parent: int, new_name: str) -> None:
        """Note that a name was moved, with everything below it, over whatever stood there."""
        source, target = self.get(parent), self.get(new_parent)
        moved = source.children.get(name)
        if moved is not None and moved is target.children.get(new_name):
            return  # two names of one file: rename(2) then leaves both
        loose = self._removed(self._unlink(target, new_name)) + self._unlink(source, name)
        if moved is not None:
            self._link(target, new_name, moved)
        self._prune(*loose)

    def exchange(self, parent: int, name: str, other_parent: int, other_name: str) -> None:
        """Note that two names have changed places."""
        ends = ((self.get(parent), name), (self.get(other_parent), other_name))
        found = [directory.children.get(each) for directory, each in ends]
        loose = [inode for directory, each in ends for inode in self._unlink(directory, each)]
        for (directory, each), inode in zip(ends, reversed(found), strict=True):
            if inode is not None:
                self._link(directory, each, inode)
        self._prune(*loose)

    def forget(self, number: int, count: int) -> None:
        """The kernel has let go of `count` of its lookups."""
        inode = self._inodes.get(number)
        if inode is not None:
            inode.lookups = max(0, inode.lookups - count)
            self._prune(inode)

    def oldest(self, count: int) -> list[Inode]:
        """Return the `count` files that were entered first.

        Those that are open do not count, and those that are returned count as entered anew.
        """
        idle = (each for each in self._inodes.values() if each.lookups and not (each.directory or each.opens))
        found = list(islice(idle, count))
        for inode in found:
            self._inodes[inode.number] = self._inodes.pop(inode.number)
        return found

    def opened(self, number: int) -> None:
        """An open file or directory counts on the inode."""
        self.get(number).opens += 1

    def closed(self, number: int) -> None:
        """An open file or directory has ended."""
        inode = self.get(number)
        inode.opens -= 1
        self._prune(inode)

    def touch(self, number: int) -> None:
        """Note that this mount has changed the node: what was told of it holds no more."""
        inode = self._inodes.get(number)
        if inode is not None:
            self.changes += 1
            inode.changed = self.changes
            inode.told = inode.pages = None

    def broken(self, number: int | None) -> None:
        """Note that others may change a node, which the kernel need not know: what was known of it holds no more."""
        self.breaks += 1
        if number is not None:
            self.touch(number)

    def hide(self) -> None:
        """Let go of what was told in the kernel's form; it is made again where it is needed."""
        for inode in self._inodes.values():
            if inode.told is not None:
                inode.told.shown = inode.told.aged = None

    def _new(self, datacenter: str, node_id: int) -> Inode:
        if self._first_free <= node_id <= NUMBER_MAX and node_id not in self._inodes:
            number, generation = node_id, self._generations[datacenter]
        else:  # taken by another datacenter's node, or out of range
            while self._free in self._inodes:
                self._free += 1
            number, generation = self._free, len(self._generations) + self._free
            self._free += 1
        inode = self._inodes[number] = Inode(number, generation, datacenter, node_id)
        if number != node_id:
            self._nodes[datacenter, node_id] = inode
        return inode

    def _place(self, inode: Inode) -> tuple[str, str] | None:
        parts: list[str] = []
        while not inode.lasting:
            if not inode.names:
                return None
            parent, name = inode.names[-1]
            parts.append(name)
            inode = self._inodes[parent]
        if above := self._path_of(inode):
            parts.append(above)
        return inode.datacenter, "/".join(reversed(parts))

    def _path_of(self, lasting: Inode) -> str:
        return self._base if lasting.number == ROOT else ""

    def _is_above(self, inode: Inode, directory: Inode) -> bool:
        while directory is not inode:
            if not directory.names:
                return False
            directory = self._inodes[directory.names[-1][0]]
        return True

    def _link(self, directory: Inode, name: str, inode: Inode) -> None:
        if inode is directory or (inode.children and self._is_above(inode, directory)):
            return  # another client is moving it: it has no name until it is seen again
        if isinstance(directory.children, dict):
            directory.children[name] = inode
        else:
            directory.children = {name: inode}
        place = (directory.number, name)
        if place not in inode.names:
            inode.names = (*inode.names, place)

    def _unlink(self, directory: Inode, name: str) -> list[Inode]:
        """Take the name away; return whom it may have been the last reason to keep."""
        inode = directory.children.pop(name, None) if isinstance(directory.children, dict) else None
        if inode is None:
            return []
        inode.names = tuple(each for each in inode.names if each != (directory.number, name))
        return [inode, directory]

    @staticmethod
    def _removed(loose: list[Inode]) -> list[Inode]:
        for inode in loose[:1]:
            inode.removed = not inode.names
        return loose

    def _prune(self, *loose: Inode) -> None:
        waiting = list(loose)
        while waiting:
            inode = waiting.pop()
            idle = not (inode.lasting or inode.lookups or inode.opens or inode.children)
            if idle and inode.number in self._inodes:
                del self._inodes[inode.number]
                if self._nodes.get((inode.datacenter, inode.node_id or 0)) is inode:
                    del self._nodes[inode.datacenter, inode.node_id or 0]
                if inode.former is not None:
                    del self._nodes[inode.datacenter, inode.former]
                for parent, name in inode.names:
                    waiting += self._unlink(self._inodes[parent], name)
