"""Reads that wait: they end with their data, or when their reader is sent a signal."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest
import trio
import trio.testing

from fuseclient.kernel import held, procs
from fuseclient.kernel.held import HeldReads, Interrupted
from fuseclient.kernel.procs import Holder
from pfs.errors import Kind, PfsError

Run = Callable[[Callable[[], Awaitable[object]]], object]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leaves its signals waiting, as one does that waits for us."""
    monkeypatch.setattr(procs, "waits_for_fuse", lambda tid, proc="": True)
    with subprocess.Popen(["sleep", "60"]) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        yield process
        process.kill()


PATIENCE_S = 5.0
LONG_ENOUGH_TO_BE_SEEN_S = 0.3


async def hold_while(
    reads: HeldReads, opener: int, do: Callable[[], Awaitable[None]], patience_s: float = PATIENCE_S
) -> str:
    """Hold a read that never ends by itself while `do` runs; tell how it ended, after `patience_s` at the latest."""
    how, ended = "cancelled", trio.Event()

    async def read() -> None:
        nonlocal how
        try:
            await reads.hold(1000, "dc1/log", opener, trio.sleep_forever)
        except Interrupted:
            how = "interrupted"
            ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reads.watch)
        nursery.start_soon(read)
        await do()
        with trio.move_on_after(patience_s):
            await ended.wait()
        nursery.cancel_scope.cancel()
    return how


def test_a_read_returns_what_was_read(run: Run) -> None:
    async def main() -> None:
        async def read() -> bytes:
            return b"data"

        reads = HeldReads()
        assert await reads.hold(1000, "dc1/log", os.getpid(), read) == b"data"
        assert len(reads) == 0

    run(main)


def test_an_error_of_the_read_is_passed_on(run: Run) -> None:
    async def main() -> None:
        async def read() -> bytes:
            raise PfsError(Kind.STALE)

        with pytest.raises(PfsError):
            await HeldReads().hold(1000, "dc1/log", os.getpid(), read)

    run(main)


def test_a_signal_for_the_reader_ends_the_read(run: Run, reader: subprocess.Popen[bytes]) -> None:
    async def send() -> None:
        reader.send_signal(signal.SIGTERM)

    assert run(lambda: hold_while(HeldReads(), reader.pid, send)) == "interrupted"


def test_without_a_signal_the_read_goes_on(run: Run, reader: subprocess.Popen[bytes]) -> None:
    how = run(lambda: hold_while(HeldReads(), reader.pid, trio.lowlevel.checkpoint, LONG_ENOUGH_TO_BE_SEEN_S))
    assert how == "cancelled"


def test_nothing_stays_open_of_readers_that_are_gone(run: Run, reader: subprocess.Popen[bytes]) -> None:
    async def main() -> None:
        reads = HeldReads()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads.watch)
            await trio.to_thread.run_sync(int)  # makes the thread that looks, and what that needs
            before = len(os.listdir("/proc/self/fd"))
            with trio.move_on_after(0.2):
                await reads.hold(1000, "dc1/log", reader.pid, trio.sleep_forever)
            await trio.sleep(0.05)
            assert len(os.listdir("/proc/self/fd")) == before
            nursery.cancel_scope.cancel()

    run(main)


def test_a_reader_who_is_not_the_opener_is_found(
    run: Run, reader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procs, "waits_for_fuse", lambda tid, proc="": tid == reader.pid)
    monkeypatch.setattr(procs, "holders", lambda wanted, proc="": {1000: [Holder(reader.pid, False)]})

    async def send() -> None:
        reader.send_signal(signal.SIGTERM)

    assert run(lambda: hold_while(HeldReads(), os.getpid(), send)) == "interrupted"


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "searched for"])
def test_of_many_readers_of_one_file_only_the_one_with_a_signal_is_let_go(
    monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    monkeypatch.setattr(procs, "waits_for_fuse", lambda tid, proc="": True)
    asked: list[int] = []
    monkeypatch.setattr(procs, "threads", lambda pid, proc="": asked.append(pid) or [pid])
    found = held._find_signalled if is_known else lambda reads, now_s: []
    monkeypatch.setattr(held, "_find_signalled", found)

    async def main(readers: list[int]) -> list[int]:
        reads, ended, over = HeldReads(), list[int](), trio.Event()
        reads.be_told(True)

        async def read(pid: int) -> None:
            try:
                await reads.hold(1000, "dc1/log", pid, trio.sleep_forever)
            except Interrupted:
                ended.append(pid)
                over.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads.watch)
            for pid in readers:
                nursery.start_soon(read, pid)
            await trio.testing.wait_all_tasks_blocked()
            os.kill(readers[7], signal.SIGTERM)
            reads.hear()
            with trio.fail_after(PATIENCE_S):
                await over.wait()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return ended

    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(["sleep", "60"])) for _ in range(20)]
        readers = [each.pid for each in processes]
        monkeypatch.setattr(procs, "holders", lambda wanted, proc="": {1000: [Holder(pid, False) for pid in readers]})
        processes[7].send_signal(signal.SIGSTOP)  # it leaves its signals waiting
        os.waitpid(readers[7], os.WUNTRACED)
        ended = trio.run(main, readers)
        for each in processes:
            each.kill()
    assert ended == [readers[7]]
    assert len(asked) == (0 if is_known else len(readers))  # each holder once, and not once for each read


@pytest.mark.parametrize("of_opener", [None, True], ids=["runs at that moment", "waits for another answer"])
def test_an_opener_who_seems_to_wait_does_not_hide_the_reader(
    run: Run, reader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, of_opener: bool | None
) -> None:
    monkeypatch.setattr(procs, "waits_for_fuse", lambda tid, proc="": True if tid == reader.pid else of_opener)
    monkeypatch.setattr(procs, "holders", lambda wanted, proc="": {1000: [Holder(reader.pid, False)]})
    reads = HeldReads()
    reads.be_told(True)
    monkeypatch.setattr(held, "LOOK_SELDOM_S", 0.2)

    async def look_and_send() -> None:
        await trio.sleep(LONG_ENOUGH_TO_BE_SEEN_S)
        monkeypatch.setattr(held, "LOOK_SELDOM_S", 60.0)
        reader.send_signal(signal.SIGTERM)
        reads.hear()

    assert run(lambda: hold_while(reads, os.getpid(), look_and_send)) == "interrupted"


def test_a_reader_whom_nobody_finds_is_let_go_after_15_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procs, "waits_for_fuse", lambda tid, proc="": False)
    monkeypatch.setattr(procs, "holders", lambda wanted, proc="": {1000: []})

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            reads = HeldReads()
            nursery.start_soon(reads.watch)
            with pytest.raises(Interrupted):
                await reads.hold(1000, "dc1/log", os.getpid(), trio.sleep_forever)
            assert trio.current_time() >= held.UNKNOWN_READER_S
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(rate=1000))


def test_who_is_told_of_signals_looks_when_there_is_one_and_hardly_ever_else(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    monkeypatch.setattr(held, "_find_signalled", lambda reads, now_s: looks.append(now_s) or reads)

    async def main() -> None:
        reads = HeldReads()
        reads.be_told(True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads.watch)
            nursery.start_soon(end_when_heard, reads)
            with pytest.raises(Interrupted):
                await reads.hold(1000, "dc1/log", os.getpid(), trio.sleep_forever)
            nursery.cancel_scope.cancel()

    async def end_when_heard(reads: HeldReads) -> None:
        await trio.sleep(held.LOOK_SELDOM_S / 2)
        assert looks == []
        reads.hear()

    trio.run(main, clock=trio.testing.MockClock(rate=20))
    assert len(looks) == 1


def test_what_only_sounds_like_a_signal_however_often_makes_a_look_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[float] = []
    monkeypatch.setattr(held, "_find_signalled", lambda reads, now_s: looks.append(now_s) or [])

    async def main() -> float:
        reads = HeldReads()
        reads.be_told(True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads.watch)
            nursery.start_soon(reads.hold, 1000, "dc1/log", os.getpid(), trio.sleep_forever)
            began_s = trio.current_time()
            for _ in range(200):
                await trio.sleep(held.LOOK_EVERY_S / 10)
                reads.hear()
            nursery.cancel_scope.cancel()
        return trio.current_time() - began_s

    lasted_s = trio.run(main, clock=trio.testing.MockClock(rate=2))
    assert 1 <= len(looks) <= lasted_s / held.LOOK_EVERY_S + 2


def test_when_a_signal_was_found_the_next_one_is_looked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = [threading.Event(), threading.Event()]
    looks = iter(looked)

    def find(reads: list[held._Held], now_s: float) -> list[held._Held]:
        next(looks).set()
        return reads[:1]

    monkeypatch.setattr(held, "_find_signalled", find)

    async def main() -> None:
        reads = HeldReads()
        reads.be_told(True)

        async def read() -> None:
            with pytest.raises(Interrupted):
                await reads.hold(1000, "dc1/log", os.getpid(), trio.sleep_forever)

        async with trio.open_nursery() as nursery:
            for _ in looked:
                nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(reads.watch)
            for each in looked:
                reads.hear()
                assert await trio.to_thread.run_sync(each.wait, PATIENCE_S)
                while each is looked[0] and len(reads) == len(looked):
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(rate=0))


def test_a_read_that_comes_in_just_after_its_signal_is_ended(run: Run, reader: subprocess.Popen[bytes]) -> None:
    async def main() -> None:
        reads = HeldReads()
        reads.be_told(True)
        reader.send_signal(signal.SIGTERM)
        reads.hear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads.watch)
            await trio.sleep(LONG_ENOUGH_TO_BE_SEEN_S)
            with pytest.raises(Interrupted), trio.fail_after(held.LOOK_SELDOM_S / 2):
                await reads.hold(1000, "dc1/log", reader.pid, trio.sleep_forever)
            nursery.cancel_scope.cancel()

    run(main)


def test_a_word_of_the_kernel_that_was_lost_is_made_up_for(
    reader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "LOOK_SELDOM_S", 0.2)
    reads = HeldReads()
    reads.be_told(True)

    async def send() -> None:
        reader.send_signal(signal.SIGTERM)

    assert trio.run(hold_while, reads, reader.pid, send) == "interrupted"


def test_nothing_is_looked_at_while_nothing_waits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    looked = trio.Event()
    monkeypatch.setattr(held, "LOOK_EVERY_S", 0.001)

    def look(reads: list[held._Held], now_s: float) -> list[held._Held]:
        looks.append(len(reads))
        if len(looks) > 1:
            trio.from_thread.run_sync(looked.set)
        return []

    monkeypatch.setattr(held, "_find_signalled", look)

    async def read() -> bytes:
        await looked.wait()
        return b""

    async def main() -> None:
        reads = HeldReads()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads.watch)
            await reads.hold(1000, "dc1/log", os.getpid(), read)
            seen = len(looks)
            await trio.sleep(0.05)
            assert len(looks) <= seen + 1
            nursery.cancel_scope.cancel()

    run(main)


def test_a_defect_in_looking_does_not_end_it(
    run: Run, reader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    find, calls = held._find_signalled, []

    def fail_once(reads: list[held._Held], now_s: float) -> list[held._Held]:
        calls.append(now_s)
        if len(calls) == 1:
            raise RuntimeError("a defect")
        return find(reads, now_s)

    monkeypatch.setattr(held, "_find_signalled", fail_once)
    reader.send_signal(signal.SIGTERM)
    assert run(lambda: hold_while(HeldReads(), reader.pid, trio.lowlevel.checkpoint)) == "interrupted"


def test_too_many_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "HELD_MAX", 2)

    async def main() -> None:
        reads = HeldReads()
        hold = partial(reads.hold, 1000, "dc1/log", os.getpid(), trio.sleep_forever)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(hold)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(PfsError) as caught:
                await hold()
            assert caught.value.kind is Kind.TOO_MANY
            nursery.cancel_scope.cancel()

    run(main)
