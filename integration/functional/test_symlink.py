"""symlink(2) and readlink(2)."""

import errno
import os
from pathlib import Path

from integration.functional.places import OK, USER, Both, Case, cases, furnish


def linked(root: Path, target: str, name: str = "new") -> object:
    os.symlink(target, root / name)
    found = os.lstat(root / name)
    return os.readlink(root / name), oct(found.st_mode), found.st_size


@cases(
    Case("to a file", OK, lambda root: linked(root, "file")),
    Case("to nowhere", OK, lambda root: linked(root, "no/where")),
    Case("to an absolute path", OK, lambda root: linked(root, "/etc/passwd")),
    Case("out of the directory", OK, lambda root: linked(root, "../../../../../../etc/passwd")),
    Case("of one byte", OK, lambda root: linked(root, "x")),
    Case("of 4095 bytes", OK, lambda root: linked(root, "t" * 4095)),
    Case("of any bytes", OK, lambda root: linked(root, os.fsdecode(b"\xff\n"))),
    Case("a name of 255 bytes", OK, lambda root: linked(root, "file", "x" * 255)),
    Case("to nothing", errno.ENOENT, lambda root: linked(root, "")),
    Case("of 4096 bytes", errno.ENAMETOOLONG, lambda root: linked(root, "t" * 4096)),
    Case("where a file is", errno.EEXIST, lambda root: linked(root, "x", "file")),
    Case("where a link is", errno.EEXIST, lambda root: linked(root, "x", "dangling")),
    Case("below nothing", errno.ENOENT, lambda root: linked(root, "x", "none/y")),
    Case("below a file", errno.ENOTDIR, lambda root: linked(root, "x", "file/y")),
    Case("a name of 256 bytes", errno.ENAMETOOLONG, lambda root: linked(root, "x", "n" * 256)),
    Case("a loop on the way", errno.ELOOP, lambda root: linked(root, "x", "loop/y")),
    Case("reading a file as a link", errno.EINVAL, lambda root: os.readlink(root / "file")),
    Case("reading a directory as a link", errno.EINVAL, lambda root: os.readlink(root / "dir")),
    Case("reading what is not there", errno.ENOENT, lambda root: os.readlink(root / "none")),
    Case("reading below a file", errno.ENOTDIR, lambda root: os.readlink(root / "file/x")),
)
def test_symlink(both: Both, case: Case) -> None:
    both.check(case)


@cases(Case("where one may not", errno.EACCES, lambda root: linked(root, "x"), USER))
def test_rights_of_others(numeric: Both, case: Case) -> None:
    numeric.check(case)


def test_a_link_out_of_the_mount_leads_to_this_machine(both: Both) -> None:
    (both.plain / "here").write_text("this machine's")
    (both.mount / "out").symlink_to(both.plain / "here")
    assert (both.mount / "out").read_text() == "this machine's"
    (both.plain / "in").symlink_to(both.mount)
    (both.mount / "f").write_text("the mount's")
    assert (both.plain / "in/f").read_text() == "the mount's"


def test_forty_links_are_followed_and_no_more(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "l0").write_text("text")
        for number in range(41):
            os.symlink(f"l{number}", root / f"l{number + 1}")
        try:
            return (root / "l40").read_text(), (root / "l41").read_text()
        except OSError as error:
            return (root / "l40").read_text(), error.errno

    assert both.same(call) == ("text", errno.ELOOP)


def test_a_link_that_is_made_anew_leads_elsewhere_at_once(both: Both) -> None:
    def call(root: Path) -> object:
        furnish(root)
        found = []
        for number in range(20):
            target = ("file", "other")[number % 2]
            os.symlink(target, root / "new")
            os.rename(root / "new", root / "now")
            found.append((os.readlink(root / "now"), (root / "now").read_bytes()))
        return found

    both.same(call)
