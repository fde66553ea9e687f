"""Every number of the status, counted over a tree in memory."""

import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
import trio.testing

from fuseclient.behind.making import MakingFileSystem
from fuseclient.behind.sending import BehindStatus
from fuseclient.cache.blocks import BlockCache
from fuseclient.kernel.fuse import Operations
from fuseclient.kernel.inodes import ROOT
from fuseclient.report import REFUSED_MAX, Reporter, own_version
from fuseclient.status import Blocks, Rate, Status
from pfs.api import Closing, OpenFlags, Standing
from tests.fuseclient.asking import Kernel
from tests.fuseclient.cache.test_filesystem import Server, scenario_of
from tests.fuseclient.kernel.test_fuse import CONTEXT, errno_of

scenario = scenario_of(MakingFileSystem)


def told(fs: MakingFileSystem, blocks: BlockCache | None = None) -> Status:
    """Return the status of a mount of this file system."""
    kernel = Kernel()
    return Reporter(kernel.ops, Operations(kernel.ops), {"dc1": fs}, blocks, "ro", trio.current_time() - 90).status()


@scenario
async def test_a_new_mount_has_done_nothing(server: Server, fs: MakingFileSystem) -> None:
    status = told(fs)
    assert (status.version, status.pid, status.mounted_s, status.options) == (own_version(), os.getpid(), 90.0, "ro")
    assert (status.open_files, status.read_bytes, status.written_bytes, status.blocks) == (0, 0, 0, None)
    dc1 = status.servers["dc1"]
    assert (dc1.url, dc1.connected, dc1.leases) == ("memory:", True, 0)
    assert dc1.attributes == dc1.listings == dc1.contents == Rate(0, 0)
    assert (dc1.fetched_bytes, dc1.sent_bytes, dc1.waiting_bytes, dc1.waiting_operations) == (0, 0, 0, 0)


@scenario
async def test_who_is_away_is_away_since_then(server: Server, fs: MakingFileSystem) -> None:
    await fs.listdir("d")
    server.standing = lambda: Standing("https://dc1", False, 7.0, True)  # type: ignore[method-assign]
    server.heard = False
    dc1 = told(fs).servers["dc1"]
    assert (dc1.url, dc1.connected, dc1.since_s, dc1.leases) == ("https://dc1", False, 7.0, 0)


@scenario
async def test_what_copies_answer_is_a_hit(server: Server, fs: MakingFileSystem) -> None:
    for path in ("", "d"):
        await fs.listdir(path)
    before = told(fs).servers["dc1"]
    for _ in range(3):
        await fs.listdir("d")
        await fs.getattr("d/f000")
    after = told(fs).servers["dc1"]
    assert after.leases >= 300
    assert after.listings == Rate(before.listings.hits + 3, before.listings.asked + 3)
    assert after.attributes == Rate(before.attributes.hits + 3, before.attributes.asked + 3)
    fs.returned()
    await fs.listdir("d")
    assert told(fs).servers["dc1"].listings == Rate(after.listings.hits, after.listings.asked + 1)


@scenario
async def test_the_content_of_small_files_is_fetched_once(server: Server, fs: MakingFileSystem) -> None:
    await fs.listdir("d")
    for _ in range(2):
        file = await fs.open("d/f000", OpenFlags.READ, 0)
        assert await file.read(0, 100) == b"text 0"
        await file.release()
    dc1 = told(fs).servers["dc1"]
    assert (dc1.contents, dc1.fetched_bytes) == (Rate(1, 2), len(b"text 0"))


@scenario
async def test_what_was_written_waits_until_the_server_has_it(server: Server, fs: MakingFileSystem) -> None:
    file = await fs.open("d/new", OpenFlags.WRITE | OpenFlags.CREATE, 0o644)
    await file.write(0, b"x" * 10)
    await trio.testing.wait_all_tasks_blocked()
    await file.write(10, b"y" * 20)
    waiting = told(fs).servers["dc1"]
    assert (waiting.waiting_bytes, waiting.waiting_operations) == (20, 1)
    await file.flush(Closing.LAST)
    done = told(fs).servers["dc1"]
    assert (done.waiting_bytes, done.waiting_operations, done.sent_bytes) == (0, 0, 30)
    await file.release()


@scenario
async def test_what_was_promised_and_not_taken_is_told(server: Server, fs: MakingFileSystem) -> None:
    failed = tuple((f"home/ann/f{number}", "the disk is full") for number in range(REFUSED_MAX + 1))
    fs.behind_status = lambda: BehindStatus(7, 4096, failed, 2)  # type: ignore[method-assign]
    dc1 = told(fs).servers["dc1"]
    assert (dc1.refused[0], len(dc1.refused), dc1.conflicts) == ("home/ann/f0: the disk is full", REFUSED_MAX, 2)


@scenario
async def test_the_cache_on_disk_tells_of_its_room(server: Server, fs: MakingFileSystem) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        blocks = BlockCache(str(Path(folder) / "cache"), 1 << 20)
        try:
            assert told(fs, blocks).blocks == Blocks(Rate(0, 0), 0, 1 << 20)
        finally:
            blocks.close()


def test_the_root_tells_it_and_nothing_else_does(run: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
    async def main() -> None:
        kernel = Kernel()
        operations = Operations(kernel.ops)
        operations.status = lambda: b"how it stands"
        assert await operations.getxattr(ROOT, b"user.pfs.status", CONTEXT) == b"how it stands"
        assert await operations.listxattr(ROOT, CONTEXT) == []
        datacenter = (await kernel.walk("dc1")).number
        assert await errno_of(operations.getxattr(datacenter, b"user.pfs.status", CONTEXT)) == errno.ENODATA
        assert await errno_of(operations.getxattr(ROOT, b"user.other", CONTEXT)) == errno.ENODATA
        assert "getxattr" not in kernel.fs.calls

    run(main)


def test_what_goes_through_the_mount_is_counted(run: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
    async def main() -> None:
        kernel = Kernel()
        operations = Operations(kernel.ops)
        fh = await kernel.create("dc1/f")
        assert await operations.write(fh, 0, b"12345") == 5
        assert await operations.read(fh, 0, 100) == b"12345"
        assert await operations.read(fh, 3, 100) == b"45"
        assert (operations.traffic.written_bytes, operations.traffic.read_bytes) == (5, 7)
        await kernel.close(fh)

    run(main)
