"""Which system calls a sandbox refuses: those through which programs get at the kernel, and no program of a job needs.

Pure. What is refused is about what Docker's own filter refuses to containers: new namespaces (with one, anybody is its
root, and the whole of the kernel that trusts root can be reached), mounts, modules, keys of the kernel, BPF,
performance counters of others, io_uring, handles of files, the clock and the machine itself. The answer is EPERM, and
ENOSYS for `clone3`, whose flags a filter cannot read: libraries then use `clone`.

A filter is a program of the classic Berkeley packet filter. A call of another architecture than the machine's own has
other numbers: each architecture has its part of the program, and one that has none can call nothing.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# where the kernel tells a filter of a call: its number, its architecture, the lower half of its first argument
_NUMBER, _ARCH, _FIRST = 0, 4, 16
_LOAD, _JUMP_EQUAL, _JUMP_FROM, _JUMP_SET, _JUMP, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
# CLONE_NEW…: time, mount, cgroup, uts, ipc, user, pid, net
_NAMESPACES = 0x7E020080
_X32 = 0x40000000

# from io_uring_setup to fspick, and mount_setattr: the same everywhere
_NEW_CALLS = (*range(425, 434), 442)
_CLONE3 = 435


@dataclass(frozen=True, slots=True)
class _Machine:
    """An architecture as the kernel numbers it."""

    arch: int
    clone: int
    refused: tuple[int, ...]
    has_x32: bool = False


# in the order of the numbers: syslog, uselib, pivot_root, acct, settimeofday, mount, umount2, swapon, swapoff, reboot,
# iopl, ioperm, create_module, init_module, delete_module, get_kernel_syms, query_module, quotactl, nfsservctl,
# lookup_dcookie, clock_settime, kexec_load, add_key, request_key, keyctl, unshare, perf_event_open, open_by_handle_at,
# setns, finit_module, kexec_file_load, bpf, userfaultfd
_X86_64 = _Machine(
    0xC000003E,
    56,
    (
        *(103, 134, 155, 163, 164, 165, 166, 167, 168, 169, 172, 173, 174, 175, 176, 177, 178, 179, 180, 212, 227),
        *(246, 248, 249, 250, 272, 298, 304, 308, 313, 320, 321, 323),
    ),
    has_x32=True,
)
# mount, umount, acct, umount2, settimeofday, uselib, swapon, reboot, ioperm, syslog, iopl, vm86old, swapoff,
# create_module, init_module, delete_module, get_kernel_syms, quotactl, vm86, query_module, nfsservctl, pivot_root,
# lookup_dcookie, clock_settime, kexec_load, add_key, request_key, keyctl, unshare, perf_event_open, open_by_handle_at,
# setns, finit_module, bpf, userfaultfd, clock_settime64
_I386 = _Machine(
    0x40000003,
    120,
    (
        *(21, 22, 51, 52, 79, 86, 87, 88, 101, 103, 110, 113, 115, 127, 128, 129, 130, 131, 166, 167, 169, 217, 253),
        *(264, 283, 286, 287, 288, 310, 336, 342, 346, 350, 357, 374, 404),
    ),
)
# lookup_dcookie, umount2, mount, pivot_root, nfsservctl, quotactl, acct, unshare, kexec_load, init_module,
# delete_module, clock_settime, syslog, reboot, settimeofday, add_key, request_key, keyctl, swapon, swapoff,
# perf_event_open, open_by_handle_at, setns, finit_module, bpf, userfaultfd, kexec_file_load
_AARCH64 = _Machine(
    0xC00000B7,
    220,
    (
        *(18, 39, 40, 41, 42, 60, 89, 97, 104, 105, 106, 112, 116, 142, 170, 217, 218, 219, 224, 225, 241, 265, 268),
        *(273, 280, 282, 294),
    ),
)
_MACHINES = {"x86_64": (_X86_64, _I386), "aarch64": (_AARCH64,)}


def program(machine: str) -> bytes | None:
    """Return the filter for a machine; None for one that this module knows no numbers of.

    Args:
        machine: what `uname -m` says.
    """
    parts = _MACHINES.get(machine)
    if parts is None:
        return None
    code = [_step(_LOAD, _ARCH)]
    for part in parts:
        own = list(_part(part))
        code += [_step(_JUMP_EQUAL, part.arch, yes=1), _step(_JUMP, len(own)), *own]
    return b"".join([*code, _answer(_EPERM)])


def _part(machine: _Machine) -> Iterable[bytes]:
    yield _step(_LOAD, _NUMBER)
    if machine.has_x32:
        yield from (_step(_JUMP_FROM, _X32, no=1), _answer(_EPERM))
    for number in (*machine.refused, *_NEW_CALLS):
        yield from (_step(_JUMP_EQUAL, number, no=1), _answer(_EPERM))
    yield from (_step(_JUMP_EQUAL, _CLONE3, no=1), _answer(_ENOSYS))
    yield from (_step(_JUMP_EQUAL, machine.clone, no=3), _step(_LOAD, _FIRST))
    yield from (_step(_JUMP_SET, _NAMESPACES, no=1), _answer(_EPERM))
    yield _step(_RETURN, _ALLOW)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """Return one instruction; `yes` and `no` are how many are skipped after it."""
    return struct.pack("=HBBI", code, yes, no, value)


def _answer(error: int) -> bytes:
    return _step(_RETURN, _ERRNO | error)
