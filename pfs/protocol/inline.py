"""Run a coroutine in the task that is at hand, and notice when it has to wait.

Most questions are answered without waiting for anything. To start a task for each costs more than the answer; whoever
runs them here needs none, and hands what else it has to do to another task only when one of them waits.
"""

import functools
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def noticing(coroutine: Coroutine[Any, Any, T], waits: Callable[[], None]) -> Generator[Any, Any, T]:
    """Await `coroutine`; call `waits`, which must not raise, before it waits for the first time.

    It runs in the same task all along: what it opens and what cancels it is the caller's.
    """
    step = functools.partial(coroutine.send, None)
    noticed = False
    while True:
        try:
            wish = step()
        except StopIteration as end:
            found: T = end.value
            return found
        if not noticed:
            noticed = True
            waits()
        try:
            step = functools.partial(coroutine.send, (yield wish))
        except BaseException as error:
            step = functools.partial(coroutine.throw, error)
