"""Whether the disk is quick enough to be asked without changing to a worker thread.

A change of threads and back costs more than most questions to a local disk: about 0.2 ms against 0.02 ms. So short
work is done at once while the disk answers at once, and a disk that lets the server wait is given threads again, for a
while. A file system that is not on this machine, or that a program serves, is never asked at once: it could hang the
whole server, and a program that serves it may itself be waiting for us. That is looked up in the list of mounts, once a
second.
"""

from collections.abc import Iterable
from dataclasses import dataclass

LOCAL_TYPES = frozenset(("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"))
SLOW_NS = 3_000_000  # on the average of the last calls: one of 24 ms, or several of 4 ms; the processor may be late too
AVERAGED = 8
WARY_NS = 1_000_000_000  # after the disk was slow
LOOK_EVERY_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of the list of mounts."""

    point: str
    type: str


def parse_mounts(text: str) -> list[Mounted]:
    """Return the mounts in the text of `/proc/self/mountinfo` (proc(5)); lines that do not fit are left out."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words, kind = before.split(" "), after.split(" ")
        if len(words) > 4 and kind[0]:
            found.append(Mounted(_unescaped(words[4]), kind[0]))
    return found


def _unescaped(text: str) -> str:
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def all_local(root: str, mounts: Iterable[Mounted]) -> bool:
    """Tell whether everything at and below the directory `root` (absolute, no links) is on a disk of this machine."""
    holder = ""
    holder_type = ""
    for mount in mounts:  # a later mount on the same place hides an earlier one
        if _is_within(mount.point, root) and mount.point != root:
            if mount.type not in LOCAL_TYPES:
                return False
        elif _is_within(root, mount.point) and len(mount.point) >= len(holder):
            holder, holder_type = mount.point, mount.type
    return holder_type in LOCAL_TYPES


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


class Quickness:
    """What is known of one disk; times are nanoseconds of one clock that does not go back."""

    def __init__(self) -> None:
        self._local = False
        self._looked_ns: int | None = None
        self._mean_ns = 0.0
        self._wary_until_ns = 0

    def wants_look(self, now_ns: int) -> bool:
        """Tell whether the list of mounts is to be looked at again."""
        return self._looked_ns is None or now_ns >= self._looked_ns + LOOK_EVERY_NS

    def looked(self, local: bool, now_ns: int) -> None:
        """The list of mounts was looked at."""
        self._local, self._looked_ns = local, now_ns

    def is_quick(self, now_ns: int) -> bool:
        """Tell whether short work may be done at once."""
        return self._local and now_ns >= self._wary_until_ns

    def took(self, begun_ns: int, now_ns: int) -> None:
        """Short work was done at once."""
        self._mean_ns += (now_ns - begun_ns - self._mean_ns) / AVERAGED
        if self._mean_ns > SLOW_NS:
            self._mean_ns = 0.0
            self._wary_until_ns = now_ns + WARY_NS
