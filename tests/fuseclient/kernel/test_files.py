"""Open files over a file system in memory: reading, restarts of the server, and how writers end."""

import os
from collections.abc import Awaitable, Callable, Mapping

import pytest
import trio
import trio.testing

from fuseclient.kernel import files, procs
from fuseclient.kernel.procs import Holder, Process
from pfs.api import Changes, Closing
from pfs.errors import Kind, PfsError
from tests.fuseclient.asking import MAKE, READ, READ_WRITE, WRITE, Kernel
from tests.memoryfs import Handed
from tests.pfs.world import kind_of

Run = Callable[[Callable[[], Awaitable[object]]], object]


def test_what_is_written_is_read(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        async with kernel.opened("dc1/f", MAKE) as fh:
            assert await kernel.files.write(fh, 3, b"data") == 4
            assert await kernel.files.read(fh, 0, 100) == b"\0\0\0data"
        assert (await kernel.read("dc1/f"), kernel.fs.open_files) == (b"\0\0\0data", 0)

    run(main)


def test_short_answers_are_put_together(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"0123456789")
        kernel.fs.read_bytes_max = 3
        async with kernel.opened("dc1/f") as fh:
            assert await kernel.files.read(fh, 1, 8) == b"12345678"
            assert await kernel.files.read(fh, 8, 8) == b"89"

    run(main)


def test_the_end_of_a_file_costs_no_second_question(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"0123456789")
        assert await kernel.read("dc1/f") == b"0123456789"
        assert kernel.fs.calls["read"] == 1

    run(main)


def test_a_file_that_was_replaced_is_stale_when_it_is_opened(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f")
        number = (await kernel.walk("dc1/f")).number
        await kernel.fs.unlink("f")
        assert await kind_of(kernel.files.open(number, READ, 1)) is Kind.STALE
        kernel.fs.put("f")
        assert await kind_of(kernel.files.open(number, READ, 1)) is Kind.STALE
        assert kernel.fs.open_files == 0

    run(main)


@pytest.mark.parametrize("flags", [READ, WRITE])
def test_only_the_file_that_was_meant_is_emptied(run: Run, flags: int) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a", b"data")
        await kernel.fs.link("a", "b")
        number = (await kernel.walk("dc1/a")).number
        await kernel.walk("dc1/b")
        await kernel.fs.unlink("b")
        kernel.fs.put("b", b"another client's")
        opened = await kernel.files.open(number, flags | os.O_TRUNC, 1)
        assert (bytes(kernel.fs.find("a").data), bytes(kernel.fs.find("b").data)) == (b"", b"another client's")
        await kernel.close(opened.fh)
        assert kernel.fs.open_files == 0
        kernel.fs.fail("fsetattr", Kind.NO_SPACE)
        assert await kind_of(kernel.files.open(number, flags | os.O_TRUNC, 1)) is Kind.NO_SPACE
        assert kernel.fs.open_files == 0

    run(main)


def test_the_kernel_is_told_when_what_it_knows_is_outdated(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"old")
        number = (await kernel.walk("dc1/f")).number
        assert not (await kernel.files.open(number, READ, 1)).outdated
        kernel.fs.put("f", b"longer")
        assert (await kernel.files.open(number, READ, 1)).outdated

    run(main)


@pytest.mark.parametrize(
    ("path", "flags", "direct"),
    [("plain", READ, False), ("plain", WRITE, False), ("volatile", READ, True), ("log", READ, True)],
)
def test_what_changes_by_itself_is_read_directly(run: Run, path: str, flags: int, direct: bool) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("plain")
        kernel.fs.put("volatile", volatile=True)
        kernel.fs.put("log", stream=True)
        assert (await kernel.files.open((await kernel.walk(f"dc1/{path}")).number, flags, 1)).direct is direct

    run(main)


def test_the_kernel_keeps_the_pages_of_what_the_server_will_not_change_any_more(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"text", settled=True)
        number = (await kernel.walk("dc1/f")).number
        opened = [await kernel.files.open(number, READ, 1) for _ in range(2)]
        assert [(each.direct, each.outdated, each.keep) for each in opened] == [
            (False, False, False),
            (False, False, True),
        ]
        kernel.fs.put("f", b"another", settled=True)  # a server that was set back to how it stood before
        again = await kernel.files.open(number, READ, 1)
        assert (again.outdated, again.keep) == (True, False)
        assert await kernel.files.read(again.fh, 0, 100) == b"another"

    run(main)


@pytest.mark.parametrize("stream", [True, False])
def test_who_opened_what_was_still_growing_goes_on_reading_it_directly(run: Run, stream: bool) -> None:
    async def main() -> None:
        kernel = Kernel()
        log = kernel.fs.put("log", b"some", stream=stream, volatile=True)
        log.node_id |= 1 << 63  # as of all that the server makes
        number = (await kernel.walk("dc1/log")).number
        live = await kernel.files.open(number, READ, 1)
        assert (live.direct, live.keep) == (True, False)
        kernel.fs.put("log", b"some more", settled=True)
        over = await kernel.files.open(number, READ, 1)
        # what the kernel has of it was read while it grew, and its size then was another one
        assert (over.direct, over.outdated, over.keep) == (False, True, False)
        for fh in (live.fh, over.fh):
            assert await kernel.files.read(fh, 0, 100) == b"some more"
        await kernel.walk("dc1/log")
        assert (await kernel.files.open(number, READ, 1)).keep

    run(main)


def test_what_was_shown_as_a_stream_has_another_size_for_the_kernel_once_it_is_over(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        node = kernel.fs.put("log", b"", stream=True)  # its size is that of the end
        number = (await kernel.walk("dc1/log")).number
        node.stream = False
        assert (await kernel.files.open(number, READ, 1)).outdated

    run(main)


def test_what_the_server_will_not_change_is_read_on_after_a_restart(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"0123456789", settled=True)
        async with kernel.opened("dc1/f") as fh:
            assert await kernel.files.read(fh, 0, 4) == b"0123"
            kernel.fs.restart()
            assert await kernel.files.read(fh, 4, 4) == b"4567"

    run(main)


@pytest.mark.parametrize(("flags", "direct"), [(READ, False), (WRITE, True), (READ_WRITE, True)])
def test_what_commits_is_written_directly(run: Run, flags: int, direct: bool) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.make_directory("drops")
        await kernel.close(await kernel.create("dc1/drops/a"))
        assert (await kernel.files.open((await kernel.walk("dc1/drops/a")).number, flags, 1)).direct is direct

    run(main)


def test_flags_reach_the_server(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"data")
        async with kernel.opened("dc1/f", WRITE | os.O_APPEND) as fh:
            await kernel.files.write(fh, 0, b"more")
        assert bytes(kernel.fs.find("f").data) == b"datamore"
        async with kernel.opened("dc1/f", WRITE | os.O_TRUNC):
            assert bytes(kernel.fs.find("f").data) == b""
        assert await kind_of(kernel.create("dc1/f", MAKE | os.O_EXCL)) is Kind.EXISTS

    run(main)


# -- streams


def test_a_stream_is_waited_for(run: Run) -> None:
    async def main() -> None:
        kernel, read = Kernel(), list[bytes]()
        kernel.fs.put("log", b"one", stream=True)
        fh = await kernel.open("dc1/log")

        async def follow() -> None:
            offset = 0
            while data := await kernel.files.read(fh, offset, 100):
                read.append(data)
                offset += len(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            assert (read, len(kernel.ops.held)) == ([b"one"], 1)
            kernel.fs.append("log", b"two")
            await trio.testing.wait_all_tasks_blocked()
            kernel.fs.finish("log")
        assert (read, len(kernel.ops.held)) == ([b"one", b"two"], 0)

    run(main)


def test_who_will_not_wait_is_told_so(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("log", b"one", stream=True)
        async with kernel.opened("dc1/log", READ | os.O_NONBLOCK) as fh:
            assert await kernel.files.read(fh, 0, 100) == b"one"
            assert await kind_of(kernel.files.read(fh, 3, 100)) is Kind.WOULD_BLOCK
            kernel.fs.finish("log")
            assert await kernel.files.read(fh, 3, 100) == b""

    run(main)


def test_a_stream_goes_on_where_it_was_after_a_restart(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("log", b"onetwo", stream=True)
        async with kernel.opened("dc1/log") as fh:
            assert await kernel.files.read(fh, 0, 3) == b"one"
            kernel.fs.restart()
            assert await kernel.files.read(fh, 3, 3) == b"two"

    run(main)


# -- restarts


@pytest.mark.parametrize("operation", ["read", "write", "setattr", "getattr", "fsync"])
def test_a_plain_file_is_opened_again_after_a_restart(run: Run, operation: str) -> None:
    async def main() -> None:
        kernel = Kernel()
        async with kernel.opened("dc1/f", MAKE | os.O_EXCL | os.O_TRUNC) as fh:
            await kernel.files.write(fh, 0, b"data")
            kernel.fs.restart()
            ask: dict[str, Callable[[], Awaitable[object]]] = {
                "read": lambda: kernel.files.read(fh, 0, 9),
                "write": lambda: kernel.files.write(fh, 0, b"d"),
                "setattr": lambda: kernel.files.setattr(0, Changes(size=4), fh),
                "getattr": lambda: kernel.files.call(kernel.ops.tree.handles.file(fh), lambda file: file.getattr()),
                "fsync": lambda: kernel.files.fsync(fh),
            }
            await ask[operation]()
            assert (bytes(kernel.fs.find("f").data), kernel.fs.open_files) == (b"data", 1)

    run(main)


@pytest.mark.parametrize("arrived", [False, True])
def test_nothing_is_appended_twice(run: Run, arrived: bool) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"one\n")
        async with kernel.opened("dc1/f", WRITE | os.O_APPEND) as fh:
            kernel.fs.restart()
            if arrived:  # and only the answer was lost
                kernel.fs.put("f", b"one\ntwo\n")
            assert await kind_of(kernel.files.write(fh, 4, b"two\n")) is (Kind.STALE if arrived else None)
        assert bytes(kernel.fs.find("f").data) == b"one\ntwo\n"

    run(main)


def test_a_file_is_followed_to_where_it_was_moved(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a/f", b"data")
        async with kernel.opened("dc1/a/f") as fh:
            await kernel.ops.rename((await kernel.walk("dc1")).number, "a", (await kernel.walk("dc1")).number, "b", 0)
            kernel.fs.restart()
            assert await kernel.files.read(fh, 0, 9) == b"data"

    run(main)


def test_an_unlinked_file_outlives_a_restart(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        root = (await kernel.walk("dc1")).number
        for path in ("gone", "replaced", "new"):
            kernel.fs.put(path, path.encode())
        async with kernel.opened("dc1/gone") as gone, kernel.opened("dc1/replaced", READ_WRITE) as replaced:
            await kernel.ops.unlink(root, "gone")
            await kernel.ops.rename(root, "new", root, "replaced", 0)
            kernel.fs.restart()
            assert await kernel.files.read(gone, 0, 99) == b"gone"
            await kernel.files.write(replaced, 0, b"REP")
            kernel.fs.restart()
            assert await kernel.files.read(replaced, 0, 99) == b"REPlaced"
            assert await kernel.read("dc1/replaced") == b"new"
        assert (kernel.fs.open_files, len(kernel.ops.tree.handles)) == (0, 0)

    run(main)


def test_a_hard_link_is_found_by_any_of_its_names(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("a", b"data")
        await kernel.fs.link("a", "b")
        async with kernel.opened("dc1/a") as fh:
            await kernel.walk("dc1/b")
            await kernel.fs.unlink("b")  # by another client: the newest name that is known here leads nowhere
            kernel.fs.restart()
            assert await kernel.files.read(fh, 0, 9) == b"data"

    run(main)


def test_a_server_out_of_reach_is_no_lost_file(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"data")
        async with kernel.opened("dc1/f") as fh:
            kernel.fs.restart()
            kernel.fs.fail("reopen", Kind.UNREACHABLE)
            assert await kind_of(kernel.files.read(fh, 0, 9)) is Kind.UNREACHABLE
            assert await kernel.files.read(fh, 0, 9) == b"data"

    run(main)


def test_another_file_at_its_path_is_not_taken_for_it(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"data")
        fh = await kernel.open("dc1/f")
        kernel.fs.restart()
        await kernel.fs.unlink("f")
        assert await kind_of(kernel.files.read(fh, 0, 9)) is Kind.STALE
        kernel.fs.put("f", b"another")
        assert await kind_of(kernel.files.read(fh, 0, 9)) is Kind.STALE
        assert kernel.fs.open_files == 0
        await kernel.close(fh)

    run(main)


def test_several_reads_open_it_again_once(run: Run) -> None:
    async def main() -> None:
        kernel, read = Kernel(), list[bytes]()
        kernel.fs.put("f", b"data")
        async with kernel.opened("dc1/f") as fh:
            kernel.fs.restart()

            async def one() -> None:
                read.append(await kernel.files.read(fh, 0, 9))

            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(one)
            assert (read, kernel.fs.open_files) == ([b"data"] * 5, 1)

    run(main)


def test_a_snapshot_is_not_mixed_with_a_later_one(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("status", b"one", volatile=True)
        async with kernel.opened("dc1/status") as fh:
            kernel.fs.restart()
            assert await kind_of(kernel.files.read(fh, 1, 9)) is Kind.STALE
            assert await kernel.files.read(fh, 0, 9) == b"one"
            assert await kernel.files.read(fh, 1, 9) == b"ne"

    run(main)


def test_what_is_being_handed_in_is_lost_with_the_server(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.make_directory("drops")
        fh = await kernel.create("dc1/drops/a")
        await kernel.files.write(fh, 0, b"half")
        kernel.fs.restart()
        assert await kind_of(kernel.files.write(fh, 4, b"whole")) is Kind.STALE
        assert await kind_of(kernel.close(fh)) is Kind.STALE
        assert kernel.fs.handed == []

    run(main)


def test_a_file_is_tried_again_only_once(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"data")
        async with kernel.opened("dc1/f") as fh:
            kernel.fs.fail("read", Kind.BAD_HANDLE, Kind.BAD_HANDLE)
            assert await kind_of(kernel.files.read(fh, 0, 9)) is Kind.BAD_HANDLE
            assert await kernel.files.read(fh, 0, 9) == b"data"

    run(main)


# -- closing


class Drop:
    """A file that is being handed in, and what /proc says of its writers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernel = Kernel()
        self.kernel.fs.make_directory("drops")
        self.holders: list[Holder] = []
        self.dying: set[int] = set()
        self.child_dies = False
        monkeypatch.setattr(procs, "holders", lambda wanted, proc="": {next(iter(wanted)): self.holders})
        monkeypatch.setattr(procs, "identify", lambda tid, proc="": Process(tid, tid, 0))
        monkeypatch.setattr(procs, "is_dying", lambda process, proc="": process.tid in self.dying)
        monkeypatch.setattr(procs, "dies_under", lambda process, proc="": self.child_dies)

    async def make(self) -> int:
        return await self.kernel.create("dc1/drops/a")

    @property
    def closings(self) -> list[Closing]:
        return self.kernel.fs.closings

    @property
    def handed(self) -> list[Handed]:
        return self.kernel.fs.handed


@pytest.fixture
def drop(monkeypatch: pytest.MonkeyPatch) -> Drop:
    return Drop(monkeypatch)


def test_closing_hands_in(run: Run, drop: Drop) -> None:
    async def main() -> None:
        fh = await drop.make()
        await drop.kernel.files.flush(fh)  # a shell's, before anything is written
        await drop.kernel.files.write(fh, 0, b"text\n")
        await drop.kernel.files.flush(fh)
        await drop.kernel.files.flush(fh)
        await drop.kernel.files.release(fh)
        assert drop.handed == [Handed("drops/a", b"text\n", Closing.LAST)]
        assert drop.closings == [Closing.LAST]

    run(main)


def test_what_another_still_holds_is_handed_in_by_the_last(run: Run, drop: Drop) -> None:
    async def main() -> None:
        fh = await drop.make()
        await drop.kernel.files.write(fh, 0, b"text\n")
        drop.holders = [Holder(5, True), Holder(6, False)]
        await drop.kernel.files.flush(fh)
        drop.holders = [Holder(6, False)]
        await drop.kernel.files.flush(fh)  # nothing was written since, but the server still waits for the end
        await drop.kernel.files.flush(fh)
        await drop.kernel.files.release(fh)
        assert (drop.closings, len(drop.handed)) == ([Closing.SHARED, Closing.LAST], 1)

    run(main)


@pytest.mark.parametrize("who", ["opener", "holder", "child"])
def test_a_writer_that_is_ended_by_a_signal_cuts_the_text(run: Run, drop: Drop, who: str) -> None:
    async def main() -> None:
        fh = await drop.make()
        await drop.kernel.files.write(fh, 0, b"text\n")
        drop.holders = [Holder(5, True)]
        drop.dying = {"opener": {os.getpid()}, "holder": {5}, "child": set()}[who]
        drop.child_dies = who == "child"
        await drop.kernel.files.flush(fh)
        drop.dying, drop.child_dies, drop.holders = set(), False, []
        await drop.kernel.files.write(fh, 0, b"more\n")  # whoever else has it may go on
        await drop.kernel.files.flush(fh)
        await drop.kernel.files.release(fh)
        assert (set(drop.closings), drop.handed) == ({Closing.DYING}, [])

    run(main)


@pytest.mark.parametrize("dying", [False, True])
def test_who_was_opened_under_another_name_is_looked_for_under_its_present_one(
    run: Run, drop: Drop, monkeypatch: pytest.MonkeyPatch, dying: bool
) -> None:
    asked: list[str] = []

    def holders(wanted: Mapping[int, str], proc: str = "") -> dict[int, list[Holder]]:
        asked.extend(wanted.values())
        return {number: [] for number in wanted}

    async def main() -> None:
        monkeypatch.setattr(procs, "holders", holders)
        fh = await drop.make()
        await drop.kernel.files.write(fh, 0, b"text\n")
        folder = (await drop.kernel.walk("dc1/drops")).number
        await drop.kernel.ops.rename(folder, "a", folder, "b", 0)
        drop.child_dies = dying
        await drop.kernel.close(fh)
        assert (asked, drop.closings[0]) == (["dc1/drops/b"], Closing.DYING if dying else Closing.LAST)

    run(main)


@pytest.mark.parametrize("kind", [Kind.TIMED_OUT, Kind.INVALID, None])
def test_a_lost_write_cuts_the_text(run: Run, drop: Drop, kind: Kind | None) -> None:
    async def main() -> None:
        fh = await drop.make()
        await drop.kernel.files.write(fh, 0, b"one\n")
        drop.kernel.fs.fail("write", kind)
        with pytest.raises((PfsError, ValueError)):
            await drop.kernel.files.write(fh, 4, b"two\n")
        await drop.kernel.files.write(fh, 8, b"three\n")
        await drop.kernel.close(fh)
        assert (set(drop.closings), drop.handed) == ({Closing.DYING}, [])

    run(main)


def test_a_refusal_is_what_close_says(run: Run, drop: Drop) -> None:
    async def main() -> None:
        fh = await drop.make()
        await drop.kernel.files.write(fh, 0, b"refuse\n")
        assert await kind_of(drop.kernel.close(fh)) is Kind.INVALID
        assert (drop.handed, drop.kernel.fs.open_files) == ([], 0)

    run(main)


def test_a_text_that_is_open_when_the_mount_ends_is_cut(run: Run, drop: Drop) -> None:
    async def main() -> None:
        fh = await drop.make()
        await drop.kernel.files.write(fh, 0, b"text\n")
        await drop.kernel.files.release_all()
        assert (drop.closings, drop.handed, len(drop.kernel.ops.tree.handles)) == ([Closing.DYING], [], 0)

    run(main)


def test_ordinary_files_ask_nobody_how_their_writers_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(files, "how_it_closes", None)
        kernel = Kernel()
        async with kernel.opened("dc1/f", MAKE) as fh:
            await kernel.files.flush(fh)
            assert "flush" not in kernel.fs.calls
            await kernel.files.write(fh, 0, b"x")
        assert kernel.fs.calls["flush"] == 1

    run(main)


def test_an_opening_that_may_be_mapped_is_flushed_when_pages_came_through_another(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.put("f", b"0123456789")
        async with (
            kernel.opened("dc1/f", READ_WRITE) as mapped,
            kernel.opened("dc1/f", READ_WRITE) as other,
            kernel.opened("dc1/f", READ) as reader,
        ):
            await kernel.files.write(other, 0, b"abc")
            assert kernel.files.flush_at_once(reader)
            assert "flush" not in kernel.fs.calls
            await kernel.files.flush(mapped)
            assert kernel.fs.calls["flush"] == 1

    run(main)
