"""mknod(2), mkfifo(3), bind(2) of a socket: what is no file, directory or link."""

import errno
import os
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from integration.functional.places import OK, USER, Both, Case, acting_as, cases, code_of, furnish


def made(root: Path, name: str, mode: int) -> object:
    os.mknod(root / name, mode)
    found = os.lstat(root / name)
    return stat.filemode(found.st_mode), found.st_size, found.st_rdev, found.st_nlink


@cases(
    Case("a fifo", OK, lambda root: made(root, "new", stat.S_IFIFO | 0o640)),
    Case("a socket", OK, lambda root: made(root, "new", stat.S_IFSOCK | 0o600)),
    Case("a file", OK, lambda root: made(root, "new", stat.S_IFREG | 0o604)),
    Case("without a type", OK, lambda root: made(root, "new", 0o600)),
    Case("a name of 255 bytes", OK, lambda root: made(root, "x" * 255, stat.S_IFIFO | 0o600)),
    Case("a directory", errno.EPERM, lambda root: made(root, "new", stat.S_IFDIR | 0o700)),
    Case("a link", errno.EINVAL, lambda root: made(root, "new", stat.S_IFLNK | 0o700)),
    Case("where a file is", errno.EEXIST, lambda root: made(root, "file", stat.S_IFIFO | 0o600)),
    Case("where a link to nowhere is", errno.EEXIST, lambda root: made(root, "dangling", stat.S_IFIFO | 0o600)),
    Case("below nothing", errno.ENOENT, lambda root: made(root, "none/x", stat.S_IFIFO | 0o600)),
    Case("below a file", errno.ENOTDIR, lambda root: made(root, "file/x", stat.S_IFIFO | 0o600)),
    Case("a name of 256 bytes", errno.ENAMETOOLONG, lambda root: made(root, "x" * 256, stat.S_IFIFO | 0o600)),
    Case("a loop on the way", errno.ELOOP, lambda root: made(root, "loop/x", stat.S_IFIFO | 0o600)),
)
def test_mknod(both: Both, case: Case) -> None:
    both.check(case)


@cases(Case("where one may not", errno.EACCES, lambda root: made(root, "new", stat.S_IFIFO | 0o600), USER))
def test_rights_of_others(numeric: Both, case: Case) -> None:
    numeric.check(case)


def test_devices_are_not_for_users_anywhere(numeric: Both) -> None:
    numeric.do(lambda root: root.chmod(0o777))
    with acting_as(USER):
        assert numeric.same(lambda root: os.mknod(root / "new", stat.S_IFCHR | 0o600, os.makedev(1, 3))) == "EPERM"


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_devices_are_refused_also_to_root(both: Both, kind: int) -> None:
    assert code_of(lambda: os.mknod(both.mount / "null", kind | 0o666, os.makedev(1, 3))) == errno.EPERM
    assert os.listdir(both.mount) == []


def test_a_fifo_connects_two_programs(both: Both) -> None:
    fifo = both.mount / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE) as reader:
        fifo.write_bytes(b"through the fifo" * 1000)
        assert reader.communicate(timeout=60)[0] == b"through the fifo" * 1000
    assert os.stat(fifo).st_size == 0


def test_a_socket_connects_two_programs(both: Both) -> None:
    before = os.open(".", os.O_RDONLY)
    os.chdir(both.mount)  # the path of a socket has room for 107 letters
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("socket")
            server.listen()
            answer = threading.Thread(target=_say_hello, args=(server,))
            answer.start()
            client.connect("socket")
            assert client.recv(10) == b"hello"
            answer.join()
            assert stat.S_ISSOCK(os.stat("socket").st_mode)
            with socket.socket(socket.AF_UNIX) as second:
                assert code_of(lambda: second.bind("socket")) == errno.EADDRINUSE
    finally:
        os.fchdir(before)
        os.close(before)


def _say_hello(server: socket.socket) -> None:
    with server.accept()[0] as connection:
        connection.sendall(b"hello")


def test_who_connects_to_a_socket_nobody_listens_at_is_refused(both: Both) -> None:
    def call(root: Path) -> object:
        furnish(root)
        before = os.open(".", os.O_RDONLY)
        os.chdir(root)
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("socket")
                return "connected"
        finally:
            os.fchdir(before)
            os.close(before)

    assert both.same(call) == "ECONNREFUSED"
