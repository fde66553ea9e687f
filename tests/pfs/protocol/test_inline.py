"""A coroutine runs in its caller's task, and the caller hears when it has to wait."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from pfs.protocol.inline import noticing

Run = Callable[[Callable[[], Awaitable[None]]], None]


async def after(steps: int, value: str) -> str:
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    return value


@pytest.mark.parametrize(("steps", "noticed"), [(0, 0), (1, 1), (5, 1)])
def test_who_waits_is_noticed_once_and_who_does_not_never(run: Run, steps: int, noticed: int) -> None:
    async def main() -> None:
        told: list[bool] = []
        assert await noticing(after(steps, "value"), lambda: told.append(True)) == "value"
        assert len(told) == noticed

    run(main)


def test_it_is_noticed_before_anybody_else_runs(run: Run) -> None:
    async def main() -> None:
        order: list[str] = []

        async def other() -> None:
            order.append("other")

        async with trio.open_nursery() as nursery:

            def waits() -> None:
                order.append("noticed")
                nursery.start_soon(other)

            await noticing(after(3, ""), waits)
        assert order == ["noticed", "other"]

    run(main)


@pytest.mark.parametrize("steps", [0, 2])
def test_an_error_comes_out(run: Run, steps: int) -> None:
    async def fails() -> None:
        await after(steps, "")
        raise KeyError("reason")

    async def main() -> None:
        with pytest.raises(KeyError, match="reason"):
            await noticing(fails(), lambda: None)

    run(main)


def test_what_it_opens_is_its_caller_s(run: Run) -> None:
    """Cancel scopes inside and outside hold for it, before and after it has waited."""

    async def stays(outer: trio.CancelScope, cleaned: list[bool]) -> None:
        with trio.move_on_after(0) as inner:
            await trio.sleep_forever()
        assert inner.cancelled_caught
        outer.cancel()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
        finally:
            cleaned.append(True)

    async def main() -> None:
        cleaned: list[bool] = []
        with trio.CancelScope() as outer:
            await noticing(stays(outer, cleaned), lambda: None)
        assert outer.cancelled_caught
        assert cleaned

    run(main)
