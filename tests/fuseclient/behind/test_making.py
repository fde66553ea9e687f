"""New files cost one message, and nobody sees that they are made later."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from fuseclient.behind.making import FIRST_BYTES_MAX, LINGER_S, MakingFileSystem
from pfs.api import Changes, Closing, OpenFile, OpenFlags, RenameMode
from pfs.errors import Kind
from tests.fuseclient.cache.test_coherence import leasing, read
from tests.fuseclient.cache.test_filesystem import Server
from tests.pfs.world import kind_of

READ, WRITE, CREATE = OpenFlags.READ, OpenFlags.WRITE, OpenFlags.CREATE
EXCLUSIVE, TRUNCATE, APPEND = OpenFlags.EXCLUSIVE, OpenFlags.TRUNCATE, OpenFlags.APPEND
NEW = WRITE | CREATE | TRUNCATE
Test = Callable[[Server, MakingFileSystem], Awaitable[None]]


def scenario(test: Test) -> Callable[[], None]:
    """Run a test with a server that has the file `d/old`, of which everything in `d` is known."""

    def run() -> None:
        async def main() -> None:
            server = Server()
            server.put("d/old", b"old")
            fs = MakingFileSystem(server, trio.current_time)
            async with trio.open_nursery() as nursery:
                fs.nursery = nursery
                await fs.listdir("")
                await fs.listdir("d")
                server.asked.clear()
                await test(server, fs)

        with leasing():
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    run.__name__ = test.__name__
    return run


async def close(file: OpenFile) -> None:
    try:
        await file.flush(Closing.LAST)
    finally:
        await file.release()


async def write(fs: MakingFileSystem, path: str, data: bytes, flags: OpenFlags = NEW) -> None:
    file = await fs.open(path, flags, 0o640)
    await file.write(0, data)
    await close(file)


@scenario
async def test_a_new_file_costs_one_message(server: Server, fs: MakingFileSystem) -> None:
    for number in range(10):
        await write(fs, f"d/f{number}", b"text")
    assert dict(server.asked) == {"make_file": 10}
    assert bytes(server.find("d/f3").data) == b"text"
    assert server.find("d/f3").mode == 0o640
    assert server.open_files == 0


@scenario
async def test_a_new_file_is_opened_at_once_where_it_is_known_that_nothing_stands(
    server: Server, fs: MakingFileSystem
) -> None:
    file = fs.create_at_once("d/f", NEW, 0o640)
    assert file is not None
    await file.write(0, b"text")
    assert file.flush_at_once(), "the server has it"
    await close(file)
    assert dict(server.asked) == {"make_file": 1}
    assert bytes(server.find("d/f").data) == b"text"


@pytest.mark.parametrize(
    ("path", "flags", "mode"),
    [
        ("d/old", NEW, 0o640),
        ("elsewhere/f", NEW, 0o640),
        ("d/f", NEW | EXCLUSIVE, 0o640),
        ("d/f", NEW | APPEND, 0o640),
        ("d/f", READ | CREATE, 0o640),
        ("d/f", NEW, 0o4755),
    ],
)
def test_what_is_more_than_that_is_not_opened_at_once(path: str, flags: OpenFlags, mode: int) -> None:
    @scenario
    async def check(server: Server, fs: MakingFileSystem) -> None:
        assert fs.create_at_once(path, flags, mode) is None

    check()


@scenario
async def test_while_leases_do_not_hold_nothing_is_opened_at_once(server: Server, fs: MakingFileSystem) -> None:
    server.heard = False
    assert fs.create_at_once("d/f", NEW, 0o640) is None


@scenario
async def test_a_file_of_which_the_server_lacks_something_is_not_flushed_at_once(
    server: Server, fs: MakingFileSystem
) -> None:
    file = fs.create_at_once("d/f", NEW, 0o640)
    assert file is not None
    assert not file.flush_at_once(), "it is not made"
    await file.write(0, b"text")
    await file.write(4, b"more")
    assert not file.flush_at_once(), "the second piece waits"
    await close(file)
    assert bytes(server.find("d/f").data) == b"textmore"


@scenario
async def test_removing_a_file_costs_one_message(server: Server, fs: MakingFileSystem) -> None:
    await write(fs, "d/f", b"text")
    server.asked.clear()
    await fs.unlink("d/f")
    await fs.getattr("d")
    assert await kind_of(fs.getattr("d/f")) is Kind.NOT_FOUND
    assert dict(server.asked) == {"unlink": 1}


@scenario
async def test_what_was_written_is_known_without_asking(server: Server, fs: MakingFileSystem) -> None:
    await write(fs, "d/f", b"text")
    server.asked.clear()
    assert await read(fs, "d/f") == b"text"
    attr = await fs.getattr("d/f")
    assert (attr.size, attr.node_id) == (4, server.find("d/f").node_id)
    assert not server.asked


@scenario
async def test_an_empty_file_is_there_when_it_is_closed(server: Server, fs: MakingFileSystem) -> None:
    file = await fs.open("d/f", NEW, 0o600)
    await file.flush(Closing.LAST)
    assert server.find("d/f").size == 0


@scenario
async def test_a_file_for_which_no_bytes_come_is_made_after_a_moment(server: Server, fs: MakingFileSystem) -> None:
    file = await fs.open("d/f", NEW, 0o600)
    assert "f" not in server.find("d").children
    await trio.sleep(3 * LINGER_S)
    assert "f" in server.find("d").children
    await file.write(0, b"text")
    await close(file)
    assert bytes(server.find("d/f").data) == b"text"


@scenario
async def test_whoever_asks_the_server_about_it_finds_it(server: Server, fs: MakingFileSystem) -> None:
    asks: list[Callable[[str], Awaitable[object]]] = [
        lambda path: fs.setattr(path, Changes(mode=0o600)),
        lambda path: fs.link(path, path + "2"),
        lambda path: fs.rename(path, path + "2", RenameMode.REPLACE),
        fs.listxattr,
        fs.unlink,
        lambda path: read(fs, path),
    ]
    for number, ask in enumerate(asks):
        file = await fs.open(f"d/f{number}", NEW, 0o600)
        await ask(f"d/f{number}")
        await close(file)


@scenario
async def test_what_goes_wrong_is_told_by_the_first_write(server: Server, fs: MakingFileSystem) -> None:
    server.fail("make_file", Kind.NO_SPACE)
    file = await fs.open("d/f", NEW, 0o600)
    assert await kind_of(file.write(0, b"text")) is Kind.NO_SPACE
    assert await kind_of(file.flush(Closing.LAST)) is Kind.NO_SPACE
    await file.release()
    assert await kind_of(fs.getattr("d/f")) is Kind.NOT_FOUND


@scenario
async def test_what_goes_wrong_with_an_empty_file_is_told_by_close(server: Server, fs: MakingFileSystem) -> None:
    server.fail("open", Kind.QUOTA)
    file = await fs.open("d/f", NEW, 0o600)
    assert await kind_of(file.flush(Closing.LAST)) is Kind.QUOTA


@scenario
async def test_who_was_sooner_is_not_overwritten_by_making(server: Server, fs: MakingFileSystem) -> None:
    file = await fs.open("d/f", WRITE | CREATE, 0o600)
    server.put("d/f", b"longer than that")
    await file.write(0, b"text")
    await close(file)
    assert bytes(server.find("d/f").data) == b"texter than that"
    assert await read(fs, "d/f") == b"texter than that"


@scenario
async def test_a_lost_answer_is_no_lost_file(server: Server, fs: MakingFileSystem) -> None:
    server.fail("make_file", Kind.UNREACHABLE)
    await write(fs, "d/f", b"text")
    assert bytes(server.find("d/f").data) == b"text"


@scenario
async def test_who_cannot_make_it_now_tries_again(server: Server, fs: MakingFileSystem) -> None:
    server.fail("make_file", Kind.TIMED_OUT)
    file = await fs.open("d/f", NEW, 0o600)
    assert await kind_of(file.write(0, b"text")) is Kind.TIMED_OUT
    await close(file)
    assert bytes(server.find("d/f").data) == b"text"


@scenario
async def test_o_excl_asks_the_server(server: Server, fs: MakingFileSystem) -> None:
    server.put("d/f")
    assert await kind_of(fs.open("d/f", NEW | EXCLUSIVE, 0o600)) is Kind.EXISTS


@scenario
async def test_what_is_not_known_is_asked_for(server: Server, fs: MakingFileSystem) -> None:
    server.put("e/f", b"text")
    await write(fs, "e/g", b"text")
    assert server.asked["open"] == 1


@pytest.mark.parametrize("size", [FIRST_BYTES_MAX, FIRST_BYTES_MAX + 1, 3 * FIRST_BYTES_MAX])
def test_large_files_are_whole(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)

    @scenario
    async def test(server: Server, fs: MakingFileSystem) -> None:
        file = await fs.open("d/f", NEW, 0o600)
        for offset in range(0, size, 100_000):
            await file.write(offset, data[offset : offset + 100_000])
        await close(file)
        assert bytes(server.find("d/f").data) == data
        assert server.open_files == 0

    test()


@scenario
async def test_what_is_set_before_it_is_made_holds(server: Server, fs: MakingFileSystem) -> None:
    file = await fs.open("d/f", NEW, 0o600)
    await file.setattr(Changes(size=3, mode=0o440, mtime_ns=5))
    assert (await file.getattr()).size == 3
    await close(file)
    node = server.find("d/f")
    assert (bytes(node.data), node.mode, node.mtime_ns) == (b"\0\0\0", 0o440, 5)


@scenario
async def test_it_is_read_through_the_same_opening(server: Server, fs: MakingFileSystem) -> None:
    file = await fs.open("d/f", NEW | READ, 0o600)
    assert await file.read(0, 10) == b""
    await file.write(2, b"text")
    assert await file.read(0, 10) == b"\0\0text"
    await close(file)


@scenario
async def test_two_who_append_to_a_new_file_keep_their_order(server: Server, fs: MakingFileSystem) -> None:
    first = await fs.open("d/f", WRITE | CREATE | APPEND, 0o600)
    second = await fs.open("d/f", WRITE | CREATE | APPEND, 0o600)
    for number in range(10):
        await (first, second)[number % 2].write(number, b"%d" % number)
    await close(first)
    await close(second)
    assert bytes(server.find("d/f").data) == b"0123456789"


@scenario
async def test_a_new_file_that_is_removed_while_open_lives_on(server: Server, fs: MakingFileSystem) -> None:
    file = await fs.open("d/f", NEW | READ, 0o600)
    await fs.unlink("d/f")
    await file.write(0, b"text")
    await file.flush(Closing.LAST)
    assert await file.read(0, 10) == b"text"
    await file.release()
    assert "f" not in server.find("d").children


@scenario
async def test_the_kernel_is_told_of_the_number_that_the_server_gives(server: Server, fs: MakingFileSystem) -> None:
    told: list[tuple[int, int]] = []
    fs.tell(lambda former, number: told.append((former, number)), lambda directory, name: None)
    file = await fs.open("d/f", NEW, 0o600)
    former = file.attr.node_id
    await file.write(0, b"text")
    assert told == [(former, server.find("d/f").node_id)]
    assert file.attr.node_id == server.find("d/f").node_id
    await close(file)


@scenario
async def test_a_lease_that_somebody_wants_does_not_hang_on_a_file_that_is_not_made(
    server: Server, fs: MakingFileSystem
) -> None:
    file = await fs.open("d/f", NEW, 0o600)
    directory = server.find("d").node_id
    with trio.fail_after(5):
        await fs.broken([directory], [(directory, "f")])
    await file.write(0, b"text")
    await close(file)
    assert bytes(server.find("d/f").data) == b"text"


@scenario
async def test_the_end_of_the_mount_makes_what_is_not_made(server: Server, fs: MakingFileSystem) -> None:
    await fs.open("d/f", NEW, 0o600)
    await fs.settle(None)
    assert "f" in server.find("d").children
