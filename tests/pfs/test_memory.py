"""What becomes of memory for pieces of files; in a process of its own, since that cannot be undone."""

import subprocess
import sys

PIECES, PIECE_BYTES, TIMES, PAGE_BYTES = 8, 1 << 20, 50, 4096
FAULTS = f"""
import resource
from pfs import memory
assert memory.keep_pieces()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({TIMES}):
    pieces = [bytearray(b"x") * {PIECE_BYTES} for _ in range({PIECES})]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
HELD = f"""
from pfs import memory
assert memory.return_pieces()
for size in (8 * {PIECE_BYTES}, 2 * {PIECE_BYTES}):  # after the first the C library would keep what is smaller
    pieces = [bytearray(b"x") * size for _ in range({PIECES})]
    del pieces[:-1]  # one stays, so that the heap cannot shrink
with open("/proc/self/statm") as file:
    print(int(file.read().split()[1]) * {PAGE_BYTES})
"""


def said(script: str) -> int:
    return int(subprocess.check_output([sys.executable, "-c", script], timeout=100))


def test_a_mount_finds_pages_once() -> None:
    assert said(FAULTS) < 3 * PIECES * PIECE_BYTES // PAGE_BYTES


def test_a_server_gives_large_pieces_back() -> None:
    held = said(HELD.replace("assert memory.return_pieces()", ""))
    assert held - said(HELD) > PIECES * PIECE_BYTES
