"""The filter of system calls, run by a small interpreter of such programs, and by the kernel."""

import errno
import os
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.node.seccomp import program

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
ALLOWED = 0x7FFF0000
NEWUSER, NEWNS, VM, THREAD = 0x10000000, 0x20000, 0x100, 0x10000


def answer(machine: str, arch: int, number: int, first: int = 0) -> str:
    """Run the filter on a call."""
    code = program(machine)
    assert code is not None
    steps = list(struct.iter_unpack("=HBBI", code))
    data = struct.pack("=IIQQ", number, arch, 0, first)
    at, register = 0, 0
    while True:
        kind, yes, no, value = steps[at]
        at += 1
        if kind == 0x20:
            register = struct.unpack_from("=I", data, value)[0]
        elif kind == 0x05:
            at += value
        elif kind == 0x06:
            return "allowed" if value == ALLOWED else errno.errorcode[value & 0xFFFF]
        else:
            holds = {0x15: register == value, 0x35: register >= value, 0x45: bool(register & value)}[kind]
            at += yes if holds else no


@pytest.mark.parametrize(
    ("machine", "arch", "number"),
    [
        *(("x86_64", X86_64, number) for number in (165, 166, 272, 308, 321, 250, 298, 425, 428, 442, 0x40000000 | 1)),
        *(("x86_64", I386, number) for number in (21, 52, 310, 346, 357)),
        *(("aarch64", AARCH64, number) for number in (40, 39, 97, 268, 280, 425)),
    ],
)
def test_calls_that_reach_into_the_kernel_are_refused(machine: str, arch: int, number: int) -> None:
    assert answer(machine, arch, number) == "EPERM"


@pytest.mark.parametrize(
    ("machine", "arch", "number"),
    [
        *(("x86_64", X86_64, number) for number in (0, 1, 9, 59, 101, 157, 202, 231, 257, 317)),
        *(("x86_64", I386, number) for number in (3, 4, 11)),
        *(("aarch64", AARCH64, number) for number in (63, 64, 221, 222)),
    ],
)
def test_calls_that_programs_live_by_are_allowed(machine: str, arch: int, number: int) -> None:
    assert answer(machine, arch, number) == "allowed"


@pytest.mark.parametrize(
    ("machine", "arch", "clone"), [("x86_64", X86_64, 56), ("x86_64", I386, 120), ("aarch64", AARCH64, 220)]
)
def test_a_process_may_have_children_and_threads_and_no_namespaces(machine: str, arch: int, clone: int) -> None:
    assert answer(machine, arch, clone, VM | THREAD | 17) == "allowed"
    for flag in (NEWUSER, NEWNS, 0x80, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000):
        assert answer(machine, arch, clone, flag | 17) == "EPERM"
    assert answer(machine, arch, 435) == "ENOSYS"


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_every_call_has_an_answer_and_those_of_unknown_machines_are_refused(arch: int, number: int, first: int) -> None:
    assert answer("x86_64", arch, number, first) in ("allowed", "EPERM", "ENOSYS")
    if arch not in (X86_64, I386):
        assert answer("x86_64", arch, number, first) == "EPERM"


def test_a_machine_whose_numbers_are_not_known_has_no_filter() -> None:
    assert program("riscv64") is None


@pytest.mark.skipif(program(os.uname().machine) is None, reason="this machine has no filter")
def test_the_kernel_takes_it_and_programs_go_on() -> None:
    """In a child process, which keeps it for good."""
    script = """
import ctypes, os, threading, subprocess
from jobd.node.seccomp import program
libc = ctypes.CDLL(None, use_errno=True)
code = program(os.uname().machine)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code)), 0, 0) == 0
thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
print(subprocess.run(["echo", "child"], capture_output=True, text=True).stdout.strip())
print(libc.unshare(0x10000000), ctypes.get_errno())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["thread", "child", "-1", str(errno.EPERM)]
