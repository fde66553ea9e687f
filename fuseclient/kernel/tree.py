"""Where the kernel's numbers and names lead: to a place in one datacenter's file system.

The root of the mount has one directory for each datacenter and can hold nothing else. It and those directories
are described without asking anybody, so that `ls` of the mount shows all of them also while one is out of reach.
Or the root is one folder of a datacenter, like any other.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fuseclient.kernel.handles import Handles
from fuseclient.kernel.inodes import ROOT, Base, Inode, Inodes, Node
from fuseclient.prompt import Prompt
from pfs.api import Attr, FileSystem, NodeType, Owner, XattrCall, XattrVerb
from pfs.errors import Kind, PfsError
from pfs.path import PATH_BYTES_MAX, check_name, join

FIXED_VALID_S = 60.0
CHARACTER_BYTES_MAX = 4  # in UTF-8
_ELSEWHERE = "this name leads to something else by now"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A path in the file system of a datacenter."""

    filesystem: FileSystem
    datacenter: str
    path: str

    @property
    def in_mount(self) -> str:
        """The path from the root of the mount."""
        return join(self.datacenter, self.path) if self.path else self.datacenter


class Tree:
    """The tables of a mount and the file systems that they lead into.

    Args:
        filesystems: by the name of the datacenter.
        started_ns: the mtime of what the mount shows by itself.
        owner: whose that is.
        base: a folder to show instead.

    Attributes:
        top: the inode that shows the datacenters; None where the mount is one folder.
    """

    def __init__(
        self, filesystems: Mapping[str, FileSystem], started_ns: int, owner: Owner, base: Base | None = None
    ) -> None:
        self.filesystems = dict(sorted(filesystems.items()))
        self.prompt: dict[str, Prompt] = {
            name: each for name, each in self.filesystems.items() if isinstance(each, Prompt)
        }
        self.inodes = Inodes(list(self.filesystems), base)
        self.top = ROOT if base is None else None
        self.handles = Handles()
        self._started_ns = started_ns
        self._owner = owner

    def places(self, number: int) -> list[Place]:
        """Return where the inode stands, the newest place first.

        Raises:
            PfsError: STALE when it has no name any more.
        """
        places = [Place(self.filesystems[dc], dc, path) for dc, path in self.inodes.places(number)]
        if not places:
            raise PfsError(Kind.STALE, _ELSEWHERE)
        return places

    def place(self, number: int) -> Place:
        """Return where the inode stands; raises as `places`."""
        return self.places(number)[0]

    def below(self, parent: int, name: str) -> Place:
        """Return the place of a name in a directory.

        Raises:
            PfsError: FORBIDDEN in the root of the mount, NAME_TOO_LONG, STALE.
        """
        if parent == self.top:
            raise PfsError(Kind.FORBIDDEN, "only datacenters stand here; work inside of one", name)
        check_name(name)
        directory = self.inodes.get(parent)
        above = self.inodes.path(directory)
        if above is None:
            raise PfsError(Kind.STALE, _ELSEWHERE)
        path = join(above, name)
        if len(path) * CHARACTER_BYTES_MAX > PATH_BYTES_MAX < len(path.encode("utf-8", "surrogateescape")):
            raise PfsError(Kind.NAME_TOO_LONG, f"a path has at most {PATH_BYTES_MAX} bytes")
        return Place(self.filesystems[directory.datacenter], directory.datacenter, path)

    async def ask_below(self, parent: int, name: str, ask: Callable[[Place], Awaitable[T]]) -> T:
        """Ask at the place of a name in a directory, and again when the directory was moved meanwhile."""
        place = self.below(parent, name)
        while True:
            try:
                return await ask(place)
            except PfsError as error:
                asked, place = place.path, self.below(parent, name)
                if error.kind is not Kind.NOT_FOUND or place.path == asked:
                    raise

    async def ask(self, number: int, ask: Callable[[Place], Awaitable[T]]) -> T:
        """Ask at the places of an inode, the newest first, until its node stands there.

        The kernel does not say by which of several names a program came. What another client has put at one of the
        others must not be changed in its stead: so there it is looked at first.
        """
        inode, lost = self.inodes.get(number), PfsError(Kind.STALE, _ELSEWHERE)
        places = self.places(number)
        for place in places:
            try:
                if len(places) > 1 and (await place.filesystem.getattr(place.path)).node_id != inode.node_id:
                    continue
                answer = await ask(place)
            except PfsError as error:
                if error.kind is not Kind.NOT_FOUND:
                    raise
                continue
            if not isinstance(answer, Attr) or answer.node_id == inode.node_id:
                return answer
        raise lost

    def known_at_once(self, inode: Inode) -> tuple[str, Attr] | None:
        """Return path and attributes of an inode where they are known, and that it stands where it was seen last."""
        prompt, path = self.prompt.get(inode.datacenter), self.inodes.path(inode)
        if prompt is None or path is None:
            return None
        try:
            attr = prompt.attr_at_once(path)
        except PfsError:
            return None  # whoever asks with more patience is told what is wrong
        return (path, attr) if attr is not None and attr.node_id == inode.node_id else None

    def enter(self, parent: int, name: str, attr: Attr) -> Node:
        """Note that the kernel is being told of a name and what it leads to."""
        sole = attr.type is NodeType.DIRECTORY or attr.nlink <= 1
        inode = self.inodes.enter(parent, name, attr.node_id, sole=sole)
        inode.directory = attr.type is NodeType.DIRECTORY
        return self.tell(inode, attr)

    def tell(self, inode: Inode, attr: Attr) -> Node:
        """Note what the kernel is being told of an inode."""
        inode.size = max(inode.size, attr.size)
        told = inode.told
        if told is None or told.attr is not attr:
            told = inode.told = Node(inode.number, inode.generation, attr)
        return told

    def fixed(self, inode: Inode) -> Node:
        """Describe the root of the mount, or of a datacenter."""
        if inode.told is not None:
            return inode.told
        nlink = 2 + len(self.filesystems) if inode.number == self.top else 2
        mode = 0o555 if inode.number == self.top else 0o755
        attr = Attr(
            type=NodeType.DIRECTORY,
            node_id=inode.number,
            mode=mode,
            nlink=nlink,
            mtime_ns=self._started_ns,
            ctime_ns=self._started_ns,
            atime_ns=self._started_ns,
            valid_s=FIXED_VALID_S,
            uid=self._owner.uid,
            gid=self._owner.gid,
        )
        inode.told = Node(inode.number, inode.generation, attr)
        return inode.told


async def xattr_at(place: Place, call: XattrCall) -> bytes:
    """Answer about the extended attributes of what stands at a place, as an open file does."""
    filesystem, path = place.filesystem, place.path
    match call.verb:
        case XattrVerb.GET:
            return await filesystem.getxattr(path, call.name)
        case XattrVerb.LIST:
            names = await filesystem.listxattr(path)
            return b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in names)
        case XattrVerb.SET:
            await filesystem.setxattr(path, call.name, call.value, call.mode)
        case XattrVerb.REMOVE:
            await filesystem.removexattr(path, call.name)
    return b""
