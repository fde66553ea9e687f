"""Random system calls, made in a mount and in a directory of a local file system, which must not tell them apart.

Every step makes one call in both, in one of the mounts where there are several: what it returns and the errno with
which it fails are the same. Then the whole trees are the same, seen through every mount: after each step, or, since
looking also fills caches, only now and then. In the end all is closed, and the server's own disk has the same tree.

Two mounts promise one another what has been closed or synced. So with two, whoever opens a file, and so may make it, or
writes to an open one then closes a copy of its descriptor; with one, what was made or written is seen at once.
"""

import os
import signal
import stat
from collections.abc import Callable
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from integration.model.choices import (
    LONGEST_NAME,
    SLOTS_MAX,
    any_paths,
    data,
    flags,
    modes,
    mounts,
    names_of_xattrs,
    paths,
    picks,
    sizes,
    small_data,
    small_sizes,
    targets,
    times_ns,
    values,
)
from integration.model.compared import Compared
from integration.model.place import EXCHANGE, NOREPLACE, Data, Outcome, Place
from integration.model.world import World

RESTARTS_MAX = 2
KILLS_MAX = 1  # what a killed mount had leased is not given to others for ten seconds
STEPS_BETWEEN_RESTARTS = 5


class Machine(Compared):
    """The calls; a subclass says where.

    Attributes:
        restarts: the server is ended and started again now and then.
        kills: the first mount is killed, and what it has promised is kept by the next one.
    """

    restarts: ClassVar[bool] = False
    kills: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.slots: dict[int, int] = {}
        self.paths: dict[int, str] = {}
        self.appending: set[int] = set()
        self.next_slot = 0
        self.restarts_left = RESTARTS_MAX if self.restarts else 0
        self.kills_left = KILLS_MAX if self.kills else 0

    @initialize(prepared=st.booleans(), looks_each=st.sampled_from([1, 1, 4, 1000]), mount=mounts)
    def begin(self, prepared: bool, looks_each: int, mount: int) -> None:
        self.looks_each = looks_each
        if prepared:
            for path in ("d", "d/d", "e"):
                self.both(mount, Place.mkdir, path, 0o755)
            self.both(mount, Place.write_file, "d/a", Data(1, 5000))
            self.both(mount, Place.write_file, "b", Data(2, 70_000))

    # ---- names

    @rule(path=any_paths, mode=modes, mount=mounts)
    def mkdir(self, path: str, mode: int, mount: int) -> None:
        self.both(mount, Place.mkdir, path, mode)

    @rule(path=any_paths, mount=mounts)
    def rmdir(self, path: str, mount: int) -> None:
        self.both(mount, Place.rmdir, path)

    @rule(path=any_paths, mount=mounts)
    def unlink(self, path: str, mount: int) -> None:
        self.both(mount, Place.unlink, path)

    @rule(source=paths, new=any_paths, kind=st.sampled_from([0, 0, 0, NOREPLACE, EXCHANGE, 3, 8]), mount=mounts)
    def rename(self, source: str, new: str, kind: int, mount: int) -> None:
        self.both(mount, Place.rename, source, new, kind)

    @rule(source=paths, new=any_paths, mount=mounts)
    def link(self, source: str, new: str, mount: int) -> None:
        self.both(mount, Place.link, source, new)

    @rule(path=any_paths, content=targets, mount=mounts)
    def symlink(self, path: str, content: str, mount: int) -> None:
        self.both(mount, Place.symlink, path, content)

    @rule(path=any_paths, mount=mounts)
    def readlink(self, path: str, mount: int) -> None:
        self.both(mount, Place.readlink, path)

    @rule(path=any_paths, mode=modes, mount=mounts)
    def mkfifo(self, path: str, mode: int, mount: int) -> None:
        self.both(mount, Place.mkfifo, path, mode)

    @rule(path=any_paths, mode=modes, kind=st.sampled_from([stat.S_IFREG, stat.S_IFSOCK]), mount=mounts)
    def mknod(self, path: str, mode: int, kind: int, mount: int) -> None:
        self.both(mount, Place.mknod, path, mode, kind)

    @rule(path=paths, mount=mounts)
    def bind(self, path: str, mount: int) -> None:
        self.both(mount, Place.bind, path)

    @rule(path=any_paths, mount=mounts)
    def listdir(self, path: str, mount: int) -> None:
        self.both(mount, Place.listdir, path)

    # ---- attributes

    @rule(path=any_paths, mount=mounts)
    def stat(self, path: str, mount: int) -> None:
        self.both(mount, Place.stat, path)

    @rule(path=any_paths, mount=mounts)
    def lstat(self, path: str, mount: int) -> None:
        self.both(mount, Place.lstat, path)

    @rule(path=any_paths, mode=st.sampled_from([os.F_OK, os.R_OK, os.W_OK, os.X_OK]), mount=mounts)
    def access(self, path: str, mode: int, mount: int) -> None:
        self.both(mount, Place.access, path, mode)

    @rule(path=any_paths, mode=modes, mount=mounts)
    def chmod(self, path: str, mode: int, mount: int) -> None:
        self.both(mount, Place.chmod, path, mode)

    @rule(path=any_paths, times=st.one_of(st.none(), st.tuples(times_ns, times_ns)), mount=mounts)
    def utime(self, path: str, times: tuple[int, int] | None, mount: int) -> None:
        self.both(mount, Place.utime, path, times)

    @rule(path=any_paths, size=sizes, mount=mounts)
    def truncate(self, path: str, size: int, mount: int) -> None:
        self.both(mount, Place.truncate, path, size)

    @rule(path=paths, name=names_of_xattrs, value=values, kind=st.sampled_from([0, 0, 1, 2]), mount=mounts)
    def setxattr(self, path: str, name: str, value: bytes, kind: int, mount: int) -> None:
        self.both(mount, Place.setxattr, path, name, value, kind)

    @rule(path=paths, name=names_of_xattrs, mount=mounts)
    def getxattr(self, path: str, name: str, mount: int) -> None:
        self.both(mount, Place.getxattr, path, name)

    @rule(path=paths, name=names_of_xattrs, mount=mounts)
    def removexattr(self, path: str, name: str, mount: int) -> None:
        self.both(mount, Place.removexattr, path, name)

    @rule(path=any_paths, mount=mounts)
    def listxattr(self, path: str, mount: int) -> None:
        self.both(mount, Place.listxattr, path)

    # ---- whole files

    @rule(path=any_paths, mount=mounts)
    def read_file(self, path: str, mount: int) -> None:
        self.both(mount, Place.read_file, path)

    @rule(path=any_paths, content=data, mount=mounts)
    def write_file(self, path: str, content: Data, mount: int) -> None:
        self.both(mount, Place.write_file, path, content)

    @rule(path=any_paths, content=small_data, mount=mounts)
    def append_file(self, path: str, content: Data, mount: int) -> None:
        self.both(mount, Place.append_file, path, content)

    @rule(path=st.sampled_from(["a", "b", "d/a"]), content=small_data, mount=mounts)
    def replace_file(self, path: str, content: Data, mount: int) -> None:
        self.both(mount, Place.replace_file, path, content)

    @rule(source=paths, new=any_paths, mount=mounts)
    def copy_file(self, source: str, new: str, mount: int) -> None:
        self.both(mount, Place.copy_file, source, new)

    @rule(path=paths, offset=small_sizes, content=small_data, mount=mounts)
    def map_file(self, path: str, offset: int, content: Data, mount: int) -> None:
        self.both(mount, Place.map_file, path, offset, content)

    # ---- open files

    @rule(path=any_paths, flags=flags, mode=modes, mount=mounts)
    def open(self, path: str, flags: int, mode: int, mount: int) -> None:
        if self.is_fifo(path):
            if self.several:
                return  # two mounts are two machines: a FIFO does not join their programs
            flags |= os.O_NONBLOCK
        if len(self.slots) == SLOTS_MAX:
            self.end_slot(next(iter(self.slots)))
        slot, self.next_slot = self.next_slot, self.next_slot + 1
        if self.both(mount, Place.open, slot, path, flags, mode, looks=not self.several) == "open":
            self.slots[slot], self.paths[slot] = mount % len(self.mounted), path
            if flags & os.O_APPEND:
                self.appending.add(slot)
            if self.several:
                self.both(mount, Place.close_copy, slot)

    @precondition(lambda self: self.slots)
    @rule(pick=picks)
    def close(self, pick: int) -> None:
        self.end_slot(self.slot(pick))

    @precondition(lambda self: self.slots)
    @rule(pick=picks, only_data=st.booleans())
    def fsync(self, pick: int, only_data: bool) -> None:
        self.on_slot(pick, Place.fsync, only_data)

    @precondition(lambda self: self.slots)
    @rule(pick=picks)
    def close_copy(self, pick: int) -> None:
        self.on_slot(pick, Place.close_copy)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, size=sizes)
    def read(self, pick: int, size: int) -> None:
        self.on_slot(pick, Place.read, size)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, size=sizes, offset=sizes)
    def pread(self, pick: int, size: int, offset: int) -> None:
        self.on_slot(pick, Place.pread, size, offset)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, content=data)
    def write(self, pick: int, content: Data) -> None:
        self.on_slot(pick, Place.write, content, writes=True)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, content=small_data, offset=sizes)
    def pwrite(self, pick: int, content: Data, offset: int) -> None:
        self.on_slot(pick, Place.pwrite, content, offset, writes=True)

    @precondition(lambda self: self.slots)
    @rule(
        pick=picks,
        offset=sizes,
        whence=st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_HOLE]),
    )
    def seek(self, pick: int, offset: int, whence: int) -> None:
        self.on_slot(pick, Place.seek, offset, whence)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, size=sizes)
    def ftruncate(self, pick: int, size: int) -> None:
        self.on_slot(pick, Place.ftruncate, size)

    @precondition(lambda self: self.slots)
    @rule(pick=picks)
    def fstat(self, pick: int) -> None:
        self.on_slot(pick, Place.fstat)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, mode=modes)
    def fchmod(self, pick: int, mode: int) -> None:
        self.on_slot(pick, Place.fchmod, mode)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, times=st.tuples(times_ns, times_ns))
    def futime(self, pick: int, times: tuple[int, int]) -> None:
        self.on_slot(pick, Place.futime, times)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, name=st.sampled_from(["user.a", "user.b"]), value=values)
    def fsetxattr(self, pick: int, name: str, value: bytes) -> None:
        self.on_slot(pick, Place.fsetxattr, name, value)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, offset=small_sizes, content=small_data)
    def map(self, pick: int, offset: int, content: Data) -> None:
        self.on_slot(pick, Place.map, offset, content, writes=True)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, other=picks, size=sizes, offset=small_sizes, to=small_sizes)
    def copy_range(self, pick: int, other: int, size: int, offset: int, to: int) -> None:
        source, target = self.slot(pick), self.slot(other)
        if self.slots[source] == self.slots[target]:
            self.write_to(target, Place.copy_range, source, target, size, offset, to)

    @precondition(lambda self: self.slots)
    @rule(pick=picks)
    def list_open(self, pick: int) -> None:
        self.on_slot(pick, Place.list_open)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, name=st.sampled_from(["a", "b", "c"]), content=small_data)
    def make_below(self, pick: int, name: str, content: Data) -> None:
        self.on_slot(pick, Place.make_below, name, content)

    @precondition(lambda self: self.slots)
    @rule(pick=picks, mount=mounts)
    def unlink_open(self, pick: int, mount: int) -> None:
        self.both(mount, Place.unlink, self.paths[self.slot(pick)])

    @precondition(lambda self: self.slots)
    @rule(pick=picks, content=small_data, mount=mounts)
    def replace_open(self, pick: int, content: Data, mount: int) -> None:
        path = self.paths[self.slot(pick)]
        if not path.endswith(LONGEST_NAME):
            self.both(mount, Place.replace_file, path, content)

    # ---- the server

    @precondition(lambda self: self.restarts_left > 0 and self.steps >= STEPS_BETWEEN_RESTARTS)
    @rule(number=st.sampled_from([signal.SIGTERM, signal.SIGKILL]))
    def restart(self, number: signal.Signals) -> None:
        self.steps = 0
        self.restarts_left -= 1
        for slot in self.appending & self.slots.keys():
            self.both(self.slots[slot], Place.close_copy, slot)  # nobody could tell whether the end was added twice
        self.journal.append(f"restart by {number.name}")
        self.world.restart(number)
        self.look()

    @precondition(lambda self: self.kills_left > 0 and self.steps >= STEPS_BETWEEN_RESTARTS)
    @rule()
    def kill_mount(self) -> None:
        self.steps = 0
        self.kills_left -= 1
        for slot in [slot for slot, mount in self.slots.items() if mount == 0]:
            self.end_slot(slot)
        self.journal.append("the mount is killed")
        self.world.kill_mount(0)
        self.look()

    # ---- how

    def slot(self, pick: int) -> int:
        """Return one of the open files."""
        return list(self.slots)[pick % len(self.slots)]

    def on_slot(self, pick: int, call: Callable[..., Outcome], *args: object, writes: bool = False) -> None:
        """Make a call on an open file."""
        slot = self.slot(pick)
        if writes:
            self.write_to(slot, call, slot, *args)
        else:
            self.both(self.slots[slot], call, slot, *args)

    def write_to(self, slot: int, call: Callable[..., Outcome], *args: object) -> None:
        """Make a call that writes to an open file, and let the other mount see what was written."""
        self.both(self.slots[slot], call, *args, looks=not self.several)
        if self.several:
            self.both(self.slots[slot], Place.close_copy, slot)

    def end_slot(self, slot: int) -> None:
        """Close an open file."""
        mount = self.slots.pop(slot)
        del self.paths[slot]
        self.appending.discard(slot)
        self.both(mount, Place.close, slot)

    def teardown(self) -> None:
        """Close all, look a last time, also at the server's disk, and remove it all."""
        try:
            for slot in list(self.slots):
                self.end_slot(slot)
            self.look()
            self.look_at_disk()
        finally:
            self.clear()


def machine(where: World, *, restarts: bool = False, kills: bool = False) -> type[Machine]:
    """Return the state machine for these mounts."""
    return type("Calls", (Machine,), {"world": where, "restarts": restarts, "kills": kills})
