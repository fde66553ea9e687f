"""Bytes of the tree over connections that may be cut: what came is not asked for again, and given once.

It is written once, for event loops; `resumed` is the same for programs without one.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing
from typing import TypeVar

from pfs.client.immediate import each, lifted, now
from pfs.errors import Kind, PfsError

TRIES = 8  # without a byte between
PAUSE_S = 0.5  # before the second try; doubled for each that follows

T = TypeVar("T")
Pause = Callable[[float], Awaitable[None]]


async def resuming(
    opened: Callable[[int], AbstractAsyncContextManager[AsyncGenerator[bytes, None]]],
    pause: Pause,
    done: int = 0,
    size: int | None = None,
) -> AsyncGenerator[bytes, None]:
    """Give the bytes of a file or stream behind the first `done`, as they come.

    Args:
        opened: begins to give its bytes from a place on.
        pause: waits for some seconds.
        size: of the file; None where it is not known: such a one is told from its beginning on each time.

    Raises:
        PfsError: UNREACHABLE when several tries in turn brought nothing; and what the server says.
    """
    tried = 0
    while size is None or done < size:
        skip, start = (done, 0) if size is None else (0, done)
        try:
            async with opened(start) as pieces:
                async for piece in pieces:
                    fresh, skip = piece[skip:], max(0, skip - len(piece))
                    tried = 0
                    done += len(fresh)
                    yield fresh
            return
        except PfsError as error:
            tried += 1
            if error.kind is not Kind.UNREACHABLE or tried >= TRIES:
                raise
        await pause(PAUSE_S * 2 ** (tried - 1))


def resumed(
    opened: Callable[[int], AbstractContextManager[Iterator[bytes]]],
    done: int = 0,
    size: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """Give what `resuming` gives, from what blocks."""
    return each(resuming(lambda start: lifted(opened(start)), pausing(sleep), done, size))


async def asking_again(ask: Callable[[], Awaitable[T]], pause: Pause) -> T:
    """Return the answer to a question that does no harm twice, asked again where nobody answers."""
    tried = 0
    while True:
        try:
            return await ask()
        except PfsError as error:
            tried += 1
            if error.kind is not Kind.UNREACHABLE or tried >= TRIES:
                raise
        await pause(PAUSE_S * 2 ** (tried - 1))


def asked_again(ask: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Return what `asking_again` returns, from what blocks."""

    async def asked() -> T:
        return ask()

    return now(asking_again(asked, pausing(sleep)))


def pausing(sleep: Callable[[float], None]) -> Pause:
    """Give a pause that blocks to what is written for event loops."""

    async def pause(seconds: float) -> None:
        sleep(seconds)

    return pause


async def whole(pieces: AsyncGenerator[bytes, None]) -> bytes:
    """Return all that comes."""
    async with aclosing(pieces):
        return b"".join([piece async for piece in pieces])
