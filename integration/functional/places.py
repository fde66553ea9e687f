"""Where the calls are made: two mounts of one server, each beside a directory of this machine that does the same.

A `Case` names what holds: a call, in a directory that is furnished the same everywhere, and what must come of it. It
must come of it in the local directory, too; what is not so everywhere stands in README's table and has tests of its
own.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.box import Box

Call = Callable[[Path], object]
OK = 0
USER, TEAM = 1234, 3456


@dataclass(frozen=True)
class Case:
    """A call and what must come of it.

    Attributes:
        name: what it is about, in words.
        code: the errno; OK when it succeeds, and then what it returns is compared, too.
        call: is given the furnished directory.
        user: as whom it is made; None for root. Others only mean something where owners do.
    """

    name: str
    code: int
    call: Call
    user: int | None = None


def cases(*listed: Case) -> pytest.MarkDecorator:
    """Run a test for each case."""
    return pytest.mark.parametrize("case", listed, ids=[case.name.replace(" ", "-") for case in listed])


@dataclass(frozen=True)
class Places:
    """A server and its mounts; homes are the directory of one user in each."""

    box: Box
    squashed: Path
    numeric: Path
    plain: Path


@dataclass(frozen=True)
class Both:
    """A directory of a mount, and one of this machine."""

    mount: Path
    plain: Path
    numeric: bool

    def do(self, call: Call) -> None:
        """Make a call in both, which must succeed."""
        call(self.plain)
        call(self.mount)

    def same(self, call: Call) -> object:
        """Make a call in both; the same must come of it, which is returned: a value, or the name of an errno."""
        plain, mount = outcome(call, self.plain), outcome(call, self.mount)
        assert mount == plain
        return mount

    def check(self, case: Case) -> None:
        """Make the call of a case in furnished directories; what is refused leaves them as they are, for the next."""
        if case.code == OK:
            self.do(furnish)
        where = self if case.code == OK else self._furnished()
        with acting_as(case.user):
            found = where.same(case.call)
        if case.code != OK:
            assert found == errno.errorcode[case.code]
        else:
            assert found not in errno.errorcode.values()
        assert where.same(picture)

    def _furnished(self) -> "Both":
        name = f"furnished-{self.numeric}"
        shared = Both(self.mount.parent / name, self.plain.parent / name, self.numeric)
        if not shared.plain.exists():
            for path in (shared.plain, shared.mount):
                path.mkdir()
                if self.numeric:
                    os.chown(path, 0, 0)
            shared.do(furnish)
        return shared


def outcome(call: Call, root: Path) -> object:
    """Return what a call returns, or the name of its errno."""
    try:
        return call(root)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def code_of(call: Callable[[], object]) -> int:
    """Return the errno of a call; OK when it succeeds."""
    try:
        call()
    except OSError as error:
        return error.errno or -1
    return OK


def furnish(root: Path) -> None:
    """Put one of each kind into a directory."""
    (root / "file").write_bytes(b"0123456789")
    (root / "other").write_bytes(b"other")
    (root / "private").write_bytes(b"private")
    (root / "dir").mkdir()
    (root / "dir/inner").write_bytes(b"inner")
    (root / "empty").mkdir()
    (root / "closed").mkdir(mode=0o700)
    for name, target in (("link", "file"), ("dangling", "nowhere"), ("loop", "loop"), ("dirlink", "dir")):
        (root / name).symlink_to(target)
    os.mkfifo(root / "fifo", 0o644)
    os.mknod(root / "socket", stat.S_IFSOCK | 0o644)
    os.chmod(root / "private", 0o600)
    os.chmod(root, 0o755)


def picture(root: Path) -> object:
    """Return all that stands below a directory, as far as it is the same everywhere."""
    return {str(path.relative_to(root)): told(path) for path in sorted(root.rglob("*"))}


def told(path: Path) -> object:
    """Return what stat tells, and what a file holds; sizes of directories are up to each file system."""
    found = os.lstat(path)
    common = stat.filemode(found.st_mode), found.st_uid, found.st_gid
    if stat.S_ISDIR(found.st_mode):
        return *common, found.st_nlink
    holds: object = os.readlink(path) if stat.S_ISLNK(found.st_mode) else None
    if stat.S_ISREG(found.st_mode) and found.st_size < 1 << 20:
        holds = path.read_bytes()
    return *common, found.st_nlink, found.st_size, holds


@contextmanager
def acting_as(user: int | None, groups: Sequence[int] = (), umask: int = 0o022) -> Iterator[None]:
    """Let this process act as somebody else for its files."""
    if user is None:
        yield
        return
    before = os.umask(umask)
    os.setgroups(groups)
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])
        os.umask(before)


@contextmanager
def descriptor(path: Path | str, flags: int, mode: int = 0o644) -> Iterator[int]:
    """Hold a file open."""
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def punch(path: Path) -> None:
    """Make a hole where bytes are, by fallocate(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with descriptor(path, os.O_RDWR) as fd:
        if libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(4)) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
