"""Calls and errors of the operating system, in the terms of the tree.

Python has neither openat2(2) nor renameat2(2). The first is what keeps every path that a user names beneath the
directory where it begins: in one step, without following any link, however often links are swapped meanwhile.
"""

import ctypes
import errno
import os
import struct

from pfs.errors import Kind, PfsError

_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_SYNC_FILE_RANGE_WRITE = 2
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
# user, group and others, as in acl(5): what is made below a directory with this is the group's, whatever the umask
_ACL_VERSION, _ACL_UNDEFINED_ID = 2, 0xFFFFFFFF
_OF_GROUP = ((0x01, 7), (0x04, 7), (0x20, 0))
_libc = ctypes.CDLL(None, use_errno=True)

KIND_OF_ERRNO = {
    errno.ENOENT: Kind.NOT_FOUND,
    errno.EEXIST: Kind.EXISTS,
    errno.EACCES: Kind.DENIED,
    errno.EPERM: Kind.FORBIDDEN,
    errno.ENOTDIR: Kind.NOT_DIR,
    errno.EISDIR: Kind.IS_DIR,
    errno.ENOTEMPTY: Kind.NOT_EMPTY,
    errno.EINVAL: Kind.INVALID,
    errno.EBADF: Kind.INVALID,  # not opened for this
    errno.EBUSY: Kind.BUSY,
    errno.ESTALE: Kind.STALE,
    errno.ENAMETOOLONG: Kind.NAME_TOO_LONG,
    errno.EFBIG: Kind.TOO_LARGE,
    errno.ENOSPC: Kind.NO_SPACE,
    errno.EDQUOT: Kind.QUOTA,
    errno.EXDEV: Kind.CROSS_DOMAIN,
    errno.EROFS: Kind.READ_ONLY,
    errno.ETXTBSY: Kind.BUSY,
    errno.ELOOP: Kind.LOOP,
    errno.EOPNOTSUPP: Kind.UNSUPPORTED,
    errno.ENXIO: Kind.UNSUPPORTED,
    errno.EMFILE: Kind.TOO_MANY,
    errno.ENFILE: Kind.TOO_MANY,
    errno.EMLINK: Kind.TOO_MANY_LINKS,
    errno.ENODATA: Kind.NO_DATA,
    errno.E2BIG: Kind.TOO_LARGE,
    errno.EIO: Kind.IO,
}


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(root_fd: int, path: str, flags: int) -> int:
    """Open `path` beneath the directory `root_fd` without following any link; returns the descriptor.

    Raises:
        OSError: ELOOP where a link stands in the way, EXDEV where the path leads out.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
    name = os.fsencode(path or ".")
    if b"\0" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    fd: int = _libc.syscall(_SYS_OPENAT2, root_fd, name, ctypes.byref(how), ctypes.sizeof(how))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


def translate(error: OSError) -> PfsError:
    """Return the error of the operating system in the terms of the tree."""
    code = error.errno or errno.EIO
    return PfsError(KIND_OF_ERRNO.get(code, Kind.IO), os.strerror(code))


def rename_at(old_fd: int, old: str, new_fd: int, new: str, flags: int) -> None:
    """Rename from directory to directory, with the flags of renameat2(2)."""
    result = _libc.renameat2(old_fd, os.fsencode(old), new_fd, os.fsencode(new), ctypes.c_uint(flags))
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def start_writing(fd: int, offset: int, size: int) -> None:
    """Let the disk begin with these bytes of a file, without waiting for it: fsync(2) has less left to do then.

    Nothing is promised, and what goes wrong is told by fsync.
    """
    _libc.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)


def sync_all(path: str) -> None:
    """Return when the disk that holds `path` has everything that was written to it so far, by anybody.

    One call for thousands of files is far less than fsync(2) for each.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(fd)


def anew(fd: int) -> str:
    """Return a name for what an O_PATH descriptor stands for; it leads nowhere else, whatever is renamed."""
    return f"/proc/self/fd/{fd}"


def keep_for_group(directory: str) -> None:
    """Let whatever is made in a directory be open to its group; where the disk knows no ACLs, umasks decide."""
    entries = b"".join(struct.pack("<HHI", tag, bits, _ACL_UNDEFINED_ID) for tag, bits in _OF_GROUP)
    try:
        os.setxattr(directory, "system.posix_acl_default", struct.pack("<I", _ACL_VERSION) + entries)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
