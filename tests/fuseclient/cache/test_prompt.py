"""What is answered from copies without waiting, and what is left to those who can wait."""

from dataclasses import replace

import pytest

from fuseclient.cache.file import CachedFile
from fuseclient.cache.filesystem import CachedFileSystem
from fuseclient.cache.tree import SMALL_BYTES_MAX
from pfs.api import Attr
from pfs.errors import Kind, PfsError
from tests.fuseclient.cache.test_filesystem import READ, WRITE, Server, scenario

PATH = "d/f000"


async def known(fs: CachedFileSystem) -> Attr:
    """Fetch the directory; return what stands at PATH."""
    await fs.listdir("")
    await fs.listdir("d")
    return await fs.getattr(PATH)


@scenario
async def test_attributes_are_told_once_the_whole_way_is_known(server: Server, fs: CachedFileSystem) -> None:
    assert fs.attr_at_once(PATH) is None
    attr = await known(fs)
    server.asked.clear()
    assert fs.attr_at_once(PATH) is attr
    assert not server.asked


@scenario
async def test_what_is_not_in_a_known_directory_is_not_there(server: Server, fs: CachedFileSystem) -> None:
    await known(fs)
    for ask in (fs.attr_at_once, fs.listing_at_once):
        with pytest.raises(PfsError) as caught:
            ask("d/missing")
        assert caught.value.kind is Kind.NOT_FOUND


@scenario
async def test_a_listing_is_told_once_it_was_fetched(server: Server, fs: CachedFileSystem) -> None:
    assert fs.listing_at_once("d") is None
    await known(fs)
    assert fs.listing_at_once("d") == await fs.listdir("d")


@scenario
async def test_nothing_is_told_while_the_server_is_not_heard_or_after_a_lease_has_ended(
    server: Server, fs: CachedFileSystem
) -> None:
    attr = await known(fs)
    server.heard = False
    assert (fs.attr_at_once(PATH), fs.listing_at_once("d")) == (None, None)
    server.heard = True
    await fs.broken([attr.node_id], [])
    assert (fs.attr_at_once(PATH), fs.listing_at_once("d")) == (None, None)


@scenario
async def test_a_small_file_is_opened_when_its_bytes_are_here_or_in_the_kernel(
    server: Server, fs: CachedFileSystem
) -> None:
    attr = await known(fs)
    version = attr.size, attr.mtime_ns, attr.ctime_ns
    assert fs.open_at_once(PATH, attr, None) is None
    assert fs.open_at_once(PATH, attr, (0, 0, 0)) is None
    assert fs.open_at_once(PATH, attr, version) is not None
    await (await fs.open(PATH, READ, 0)).release()
    file = fs.open_at_once(PATH, attr, None)
    assert isinstance(file, CachedFile)
    assert [file.read_at_once(0, 100), file.read_at_once(2, 2), file.read_at_once(9, 9)] == [b"text 0", b"xt", b""]
    assert set(server.asked) == {"getattr", "listdir", "contents"}, "the server never opened it"


@scenario
async def test_a_large_file_is_opened_and_not_read_at_once(server: Server, fs: CachedFileSystem) -> None:
    server.put(PATH, bytes(SMALL_BYTES_MAX + 1))
    attr = await known(fs)
    file = fs.open_at_once(PATH, attr, None)
    assert isinstance(file, CachedFile)
    assert file.read_at_once(0, 10) is None
    assert await file.read(0, 10) == bytes(10)
    assert not file.release_at_once(), "the server has opened it for reading"


@scenario
async def test_what_is_not_leased_or_no_file_is_not_opened(server: Server, fs: CachedFileSystem) -> None:
    attr = await known(fs)
    version = attr.size, attr.mtime_ns, attr.ctime_ns
    assert fs.open_at_once(PATH, replace(attr, leased=False), version) is None
    assert fs.open_at_once("d", await fs.getattr("d"), None) is None


@scenario
async def test_an_open_file_that_only_this_mount_knows_ends_at_once(server: Server, fs: CachedFileSystem) -> None:
    await known(fs)
    file = await fs.open(PATH, READ, 0)
    assert isinstance(file, CachedFile)
    assert file.release_at_once()
    await fs.broken([file.node_id], [])
    assert "open" not in server.asked, "it is not open any more"


@scenario
async def test_an_open_file_with_unsent_bytes_does_not_end_at_once(server: Server, fs: CachedFileSystem) -> None:
    await known(fs)
    file = await fs.open(PATH, WRITE, 0)
    assert isinstance(file, CachedFile)
    await file.write(0, b"new")
    assert not file.release_at_once()
    await file.release()
    assert server.find(PATH).data.read(0, 3) == b"new"
