"""open(2)."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from integration.functional.places import OK, USER, Both, Case, Places, acting_as, cases, code_of, descriptor, furnish

CREATE, WRITE = os.O_WRONLY | os.O_CREAT, os.O_WRONLY


def opened(path: Path | str, flags: int, mode: int = 0o644) -> object:
    """Open and close; tell type, size and mode of what was open."""
    with descriptor(path, flags, mode) as fd:
        found = os.fstat(fd)
        return stat.filemode(found.st_mode), 0 if stat.S_ISDIR(found.st_mode) else found.st_size


@cases(
    Case("a file", OK, lambda root: opened(root / "file", os.O_RDONLY)),
    Case("a file through a link", OK, lambda root: opened(root / "link", os.O_RDWR)),
    Case("a file below a link", OK, lambda root: opened(root / "dirlink/inner", os.O_RDONLY)),
    Case("a new file", OK, lambda root: opened(root / "new", CREATE, 0o600)),
    Case("a new file without any permission", OK, lambda root: opened(root / "new", os.O_RDWR | os.O_CREAT, 0)),
    Case("a new file through a link that leads nowhere", OK, lambda root: opened(root / "dangling", CREATE)),
    Case("a file that may be made and is there", OK, lambda root: opened(root / "file", CREATE, 0o600)),
    Case("a file is emptied", OK, lambda root: opened(root / "file", WRITE | os.O_TRUNC)),
    Case("a file is emptied for reading", OK, lambda root: opened(root / "file", os.O_RDONLY | os.O_TRUNC)),
    Case("a directory", OK, lambda root: opened(root / "dir", os.O_RDONLY | os.O_DIRECTORY)),
    Case("a path only", OK, lambda root: opened(root / "link", os.O_PATH | os.O_NOFOLLOW)),
    Case("a fifo without waiting", OK, lambda root: opened(root / "fifo", os.O_RDONLY | os.O_NONBLOCK)),
    Case("a file past the page cache", OK, lambda root: opened(root / "file", os.O_RDONLY | os.O_DIRECT)),
    Case("a file without noting the time", OK, lambda root: opened(root / "file", os.O_RDONLY | os.O_NOATIME)),
    Case("a file whose writes wait for the disk", OK, lambda root: opened(root / "file", WRITE | os.O_SYNC)),
    Case("nothing there", errno.ENOENT, lambda root: opened(root / "none", os.O_RDONLY)),
    Case("no directory on the way", errno.ENOENT, lambda root: opened(root / "none/x", CREATE)),
    Case("a link that leads nowhere", errno.ENOENT, lambda root: opened(root / "dangling", os.O_RDONLY)),
    Case("the empty path", errno.ENOENT, lambda root: os.open("", os.O_RDONLY)),
    Case("a file on the way", errno.ENOTDIR, lambda root: opened(root / "file/x", os.O_RDONLY)),
    Case("a file with a slash", errno.ENOTDIR, lambda root: os.open(f"{root}/file/", os.O_RDONLY)),
    Case("a file as a directory", errno.ENOTDIR, lambda root: opened(root / "file", os.O_RDONLY | os.O_DIRECTORY)),
    Case("a directory for writing", errno.EISDIR, lambda root: opened(root / "dir", os.O_RDWR)),
    Case("a directory that may be made", errno.EISDIR, lambda root: opened(root / "dir", os.O_CREAT)),
    Case("a new file with a slash", errno.EISDIR, lambda root: os.open(f"{root}/new/", CREATE)),
    Case("a directory to be emptied", errno.EISDIR, lambda root: opened(root / "dir", WRITE | os.O_TRUNC)),
    Case("o_excl where a file is", errno.EEXIST, lambda root: opened(root / "file", CREATE | os.O_EXCL)),
    Case("o_excl where a link is", errno.EEXIST, lambda root: opened(root / "dangling", CREATE | os.O_EXCL)),
    Case("o_excl where a directory is", errno.EEXIST, lambda root: opened(root / "dir", CREATE | os.O_EXCL)),
    Case("o_excl where a fifo is", errno.EEXIST, lambda root: opened(root / "fifo", CREATE | os.O_EXCL)),
    Case("o_nofollow on a link", errno.ELOOP, lambda root: opened(root / "link", os.O_RDONLY | os.O_NOFOLLOW)),
    Case("a link to itself", errno.ELOOP, lambda root: opened(root / "loop", os.O_RDONLY)),
    Case("a link to itself on the way", errno.ELOOP, lambda root: opened(root / "loop/x", CREATE)),
    Case("a name of 256 bytes", errno.ENAMETOOLONG, lambda root: opened(root / ("x" * 256), CREATE)),
    Case("a path of 4096 bytes", errno.ENAMETOOLONG, lambda root: opened(f"{root}/" + "./" * 2048 + "file", 0)),
    Case("a fifo that nobody reads", errno.ENXIO, lambda root: opened(root / "fifo", WRITE | os.O_NONBLOCK)),
    Case("a socket", errno.ENXIO, lambda root: opened(root / "socket", os.O_RDONLY)),
    Case("making a directory", errno.EINVAL, lambda root: opened(root / "new", os.O_CREAT | os.O_DIRECTORY)),
)
def test_open(both: Both, case: Case) -> None:
    both.check(case)


@cases(
    Case("reading what others may not", errno.EACCES, lambda root: opened(root / "private", os.O_RDONLY), USER),
    Case("writing what others may only read", errno.EACCES, lambda root: opened(root / "file", WRITE), USER),
    Case("making where others may not", errno.EACCES, lambda root: opened(root / "new", CREATE), USER),
    Case("emptying what others may only read", errno.EACCES, lambda root: opened(root / "file", os.O_TRUNC), USER),
    Case("not noting the time of another's", errno.EPERM, lambda root: opened(root / "file", os.O_NOATIME), USER),
    Case("reading what all may read", OK, lambda root: opened(root / "file", os.O_RDONLY), USER),
)
def test_rights_of_others(numeric: Both, case: Case) -> None:
    numeric.check(case)


def test_what_is_made_belongs_to_who_makes_it(numeric: Both) -> None:
    numeric.do(lambda root: root.chmod(0o777))
    for umask in (0, 0o022, 0o077):
        with acting_as(USER, umask=umask):
            numeric.do(lambda root, umask=umask: opened(root / f"f{umask}", CREATE, 0o666))  # type: ignore[misc]
            numeric.do(lambda root, umask=umask: os.mkdir(root / f"d{umask}", 0o777))  # type: ignore[misc]
    found = numeric.same(lambda root: sorted((p.name, p.stat().st_uid, oct(p.stat().st_mode)) for p in root.iterdir()))
    assert ("d63", USER, "0o40700") in found  # type: ignore[operator]
    assert ("f18", USER, "0o100644") in found  # type: ignore[operator]


def test_a_directory_may_hand_its_group_on(numeric: Both) -> None:
    numeric.do(lambda root: os.mkdir(root / "team"))
    numeric.do(lambda root: os.chown(root / "team", 0, 3456))
    numeric.do(lambda root: os.chmod(root / "team", 0o2777))
    with acting_as(USER):
        numeric.do(lambda root: opened(root / "team/f", CREATE))
        numeric.do(lambda root: os.mkdir(root / "team/d"))
    found = numeric.same(
        lambda root: [(p.name, p.stat().st_gid, oct(p.stat().st_mode)) for p in sorted((root / "team").iterdir())]
    )
    assert found == [("d", 3456, "0o42755"), ("f", 3456, "0o100644")]


def test_o_trunc_takes_set_id_bits_away_from_who_is_not_root(numeric: Both) -> None:
    numeric.do(furnish)
    numeric.do(lambda root: os.chown(root / "file", USER, USER))
    numeric.do(lambda root: os.chmod(root / "file", 0o6777))
    with acting_as(USER):
        numeric.do(lambda root: opened(root / "file", WRITE | os.O_TRUNC))
    assert numeric.same(lambda root: oct(os.stat(root / "file").st_mode)) == "0o100777"


@pytest.mark.parametrize("flags", [os.O_APPEND, os.O_APPEND | os.O_RDWR])
def test_o_append_writes_at_the_end_wherever_one_stands(both: Both, flags: int) -> None:
    def call(root: Path) -> object:
        with descriptor(root / "file", flags | os.O_WRONLY if flags == os.O_APPEND else flags) as fd:
            os.lseek(fd, 2, os.SEEK_SET)
            os.write(fd, b"abc")
            os.ftruncate(fd, 4)
            os.write(fd, b"d")
            return os.lseek(fd, 0, os.SEEK_CUR), (root / "file").read_bytes()

    both.do(furnish)
    assert both.same(call) == (5, b"0123d")


def test_appends_of_many_processes_are_all_there(both: Both) -> None:
    program = "import os,sys\nfor n in range(50):\n fd=os.open(sys.argv[1],os.O_WRONLY|os.O_APPEND)\n"
    program += " os.write(fd,f'{sys.argv[2]} {n}\\n'.encode())\n os.close(fd)\n"
    log = both.mount / "log"
    log.touch()
    writers = [subprocess.Popen([sys.executable, "-c", program, str(log), str(number)]) for number in range(4)]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    assert sorted(log.read_text().splitlines()) == sorted(f"{w} {n}" for w in range(4) for n in range(50))


def test_the_program_that_runs_cannot_be_written_to(both: Both) -> None:
    def call(root: Path) -> object:
        program = root / "sleep"
        program.write_bytes(Path("/bin/sleep").read_bytes())
        program.chmod(0o755)
        with subprocess.Popen([str(program), "60"]) as running:
            code = code_of(lambda: opened(program, WRITE))
            running.kill()
        return code

    assert both.same(call) == errno.ETXTBSY


def test_files_without_a_name_are_not_to_be_had(both: Both) -> None:
    assert code_of(lambda: opened(both.mount, os.O_TMPFILE | os.O_RDWR)) == errno.EOPNOTSUPP


def test_a_mount_for_reading_refuses_every_opening_for_writing(places: Places, both: Both) -> None:
    furnish(both.mount)
    point = places.box.root / ("ro" + both.mount.name)
    point.mkdir()
    assert places.box.run("paddle", "mount", "-o", "ro", str(point)).returncode == 0
    try:
        home = point / "dc1/home/demo" / both.mount.name
        assert (home / "file").read_bytes() == b"0123456789"
        for call in (
            lambda: opened(home / "file", WRITE),
            lambda: opened(home / "new", CREATE),
            lambda: os.mkdir(home / "new"),
            lambda: os.unlink(home / "file"),
            lambda: os.utime(home / "file"),
            lambda: os.setxattr(home / "file", "user.x", b""),
        ):
            assert code_of(call) == errno.EROFS
    finally:
        assert places.box.run("paddle", "umount", str(point)).returncode == 0
