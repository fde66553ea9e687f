"""What the operating system tells of any node, and what it is told to change, in the terms of the tree.

Of a mode, admins set all twelve bits; everybody else the permissions and the sticky bit, since what runs with another's
rights is for admins to make. A file with such bits loses them when anybody else changes it, as on every Unix; the
server, which acts for everybody, may keep them, so the kernel does not see to that.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from pfs.api import Attr, Changes, NodeType, Owner, XattrCall, XattrMode, XattrVerb
from pfs.disk.system import anew
from pfs.errors import Kind, PfsError
from pfs.xattr import PREFIX, check_xattr

VALID_S = 1.0
NEW_NS = 1_000_000_000  # both times of a new node are those of its making, but for the clock's ticks
LEASED_VALID_S = 60.0  # who is told when it ends may count on it for longer
SPECIAL = stat.S_ISUID | stat.S_ISGID
_TYPE_BITS = 0o170000
_TYPES = {
    stat.S_IFDIR: NodeType.DIRECTORY,
    stat.S_IFLNK: NodeType.SYMLINK,
    stat.S_IFIFO: NodeType.FIFO,
    stat.S_IFSOCK: NodeType.SOCKET,
}
MADE_TYPES = {NodeType.FILE: stat.S_IFREG, NodeType.FIFO: stat.S_IFIFO, NodeType.SOCKET: stat.S_IFSOCK}

_XATTR_FLAGS = {XattrMode.EITHER: 0, XattrMode.CREATE: os.XATTR_CREATE, XattrMode.REPLACE: os.XATTR_REPLACE}


@dataclass(frozen=True, slots=True)
class Powers:
    """What somebody may do with the files of a domain.

    Attributes:
        changes: may change them; otherwise an open file is for looking only.
        admin: may set every bit of a mode, and say whose a node is.
        shares: what they make is for their group as for themselves, which its mode says, too.
    """

    changes: bool = True
    admin: bool = False
    shares: bool = False

    def mode(self, asked: int) -> int:
        """Return the mode that a node gets where somebody asks for one."""
        bits = asked & (0o7777 if self.admin else 0o1777)
        return bits | (bits & 0o700) >> 3 if self.shares else bits


USER = Powers()


def attr_of(info: os.stat_result, hidden: int = 0, *, watched: bool = False) -> Attr:
    """Return what the operating system tells, in the terms of the tree.

    Args:
        hidden: how many of its names are the server's own, and not told.
        watched: since before `info` was taken, the kernel tells when somebody else changes the node.
    """
    mode = info.st_mode
    return Attr(
        _TYPES.get(mode & _TYPE_BITS, NodeType.FILE),
        node_id(info.st_dev, info.st_ino),
        mode & 0o7777,
        info.st_size,
        info.st_nlink - hidden,
        info.st_mtime_ns,
        info.st_ctime_ns,
        info.st_atime_ns,
        valid_s=LEASED_VALID_S if watched else VALID_S,
        uid=info.st_uid,
        gid=info.st_gid,
        blocks=info.st_blocks,
        leased=watched,
    )


def node_id_of(info: os.stat_result) -> int:
    """Return the number by which the tree knows a node."""
    return node_id(info.st_dev, info.st_ino)


def node_id(device: int, inode: int) -> int:
    """Fold device and inode into 63 bits: bit 63 is that of nodes which the server makes."""
    return (inode ^ (device & 0x7FFF) << 48) & (1 << 63) - 1 or 1


def check_powers(changes: Changes, powers: Powers) -> None:
    """Refuse changes that are not for everybody.

    Raises:
        PfsError: DENIED for who may only look, FORBIDDEN for an owner from who is no admin.
    """
    if not powers.changes:
        raise PfsError(Kind.DENIED, "you may read this, not change it")
    if (changes.uid is not None or changes.gid is not None) and not powers.admin:
        raise PfsError(Kind.FORBIDDEN, "only an admin gives files away")


def change(target: int | str, changes: Changes, powers: Powers) -> os.stat_result:
    """Change the node that `target`, a descriptor or a name of one, stands for; no link, whose mode cannot be set.

    To be its owner is enough; it need not be readable.
    """
    info = os.stat(target)
    if changes.uid is not None or changes.gid is not None:
        os.chown(target, *_ids(changes))
    if changes.size is not None:
        os.truncate(target, changes.size)
        drop_special(target, powers)
    if changes.mode is not None:
        kept = info.st_mode & stat.S_ISGID if stat.S_ISDIR(info.st_mode) and not powers.admin else 0
        os.chmod(target, powers.mode(changes.mode) | kept)
    if changes.atime_ns is not None or changes.mtime_ns is not None:
        os.utime(target, ns=_times(info, changes))
    return os.stat(target)


def change_link(link: str, changes: Changes) -> os.stat_result:
    """Change a symbolic link, which has an owner and times only."""
    info = os.stat(link)
    if changes.uid is not None or changes.gid is not None:
        os.chown(link, *_ids(changes))
    if changes.atime_ns is not None or changes.mtime_ns is not None:
        os.utime(link, ns=_times(info, changes))
    return os.stat(link)


def check_new(fd: int) -> None:
    """Make sure that a node that is held was made by the server a moment ago, before it is given away.

    Whoever works on the same disk may have put another one in its place meanwhile. But that is somebody else's; or it
    has a name more; or it was moved there, which changes its status, and it cannot be made to look as new by others.

    Raises:
        PfsError: BUSY.
    """
    info = os.fstat(fd)
    linked = info.st_nlink != 1 and not stat.S_ISDIR(info.st_mode)
    if info.st_uid != os.geteuid() or linked or abs(info.st_ctime_ns - info.st_mtime_ns) > NEW_NS:
        raise PfsError(Kind.BUSY, "somebody has put something else there at this very moment")


def settle(target: int | str, parent_fd: int, mode: int, owner: Owner | None, powers: Powers) -> os.stat_result:
    """Give a new node to whom it shall belong; its special bits come last, since a new owner takes them away."""
    if owner is not None:
        parent = os.fstat(parent_fd)
        os.chown(target, owner.uid, parent.st_gid if parent.st_mode & stat.S_ISGID else owner.gid)
    info = os.stat(target)
    special = powers.mode(mode) & SPECIAL
    if special:
        os.chmod(target, stat.S_IMODE(info.st_mode) | special)
        info = os.stat(target)
    return info


def drop_special(target: int | str, powers: Powers) -> None:
    """Take the bits that only admins set from an ordinary file which somebody else changed."""
    if powers.admin:
        return
    mode = os.stat(target).st_mode
    if mode & SPECIAL and stat.S_ISREG(mode):
        os.chmod(target, stat.S_IMODE(mode) & ~SPECIAL)


def get_xattr(fd: int, name: str) -> bytes:
    """Return an extended attribute of what an O_PATH descriptor stands for; links, FIFOs and sockets have none."""
    return os.getxattr(anew(fd), check_xattr(name))


def list_xattrs(fd: int) -> Sequence[str]:
    """Return the names of the extended attributes of users."""
    return [name for name in os.listxattr(anew(fd)) if name.startswith(PREFIX)]


def set_xattr(fd: int, name: str, value: bytes, mode: XattrMode) -> None:
    """Set an extended attribute."""
    os.setxattr(anew(fd), check_xattr(name, value), value, _XATTR_FLAGS[mode])


def remove_xattr(fd: int, name: str) -> None:
    """Remove an extended attribute."""
    os.removexattr(anew(fd), check_xattr(name))


def answer_xattr(fd: int, call: XattrCall) -> bytes:
    """Answer about the extended attributes of what a descriptor stands for, as `OpenFile.xattr` says."""
    match call.verb:
        case XattrVerb.GET:
            return get_xattr(fd, call.name)
        case XattrVerb.LIST:
            return b"".join(os.fsencode(name) + b"\0" for name in list_xattrs(fd))
        case XattrVerb.SET:
            set_xattr(fd, call.name, call.value, call.mode)
        case XattrVerb.REMOVE:
            remove_xattr(fd, call.name)
    return b""


def _ids(changes: Changes) -> tuple[int, int]:
    return -1 if changes.uid is None else changes.uid, -1 if changes.gid is None else changes.gid


def _times(info: os.stat_result, changes: Changes) -> tuple[int, int]:
    atime_ns = info.st_atime_ns if changes.atime_ns is None else changes.atime_ns
    mtime_ns = info.st_mtime_ns if changes.mtime_ns is None else changes.mtime_ns
    return atime_ns, mtime_ns
