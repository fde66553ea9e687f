"""The connection behind a mount, with a pair of sockets for the kernel and the real libfuse."""

import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pyfuse3
import pytest
import trio

from fuseclient import mountpoints
from fuseclient.kernel import session
from fuseclient.kernel.negotiation import Feature
from fuseclient.kernel.session import PlainSession, Session, connect
from pfs.errors import Kind, PfsError

OPTIONS = {"fsname=pfs", "subtype=pfs", "default_permissions", "nosuid", "nodev"}
SUPPORTED = (1 << 30) | Feature.PARALLEL_DIROPS | Feature.DIRECT_IO_ALLOW_MMAP | Feature.HANDLE_KILLPRIV_V2 | 1 << 13
GETATTR, INIT = 3, 26
Run = Callable[[Callable[[], Awaitable[object]]], object]


class Operations(pyfuse3.Operations):  # type: ignore[misc]
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino, entry.st_uid = inode, 77
        return entry


class Kernel:
    """The other side of the device, and what was mounted and unmounted."""

    def __init__(self) -> None:
        self.side, self._device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.side.settimeout(10)
        self.mounted: list[tuple[Any, ...]] = []
        self.unmounted: list[tuple[str, bool]] = []
        self.plain: list[str] = []

    def mount(self, point: str, *how: Any) -> int:
        self.mounted.append((point, *how))
        self.ask(INIT, struct.pack("=IIIII44x", 7, 45, 131072, SUPPORTED & 0xFFFF_FFFF, SUPPORTED >> 32))
        return self._device.detach()

    def unmount(self, point: str, *, lazy: bool) -> None:
        self.unmounted.append((point, lazy))

    def ask(self, opcode: int, body: bytes) -> None:
        self.side.send(struct.pack("=IIQQIIII", 40 + len(body), opcode, opcode, 1, 0, 0, 0, 0) + body)

    def hear(self) -> bytes:
        return self.side.recv(4096)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    kernel = Kernel()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(session, "_mount_as_root", kernel.mount)
    monkeypatch.setattr(mountpoints, "unmount", kernel.unmount)
    monkeypatch.setattr(session, "_widen_read_ahead", lambda point: None)
    with kernel.side, kernel._device:
        yield kernel


@pytest.fixture
def libfuse(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """libfuse is only asked to mount, and takes over nothing."""

    def init(operations: Any, point: str, options: set[str]) -> None:
        assert isinstance(options, set)
        if point.startswith("/dev/fd/"):
            raise RuntimeError("fuse_session_mount failed")
        kernel.plain.append(point)

    monkeypatch.setattr(pyfuse3, "init", init)
    return kernel


def flags_of(reply: bytes) -> int:
    return struct.unpack_from("=I", reply, 28)[0] | struct.unpack_from("=I", reply, 48)[0] << 32


async def serve(made: Session | PlainSession, meanwhile: Callable[[], object], **how: bool) -> None:
    """Serve while something is done in a thread."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: made.main(tasks_min=2, tasks_max=5, **how))
        await trio.to_thread.run_sync(meanwhile)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("look_first", [True, False])
@pytest.mark.parametrize("set_id_bits", [True, False])
def test_the_kernel_gets_the_completed_answer_and_then_libfuse_itself(
    kernel: Kernel, run: Run, look_first: bool, set_id_bits: bool
) -> None:
    made = connect(Operations(), "/p", OPTIONS, set_id_bits=set_id_bits)
    said: list[bytes] = []

    def meanwhile() -> None:
        said.append(kernel.hear())
        for _ in range(3):
            kernel.ask(GETATTR, bytes(16))
            said.append(kernel.hear())

    run(lambda: serve(made, meanwhile, look_first=look_first))
    made.close(unmount=True)
    assert bool(flags_of(said[0]) & Feature.HANDLE_KILLPRIV_V2) is not set_id_bits
    assert flags_of(said[0]) & Feature.PARALLEL_DIROPS
    assert [struct.unpack_from("=iQ", reply, 4) for reply in said] == [(0, INIT), *[(0, GETATTR)] * 3]
    assert struct.unpack_from("=I", said[1], 16 + 16 + 68)[0] == 77


def test_it_is_mounted_as_libfuse_would(kernel: Kernel) -> None:
    made = connect(Operations(), "/p", OPTIONS | {"allow_other"}, set_id_bits=False)
    made.close(unmount=False)
    words = {"default_permissions", "nosuid", "nodev", "allow_other"}
    assert kernel.mounted == [("/p", words, "fuse.pfs", "pfs")]


def test_closing_ends_the_connection_before_the_mount_is_taken_away(kernel: Kernel, run: Run) -> None:
    made = connect(Operations(), "/p", OPTIONS, set_id_bits=False)
    run(lambda: serve(made, kernel.hear))
    assert kernel.unmounted == []
    made.close(unmount=True)
    assert kernel.unmounted == [("/p", True)]
    assert kernel.side.recv(1) == b""


def test_closing_leaves_a_mount_that_somebody_else_takes_away(kernel: Kernel, run: Run) -> None:
    made = connect(Operations(), "/p", OPTIONS, set_id_bits=False)
    run(lambda: serve(made, kernel.hear))
    made.close(unmount=False)
    assert kernel.unmounted == []


def test_closing_before_anything_was_agreed_on_leaves_nothing(kernel: Kernel) -> None:
    before = len(os.listdir("/proc/self/fd"))
    made = connect(Operations(), "/p", OPTIONS, set_id_bits=False)
    made.close(unmount=True)
    assert kernel.unmounted == [("/p", True)]
    assert kernel.side.recv(1) == b""
    assert len(os.listdir("/proc/self/fd")) == before - 1  # the device was there before


@pytest.mark.parametrize("kind", [Kind.NOT_FOUND, Kind.DENIED])
def test_a_mount_that_cannot_be_taken_away_is_told_in_the_log_unless_it_is_gone(
    kernel: Kernel, kind: Kind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unmount(point: str, *, lazy: bool) -> None:
        raise PfsError(kind, "cannot unmount /p")

    made = connect(Operations(), "/p", OPTIONS, set_id_bits=False)
    monkeypatch.setattr(mountpoints, "unmount", unmount)
    made.close(unmount=True)
    assert [record.message for record in caplog.records] == ([] if kind is Kind.NOT_FOUND else ["cannot unmount /p"])


def test_libfuse_that_says_nothing_is_not_waited_for(kernel: Kernel, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(*_: int) -> None:
        await trio.sleep_forever()

    made = connect(Operations(), "/p", OPTIONS, set_id_bits=False)
    monkeypatch.setattr(session, "HELLO_S", 0.01)
    monkeypatch.setattr(pyfuse3, "main", main)
    with pytest.raises(PfsError, match="libfuse does not answer") as caught:
        run(lambda: made.main(tasks_min=2, tasks_max=5))
    assert caught.value.kind is Kind.TIMED_OUT
    made.close(unmount=False)


@pytest.mark.parametrize("gone", [True, False])
def test_a_mount_that_is_taken_away_meanwhile_just_ends(
    kernel: Kernel, run: Run, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pyfuse3.main

    async def main(*agreeing: int, **_: int) -> None:
        if agreeing:
            await real(*agreeing)

    made = connect(Operations(), "/p", OPTIONS, set_id_bits=False)
    kernel.side.close()  # nothing can be written to it any more
    monkeypatch.setattr(pyfuse3, "main", main)
    monkeypatch.setattr(session, "_is_gone", lambda _: gone)
    if gone:
        run(lambda: made.main(tasks_min=2, tasks_max=5))
    else:
        with pytest.raises(PfsError, match="does not take the answer"):
            run(lambda: made.main(tasks_min=2, tasks_max=5))
    made.close(unmount=False)


# -- when it is not possible -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [ConnectionAbortedError(errno.ECONNABORTED, "aborted"), OSError(errno.EIO, "broken")])
def test_a_mount_that_is_taken_away_by_force_just_ends(
    run: Run, monkeypatch: pytest.MonkeyPatch, ends: OSError
) -> None:
    async def answer(**tasks: int) -> None:
        raise ExceptionGroup("workers", [ends])

    monkeypatch.setattr(pyfuse3, "main", answer)
    caught: list[BaseException] = []

    async def main() -> None:
        try:
            await PlainSession().main(tasks_min=1, tasks_max=1)
        except* OSError as group:
            caught.extend(group.exceptions)

    run(main)
    assert caught == ([] if isinstance(ends, ConnectionAbortedError) else [ends])


def test_what_libfuse_shall_do_by_itself_it_does(libfuse: Kernel) -> None:
    made = connect(Operations(), "/p", OPTIONS, set_id_bits=False, plain=True)
    assert (type(made), libfuse.plain, libfuse.mounted) == (PlainSession, ["/p"], [])


@pytest.mark.parametrize("option", ["blksize=4096", "auto_unmount", "context=x"])
def test_an_option_that_is_not_known_here_is_for_libfuse(libfuse: Kernel, option: str) -> None:
    made = connect(Operations(), "/p", OPTIONS | {option}, set_id_bits=False)
    assert (type(made), libfuse.plain, libfuse.mounted) == (PlainSession, ["/p"], [])


def test_where_we_cannot_mount_libfuse_may(libfuse: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(session, "_mount_as_root", refuse)
    made = connect(Operations(), "/p", OPTIONS, set_id_bits=False)
    assert (type(made), libfuse.plain, libfuse.unmounted) == (PlainSession, ["/p"], [])


def test_a_mount_that_libfuse_does_not_take_over_is_taken_away_first(libfuse: Kernel) -> None:
    before = len(os.listdir("/proc/self/fd"))
    made = connect(Operations(), "/p", OPTIONS, set_id_bits=False)
    assert (type(made), libfuse.unmounted, libfuse.plain) == (PlainSession, [("/p", True)], ["/p"])
    assert len(os.listdir("/proc/self/fd")) == before - 1  # the device was there before


def test_a_kernel_that_says_nothing_is_not_waited_for(libfuse: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "HELLO_S", 0.01)
    monkeypatch.setattr(libfuse, "ask", lambda *_: None)
    made = connect(Operations(), "/p", OPTIONS, set_id_bits=False)
    assert (type(made), libfuse.unmounted, libfuse.plain) == (PlainSession, [("/p", True)], ["/p"])


# -- ordinary users --------------------------------------------------------------------------------------------------

HELPER = """#!/usr/bin/env python3
import os, socket, sys
open({said!r}, "w").write("\\n".join(sys.argv[1:]))
if {works!r}:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with socket.socket(fileno=int(os.environ["_FUSE_COMMFD"])) as said:
        socket.send_fds(said, [b"x"], [theirs.fileno()])
    ours.send(b"hello")
else:
    sys.exit("fusermount3: user has no write access to mountpoint /p")
"""


@pytest.fixture
def user(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Path]:
    """A user with a fusermount3 that works or not, and says how it was called."""

    def make(works: bool) -> Path:
        helper, said = tmp_path / "fusermount3", tmp_path / "said"
        helper.write_text(HELPER.format(said=str(said), works=works))
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        return said

    return make


def test_a_user_has_fusermount3_mount(user: Callable[[bool], Path], kernel: Kernel) -> None:
    said = user(True)
    made = connect(Operations(), "/p", {"fsname=pfs", "subtype=pfs"}, set_id_bits=False)
    made.close(unmount=True)
    assert said.read_text().split("\n") == ["-o", "fsname=pfs,nodev,nosuid,subtype=pfs", "--", "/p"]
    assert (type(made), kernel.mounted) == (Session, [])


def test_what_fusermount3_refuses_libfuse_may_try(user: Callable[[bool], Path], libfuse: Kernel) -> None:
    user(False)
    made = connect(Operations(), "/p", OPTIONS, set_id_bits=False)
    assert (type(made), libfuse.plain, libfuse.unmounted) == (PlainSession, ["/p"], [])
