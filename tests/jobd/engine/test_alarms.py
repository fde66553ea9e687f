"""Deadlines."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobd.engine.alarms import Alarms, sleeper

SECOND_NS = 10**9


def ring_all(*settings: tuple[str, int | None]) -> list[tuple[str, int]]:
    """Set and drop (None) alarms; return who was reminded at which second of ten."""
    rung: list[tuple[str, int]] = []

    async def main() -> None:
        def clock() -> int:
            return round(trio.current_time() * SECOND_NS)

        start_ns = clock()
        alarms: Alarms[str] = Alarms(
            clock, sleeper(clock), lambda key: rung.append((key, round((clock() - start_ns) / SECOND_NS)))
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarms.run)
            await wait_all_tasks_blocked()
            for key, at_s in settings:
                if at_s is None:
                    alarms.drop(key)
                else:
                    alarms.set(key, start_ns + at_s * SECOND_NS)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return rung


def test_each_is_reminded_at_its_time_in_whatever_order_they_were_set():
    assert ring_all(("late", 5), ("soon", 1), ("between", 3)) == [("soon", 1), ("between", 3), ("late", 5)]


def test_who_is_set_anew_is_reminded_once_at_the_new_time():
    assert ring_all(("a", 1), ("a", 4), ("b", 2)) == [("b", 2), ("a", 4)]
    assert ring_all(("a", 4), ("a", 1)) == [("a", 1)]
    assert ring_all(("a", 1), ("a", 4), ("a", 1)) == [("a", 1)]


def test_who_is_dropped_is_not_reminded():
    assert ring_all(("a", 1), ("b", 2), ("a", None)) == [("b", 2)]


def test_what_is_over_already_is_reminded_at_once():
    assert ring_all(("a", -5)) == [("a", 0)]
