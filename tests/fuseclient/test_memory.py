"""Memory for pieces of files is found once, not for each; in a process of its own, since that cannot be undone."""

import subprocess
import sys

PIECES, PIECE_BYTES, TIMES, PAGE_BYTES = 8, 1 << 20, 50, 4096
SCRIPT = f"""
import resource
from fuseclient import memory
assert memory.keep()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({TIMES}):
    pieces = [bytearray(b"x") * {PIECE_BYTES} for _ in range({PIECES})]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_pages_are_found_once() -> None:
    faults = int(subprocess.check_output([sys.executable, "-c", SCRIPT], timeout=100))
    assert faults < 3 * PIECES * PIECE_BYTES // PAGE_BYTES, f"{faults} pages were found"
