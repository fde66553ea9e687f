"""access(2), and what a mode lets somebody do."""

import errno
import os
from itertools import product
from pathlib import Path

from integration.functional.places import OK, TEAM, USER, Both, Case, acting_as, cases, furnish, outcome


def allowed(root: Path, name: str) -> object:
    return [os.access(root / name, mask, effective_ids=True) for mask in range(8)]


@cases(
    Case("a file", OK, lambda root: allowed(root, "file")),
    Case("a directory", OK, lambda root: allowed(root, "dir")),
    Case("through a link", OK, lambda root: allowed(root, "link")),
    Case("a link that leads nowhere", OK, lambda root: allowed(root, "dangling")),
    Case("what is not there", OK, lambda root: allowed(root, "none")),
    Case("below a file", OK, lambda root: allowed(root, "file/x")),
    Case("a loop", OK, lambda root: allowed(root, "loop")),
    Case("a name of 256 bytes", OK, lambda root: allowed(root, "x" * 256)),
)
def test_access(both: Both, case: Case) -> None:
    both.check(case)


def test_every_mode_lets_everybody_do_what_it_does_elsewhere(numeric: Both) -> None:
    """Owner, group and others; reading, writing, running; files and directories."""
    modes = [0, 0o400, 0o200, 0o100, 0o040, 0o020, 0o010, 0o004, 0o002, 0o001, 0o077, 0o707, 0o770, 0o644, 0o755]

    def make(root: Path) -> None:
        root.chmod(0o755)
        for mode in modes:
            (root / f"f{mode:o}").write_bytes(b"text")
            (root / f"d{mode:o}").mkdir()
            (root / f"d{mode:o}/x").write_bytes(b"inner")
            for name in (f"f{mode:o}", f"d{mode:o}"):
                os.chown(root / name, USER, TEAM)
                os.chmod(root / name, mode)

    def do(root: Path) -> object:
        calls = (
            lambda path: path.read_bytes(),
            lambda path: os.close(os.open(path, os.O_WRONLY)),
            lambda path: os.access(path, os.X_OK, effective_ids=True),
        )
        inside = (
            os.listdir,
            lambda path: os.stat(path / "x").st_size,
            lambda path: (path / "new").touch() or (path / "new").unlink(),
        )
        files = [outcome(call, root / f"f{mode:o}") for mode, call in product(modes, calls)]
        return files, [outcome(call, root / f"d{mode:o}") for mode, call in product(modes, inside)]

    numeric.do(make)
    for user, groups in ((USER, []), (7777, [TEAM]), (7777, []), (TEAM, [])):
        with acting_as(user, groups):
            numeric.same(do)


def test_root_may_do_anything_but_run_what_nobody_may(both: Both) -> None:
    both.do(furnish)
    both.do(lambda root: os.chmod(root / "file", 0))
    both.do(lambda root: os.chmod(root / "dir", 0))
    assert both.same(lambda root: (root / "file").read_bytes()) == b"0123456789"
    assert both.same(lambda root: os.listdir(root / "dir")) == ["inner"]
    assert both.same(lambda root: os.access(root / "file", os.X_OK)) is False


def test_a_program_on_the_mount_is_run(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "program").write_text("#!/bin/sh\nexit 7\n")
        (root / "program").chmod(0o755)
        code = os.waitstatus_to_exitcode(os.system(str(root / "program")))
        (root / "program").chmod(0o644)
        try:
            os.execv(root / "program", ["x"])
        except OSError as error:
            return code, error.errno

    assert both.same(call) == (7, errno.EACCES)
