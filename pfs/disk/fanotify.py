"""fanotify(7), by hand: Python has none of its calls.

A group holds marks on directories and files and queues what happens to them. An event names nodes by file handles,
as name_to_handle_at(2) gives them. How a file system packs the inode number into its handles is known for those
in `_INODES`; whoever relies on it compares it with fstat(2) first.

    event    length, version, mask, pid │ record │ record
    record   type, length, handle, name      handle   fsid, size, type, bytes
"""

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

MODIFY, ATTRIB, CLOSE_WRITE = 0x02, 0x04, 0x08
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF = 0x400, 0x800
_EVENT_ON_CHILD, _ONDIR = 0x0800_0000, 0x4000_0000
NAMES = CREATE | DELETE | MOVED_FROM | MOVED_TO
_OF_FILE = MODIFY | ATTRIB | CLOSE_WRITE | DELETE_SELF | MOVE_SELF
_OF_DIRECTORY = _OF_FILE | NAMES | _EVENT_ON_CHILD | _ONDIR

_CLOEXEC, _NONBLOCK = 0x01, 0x02
_REPORT_FID, _REPORT_DIR_FID, _REPORT_NAME, _REPORT_TARGET_FID = 0x200, 0x400, 0x800, 0x1000
_REPORT = _REPORT_FID | _REPORT_DIR_FID | _REPORT_NAME
_MARK_ADD, _MARK_FLUSH = 0x01, 0x80
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000

_EVENT = struct.Struct("=IBBHQii")  # length, version, reserved, length of this, mask, descriptor, pid
_VERSION = 3
_RECORD = struct.Struct("=BBH8sIi")  # type, reserved, length, then the handle: fsid, size, type
_RECORD_FID, _RECORD_DIR_NAME, _RECORD_DIR = 1, 2, 3
_HEADER_BYTES, _FSID_BYTES = 4, 8
_HANDLE_HEAD = struct.Struct("=Ii")
_HANDLE_BYTES_MAX = 128
READ_BYTES = 64 * 1024

# by type and size of a handle, where the inode number lies: ext4 and f2fs, tmpfs, xfs, btrfs
_INODES = {
    (0x01, 8): (struct.Struct("=I"), 0),
    (0x01, 12): (struct.Struct("=Q"), 4),
    (0x81, 12): (struct.Struct("=Q"), 0),
    (0x4D, 20): (struct.Struct("=Q"), 0),
}


class Event(NamedTuple):
    """What happened to one node.

    Attributes:
        mask: what, as bits.
        pid: the process that did it; 0 where we may not know, or where it is out of our sight.
        directory: handle of the directory whose mark or name this is about, or b"".
        name: in that directory; b"" for the directory itself, or where none is told.
        target: handle of the node itself, or of what the name leads or led to; b"" where none is told.
    """

    mask: int
    pid: int
    directory: bytes
    name: bytes
    target: bytes


@dataclass(frozen=True, slots=True)
class Volume:
    """The file system that a node is in.

    Attributes:
        type: the number of its kind, after statfs(2).
        fsid: how handles name it.
    """

    type: int
    fsid: bytes


class _Statfs(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_long),
        ("sizes", ctypes.c_ulong * 6),
        ("fsid", ctypes.c_ubyte * _FSID_BYTES),
        ("rest", ctypes.c_long * 16),  # more than any kernel fills
    )


class _Calls:
    """The calls of the C library.

    Raises:
        OSError: ENOSYS where it lacks them.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        number, text, memory = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
        self.init = _call(library, "fanotify_init", (ctypes.c_uint, ctypes.c_uint))
        self.mark = _call(library, "fanotify_mark", (number, ctypes.c_uint, ctypes.c_uint64, number, text))
        self.handle = _call(library, "name_to_handle_at", (number, text, memory, memory, number))
        self.fstatfs = _call(library, "fstatfs", (number, memory))


def _call(library: ctypes.CDLL, name: str, types: tuple[Any, ...]) -> Callable[..., int]:
    try:
        function = getattr(library, name)
    except AttributeError:
        raise OSError(errno.ENOSYS, f"{name}: {os.strerror(errno.ENOSYS)}") from None
    function.argtypes = types

    def call(*arguments: Any) -> int:
        result: int = function(*arguments)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"{name}: {os.strerror(code)}")
        return result

    return call


class Group:
    """Marks, and the queue of what happens to what is marked. For one thread at a time, but for `read`.

    Raises:
        OSError: this machine does not give us one.
    """

    def __init__(self) -> None:
        self._calls = _Calls()
        # `handle` is called often: its memory is made once
        self._found = ctypes.create_string_buffer(_HANDLE_HEAD.size + _HANDLE_BYTES_MAX)
        self._mount = ctypes.create_string_buffer(ctypes.sizeof(ctypes.c_int))
        flags = _CLOEXEC | _NONBLOCK | _REPORT
        try:
            self.fd = self._calls.init(flags | _REPORT_TARGET_FID, os.O_RDONLY)
        except OSError as error:
            if error.errno != errno.EINVAL:  # before Linux 5.17, names come without what they lead to
                raise
            self.fd = self._calls.init(flags, os.O_RDONLY)

    def mark(self, fd: int, *, directory: bool) -> None:
        """Queue from now on what happens to what `fd`, also an O_PATH descriptor, stands for.

        Raises:
            OSError: ENOSPC when there are as many marks as there may be; others where it cannot be marked.
        """
        if directory:
            self._calls.mark(self.fd, _MARK_ADD, _OF_DIRECTORY, fd, b".")
        else:
            self._calls.mark(self.fd, _MARK_ADD, _OF_FILE, _AT_FDCWD, b"/proc/self/fd/%d" % fd)

    def flush(self) -> None:
        """Remove all marks; what is in the queue stays."""
        self._calls.mark(self.fd, _MARK_FLUSH, 0, _AT_FDCWD, None)

    def handle(self, fd: int) -> bytes:
        """Return the handle of what `fd` stands for, without the fsid: size, type, bytes."""
        _HANDLE_HEAD.pack_into(self._found, 0, _HANDLE_BYTES_MAX, 0)
        self._calls.handle(fd, b"", self._found, self._mount, _AT_EMPTY_PATH)
        size, _type = _HANDLE_HEAD.unpack_from(self._found)
        return self._found.raw[: _HANDLE_HEAD.size + size]

    def volume(self, fd: int) -> Volume:
        """Tell the file system of what `fd` stands for."""
        told = _Statfs()
        self._calls.fstatfs(fd, ctypes.byref(told))
        return Volume(told.type & 0xFFFF_FFFF, bytes(told.fsid))

    def read(self) -> bytes:
        """Return some of the queue, b"" when it is empty."""
        try:
            return os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Let go of everything."""
        os.close(self.fd)


def events(data: bytes, skip_pid: int) -> Iterator[Event]:
    """Take apart what was read from a group.

    Args:
        skip_pid: events of this process are left out, but for `DELETE_SELF`: a node goes when the last one lets
            go of it, whoever removed it.

    Raises:
        OSError: EPROTO where the kernel speaks another version.
    """
    at = 0
    while at < len(data):
        size, version, _, head, mask, _, pid = _EVENT.unpack_from(data, at)
        if version != _VERSION:
            raise OSError(errno.EPROTO, f"fanotify speaks version {version}, not {_VERSION}")
        if pid != skip_pid or mask & DELETE_SELF:
            yield _event(data, at + head, at + size, mask, pid)
        at += size


def _event(data: bytes, at: int, end: int, mask: int, pid: int) -> Event:
    directory = name = target = b""
    while at < end:
        type_, _, size, _, handle_bytes, _ = _RECORD.unpack_from(data, at)
        after = at + _RECORD.size + handle_bytes
        if type_ == _RECORD_FID:
            target = data[at + _HEADER_BYTES : after]
        elif type_ in (_RECORD_DIR_NAME, _RECORD_DIR):
            directory = data[at + _HEADER_BYTES : after]
            name = data[after : at + size].partition(b"\0")[0]
        at += size
    return Event(mask, pid, directory, b"" if name == b"." else name, target)


def inode_of(handle: bytes) -> int | None:
    """Return the inode number in a handle without fsid; None where it is not known how the number is packed."""
    size, type_ = _HANDLE_HEAD.unpack_from(handle)
    form, at = _INODES.get((type_, size), (None, 0))
    if form is None:
        return None
    inode: int = form.unpack_from(handle, _HANDLE_HEAD.size + at)[0]
    return inode


def split(handle: bytes) -> tuple[bytes, bytes]:
    """Return the fsid and the rest of a handle as events have it."""
    return handle[:_FSID_BYTES], handle[_FSID_BYTES:]
