"""Bytes of the tree over connections that may be cut: what came is not asked for again, and given once."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from pfs.errors import Kind, PfsError

TRIES = 8  # without a byte between
PAUSE_S = 0.5  # before the second try; doubled for each that follows


def resumed(
    opened: Callable[[int], AbstractContextManager[Iterator[bytes]]],
    done: int = 0,
    size: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """Give the bytes of a file or stream behind the first `done`, as they come.

    Args:
        opened: begins to give its bytes from a place on.
        size: of the file; None where it is not known: such a one is told from its beginning on each time.

    Raises:
        PfsError: UNREACHABLE when several tries in turn brought nothing; and what the server says.
    """
    tried = 0
    while size is None or done < size:
        skip, start = (done, 0) if size is None else (0, done)
        try:
            with opened(start) as pieces:
                for piece in pieces:
                    fresh, skip = piece[skip:], max(0, skip - len(piece))
                    tried = 0
                    done += len(fresh)
                    yield fresh
            return
        except PfsError as error:
            tried += 1
            if error.kind is not Kind.UNREACHABLE or tried >= TRIES:
                raise
        sleep(PAUSE_S * 2 ** (tried - 1))
