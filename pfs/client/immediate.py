"""Coroutines that never wait, run at once: what is written once for event loops serves programs without one, too.

All that such a coroutine awaits does its work before it returns. So it ends in its first step, no event loop is loaded,
and what it raises comes to the caller.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, TypeVar

T = TypeVar("T")


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine that never waits returns."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError("it waits for an event loop")


def each(values: AsyncGenerator[T, None]) -> Iterator[T]:
    """Give what an asynchronous generator that never waits gives; it is closed with this one."""
    try:
        while True:
            try:
                value = now(values.__anext__())
            except StopAsyncIteration:
                return
            yield value
    finally:
        now(values.aclose())


@contextmanager
def entered(manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Hold an asynchronous context manager that never waits while the block runs."""
    value = now(manager.__aenter__())
    try:
        yield value
    except BaseException as error:
        if not now(manager.__aexit__(type(error), error, error.__traceback__)):
            raise
    else:
        now(manager.__aexit__(None, None, None))


@asynccontextmanager
async def lifted(manager: AbstractContextManager[Iterable[T]]) -> AsyncIterator[AsyncGenerator[T, None]]:
    """Give what comes in a context manager that blocks to what is written for event loops."""
    with manager as values:
        async with aclosing(_given(values)) as given:
            yield given


async def _given(values: Iterable[T]) -> AsyncGenerator[T, None]:
    for value in values:
        yield value
