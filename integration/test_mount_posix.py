"""A mount with the server's numbers does what a local directory does, whoever does what in it.

The same random calls are made by root and two users in a mount of a file system in memory and in a directory of this
machine; what they return, what they are refused with, and what `stat` then tells must be the same.
"""

import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fuseclient.kernel.identity import Ids
from integration.functional.places import Call, acting_as, outcome
from integration.test_mount_fs import Mount

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as others")

STEPS = 400
USERS = (0, 1234, 2345)
TEAM = 3456
NAMES = ("a", "b", "c", "d", "a/a", "a/b", "b/a", "b/b", "a/a/a")
MODES = (0o644, 0o600, 0o755, 0o700, 0o777, 0o000, 0o4755, 0o2755, 0o6775, 0o1777, 0o2775, 0o222)
UMASKS = (0, 0o022, 0o007)  # set-group-id without group-execute is lost at different moments on different kernels


@pytest.fixture(scope="module")
def mounted() -> Iterator[Mount]:
    with TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        mount = Mount(Path(name), Ids.NUMERIC, "allow_other")
        yield mount
        mount.end()


def told(path: Path) -> object:
    """What stat tells; sizes and names of directories are up to each file system."""
    found = os.lstat(path)
    directory = stat.S_ISDIR(found.st_mode)
    common = (stat.filemode(found.st_mode), found.st_uid, found.st_gid)
    return common if directory else (*common, found.st_nlink, found.st_size)


def use(path: Path, flags: int, mode: int, data: bytes) -> object:
    """Open, then write or read, and tell what stat tells of what is open."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, mode)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            done = os.write(descriptor, data) if flags & os.O_ACCMODE else len(os.read(descriptor, 99))
            return done, stat.filemode(os.fstat(descriptor).st_mode), os.fstat(descriptor).st_size
        return "special"
    finally:
        os.close(descriptor)


def a_call(chance: random.Random) -> tuple[object, Call]:
    """Choose a system call and its arguments; the path is that of the directory that it is made in."""
    name, other, mode = chance.choice(NAMES), chance.choice(NAMES), chance.choice(MODES)
    uid, gid = chance.choice([-1, *USERS]), chance.choice([-1, TEAM, *USERS])
    size, length, when = chance.randrange(20), chance.randrange(8), chance.randrange(1 << 60)
    access = chance.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
    flags = access | chance.choice([0, 0, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_APPEND, os.O_TRUNC])
    calls: dict[str, Call] = {
        "mkdir": lambda root: os.mkdir(root / name, mode),
        "rmdir": lambda root: os.rmdir(root / name),
        "unlink": lambda root: os.unlink(root / name),
        "rename": lambda root: os.rename(root / name, root / other),
        "link": lambda root: os.link(root / name, root / other, follow_symlinks=False),
        "symlink": lambda root: os.symlink("a", root / name),
        "mknod": lambda root: os.mknod(root / name, mode | stat.S_IFREG),
        "mkfifo": lambda root: os.mkfifo(root / name, mode),
        "chmod": lambda root: os.chmod(root / name, mode),
        "chown": lambda root: os.chown(root / name, uid, gid, follow_symlinks=False),
        "truncate": lambda root: os.truncate(root / name, size),
        "utime": lambda root: os.utime(root / name, ns=(when, when)),
        "touch": lambda root: os.utime(root / name),
        "access": lambda root: os.access(root / name, size % 8, effective_ids=True),
        "list": lambda root: sorted(os.listdir(root / name)),
        "use": lambda root: use(root / name, flags, mode, b"x" * length),
        "setxattr": lambda root: os.setxattr(root / name, "user.x", b"1", follow_symlinks=False),
        "getxattr": lambda root: os.getxattr(root / name, "user.x", follow_symlinks=False),
    }
    if uid == gid == -1:
        del calls["chown"]  # whether that takes set-id bits away differs even between local file systems
    what = chance.choice([*calls, "mkdir", "use", "use", "chmod"])
    return (what, name, other, oct(mode), uid, gid, size, length, oct(flags)), calls[what]


def seen(root: Path) -> dict[str, object]:
    return {str(path.relative_to(root)): told(path) for path in sorted(root.rglob("*"))}


@pytest.mark.parametrize("seed", range(4))
def test_it_does_what_a_local_directory_does(mounted: Mount, seed: int) -> None:
    chance = random.Random(seed)
    with TemporaryDirectory() as local:
        os.chmod(local, 0o755)
        roots = [mounted.point / f"dc1/{seed}", Path(local) / "here"]
        for root in roots:
            root.mkdir()
            root.chmod(0o777)
        for step in range(STEPS):
            user, umask = chance.choice(USERS), chance.choice(UMASKS)
            groups = [TEAM] if chance.random() < 0.5 else []
            words, call = a_call(chance)
            found = []
            for root in roots:
                with acting_as(user, groups, umask):
                    found.append(outcome(call, root))
            assert (words, user, groups, found[0]) == (words, user, groups, found[1])
            if step % 4 == 0:
                assert (words, user, groups, seen(roots[0])) == (words, user, groups, seen(roots[1]))
