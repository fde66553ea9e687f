"""A file system with copies: what it asks the server, and what it does not."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import trio
import trio.testing

from fuseclient.cache.batches import BATCH_MAX
from fuseclient.cache.file import CachedFile
from fuseclient.cache.filesystem import CachedFileSystem
from pfs.api import Attr, Broken, Changes, Closing, Content, OpenFlags, RenameMode
from pfs.errors import Kind, PfsError
from tests.fuseclient.cache.test_coherence import leasing, read
from tests.memoryfs import MemoryFileSystem
from tests.pfs.world import kind_of

READ, WRITE, CREATE, APPEND = OpenFlags.READ, OpenFlags.WRITE, OpenFlags.CREATE, OpenFlags.APPEND


class Server(MemoryFileSystem):
    """A tree whose leases never end by themselves, and that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.heard = True
        self.away = False

    def count(self, operation: str) -> None:
        self.asked[operation] += 1
        super().count(operation)

    def trusted(self) -> bool:
        return self.heard

    def is_away(self) -> bool:
        return self.away

    async def look_out(self) -> None:
        return

    def listen(self, broken: Broken, lapsed: Callable[[], None], returned: Callable[[], None]) -> None:
        raise AssertionError("the test itself tells")


F = TypeVar("F", bound=CachedFileSystem)
Test = Callable[[Server, F], Awaitable[None]]


def scenario_of(kind: type[F]) -> Callable[[Test[F]], Callable[[], None]]:
    """Run tests with a file system of this kind, over a server of 300 small files in `d`."""

    def scenario(test: Test[F]) -> Callable[[], None]:
        def run() -> None:
            async def main() -> None:
                server = Server()
                for number in range(300):
                    server.put(f"d/f{number:03d}", b"text %d" % number)
                fs = kind(server, trio.current_time)
                async with trio.open_nursery() as nursery:
                    fs.nursery = nursery
                    await test(server, fs)

            with leasing():
                trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

        run.__name__ = test.__name__
        return run

    return scenario


scenario = scenario_of(CachedFileSystem)


# ---- looking


@scenario
async def test_what_is_known_is_not_asked_for(server: Server, fs: CachedFileSystem) -> None:
    await fs.listdir("")
    await fs.listdir("d")
    attr = await fs.getattr("d/f000")
    server.asked.clear()
    assert await fs.getattr("d/f000") == attr
    assert len(await fs.listdir("d")) == 300
    assert not server.asked


@scenario
async def test_looking_into_a_directory_again_brings_all_of_it(server: Server, fs: CachedFileSystem) -> None:
    await fs.getattr("d/f000")
    await fs.getattr("d/f001")
    await fs.getattr("d/f002")
    server.asked.clear()
    for number in range(300):
        await fs.getattr(f"d/f{number:03d}")
    assert not server.asked


@scenario
async def test_what_is_not_in_a_known_directory_is_not_asked_for(server: Server, fs: CachedFileSystem) -> None:
    await fs.listdir("")
    await fs.listdir("d")
    server.asked.clear()
    assert await kind_of(fs.getattr("d/missing")) is Kind.NOT_FOUND
    assert not server.asked


@scenario
async def test_a_directory_that_nobody_looks_at_itself_is_learned_again(server: Server, fs: CachedFileSystem) -> None:
    await fs.listdir("")
    await fs.listdir("d")
    await fs.broken([server.find("d").node_id], [])
    server.asked.clear()
    for number in range(100):  # as a program does that has the directory open
        await fs.getattr(f"d/f{number:03d}")
    assert server.asked.total() <= 5


@scenario
async def test_a_directory_whose_names_change_by_themselves_is_not_asked_for_with_each_of_them(
    server: Server, fs: CachedFileSystem
) -> None:
    real = server.getattr

    async def getattr_(path: str) -> Attr:
        attr = await real(path)
        return replace(attr, volatile=True, leased=False, valid_s=1.0) if path == "d" else attr

    server.getattr = getattr_  # type: ignore[method-assign]
    await fs.listdir("")
    fs.copies.broken([server.find("d").node_id])
    for number in range(100):
        await fs.getattr(f"d/f{number:03d}")
    # of the root, of the directory, and of each name
    assert (server.asked["listdir"], server.asked["getattr"]) == (1, 1 + 1 + 100)


@scenario
async def test_what_changes_by_itself_is_opened_right_after_it_was_looked_at(
    server: Server, fs: CachedFileSystem
) -> None:
    server.put("d/state", b"one", volatile=True)
    await fs.getattr("d/state")
    server.asked.clear()
    file = await fs.open("d/state", READ, 0)
    assert (await file.read(0, 10), server.asked["getattr"]) == (b"one", 0)
    server.put("d/other", b"two")  # an ordinary file stands there by now: what it is, its opening tells
    await server.rename("d/other", "d/state", RenameMode.REPLACE)
    file = await fs.open("d/state", READ, 0)
    assert (await file.read(0, 10), server.asked["getattr"]) == (b"two", 0)


@scenario
async def test_a_text_that_the_server_will_not_change_is_the_servers_own_file(
    server: Server, fs: CachedFileSystem
) -> None:
    server.put("d/spec.yaml", b"command: x", settled=True)
    await fs.getattr("d/spec.yaml")
    server.asked.clear()
    file = await fs.open("d/spec.yaml", READ, 0)
    assert not isinstance(file, CachedFile)
    assert (await file.read(0, 10), server.asked) == (b"command: x", {"open": 1, "read": 1})


@scenario
async def test_many_who_list_at_once_ask_once(server: Server, fs: CachedFileSystem) -> None:
    await fs.listdir("")
    server.asked.clear()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(fs.listdir, "d")
    assert server.asked["listdir"] == 1


@scenario
async def test_nothing_is_answered_from_copies_while_the_server_is_not_heard(
    server: Server, fs: CachedFileSystem
) -> None:
    await fs.listdir("d")
    server.heard = False
    server.fail("getattr", Kind.TIMED_OUT, Kind.TIMED_OUT)
    assert await kind_of(fs.getattr("d/f000")) is Kind.TIMED_OUT


@scenario
async def test_when_the_server_has_returned_everything_is_asked_again(server: Server, fs: CachedFileSystem) -> None:
    await fs.listdir("d")
    fs.lapsed()
    fs.returned()
    server.append("d/f000", b"!")
    assert (await fs.getattr("d/f000")).size == 7


# ---- reading


@scenario
async def test_small_files_of_a_known_directory_come_in_growing_batches(server: Server, fs: CachedFileSystem) -> None:
    await fs.listdir("")
    await fs.listdir("d")
    server.asked.clear()
    for number in range(300):
        assert await read(fs, f"d/f{number:03d}") == b"text %d" % number
    assert set(server.asked) == {"contents"}
    assert server.asked["contents"] <= 8 + 300 // BATCH_MAX


async def fetched(server: Server, fs: CachedFileSystem, directory: str, files: int) -> int:
    """Read the first small files of a directory; return how often the server was asked for contents."""
    await fs.listdir(directory)
    before = server.asked["contents"]
    for number in range(files):
        assert await read(fs, f"{directory}/f{number:03d}") == b"text %d" % number
    return server.asked["contents"] - before


@scenario
async def test_who_goes_on_to_the_next_directory_gets_as_many_small_files_as_in_the_last_one(
    server: Server, fs: CachedFileSystem
) -> None:
    for number in range(100):
        server.put(f"e/f{number:03d}", b"text %d" % number)
    await fs.listdir("")
    assert await fetched(server, fs, "d", 300) > 1
    assert await fetched(server, fs, "e", 100) == 1


async def read_quietly(fs: CachedFileSystem, directory: str, numbers: range) -> int:
    """Read small files as the kernel's side does, with pauses; return how often somebody had to wait for the server."""
    before = fs.counters.contents.missed
    for number in numbers:
        path = f"{directory}/f{number:03d}"
        file = fs.open_at_once(path, await fs.getattr(path), None) or await fs.open(path, READ, 0)
        assert await file.read(0, 100) == b"text %d" % number
        await file.release()
        await trio.testing.wait_all_tasks_blocked()
    return fs.counters.contents.missed - before


@scenario
async def test_what_follows_is_here_before_it_is_read(server: Server, fs: CachedFileSystem) -> None:
    await fs.listdir("")
    await fs.listdir("d")
    assert await read_quietly(fs, "d", range(20)) <= 5
    assert await read_quietly(fs, "d", range(20, 300)) == 0
    assert server.asked["contents"] <= 10


@scenario
async def test_so_are_the_files_of_the_next_directories(server: Server, fs: CachedFileSystem) -> None:
    for directory in ("e", "f", "g"):
        for number in range(40):
            server.put(f"{directory}/f{number:03d}", b"text %d" % number)
    await fs.listdir("")
    for directory, number in (("d", 300), ("e", 40)):
        await fs.listdir(directory)
        await read_quietly(fs, directory, range(number))
    for directory in ("f", "g"):
        await fs.listdir(directory)
        assert await read_quietly(fs, directory, range(40)) == 0


@scenario
async def test_who_reads_one_file_here_and_there_brings_little(server: Server, fs: CachedFileSystem) -> None:
    await fs.listdir("")
    await fs.listdir("d")
    for number in (7, 250, 30):
        await read_quietly(fs, "d", range(number, number + 1))
    assert server.asked["contents"] <= 3
    assert sum(fs.copies.content(server.find(f"d/f{number:03d}").node_id) is not None for number in range(300)) <= 7


@scenario
async def test_who_opens_what_is_on_its_way_waits_for_it(server: Server, fs: CachedFileSystem) -> None:
    go_on, contents = trio.Event(), server.contents

    async def slowly(path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        if len(names) > 8:
            await go_on.wait()
        return await contents(path, names, size_max)

    await fs.listdir("")
    await fs.listdir("d")
    server.contents = slowly  # type: ignore[method-assign]
    await read_quietly(fs, "d", range(15))
    before = server.asked["contents"]
    async with trio.open_nursery() as nursery:
        for number in (15, 16, 17):
            nursery.start_soon(read_quietly, fs, "d", range(number, number + 1))
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert server.asked["contents"] <= before + 2, "this batch, and the one after it"


@scenario
async def test_what_cannot_be_fetched_ahead_is_asked_for(server: Server, fs: CachedFileSystem) -> None:
    contents = server.contents

    async def failing(path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        if len(names) > 8:
            server.contents = contents  # type: ignore[method-assign]
            raise PfsError(Kind.TIMED_OUT)
        return await contents(path, names, size_max)

    await fs.listdir("")
    await fs.listdir("d")
    server.contents = failing  # type: ignore[method-assign]
    await read_quietly(fs, "d", range(300))


@scenario
async def test_what_is_changed_while_it_is_fetched_ahead_is_fetched_anew(server: Server, fs: CachedFileSystem) -> None:
    go_on, contents = trio.Event(), server.contents

    async def slowly(path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        found = await contents(path, names, size_max)
        if len(names) > 8:
            await go_on.wait()
        return found

    await fs.listdir("")
    await fs.listdir("d")
    server.contents = slowly  # type: ignore[method-assign]
    await read_quietly(fs, "d", range(15))
    server.put("d/f015", b"new")
    await fs.broken([server.find("d/f015").node_id], [])
    go_on.set()
    await trio.testing.wait_all_tasks_blocked()
    assert await read(fs, "d/f015") == b"new"


@scenario
async def test_who_lists_directories_in_their_order_finds_the_next_ones_fetched(
    server: Server, fs: CachedFileSystem
) -> None:
    directories = [f"x/d{number}" for number in range(8)]
    for directory in directories:
        server.put(f"{directory}/f", b"text")
    await fs.listdir("")
    await fs.listdir("x")
    for directory in directories[:2]:
        await fs.listdir(directory)
    for directory in directories[2:]:
        await trio.testing.wait_all_tasks_blocked()
        before = server.asked["listdir"]
        entries = fs.listing_at_once(directory)
        assert server.asked["listdir"] == before
        assert entries is not None
        assert [entry.name for entry in entries] == ["f"]


@scenario
async def test_who_lists_some_directories_has_no_others_fetched(server: Server, fs: CachedFileSystem) -> None:
    for number in range(8):
        server.put(f"x/d{number}/f", b"text")
    await fs.listdir("")
    await fs.listdir("x")
    before = server.asked["listdir"]
    for number in (6, 0, 4, 2):
        await fs.listdir(f"x/d{number}")
        await trio.testing.wait_all_tasks_blocked()
    assert server.asked["listdir"] == before + 4


@scenario
async def test_who_leaves_most_of_them_unread_gets_fewer(server: Server, fs: CachedFileSystem) -> None:
    for directory in "efgh":
        for number in range(100):
            server.put(f"{directory}/f{number:03d}", b"text %d" % number)
    await fs.listdir("")
    await fetched(server, fs, "d", 300)
    for directory in "efgh":
        await fetched(server, fs, directory, 1)
    assert await fetched(server, fs, "h", 3) == 1, "the last one was given two at most"


@scenario
async def test_a_file_that_is_only_read_from_copies_is_never_opened_at_the_server(
    server: Server, fs: CachedFileSystem
) -> None:
    await fs.listdir("")
    await fs.listdir("d")
    await read(fs, "d/f000")
    server.asked.clear()
    assert await read(fs, "d/f000") == b"text 0"
    assert not server.asked


@scenario
async def test_a_large_file_is_fetched_once_and_ahead(server: Server, fs: CachedFileSystem) -> None:
    data = bytes(range(256)) * 16384
    server.put("big", data)
    file = await fs.open("big", READ, 0)
    for offset in range(0, len(data), 65536):
        assert await file.read(offset, 65536) == data[offset : offset + 65536]
    await file.release()
    assert server.asked["read"] < 12


@scenario
async def test_an_open_file_that_somebody_removes_can_still_be_read(server: Server, fs: CachedFileSystem) -> None:
    server.put("big", bytes(1 << 20))
    file = await fs.open("big", READ, 0)
    root, node = (await fs.getattr("")).node_id, server.find("big").node_id
    await fs.listdir("")
    await fs.broken([root, node], [(root, "big")])
    await server.unlink("big")
    assert await file.read(0, 10) == bytes(10)
    await file.release()
    assert server.open_files == 0


@scenario
async def test_an_open_file_below_a_directory_that_somebody_moves_can_still_be_read(
    server: Server, fs: CachedFileSystem
) -> None:
    server.put("top/below/big", bytes(1 << 20))
    for path in ("", "top", "top/below"):
        await fs.listdir(path)
    file = await fs.open("top/below/big", READ, 0)
    root = (await fs.getattr("")).node_id
    await fs.broken([root, server.find("top").node_id], [(root, "top"), (root, "other")])
    server.find("").children["other"] = server.find("").children.pop("top")
    assert await file.read(0, 10) == bytes(10)
    await file.release()


@scenario
async def test_an_open_file_shows_what_others_have_written_after_its_lease_was_broken(
    server: Server, fs: CachedFileSystem
) -> None:
    server.put("big", b"a" * (1 << 20))
    file = await fs.open("big", READ, 0)
    assert await file.read(0, 3) == b"aaa"
    node = server.find("big")
    await fs.broken([node.node_id], [])
    other = await server.open("big", WRITE, 0)
    await other.write(0, b"bbb")
    assert await file.read(0, 3) == b"bbb"
    assert (await file.getattr()).mtime_ns == node.mtime_ns
    await file.release()


@scenario
async def test_a_stream_is_passed_through_also_when_it_is_opened_again(server: Server, fs: CachedFileSystem) -> None:
    node = server.put("log", b"one", stream=True)
    file = await fs.reopen("log", node.node_id, READ)
    for number in range(10):
        assert await file.read(3 * number, 10) == b"one"
        server.append("log", b"one")
    await file.release()


# ---- writing


async def opened(fs: CachedFileSystem, path: str, flags: OpenFlags = WRITE | CREATE) -> Any:
    return await fs.open(path, flags, 0o644)


@scenario
async def test_small_writes_are_gathered(server: Server, fs: CachedFileSystem) -> None:
    file = await opened(fs, "new")
    for number in range(1000):
        assert await file.write(number * 100, bytes(100)) == 100
    await file.flush(Closing.LAST)
    assert server.asked["write"] == 2  # the first one at once, the others together
    assert server.find("new").size == 100_000
    await file.release()


@scenario
async def test_close_returns_when_the_server_has_everything(server: Server, fs: CachedFileSystem) -> None:
    file = await opened(fs, "new")
    await file.write(0, b"text")
    await file.flush(Closing.LAST)
    assert await read(server, "new") == b"text"
    await file.release()


@scenario
async def test_who_looks_while_it_is_written_sees_all_of_it(server: Server, fs: CachedFileSystem) -> None:
    file = await opened(fs, "new")
    await file.write(0, b"text")
    assert (await fs.getattr("new")).size == 4
    await file.write(4, b"more")
    assert (await file.getattr()).size == 8
    await file.write(8, b"!")
    assert await read(fs, "new") == b"textmore!"
    assert {entry.name: entry.attr.size for entry in await fs.listdir("")}["new"] == 9
    await file.release()


@scenario
async def test_what_the_server_says_of_a_file_before_it_has_all_of_it_is_not_kept(
    server: Server, fs: CachedFileSystem
) -> None:
    for path in ("", "d"):
        await fs.listdir(path)
    file = await opened(fs, "d/f001", READ | WRITE)
    await file.write(0, b"first")  # sent at once; the next ones are gathered
    await file.write(5, b", and more, and more of it")
    await (await opened(fs, "d/f001", WRITE | APPEND)).release()
    assert await fs.contents("d", ["f001"], 1000)
    await (await fs.open("d/f000", READ, 0)).release()  # brings the small files behind it, too
    await (await fs.open("d/f000", READ, 0)).release()
    assert fs.copies.attr(file.node_id, trio.current_time()) is None
    assert fs.copies.content(file.node_id) is None
    assert (await file.getattr()).size == 31
    await file.release()


@scenario
async def test_an_error_of_the_server_is_told_at_close(server: Server, fs: CachedFileSystem) -> None:
    file = await opened(fs, "new")
    await file.write(0, b"first")
    server.fail("write", Kind.NO_SPACE)
    await file.write(0, b"text")
    assert await kind_of(file.flush(Closing.LAST)) is Kind.NO_SPACE
    await file.flush(Closing.LAST)  # it was told
    await file.release()


@scenario
async def test_an_error_at_the_first_bytes_is_told_at_once(server: Server, fs: CachedFileSystem) -> None:
    file = await opened(fs, "new")
    server.fail("write", Kind.NO_SPACE)
    assert await kind_of(file.write(0, b"text")) is Kind.NO_SPACE
    await file.release()


@scenario
async def test_somebody_elses_look_does_not_swallow_the_writers_error(server: Server, fs: CachedFileSystem) -> None:
    file = await opened(fs, "new")
    await file.write(0, b"first")
    server.fail("write", Kind.NO_SPACE)
    await file.write(0, b"text")
    await fs.getattr("new")
    assert await kind_of(file.fsync()) is Kind.NO_SPACE
    await file.release()


@scenario
async def test_what_was_not_confirmed_survives_a_restart_of_the_server(server: Server, fs: CachedFileSystem) -> None:
    file = await opened(fs, "new")
    await file.write(0, b"t")
    await file.write(1, b"ext")
    server.restart()
    await file.flush(Closing.LAST)
    assert await read(server, "new") == b"text"
    await file.release()


@scenario
async def test_what_could_not_be_sent_because_the_server_was_away_is_sent_later(
    server: Server, fs: CachedFileSystem
) -> None:
    file = await opened(fs, "new")
    await file.write(0, b"first")
    await file.write(5, b"second")
    server.fail("write", Kind.TIMED_OUT)
    assert await kind_of(file.flush(Closing.LAST)) is Kind.TIMED_OUT
    await file.write(11, b"third")
    await file.flush(Closing.LAST)
    assert await read(server, "new") == b"firstsecondthird"
    await file.release()


@scenario
async def test_nothing_is_appended_twice(server: Server, fs: CachedFileSystem) -> None:
    file = await opened(fs, "new", WRITE | CREATE | APPEND)
    await file.write(0, b"one")
    await file.flush(Closing.LAST)
    server.restart()
    server.append("new", b"two")  # the server's answer may have been lost, or somebody else has written
    await file.write(3, b"two")
    assert await kind_of(file.flush(Closing.LAST)) is Kind.STALE
    assert await read(server, "new") == b"onetwo"
    await file.release()


@scenario
async def test_a_file_is_cut_after_what_was_written_before(server: Server, fs: CachedFileSystem) -> None:
    file = await opened(fs, "new")
    await file.write(0, b"text")
    assert (await fs.setattr("new", Changes(size=2))).size == 2
    assert await read(server, "new") == b"te"
    await file.write(0, b"text")
    again = await opened(fs, "new", WRITE | OpenFlags.TRUNCATE)
    await again.release()
    await file.flush(Closing.LAST)
    assert server.find("new").size == 0
    await file.release()


@scenario
async def test_what_this_mount_changes_stays_known(server: Server, fs: CachedFileSystem) -> None:
    await fs.listdir("")
    await fs.listdir("d")
    await fs.mkdir("d/sub", 0o755)
    await fs.setattr("d/f000", Changes(mode=0o600))
    await fs.unlink("d/f001")
    server.asked.clear()
    assert (await fs.getattr("d/f000")).mode == 0o600
    assert (await fs.getattr("d/sub")).mode == 0o755
    assert await kind_of(fs.getattr("d/f001")) is Kind.NOT_FOUND
    directory: Attr = await fs.getattr("d")
    assert directory.nlink == 3
    assert not server.asked


@scenario
async def test_a_new_directory_is_known_to_be_empty(server: Server, fs: CachedFileSystem) -> None:
    await fs.listdir("")
    await fs.mkdir("new", 0o755)
    server.asked.clear()
    assert await fs.listdir("new") == []
    assert await kind_of(fs.getattr("new/f")) is Kind.NOT_FOUND
    assert not server.asked


@scenario
async def test_a_new_node_with_the_id_of_one_that_was_removed_is_not_taken_for_it(
    server: Server, fs: CachedFileSystem
) -> None:
    await fs.mkdir("d/sub", 0o755)
    for path in ("", "d", "d/sub"):
        await fs.listdir(path)
    removed = [(await fs.getattr(path)).node_id for path in ("d/f000", "d/f001", "d/sub")]
    await fs.unlink("d/f000")
    await fs.rename("d/f002", "d/f001", RenameMode.REPLACE)
    await fs.rmdir("d/sub")
    assert [fs.copies.last_attr(node_id) for node_id in removed] == [None, None, None]


@scenario
async def test_a_directory_with_an_old_time_is_new_once_a_name_in_it_has_changed(
    server: Server, fs: CachedFileSystem
) -> None:
    now_ns = fs.now_ns()
    for path in ("", "d"):
        await fs.listdir(path)
    for change in (fs.unlink("d/f000"), fs.rename("d/f001", "d/f002", RenameMode.REPLACE)):
        await fs.setattr("d", Changes(mtime_ns=1000))
        await change
        assert (await fs.getattr("d")).mtime_ns >= now_ns


@scenario
async def test_a_removed_file_of_which_nothing_is_known_is_not_taken_for_a_directory(
    server: Server, fs: CachedFileSystem
) -> None:
    await fs.mkdir("d/sub", 0o755)
    for path in ("", "d"):
        await fs.listdir(path)
    fs.copies.broken([(await fs.getattr("d/f000")).node_id])
    await fs.unlink("d/f000")
    assert (await fs.getattr("d")).nlink == 3


@scenario
async def test_names_that_are_known_change_also_while_the_way_to_them_is_not_known(
    server: Server, fs: CachedFileSystem
) -> None:
    async def make(path: str) -> None:
        await (await opened(fs, path)).release()

    above = (await fs.getattr("d")).node_id
    await fs.mkdir("d/sub", 0o755)
    await fs.listdir("")
    for change, names in (
        (lambda: fs.mkdir("d/sub/new", 0o755), ["new"]),
        (lambda: make("d/sub/made"), ["made", "new"]),
        (lambda: fs.rename("d/sub/made", "d/sub/moved", RenameMode.REPLACE), ["moved", "new"]),
        (lambda: fs.rmdir("d/sub/new"), ["moved"]),
        (lambda: fs.rename("d/f000", "d/sub/f", RenameMode.REPLACE), ["f", "moved"]),
        (lambda: fs.unlink("d/sub/moved"), ["f"]),
    ):
        await fs.broken([above], [])  # somebody else changes names beside it
        await change()
        await fs.listdir("d")
        assert sorted(entry.name for entry in await fs.listdir("d/sub")) == names


@scenario
async def test_what_has_changed_places_with_something_unknown_is_asked_for(
    server: Server, fs: CachedFileSystem
) -> None:
    server.put("e/other", b"other")
    for path in ("", "d"):
        await fs.listdir(path)
    await fs.rename("d/f000", "e/other", RenameMode.EXCHANGE)
    assert await read(fs, "d/f000") == b"other"


@scenario
async def test_what_a_failed_change_has_done_is_asked_for(server: Server, fs: CachedFileSystem) -> None:
    await fs.listdir("")
    await fs.listdir("d")
    server.put("d/made meanwhile")
    assert await kind_of(fs.getattr("d/made meanwhile")) is Kind.NOT_FOUND  # no lease was broken
    assert await kind_of(fs.mkdir("d/made meanwhile", 0o755)) is Kind.EXISTS
    assert (await fs.getattr("d/made meanwhile")).size == 0
