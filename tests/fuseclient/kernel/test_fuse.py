"""Requests and answers in the kernel's terms, without a kernel."""

import errno
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest
import trio
import trio.testing

from fuseclient.cache.filesystem import CachedFileSystem
from fuseclient.kernel import fuse
from fuseclient.kernel.fuse import MOMENT_S, Operations, answered
from fuseclient.kernel.held import Interrupted
from fuseclient.kernel.identity import Identity, Ids
from fuseclient.kernel.inodes import ROOT
from fuseclient.kernel.ops import Ops
from pfs.api import Attr, Owner
from pfs.errors import Kind, PfsError
from tests.fuseclient.asking import MOUNTER, Kernel
from tests.fuseclient.cache.test_coherence import leasing
from tests.fuseclient.cache.test_filesystem import Server

Run = Callable[[Callable[[], Awaitable[object]]], object]
DC1 = ROOT + 1
CONTEXT: Any = SimpleNamespace(pid=os.getpid(), uid=2000, gid=2001, umask=0)


class Mounted:
    """The handlers over file systems in memory."""

    def __init__(self, ids: Ids = Ids.SQUASHED) -> None:
        self.kernel = Kernel(ids)
        self.fs = self.kernel.fs
        self.operations = Operations(self.kernel.ops)


async def errno_of(asked: Awaitable[object]) -> int | None:
    try:
        await asked
    except pyfuse3.FUSEError as error:
        return error.errno
    return None


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (PfsError(Kind.QUOTA), errno.EDQUOT),
        (PfsError(Kind.UNREACHABLE), errno.ETIMEDOUT),
        (Interrupted(), errno.EINTR),
        (ValueError("a defect"), errno.EIO),
        (ExceptionGroup("defects", [KeyError(1)]), errno.EIO),
    ],
)
def test_whatever_is_raised_the_kernel_gets_an_errno(run: Run, raised: Exception, code: int) -> None:
    @answered
    async def handler(operations: Operations) -> None:
        assert operations.busy == 1
        raise raised

    async def main() -> None:
        operations = Mounted().operations
        assert await errno_of(handler(operations)) == code
        assert operations.busy == 0

    run(main)


def test_only_a_defect_is_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        mounted = Mounted()
        await errno_of(mounted.operations.lookup(DC1, b"missing", CONTEXT))
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
        mounted.fs.fail("getattr", None)
        await errno_of(mounted.operations.lookup(DC1, b"missing", CONTEXT))
        assert "a defect" in caplog.text

    run(main)


def test_a_server_that_never_answers_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        mounted = Mounted()
        mounted.fs.delay_s = 10_000
        assert await errno_of(mounted.operations.lookup(DC1, b"f", CONTEXT)) == errno.ETIMEDOUT
        assert trio.current_time() < 100

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_stream_is_not_given_up() -> None:
    async def main() -> None:
        mounted = Mounted()
        mounted.fs.put("log", stream=True)
        fh = await mounted.kernel.open("dc1/log")
        with trio.move_on_after(10_000) as scope:
            await mounted.operations.read(fh, 0, 10)
        assert scope.cancelled_caught

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_attributes_are_squashed_and_as_long_valid_as_the_server_says(run: Run) -> None:
    async def main() -> None:
        mounted = Mounted()
        mounted.fs.put("f", b"x" * 513)
        mounted.fs.valid_s = 2.5
        found = await mounted.operations.lookup(DC1, b"f", CONTEXT)
        assert stat.S_ISREG(found.st_mode)
        assert (stat.S_IMODE(found.st_mode), Owner(found.st_uid, found.st_gid)) == (0o644, MOUNTER)
        assert (found.st_size, found.st_blocks, found.st_nlink) == (513, 8, 1)
        assert (found.entry_timeout, found.attr_timeout) == (2.5, 2.5)
        assert found.st_mtime_ns == mounted.fs.find("f").mtime_ns

    run(main)


@pytest.mark.parametrize(("stream", "size"), [(True, 0), (False, 3)])
def test_what_changes_by_itself_is_kept_for_the_moment_of_its_opening_only(run: Run, stream: bool, size: int) -> None:
    async def main() -> None:
        mounted = Mounted()
        mounted.fs.put("f", b"abc", stream=stream, volatile=True)
        found = await mounted.operations.lookup(DC1, b"f", CONTEXT)
        assert (found.entry_timeout, found.attr_timeout, found.st_size) == (0, MOMENT_S, size)
        assert found.st_blocks == (size > 0)
        opened = await mounted.operations.open(found.st_ino, os.O_RDONLY, CONTEXT)
        assert (opened.direct_io, opened.keep_cache, opened.nonseekable) == (True, False, False)

    run(main)


def test_who_opens_what_has_changed_since_it_was_looked_up_is_not_told_its_former_size(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        forgotten: list[int] = []
        monkeypatch.setattr(fuse, "forget_attributes", forgotten.append)
        mounted = Mounted()
        mounted.fs.put("f", b"abc", volatile=True)
        inode = (await mounted.operations.lookup(DC1, b"f", CONTEXT)).st_ino
        await mounted.operations.open(inode, os.O_RDONLY, CONTEXT)
        assert not forgotten
        mounted.fs.put("f", b"abcd", volatile=True)
        await mounted.operations.open(inode, os.O_RDONLY, CONTEXT)
        assert forgotten == [inode]

    run(main)


def test_a_directory_of_changing_names_is_walked_through_without_asking_for_it_each_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        mounted = Mounted()
        mounted.fs.put("jobs/1")
        real = mounted.fs.getattr

        async def getattr_(path: str) -> Attr:
            return replace(await real(path), volatile=True, valid_s=1.0)

        monkeypatch.setattr(mounted.fs, "getattr", getattr_)
        found = await mounted.operations.lookup(DC1, b"jobs", CONTEXT)
        assert (found.entry_timeout, found.attr_timeout) == (1.0, 1.0)

    run(main)


def test_numbers_and_all_bits_are_carried_through(run: Run) -> None:
    async def main() -> None:
        mounted = Mounted(Ids.NUMERIC)
        made = await mounted.operations.mkdir(DC1, b"d", 0o1777, CONTEXT)
        assert (made.st_mode, made.st_uid, made.st_gid) == (stat.S_IFDIR | 0o1777, 2000, 2001)
        root = await mounted.operations.getattr(ROOT, CONTEXT)
        assert Owner(root.st_uid, root.st_gid) == MOUNTER

    run(main)


@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK])
def test_special_files_are_shown_as_what_they_are(run: Run, kind: int) -> None:
    async def main() -> None:
        mounted = Mounted()
        made = await mounted.operations.mknod(DC1, b"f", kind | 0o640, 0, CONTEXT)
        assert made.st_mode == kind | 0o640
        assert (await mounted.operations.lookup(DC1, b"f", CONTEXT)).st_mode == made.st_mode

    run(main)


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_devices_are_refused(run: Run, kind: int) -> None:
    async def main() -> None:
        assert await errno_of(Mounted().operations.mknod(DC1, b"f", kind | 0o640, 0, CONTEXT)) == errno.EPERM

    run(main)


def test_extended_attributes_are_bytes(run: Run) -> None:
    async def main() -> None:
        mounted = Mounted()
        mounted.fs.put("f")
        number = (await mounted.operations.lookup(DC1, b"f", CONTEXT)).st_ino
        await mounted.operations.setxattr(number, b"user.\xff", b"\0\xff", CONTEXT)
        assert await mounted.operations.listxattr(number, CONTEXT) == [b"user.\xff"]
        assert await mounted.operations.getxattr(number, b"user.\xff", CONTEXT) == b"\0\xff"
        await mounted.operations.removexattr(number, b"user.\xff", CONTEXT)
        assert await errno_of(mounted.operations.getxattr(number, b"user.\xff", CONTEXT)) == pyfuse3.ENOATTR

    run(main)


@pytest.mark.parametrize("there", [False, True])
def test_what_setxattr_may_do_is_asked_of_the_server_too(run: Run, there: bool) -> None:
    """pyfuse3 looks first for who wants CREATE or REPLACE, with the same context; others come between."""

    async def main() -> None:
        mounted = Mounted()
        node = mounted.fs.put("f")
        number = (await mounted.operations.lookup(DC1, b"f", CONTEXT)).st_ino
        if there:
            node.xattrs["user.x"] = b"old"
        context: Any = SimpleNamespace(**vars(CONTEXT))
        looked = await errno_of(mounted.operations.getxattr(number, b"user.x", context))
        assert looked == (None if there else pyfuse3.ENOATTR)
        node.xattrs = {} if there else {"user.x": b"theirs"}
        refused = await errno_of(mounted.operations.setxattr(number, b"user.x", b"mine", context))
        assert refused == (pyfuse3.ENOATTR if there else errno.EEXIST)
        other: Any = SimpleNamespace(**vars(CONTEXT))
        assert await errno_of(mounted.operations.setxattr(number, b"user.x", b"either", other)) is None

    run(main)


def test_names_that_are_no_text_go_both_ways(run: Run) -> None:
    async def main() -> None:
        mounted = Mounted()
        made = await mounted.operations.symlink(DC1, b"\xff", b"\xfe/x", CONTEXT)
        assert mounted.fs.find("\udcff").target == "\udcfe/x"
        assert await mounted.operations.readlink(made.st_ino, CONTEXT) == b"\xfe/x"

    run(main)


def test_forgetting_never_fails(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        mounted = Mounted()
        await mounted.operations.forget([(4711, 3), (DC1, 1)])
        assert caplog.records == []
        await mounted.operations.forget(None)  # type: ignore[arg-type]
        assert "forget failed" in caplog.text

    run(main)


# -- at once ---------------------------------------------------------------------------------------------------------


class Cached:
    """The handlers over copies of a leasing server's directory `d` with one small file, which the kernel knows."""

    def __init__(self) -> None:
        self.server = Server()
        self.server.put("d/f", b"text")
        self.fs = CachedFileSystem(self.server, trio.current_time)
        self.ops = Ops({"dc1": self.fs}, Identity(Ids.SQUASHED, MOUNTER))
        self.operations = Operations(self.ops)
        self.stored: list[tuple[int, int, bytes]] = []

    async def known(self, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
        """Return what the kernel calls directory and file, when all of them is known here."""
        monkeypatch.setattr(pyfuse3, "notify_store", lambda *stored: self.stored.append(stored))
        await self.fs.listdir("")
        await self.fs.listdir("d")
        await self.fs.read_ahead_of("d/f", await self.fs.getattr("d/f"))
        directory = (await self.operations.lookup(DC1, b"d", CONTEXT)).st_ino
        return directory, (await self.operations.lookup(directory, b"f", CONTEXT)).st_ino


def cached(test: Callable[[Cached, pytest.MonkeyPatch], Awaitable[None]]) -> Callable[[pytest.MonkeyPatch], None]:
    """Run a test with `Cached`."""

    def run(monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> None:
            mounted = Cached()
            async with trio.open_nursery() as mounted.fs.nursery:
                await test(mounted, monkeypatch)

        with leasing():
            trio.run(main)

    run.__name__ = test.__name__
    return run


def at_once(asked: Coroutine[Any, Any, Any]) -> Any:
    """Return the answer to what needs nobody else."""
    with pytest.raises(StopIteration) as caught:
        asked.send(None)
    return caught.value.value


@cached
async def test_what_is_known_is_answered_without_the_scheduler(
    mounted: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, file = await mounted.known(monkeypatch)
    do: Any = mounted.operations
    mounted.server.asked.clear()
    assert at_once(do.lookup(directory, b"f", CONTEXT)).st_ino == file
    assert at_once(do.getattr(file, CONTEXT)).st_size == 4
    assert at_once(do.getattr(ROOT, CONTEXT)).st_ino == ROOT
    fh = at_once(do.open(file, os.O_RDONLY, CONTEXT)).fh
    assert at_once(do.read(fh, 1, 2)) == b"ex"
    at_once(do.flush(fh))
    at_once(do.release(fh))
    directory_fh = at_once(do.opendir(directory, CONTEXT))
    monkeypatch.setattr(pyfuse3, "readdir_reply", lambda token, name, entry, offset: bool(token.append(name)) or True)
    token: list[bytes] = []
    at_once(do.readdir(directory_fh, 0, token))
    assert token == [b".", b"..", b"f"]
    at_once(do.releasedir(directory_fh))
    assert not mounted.server.asked
    assert len(mounted.ops.tree.handles) == 0


@cached
async def test_what_is_known_not_to_be_there_is_answered_without_the_scheduler(
    mounted: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, _ = await mounted.known(monkeypatch)
    asked: Any = mounted.operations.lookup(directory, b"missing", CONTEXT)
    with pytest.raises(pyfuse3.FUSEError) as caught:
        asked.send(None)
    assert caught.value.errno == errno.ENOENT


@cached
async def test_what_has_not_changed_is_told_with_the_same_attributes(
    mounted: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file = await mounted.known(monkeypatch)
    first = await mounted.operations.getattr(file, CONTEXT)
    assert await mounted.operations.getattr(file, CONTEXT) is first
    mounted.ops.tree.inodes.touch(file)
    assert await mounted.operations.getattr(file, CONTEXT) is not first


@cached
async def test_attributes_are_kept_in_the_form_of_the_kernel_for_no_more_than_so_many_files(
    mounted: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuseclient.kernel.fuse.SHOWN_MAX", 3)
    directory, _ = await mounted.known(monkeypatch)
    for number in range(10):
        mounted.server.put(f"d/more/f{number}", b"text")
    await mounted.fs.broken([mounted.server.find("d").node_id], [])
    more = await mounted.operations.lookup(directory, b"more", CONTEXT)
    inodes = mounted.ops.tree.inodes
    for number in range(10):
        entry = await mounted.operations.lookup(more.st_ino, b"f%d" % number, CONTEXT)
        assert (await mounted.operations.getattr(entry.st_ino, CONTEXT)).st_size == 4
        told = [inodes.get(each).told for each in inodes.numbers("dc1")]
        assert 0 < sum(node is not None and node.shown is not None for node in told) <= 3


@cached
async def test_the_first_opening_gives_the_kernel_all_bytes_of_a_small_file(
    mounted: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file = await mounted.known(monkeypatch)
    for _ in range(2):
        opened = await mounted.operations.open(file, os.O_RDONLY, CONTEXT)
        assert opened.keep_cache
        await mounted.operations.release(opened.fh)
    assert mounted.stored == [(file, 0, b"text")]


@cached
async def test_bytes_that_the_kernel_may_have_are_not_given_to_it(
    mounted: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file = await mounted.known(monkeypatch)
    opened = await mounted.operations.open(file, os.O_RDONLY, CONTEXT)
    mounted.server.put("d/f", b"longer text")
    await mounted.fs.broken([mounted.server.find("d/f").node_id], [])
    mounted.ops.tree.inodes.broken(file)
    mounted.stored.clear()
    monkeypatch.setattr(pyfuse3, "invalidate_inode", lambda inode, attr_only: None)
    again = await mounted.operations.open(file, os.O_RDONLY, CONTEXT)
    assert (again.keep_cache, mounted.stored) == (False, [])
    for fh in (opened.fh, again.fh):
        await mounted.operations.release(fh)


@cached
async def test_a_kernel_that_does_not_take_bytes_asks_for_them(
    mounted: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file = await mounted.known(monkeypatch)

    def refuse(*stored: object) -> None:
        raise OSError(errno.ENOENT, "it is not known")

    monkeypatch.setattr(pyfuse3, "notify_store", refuse)
    assert not (await mounted.operations.open(file, os.O_RDONLY, CONTEXT)).keep_cache
