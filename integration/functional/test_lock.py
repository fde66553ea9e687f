"""flock(2) and fcntl(2) locks: between the programs of one machine."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

from integration.functional.places import OK, Both, Places, code_of, descriptor

TRY = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    getattr(fcntl, sys.argv[2])(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("had")
except OSError as error:
    print(error.errno)
"""


def tried(path: Path, way: str) -> str:
    command = [sys.executable, "-c", TRY, str(path), way]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_a_lock_keeps_other_programs_out_until_it_is_given_back(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"x")
        found = []
        for way in ("flock", "lockf"):
            with descriptor(root / "f", os.O_RDWR) as fd:
                getattr(fcntl, way)(fd, fcntl.LOCK_EX)
                found.append(tried(root / "f", way))
            found.append(tried(root / "f", way))
        return found

    assert both.same(call) == [str(errno.EAGAIN), "had", str(errno.EAGAIN), "had"]


def test_readers_share_a_lock(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"x")
        with descriptor(root / "f", os.O_RDONLY) as one, descriptor(root / "f", os.O_RDONLY) as other:
            fcntl.flock(one, fcntl.LOCK_SH)
            found = code_of(lambda: fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB))
            return found, code_of(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB))

    assert both.same(call) == (OK, errno.EAGAIN)


def test_another_machine_does_not_hear_of_a_lock(places: Places, home: Path) -> None:
    (home / "f").write_bytes(b"x")
    with descriptor(home / "f", os.O_RDWR) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert tried(places.numeric / home.name / "f", "flock") == "had"
