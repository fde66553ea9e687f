"""What poll(2) is told of an open file, when it is woken, and what is left behind: over a file system in memory."""

import gc
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from fuseclient.kernel import polls
from fuseclient.kernel.fresh import ALWAYS, BYTES, NEWS
from fuseclient.kernel.polls import ANSWER_S, Polls
from pfs.errors import Kind, PfsError
from tests.fuseclient.asking import MAKE, READ, Kernel
from tests.pfs.world import kind_of

Run = Callable[[Callable[[], Awaitable[object]]], object]


class Poller:
    """Polls one open file as the kernel does, and counts how often it is woken."""

    def __init__(self, kernel: Kernel, fh: int) -> None:
        self._kernel = kernel
        self.fh = fh
        self.woken = 0

    async def ask(self, *, wait: bool = True) -> int:
        """Ask how it stands; with `wait`, to be woken later."""
        return await self._kernel.files.poll(self.fh, self._wake if wait else None)

    async def read(self, offset: int = 0) -> bytes:
        return await self._kernel.files.read(self.fh, offset, 100)

    def _wake(self) -> None:
        self.woken += 1


@asynccontextmanager
async def polled(path: str, flags: int = READ, text: bytes = b"one") -> AsyncIterator[tuple[Kernel, Poller]]:
    """Hold a file open in a mount that runs; `log` is a stream, `state` a text that changes."""
    kernel = Kernel()
    kernel.fs.put(path, text, stream=path == "log", volatile=path == "state")
    async with trio.open_nursery() as nursery:
        await nursery.start(kernel.ops.polls.run)
        fh = await kernel.open(f"dc1/{path}", flags)
        yield kernel, Poller(kernel, fh)
        if kernel.ops.tree.handles.is_open((await kernel.walk(f"dc1/{path}")).number):
            await kernel.files.release(fh)
        await trio.testing.wait_all_tasks_blocked()
        assert len(kernel.ops.polls) == 0
        nursery.cancel_scope.cancel()


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


def test_an_ordinary_file_can_always_be_read_and_written(run: Run) -> None:
    async def main() -> None:
        async with polled("plain", MAKE) as (kernel, poller):
            assert await poller.ask() == ALWAYS
            assert (len(kernel.ops.polls), kernel.fs.calls.get("changed", 0)) == (0, 0)

    run(main)


def test_a_file_whose_closing_is_a_command_can_always_be_written(run: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.fs.make_directory("drops")
        fh = await kernel.create("dc1/drops/a.yaml")
        assert await kernel.files.poll(fh, None) == ALWAYS

    run(main)


def test_a_stream_is_ready_while_there_are_bytes_that_were_not_read(run: Run) -> None:
    async def main() -> None:
        async with polled("log") as (kernel, poller):
            assert await poller.ask(wait=False) == BYTES
            assert await poller.read() == b"one"
            assert await poller.ask(wait=False) == 0
            kernel.fs.append("log", b"two")
            assert await poller.ask(wait=False) == BYTES
            assert await poller.read(3) == b"two"
            assert await poller.ask(wait=False) == 0

    run(main)


def test_a_stream_is_ready_at_its_end(run: Run) -> None:
    async def main() -> None:
        async with polled("log") as (kernel, poller):
            await poller.read()
            assert await poller.ask() == 0
            kernel.fs.finish("log")
            await settled()
            assert (poller.woken, await poller.ask()) == (1, BYTES)
            assert await poller.read(3) == b""
            assert await poller.ask(wait=False) == BYTES

    run(main)


def test_a_text_is_ready_until_its_present_version_was_read(run: Run) -> None:
    async def main() -> None:
        async with polled("state", text=b"WAITING\n") as (kernel, poller):
            assert await poller.ask() == NEWS
            assert await poller.read() == b"WAITING\n"
            assert await poller.ask() == 0
            kernel.fs.put("state", b"RUNNING\n", volatile=True)
            await settled()
            assert (poller.woken, await poller.ask()) == (1, NEWS)
            assert await poller.ask() == NEWS
            assert await poller.read() == b"RUNNING\n"
            assert await poller.ask() == 0

    run(main)


def test_two_openings_of_a_file_are_told_each_for_itself(run: Run) -> None:
    async def main() -> None:
        async with polled("state") as (kernel, first):
            second = Poller(kernel, await kernel.open("dc1/state"))
            await first.read()
            assert (await first.ask(), await second.ask()) == (0, NEWS)
            await second.read()
            assert await second.ask() == 0
            kernel.fs.put("state", b"two", volatile=True)
            await settled()
            assert (first.woken, second.woken) == (1, 1)
            await first.read()
            assert (await first.ask(), await second.ask()) == (0, NEWS)
            await kernel.files.release(second.fh)

    run(main)


@pytest.mark.parametrize("path", ["log", "state"])
def test_nothing_is_asked_while_nothing_happens(run: Run, path: str) -> None:
    async def main() -> None:
        async with polled(path) as (kernel, poller):
            await poller.read()
            await poller.ask()
            await settled()
            asked = dict(kernel.fs.calls)
            for _ in range(100):
                assert await poller.ask() == 0
                await settled()
            assert (kernel.fs.calls, len(kernel.ops.polls)) == (asked, 1)

    run(main)


def test_who_only_asks_leaves_nothing_behind(run: Run) -> None:
    async def main() -> None:
        async with polled("state") as (kernel, poller):
            await poller.read()
            assert await poller.ask(wait=False) == 0
            assert len(kernel.ops.polls) == 0

    run(main)


def test_it_is_woken_once_and_not_again_before_it_asks_again(run: Run) -> None:
    async def main() -> None:
        async with polled("log") as (kernel, poller):
            await poller.read()
            await poller.ask()
            for piece in (b"a", b"b", b"c"):
                kernel.fs.append("log", piece)
                await settled()
            assert (poller.woken, len(kernel.ops.polls)) == (1, 0)

    run(main)


def test_who_waits_for_edges_is_woken_again_without_asking_after_a_read(run: Run) -> None:
    async def main() -> None:
        async with polled("log", os.O_RDONLY | os.O_NONBLOCK) as (kernel, poller):
            assert await poller.ask() == BYTES  # and has something to wake it with
            assert await poller.read() == b"one"
            assert await kind_of(poller.read(3)) is Kind.WOULD_BLOCK
            await settled()
            assert poller.woken == 0
            kernel.fs.append("log", b"two")
            await settled()
            assert poller.woken == 1

    run(main)


def test_what_was_read_while_it_came_does_not_wake(run: Run) -> None:
    async def main() -> None:
        async with polled("log") as (kernel, poller):
            await poller.read()
            await poller.ask()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poller.read, 3)  # another thread of the program
                await settled()
                kernel.fs.append("log", b"two")
            await settled()
            if poller.woken == 0:  # the question was answered after the read
                assert await poller.ask() == 0

    run(main)


def test_a_file_of_whose_changes_nobody_tells_can_always_be_read(run: Run) -> None:
    async def main() -> None:
        async with polled("state") as (kernel, poller):
            await poller.read()
            kernel.fs.fail("changed", Kind.UNSUPPORTED)
            assert (await poller.ask(), await poller.ask()) == (ALWAYS, ALWAYS)
            assert (kernel.fs.calls["changed"], len(kernel.ops.polls)) == (1, 0)

    run(main)


def test_the_kernels_handle_is_let_go_when_it_was_woken_and_when_the_file_is_released(run: Run) -> None:
    class Handle:
        def notify(self) -> None:
            """Wake."""

    async def main() -> None:
        async with polled("log") as (kernel, poller):
            await poller.read()

            async def give() -> weakref.ref[Handle]:
                handle = Handle()
                assert await kernel.files.poll(poller.fh, handle.notify) == 0
                return weakref.ref(handle)

            first = await give()
            second = await give()
            gc.collect()
            assert (first() is None, second() is None) == (True, False)  # the later one takes its place
            kernel.fs.append("log", b"two")
            await settled()
            gc.collect()
            assert second() is None
            await poller.read(3)
            third = await give()
            await kernel.files.release(poller.fh)
            await settled()
            gc.collect()
            assert (third(), len(kernel.ops.polls)) == (None, 0)

    run(main)


@pytest.mark.parametrize("path", ["log", "state"])
def test_a_restart_of_the_server_wakes_nobody_for_good(run: Run, path: str) -> None:
    async def main() -> None:
        async with polled(path) as (kernel, poller):
            await poller.read()
            await poller.ask()
            await settled()
            kernel.fs.restart()
            kernel.fs.find(path).news()  # the question finds the server gone
            await settled()
            if path == "state":  # the new server does not know what was read
                assert (poller.woken, await poller.ask()) == (1, NEWS)
                assert await kind_of(poller.read(1)) is Kind.STALE
                assert await poller.read() == b"one"
            assert await poller.ask() == 0
            kernel.fs.put(path, b"onetwo", stream=path == "log", volatile=True)
            await settled()
            assert await poller.ask() != 0
            assert await poller.read() == b"onetwo"

    run(main)


@pytest.mark.parametrize("kind", [Kind.TIMED_OUT, Kind.NOT_FOUND, None])
def test_what_goes_wrong_is_for_the_read_to_tell(run: Run, kind: Kind | None) -> None:
    async def main() -> None:
        async with polled("state") as (kernel, poller):
            await poller.read()
            kernel.fs.fail("changed", kind)
            assert await poller.ask(wait=False) == NEWS

    run(main)


def test_a_server_that_does_not_answer_keeps_nobody_who_only_asks() -> None:
    async def main() -> None:
        async with polled("state") as (kernel, poller):
            await poller.read()
            kernel.fs.delay_s = 100 * ANSWER_S
            began_s = trio.current_time()
            assert await poller.ask() == 0
            assert trio.current_time() - began_s == pytest.approx(ANSWER_S)
            await trio.sleep(101 * ANSWER_S)
            kernel.fs.delay_s = 0.0
            kernel.fs.put("state", b"two", volatile=True)
            await trio.sleep(1)
            assert poller.woken == 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_so_many_are_waited_for_and_no_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls, "WATCHED_MAX", 1)

    async def main() -> None:
        async with polled("log") as (kernel, poller):
            other = Poller(kernel, await kernel.open("dc1/log"))
            for each in (poller, other):
                await each.read()
            assert await poller.ask() == 0
            assert await kind_of(other.ask()) is Kind.TOO_MANY
            assert await other.ask(wait=False) == 0
            await kernel.files.release(poller.fh)
            await settled()
            assert await other.ask() == 0
            await kernel.files.release(other.fh)

    run(main)


def test_it_is_not_asked_for_ever_what_is_read_all_the_time(run: Run) -> None:
    async def main() -> None:
        asked = 0
        event = trio.Event()

        async def ask(wait: bool) -> None:
            nonlocal asked
            asked += 1
            if not wait:
                raise PfsError(Kind.WOULD_BLOCK)
            await event.wait()

        watched, woken = Polls(), list[int]()
        async with trio.open_nursery() as nursery:
            await nursery.start(watched.run)
            assert await watched.poll(1, ask, lambda: woken.append(1)) is False
            await settled()
            watched.was_read(1, all_of_it=True)
            event.set()
            await settled()
            assert (asked, woken) == (3, [1])  # how it stands, what waited, and that again since it was read meanwhile
            nursery.cancel_scope.cancel()

    run(main)
