"""What a process of a task is confined by besides its namespaces, and how a process here becomes as confined.

It is read off the process itself, since a daemon that was started anew knows nothing else of the task; what a task can
change of it, it can only make narrower. Rights are none, and the system calls are those of every sandbox.
"""

import ctypes
import os
import re
import resource
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobd.node import seccomp

_SET_PDEATHSIG, _SET_SECCOMP, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 22, 36, 38
_CAPBSET_READ, _CAPBSET_DROP = 23, 24
_FILTER = 2
_CAPABILITIES_VERSION = 0x20080522
_STEP_BYTES = 8  # of a filter
_LIMITS_COLUMN = 26
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Confinement:
    """How a process is confined.

    Attributes:
        limits: soft and hard, by the kernel's numbers.
    """

    uid: int
    gid: int
    gids: tuple[int, ...]
    umask: int
    limits: Mapping[int, tuple[int, int]]


def confinement(pid: int) -> Confinement:
    """Return how a process is confined.

    Raises:
        OSError: this process may not look, or the other one is gone.
    """
    status = dict(re.findall(r"^(\w+):[ \t]*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]  # in the order of their numbers
    limits = {kind: _limit(line) for kind, line in enumerate(lines)}
    uid, gid = (int(status[name].split()[0]) for name in ("Uid", "Gid"))
    return Confinement(uid, gid, tuple(map(int, status["Groups"].split())), int(status["Umask"], 8), limits)


def _limit(line: str) -> tuple[int, int]:
    soft, hard = (
        resource.RLIM_INFINITY if word == "unlimited" else int(word) for word in line[_LIMITS_COLUMN:].split()[:2]
    )
    return soft, hard


def become(wanted: Confinement, *, has_ids: bool) -> None:
    """Become as confined, but for the system calls: this process may still make itself a terminal.

    Args:
        has_ids: it is who it shall be already, as who comes into a user namespace is.

    Raises:
        OSError
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):  # those that the threads of C have for themselves
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for kind, limit in wanted.limits.items():
        with suppress(ValueError):  # this daemon was given less than the one before it
            resource.setrlimit(kind, limit)
    for capability in range(_capabilities()):
        _prctl(_CAPBSET_DROP, capability)
    if not has_ids:
        os.setgroups(wanted.gids)
        os.setresgid(wanted.gid, wanted.gid, wanted.gid)
        os.setresuid(wanted.uid, wanted.uid, wanted.uid)
    header, nothing = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, nothing))
    os.umask(wanted.umask)
    _prctl(_SET_NO_NEW_PRIVS, 1)
    # last, since it is forgotten by who becomes somebody else
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def filter_calls() -> None:
    """Have the kernel refuse this process the system calls that it refuses every sandbox.

    Raises:
        OSError
    """
    program = seccomp.program(os.uname().machine)
    if program is None:
        return

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))

    told = Filter(len(program) // _STEP_BYTES, program)
    _prctl(_SET_SECCOMP, _FILTER, ctypes.addressof(told))


def adopt_orphans() -> None:
    """Be from now on the parent of what processes below this one leave behind.

    Raises:
        OSError
    """
    _prctl(_SET_CHILD_SUBREAPER, 1)


def _capabilities() -> int:
    """Return how many there are."""
    count = 0
    while _libc.prctl(_CAPBSET_READ, ctypes.c_ulong(count), 0, 0, 0) >= 0:
        count += 1
    return count


def _prctl(option: int, value: int, more: int = 0) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(more), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
