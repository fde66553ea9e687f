"""Waiting for the kernel's requests, on a pair of sockets and a clock that stands still."""

import logging
import socket
from collections.abc import Iterator
from typing import Any

import pyfuse3
import pytest
import trio
import trio.testing

from fuseclient.kernel import seam
from fuseclient.kernel.seam import Listener, Turn, Waiting, polling

FOREVER_S = 30
Pair = tuple[socket.socket, socket.socket]


class Clock:
    """What the module takes for the time; `step_s` passes whenever somebody looks."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.step_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(seam, "perf_counter", clock)
    return clock


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


class Turns(trio.abc.Instrument):
    """Counts how often a task went through the scheduler, and so let the others have their turn."""

    def __init__(self) -> None:
        self.count = 0
        self._task = trio.lowlevel.current_task()

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self._task


async def turns_while(waiting: Waiting, fd: int, requests: int) -> int:
    """Wait so often; return how many turns the others had."""
    with trio.fail_after(FOREVER_S):
        await waiting.wait_readable(fd)  # begins with a turn for everybody
        turns = Turns()
        trio.lowlevel.add_instrument(turns)
        for _ in range(requests):
            await waiting.wait_readable(fd)
        trio.lowlevel.remove_instrument(turns)
    return turns.count


# -- hearing ---------------------------------------------------------------------------------------------------------


@trio.testing.trio_test
async def test_what_is_taken_without_a_handler_being_asked_is_word_of_a_signal(pair: Pair) -> None:
    asked, heard = 0, []
    waiting = Waiting(Listener(lambda: asked, lambda _: None, lambda: heard.append(asked)))
    pair[1].send(b"x")
    for unasked in (1, 3):  # numbers of the requests of which no handler is asked
        for number in range(5):
            await waiting.wait_readable(pair[0].fileno())
            asked += number != unasked
    await waiting.wait_readable(pair[0].fileno())
    assert heard == [1, 7]


def test_who_listens_is_told_whether_anything_will_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bool] = []
    listener = Listener(int, heard.append, lambda: None)
    with polling(listener=listener), polling(enabled=False, listener=listener):
        pass
    monkeypatch.setattr(pyfuse3, "trio", None)
    with polling(listener=listener):
        pass
    assert heard == [True, False, False]


# -- waiting ---------------------------------------------------------------------------------------------------------


@trio.testing.trio_test
async def test_what_is_there_is_taken_without_the_scheduler(clock: Clock, pair: Pair) -> None:
    pair[1].send(b"x")
    assert await turns_while(Waiting(), pair[0].fileno(), seam.REQUESTS_MAX - 1) == 0


@trio.testing.trio_test
async def test_after_sixteen_requests_the_others_have_their_turn(clock: Clock, pair: Pair) -> None:
    pair[1].send(b"x")
    assert await turns_while(Waiting(), pair[0].fileno(), seam.REQUESTS_MAX) == 1
    assert await turns_while(Waiting(), pair[0].fileno(), 10 * seam.REQUESTS_MAX) == 10


@trio.testing.trio_test
async def test_slow_answers_give_the_others_their_turn_earlier(clock: Clock, pair: Pair) -> None:
    pair[1].send(b"x")
    clock.step_s = 2 * seam.YIELD_S
    assert await turns_while(Waiting(), pair[0].fileno(), 5) == 5


@trio.testing.trio_test
async def test_timers_go_off_and_data_comes_while_requests_do_not_cease(pair: Pair) -> None:
    pair[1].send(b"x")
    a, b = trio.testing.memory_stream_pair()
    waiting, heard = Waiting(), b""

    async def ask() -> None:
        while True:
            await waiting.wait_readable(pair[0].fileno())

    async def talk() -> None:
        for _ in range(20):
            await trio.sleep(0.0001)
            await a.send_all(b"1")

    with trio.fail_after(FOREVER_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(talk)
            while len(heard) < 20:
                heard += await b.receive_some()
            nursery.cancel_scope.cancel()


@trio.testing.trio_test
async def test_it_sleeps_until_something_comes(pair: Pair) -> None:
    ours, theirs = pair
    waiting, came = Waiting(), []

    async def wait() -> None:
        await waiting.wait_readable(ours.fileno())
        came.append(ours.recv(1))

    with trio.fail_after(FOREVER_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert came == []
            theirs.send(b"x")
    assert came == [b"x"]


@trio.testing.trio_test
async def test_the_next_question_is_waited_for_at_the_device_for_a_moment(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, pair: Pair
) -> None:
    ours, theirs = pair
    waiting, stayed_s = Waiting(), []

    def select(*what: Any) -> tuple[list[int], list[int], list[int]]:
        stayed_s.append(what[-1])
        theirs.send(b"x")
        return [ours.fileno()], [], []

    monkeypatch.setattr("select.select", select)
    theirs.send(b"x")
    async with waiting.Lock():
        await waiting.wait_readable(ours.fileno())
        for _ in range(3):
            ours.recv(1)
            await waiting.wait_readable(ours.fileno())
    assert stayed_s == [seam.STAY_S] * 3


@trio.testing.trio_test
async def test_nobody_stays_at_the_device_when_the_loop_has_something_to_do(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, pair: Pair
) -> None:
    monkeypatch.setattr(seam, "STAY_S", FOREVER_S)
    a, b = socket.socketpair()
    waiting, heard = Waiting(), []
    pair[1].send(b"x")
    await waiting.wait_readable(pair[0].fileno())  # begins with a turn for everybody
    pair[0].recv(1)

    async def listen() -> None:
        await trio.lowlevel.wait_readable(a)
        heard.append(a.recv(1))
        pair[1].send(b"x")

    with a, b:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            b.send(b"y")
            await waiting.wait_readable(pair[0].fileno())
    assert heard == [b"y"]


@trio.testing.trio_test
async def test_nobody_stays_at_the_device_while_a_task_can_run(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, pair: Pair
) -> None:
    monkeypatch.delattr("select.select")
    waiting = Waiting()

    async def work() -> None:
        pair[1].send(b"x")

    with trio.fail_after(FOREVER_S):
        async with trio.open_nursery() as nursery:
            pair[1].send(b"x")
            await waiting.wait_readable(pair[0].fileno())
            pair[0].recv(1)
            nursery.start_soon(work)
            await waiting.wait_readable(pair[0].fileno())


@trio.testing.trio_test
async def test_a_loop_that_cannot_be_looked_at_is_waited_for(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    monkeypatch.setattr(seam, "_loop", lambda: (-1, ()))
    monkeypatch.delattr("select.select")
    with trio.move_on_after(0.01) as scope:
        await Waiting().wait_readable(pair[0].fileno())
    assert scope.cancelled_caught


@trio.testing.trio_test
async def test_the_end_of_the_other_side_is_something(pair: Pair) -> None:
    pair[1].close()
    with trio.fail_after(FOREVER_S):
        await Waiting().wait_readable(pair[0].fileno())


@trio.testing.trio_test
async def test_another_descriptor_is_looked_at_from_then_on(pair: Pair) -> None:
    waiting = Waiting()
    pair[1].send(b"x")
    with trio.fail_after(FOREVER_S):
        await waiting.wait_readable(pair[0].fileno())
        first, second = socket.socketpair()
        with first, second, trio.move_on_after(0.05) as scope:
            await waiting.wait_readable(first.fileno())
    assert scope.cancelled_caught


@trio.testing.trio_test
async def test_who_waits_can_be_cancelled_also_when_requests_do_not_cease(pair: Pair) -> None:
    pair[1].send(b"x")
    waiting = Waiting()
    with trio.fail_after(FOREVER_S), trio.CancelScope() as scope:
        scope.cancel()
        for _ in range(seam.REQUESTS_MAX + 1):
            await waiting.wait_readable(pair[0].fileno())
    assert scope.cancelled_caught


# -- the lock --------------------------------------------------------------------------------------------------------


@trio.testing.trio_test
async def test_only_one_holds_it() -> None:
    turn, inside, seen = Turn(), 0, []

    async def work() -> None:
        nonlocal inside
        for _ in range(5):
            async with turn:
                inside += 1
                await trio.lowlevel.checkpoint()
                seen.append(inside)
                inside -= 1
            await trio.lowlevel.checkpoint()

    with trio.fail_after(FOREVER_S):
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(work)
    assert seen == [1] * 40


@trio.testing.trio_test
async def test_its_holder_takes_it_again_without_the_scheduler() -> None:
    turn, order = Turn(), []

    async def other() -> None:
        async with turn:
            order.append("other")

    with trio.fail_after(FOREVER_S):
        async with trio.open_nursery() as nursery:
            async with turn:
                nursery.start_soon(other)
                await trio.testing.wait_all_tasks_blocked()
            for _ in range(3):
                async with turn:
                    order.append("holder")
    assert order == ["holder", "holder", "holder", "other"]


@trio.testing.trio_test
async def test_when_its_holder_waits_for_something_else_the_next_one_has_it() -> None:
    turn, order = Turn(), []

    async def work(name: str, answer: trio.Event) -> None:
        async with turn:
            order.append(name)
        await answer.wait()

    with trio.fail_after(FOREVER_S):
        answer = trio.Event()
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(work, name, answer)
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(order) == ["a", "b", "c"]
            answer.set()


@trio.testing.trio_test
async def test_who_is_cancelled_while_it_is_woken_passes_it_on() -> None:
    turn, order = Turn(), []

    async def work(name: str, scope: trio.CancelScope) -> None:
        with scope:
            async with turn:
                await trio.lowlevel.checkpoint()
                order.append(name)

    with trio.fail_after(FOREVER_S):
        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in "ab"]
            async with turn:
                for name, scope in zip("ab", scopes, strict=True):
                    nursery.start_soon(work, name, scope)
                    await trio.testing.wait_all_tasks_blocked()
            scopes[0].cancel()
    assert order == ["b"]


@trio.testing.trio_test
async def test_who_is_cancelled_while_it_waits_is_not_woken() -> None:
    turn, order = Turn(), []

    async def work(name: str) -> None:
        async with turn:
            order.append(name)

    with trio.fail_after(FOREVER_S):
        async with trio.open_nursery() as nursery, turn:
            with trio.move_on_after(0):
                await work("a")
            nursery.start_soon(work, "b")
            await trio.testing.wait_all_tasks_blocked()
    assert order == ["b"]


# -- in pyfuse3 ------------------------------------------------------------------------------------------------------


def test_pyfuse3_waits_this_way_inside_of_the_context_unless_it_is_switched_off() -> None:
    module: Any = pyfuse3
    with polling() as on:
        assert on
        assert type(module.trio) is Waiting
    with polling(enabled=False) as on:
        assert not on
        assert module.trio is trio


def test_a_pyfuse3_that_takes_trio_from_elsewhere_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fuseclient.kernel.seam")
    monkeypatch.delattr(pyfuse3, "trio")
    with polling() as on:
        assert not on
        assert not hasattr(pyfuse3, "trio")
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_the_rest_is_trio() -> None:
    waiting = Waiting()
    for name in ("open_nursery", "ClosedResourceError"):
        assert getattr(waiting, name) is getattr(trio, name)
    for name in ("current_task", "current_trio_token", "notify_closing"):
        assert getattr(waiting.lowlevel, name) is getattr(trio.lowlevel, name)


def test_what_trio_does_not_have_is_not_there() -> None:
    with pytest.raises(AttributeError):
        Waiting().nonsense  # noqa: B018
