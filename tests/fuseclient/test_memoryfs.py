"""The file system in memory behaves as a directory of this machine does, whatever is done with both."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseclient.errnos import KIND_TO_ERRNO
from pfs.api import Changes, NodeType, OpenFlags, RenameMode
from pfs.errors import PfsError
from tests.memoryfs import MemoryFileSystem

PATHS = st.sampled_from(["a", "b", "a/a", "a/b", "b/a", "b/b", "a/a/a"])
OPEN_FLAGS = [
    (OpenFlags.READ, os.O_RDONLY),
    (OpenFlags.WRITE, os.O_WRONLY),
    (OpenFlags.WRITE | OpenFlags.CREATE, os.O_WRONLY | os.O_CREAT),
    (OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    (OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    (OpenFlags.WRITE | OpenFlags.APPEND, os.O_WRONLY | os.O_APPEND),
]
STEPS = st.one_of(
    st.tuples(st.sampled_from(["mkdir", "rmdir", "unlink", "list", "stat", "readlink", "symlink"]), PATHS),
    st.tuples(st.sampled_from(["rename", "rename"]), PATHS, PATHS),
    st.tuples(st.just("truncate"), PATHS, st.integers(0, 9)),
    st.tuples(st.just("open"), PATHS, st.sampled_from(range(len(OPEN_FLAGS))), st.integers(0, 5)),
)
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
            attr = await fs.getattr(path)
            return attr.type, None if attr.type is NodeType.DIRECTORY else attr.size
        case ("rename", str(path), str(target)):
            await fs.rename(path, target, RenameMode.REPLACE)
        case ("truncate", str(path), int(size)):
            await fs.setattr(path, Changes(size=size))
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
            found = os.lstat(root / path)
            types = {0o040000: NodeType.DIRECTORY, 0o100000: NodeType.FILE, 0o120000: NodeType.SYMLINK}
            kind = types[found.st_mode & 0o170000]
            return kind, None if kind is NodeType.DIRECTORY else found.st_size
        case ("rename", str(path), str(target)):
            os.rename(root / path, root / target)
        case ("truncate", str(path), int(size)):
            os.truncate(root / path, size)
        case ("open", str(path), int(which), int(offset)):
            descriptor = os.open(root / path, OPEN_FLAGS[which][1], 0o644)
            try:
                return os.pread(descriptor, 99, offset) if which == 0 else os.pwrite(descriptor, b"data", offset)
            finally:
                os.close(descriptor)
    return None


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except PfsError as error:
        return errno.errorcode[KIND_TO_ERRNO[error.kind]]
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def follows_links(root: Path, step: Step) -> bool:
    """Steps that a kernel takes through symlinks: the file system is never asked for those."""
    paths = [root / part for part in step[1:] if isinstance(part, str)]
    above = any(parent.is_symlink() for path in paths for parent in path.parents if root in parent.parents)
    return above or (step[0] in ("open", "truncate", "list") and any(path.is_symlink() for path in paths))


@settings(max_examples=50)
@given(st.lists(STEPS, max_size=25))
def test_it_does_what_a_directory_does(steps: list[Step]) -> None:
    with TemporaryDirectory() as name:
        fs, root = MemoryFileSystem(), Path(name)
        for step in steps:
            if follows_links(root, step):
                continue
            found = outcome(lambda step=step: trio.run(in_memory, fs, step))  # type: ignore[misc]
            assert (step, found) == (step, outcome(lambda step=step: on_disk(root, step)))  # type: ignore[misc]
