"""Namespaces of this machine's processes: which they share with this one, and the way into them.

Python's own setns is newer than what this project runs on.
"""

import ctypes
import os

USER, MOUNTS, NETWORK = 0x10000000, 0x20000, 0x40000000
_KINDS = {
    "user": USER,
    "mnt": MOUNTS,
    "pid": 0x20000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "net": NETWORK,
    "cgroup": 0x02000000,
}
_libc = ctypes.CDLL(None, use_errno=True)


def apart(pid: int) -> int:
    """Return the kinds of namespaces, added up, that a process has and this one is not in.

    Raises:
        OSError: this process may not look, or the other one is gone.
    """
    return sum(
        kind
        for name, kind in _KINDS.items()
        if os.stat(f"/proc/{pid}/ns/{name}").st_ino != os.stat(f"/proc/self/ns/{name}").st_ino
    )


def enter(descriptor: int, kinds: int) -> None:
    """Go to another process's namespaces, for the rest of this one's life; what it starts is in those of its processes.

    Args:
        descriptor: of the process (`os.pidfd_open`), or of a file `/proc/<pid>/ns/<kind>`.

    Raises:
        OSError
    """
    if _libc.setns(descriptor, kinds) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
