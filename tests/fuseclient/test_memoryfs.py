"""The file system in memory behaves as a directory of this machine does, whatever is done with both."""

import errno
import os
import stat
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseclient.kernel.errnos import KIND_TO_ERRNO
from pfs.api import Attr, Changes, NodeType, OpenFlags, RenameMode, XattrMode
from pfs.disk.system import rename_at
from pfs.errors import PfsError
from tests.memoryfs import MemoryFileSystem
from tests.sparse import PAGE_BYTES, Sparse

PATHS = st.sampled_from(["a", "b", "a/a", "a/b", "b/a", "b/b", "a/a/a"])
OPEN_FLAGS = [
    (OpenFlags.READ, os.O_RDONLY),
    (OpenFlags.WRITE, os.O_WRONLY),
    (OpenFlags.WRITE | OpenFlags.CREATE, os.O_WRONLY | os.O_CREAT),
    (OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    (OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    (OpenFlags.WRITE | OpenFlags.APPEND, os.O_WRONLY | os.O_APPEND),
]
TYPES = {
    stat.S_IFDIR: NodeType.DIRECTORY,
    stat.S_IFREG: NodeType.FILE,
    stat.S_IFLNK: NodeType.SYMLINK,
    stat.S_IFIFO: NodeType.FIFO,
    stat.S_IFSOCK: NodeType.SOCKET,
}
BITS = {type_: bits for bits, type_ in TYPES.items()}
RENAMES = {RenameMode.REPLACE: 0, RenameMode.NO_REPLACE: 1, RenameMode.EXCHANGE: 2}
XATTRS = {XattrMode.EITHER: 0, XattrMode.CREATE: os.XATTR_CREATE, XattrMode.REPLACE: os.XATTR_REPLACE}
XATTR_NAMES = st.sampled_from(["user.a", "user.b"])
STEPS = st.one_of(
    st.tuples(st.sampled_from(["mkdir", "rmdir", "unlink", "list", "stat", "readlink", "symlink"]), PATHS),
    st.tuples(st.just("mknod"), PATHS, st.sampled_from([NodeType.FILE, NodeType.FIFO, NodeType.SOCKET])),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS, st.sampled_from(RenameMode)),
    st.tuples(st.just("truncate"), PATHS, st.integers(0, 9)),
    st.tuples(st.just("chmod"), PATHS, st.integers(0, 0o777)),
    st.tuples(st.just("open"), PATHS, st.sampled_from(range(len(OPEN_FLAGS))), st.integers(0, 5)),
    st.tuples(st.just("outlive"), PATHS, st.integers(0, 9)),
    st.tuples(st.just("listxattr"), PATHS),
    st.tuples(st.sampled_from(["getxattr", "removexattr"]), PATHS, XATTR_NAMES),
    st.tuples(st.just("setxattr"), PATHS, XATTR_NAMES, st.binary(max_size=3), st.sampled_from(XattrMode)),
)
FOLLOWING = ("open", "outlive", "truncate", "chmod", "list")  # what the kernel takes to where a symlink leads
Step = tuple[object, ...]


async def in_memory(fs: MemoryFileSystem, step: Step) -> object:
    match step:
        case ("mkdir", str(path)):
            await fs.mkdir(path, 0o755)
        case ("rmdir", str(path)):
            await fs.rmdir(path)
        case ("unlink", str(path)):
            await fs.unlink(path)
        case ("symlink", str(path)):
            await fs.symlink(path, "target")
        case ("readlink", str(path)):
            return await fs.readlink(path)
        case ("list", str(path)):
            return sorted(entry.name for entry in await fs.listdir(path))
        case ("stat", str(path)):
            return told(await fs.getattr(path))
        case ("mknod", str(path), NodeType() as type_):
            await fs.mknod(path, type_, 0o644)
        case ("link", str(path), str(target)):
            return told(await fs.link(path, target))
        case ("rename", str(path), str(target), RenameMode() as mode):
            await fs.rename(path, target, mode)
        case ("truncate", str(path), int(size)):
            await fs.setattr(path, Changes(size=size))
        case ("chmod", str(path), int(bits)):
            await fs.setattr(path, Changes(mode=bits))
        case ("listxattr", str(path)):
            return sorted(await fs.listxattr(path))
        case ("getxattr", str(path), str(name)):
            return await fs.getxattr(path, name)
        case ("removexattr", str(path), str(name)):
            await fs.removexattr(path, name)
        case ("setxattr", str(path), str(name), bytes(value), XattrMode() as how):
            await fs.setxattr(path, name, value, how)
        case ("outlive", str(path), int(size)):
            file = await fs.open(path, OpenFlags.READ | OpenFlags.WRITE, 0)
            await fs.unlink(path)
            await file.write(3, b"data")
            attr = await file.setattr(Changes(mode=0o640, size=size))
            assert attr == await file.getattr()
            data = await file.read(0, 99)
            await file.release()
            return told(attr), data
        case ("open", str(path), int(which), int(offset)):
            file = await fs.open(path, OPEN_FLAGS[which][0], 0o644)
            try:
                return await (file.read(offset, 99) if which == 0 else file.write(offset, b"data"))
            finally:
                await file.release()
    return None


def on_disk(root: Path, step: Step) -> object:
    match step:
        case ("mkdir", str(path)):
            (root / path).mkdir()
        case ("rmdir", str(path)):
            (root / path).rmdir()
        case ("unlink", str(path)):
            (root / path).unlink()
        case ("symlink", str(path)):
            (root / path).symlink_to("target")
        case ("readlink", str(path)):
            return os.readlink(root / path)
        case ("list", str(path)):
            return sorted(os.listdir(root / path))
        case ("stat", str(path)):
            return told(attr_of(os.lstat(root / path)))
        case ("mknod", str(path), NodeType() as type_):
            os.mknod(root / path, BITS[type_] | 0o644)
        case ("link", str(path), str(target)):
            os.link(root / path, root / target, follow_symlinks=False)
            return told(attr_of(os.lstat(root / target)))
        case ("rename", str(path), str(target), RenameMode() as mode):
            with_descriptor(root, lambda fd: rename_at(fd, path, fd, target, RENAMES[mode]))
        case ("truncate", str(path), int(size)):
            os.truncate(root / path, size)
        case ("chmod", str(path), int(bits)):
            os.chmod(root / path, bits)
        case ("listxattr", str(path)):
            return sorted(os.listxattr(root / path, follow_symlinks=False))
        case ("getxattr", str(path), str(name)):
            return os.getxattr(root / path, name, follow_symlinks=False)
        case ("removexattr", str(path), str(name)):
            os.removexattr(root / path, name, follow_symlinks=False)
        case ("setxattr", str(path), str(name), bytes(value), XattrMode() as how):
            os.setxattr(root / path, name, value, XATTRS[how], follow_symlinks=False)
        case ("outlive", str(path), int(size)):
            descriptor = os.open(root / path, os.O_RDWR)
            (root / path).unlink()
            os.pwrite(descriptor, b"data", 3)
            os.fchmod(descriptor, 0o640)
            os.ftruncate(descriptor, size)
            outlived = told(attr_of(os.fstat(descriptor))), os.pread(descriptor, 99, 0)
            os.close(descriptor)
            return outlived
        case ("open", str(path), int(which), int(offset)):
            descriptor = os.open(root / path, OPEN_FLAGS[which][1], 0o644)
            try:
                return os.pread(descriptor, 99, offset) if which == 0 else os.pwrite(descriptor, b"data", offset)
            finally:
                os.close(descriptor)
    return None


def attr_of(found: os.stat_result) -> Attr:
    type_, mode = TYPES[stat.S_IFMT(found.st_mode)], stat.S_IMODE(found.st_mode)
    return Attr(type_, 0, mode, found.st_size, found.st_nlink, uid=found.st_uid, gid=found.st_gid)


def told(attr: Attr) -> object:
    """What must be the same; of directories sizes and names are not on every file system."""
    directory = attr.type is NodeType.DIRECTORY
    return attr.type, attr.mode, None if directory else (attr.size, attr.nlink)


def with_descriptor(directory: Path, work: Callable[[int], None]) -> None:
    fd = os.open(directory, os.O_PATH)
    try:
        work(fd)
    finally:
        os.close(fd)


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except PfsError as error:
        return errno.errorcode[KIND_TO_ERRNO[error.kind]]
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def is_never_asked(root: Path, step: Step) -> bool:
    """Steps that a kernel takes through symlinks, or with FIFOs and sockets: a file system is not asked for those."""
    paths = [root / part for part in step[1:] if isinstance(part, str) and not isinstance(part, StrEnum)]
    above = any(parent.is_symlink() for path in paths for parent in path.parents if root in parent.parents)
    special = any(path.is_fifo() or path.is_socket() for path in paths if not path.is_symlink())
    if special and step[0] in ("open", "outlive"):
        return True
    return above or (step[0] in FOLLOWING and any(path.is_symlink() for path in paths))


@settings(max_examples=50)
@given(st.lists(STEPS, max_size=25))
def test_it_does_what_a_directory_does(steps: list[Step]) -> None:
    with TemporaryDirectory() as name:
        fs, root = MemoryFileSystem(), Path(name)
        for step in steps:
            if is_never_asked(root, step):
                continue
            found = outcome(lambda step=step: trio.run(in_memory, fs, step))  # type: ignore[misc]
            assert (step, found) == (step, outcome(lambda step=step: on_disk(root, step)))  # type: ignore[misc]


CHANGES = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 3 * PAGE_BYTES), st.integers(0, 2 * PAGE_BYTES)),
    st.tuples(st.just("resize"), st.integers(0, 4 * PAGE_BYTES), st.just(0)),
    st.tuples(st.just("read"), st.integers(0, 4 * PAGE_BYTES), st.integers(0, 2 * PAGE_BYTES)),
)


@given(st.lists(CHANGES, max_size=12))
def test_sparse_bytes_are_bytes(steps: list[tuple[str, int, int]]) -> None:
    sparse, model = Sparse(), bytearray()
    for number, (what, offset, count) in enumerate(steps, start=1):
        if what == "write" and count:
            data = bytes([number]) * count
            sparse.write(offset, data)
            model.extend(bytes(max(0, offset - len(model))))
            model[offset : offset + count] = data
        elif what == "resize":
            sparse.resize(offset)
            model[offset:] = bytes(max(0, offset - len(model)))
        assert sparse.read(offset, count) == model[offset : offset + count]
        assert (sparse.size, bytes(sparse)) == (len(model), bytes(model))


def test_holes_take_no_room() -> None:
    sparse = Sparse()
    sparse.write(5 << 30, b"x")
    assert (sparse.size, sparse.blocks) == ((5 << 30) + 1, PAGE_BYTES // 512)
    sparse.resize(5 << 30)
    assert sparse.blocks == 0
