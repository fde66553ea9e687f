"""What is written for event loops runs at once, as long as it never waits."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio

from pfs.client.immediate import each, entered, lifted, now


async def three() -> int:
    return 3


async def count(closed: list[str], most: int) -> AsyncGenerator[int, None]:
    try:
        for number in range(most):
            yield number + await three()
    finally:
        closed.append("closed")


def test_it_returns_and_raises_what_the_coroutine_does() -> None:
    assert now(three()) == 3

    async def wrong() -> None:
        raise LookupError("what")

    with pytest.raises(LookupError, match="what"):
        now(wrong())


def test_what_waits_for_an_event_loop_is_a_defect() -> None:
    async def waits() -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()

    with pytest.raises(AssertionError, match="it waits"):
        now(waits())


def test_values_are_given_one_by_one_and_no_more_than_are_taken() -> None:
    closed: list[str] = []
    assert list(each(count(closed, 3))) == [3, 4, 5]
    assert closed == ["closed"]
    held = count(closed, 3)
    values = each(held)
    assert next(values) == 3
    assert len(closed) == 1
    values.close()  # type: ignore[attr-defined]
    assert len(closed) == 2


def test_a_context_ends_with_its_block_and_hears_what_was_wrong_in_it() -> None:
    heard: list[str] = []

    @asynccontextmanager
    async def context(*, passes: bool) -> AsyncIterator[int]:
        try:
            yield await three()
        except LookupError:
            heard.append("wrong")
            if not passes:
                raise
        finally:
            heard.append("end")

    with entered(context(passes=False)) as value:
        assert (value, heard) == (3, [])
    assert heard == ["end"]
    with pytest.raises(LookupError), entered(context(passes=False)):
        raise LookupError
    with entered(context(passes=True)):
        raise LookupError
    assert heard == ["end", "wrong", "end", "wrong", "end"]


def test_what_blocks_is_given_to_an_event_loop() -> None:
    ended: list[str] = []

    @contextmanager
    def context() -> Iterator[Iterator[int]]:
        yield iter([1, 2])
        ended.append("ended")

    async def main() -> list[int]:
        async with lifted(context()) as values:
            return [value async for value in values]

    assert (now(main()), ended) == ([1, 2], ["ended"])
