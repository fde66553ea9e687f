"""What the paths of this machine that tasks shall see really are, looked at again before each start.

A path is opened without being read (`O_PATH`) and judged by where that led, so a link counts as what it leads to. The
kernel's own file systems are known by their kind, wherever somebody has mounted them. Whoever holds the descriptor
has what was judged, whatever is done to the path afterwards (`jobd.node.staging`).
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from jobd.node.hostmounts import HostMount, is_below, source_problem
from pfs.errors import Kind, PfsError

# file systems through which the machine itself is read or changed
_OF_THE_KERNEL = frozenset(
    (
        *("binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs"),
        *("fusectl", "nsfs", "proc", "pstore", "securityfs", "selinuxfs", "sysfs", "tracefs"),
    )
)
_ALWAYS_KEPT = {
    "/proc": "the kernel's",
    "/sys": "the kernel's",
    "/dev": "the machine's devices",
    "/etc": "the machine's settings",
    "/boot": "what the machine starts from",
    "/run/containerd": "the container engine's",
    "/run/docker": "the container engine's",
    "/var/lib/containerd": "the container engine's",
    "/var/lib/docker": "the container engine's",
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A path of this machine that tasks may see, held open.

    Attributes:
        real: where it led, without links.
    """

    descriptor: int
    real: str
    mount: HostMount


@dataclass(frozen=True, slots=True)
class HostPaths:
    """What must stay closed on this machine.

    Attributes:
        kept: what it is, by path, besides what every machine keeps.
        allowed: the only directories that mounts may lie in; None for all.
    """

    kept: Mapping[str, str] = field(default_factory=dict)
    allowed: Sequence[str] | None = None

    @contextmanager
    def opened(self, mounts: Sequence[HostMount]) -> Iterator[list[Opened]]:
        """Give the sources of mounts while the block runs, having looked at each.

        Raises:
            PfsError: INVALID where one is not there, or may not be shown.
        """
        found: list[Opened] = []
        try:
            for mount in mounts:
                found.append(self._open(mount))
            yield found
        finally:
            for each in found:
                os.close(each.descriptor)

    def _open(self, mount: HostMount) -> Opened:
        try:
            descriptor = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise PfsError(Kind.INVALID, f"--mount {mount}: {mount.source}: {error.strerror}") from None
        try:
            real = os.readlink(f"/proc/self/fd/{descriptor}")
            problem = self._problem(descriptor, real)
        except BaseException:
            os.close(descriptor)
            raise
        if problem:
            os.close(descriptor)
            way = "" if real == mount.source else f" ({real})"
            raise PfsError(Kind.INVALID, f"--mount {mount}: tasks may not see {mount.source}{way}: {problem}")
        return Opened(descriptor, real, mount)

    def _problem(self, descriptor: int, real: str) -> str:
        found = os.fstat(descriptor)
        if not stat.S_ISDIR(found.st_mode) and not stat.S_ISREG(found.st_mode):
            return "it is neither a directory nor a file"
        kept = {os.path.realpath(path): what for path, what in {**_ALWAYS_KEPT, **self.kept}.items()}
        for path in ("/", *kept):
            if _is_same(found, path):
                return "it is the whole machine" if path == "/" else f"it is {path}, {kept[path]}"
        return source_problem(real, kept, self.allowed) or _mounted_problem(real)


def _is_same(found: os.stat_result, path: str) -> bool:
    try:
        return os.path.samestat(found, os.stat(path))
    except OSError:
        return False


def _mounted_problem(real: str) -> str:
    """Say which of the kernel's file systems a path lies in or would show."""
    inner = ("", "")
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields, _, rest = line.partition(" - ")
        point, kind = _plain(fields.split(" ")[4]), rest.split(" ")[0]
        if is_below(real, (point,)) and len(point) >= len(inner[0]):
            inner = point, kind
        elif kind in _OF_THE_KERNEL and is_below(point, (real,)):
            return f"it contains {point}, a file system of the kernel ({kind})"
    return f"it lies in a file system of the kernel ({inner[1]})" if inner[1] in _OF_THE_KERNEL else ""


def _plain(word: str) -> str:
    """Return a path as it is, from the kernel's way to write it."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), word)
