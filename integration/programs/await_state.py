"""Waits in one of Python's ways until a job's `state` says one of the words: await_state.py WAY PATH WORD…"""

import asyncio
import os
import select
import selectors
import sys
from collections.abc import Callable


def by_poll(state: int) -> None:
    """Wait by poll(2)."""
    poll = select.poll()
    poll.register(state, select.POLLPRI)
    poll.poll()


def by_select(state: int) -> None:
    """Wait by select(2)."""
    select.select([], [], [state])


def by_epoll(state: int) -> None:
    """Wait by epoll(7)."""
    with select.epoll() as epoll:
        epoll.register(state, select.EPOLLPRI)
        epoll.poll()


def by_selectors(state: int) -> None:
    """Wait as most programs do."""
    with selectors.DefaultSelector() as selector:
        selector.register(state, selectors.EVENT_READ)
        selector.select()


def follow(wait: Callable[[int], None], path: str, words: list[str]) -> None:
    """Read the state whenever there is another one."""
    state = os.open(path, os.O_RDONLY)
    while (word := os.pread(state, 64, 0).decode().strip()) not in words:
        print(word, flush=True)
        wait(state)
    print(word, flush=True)


async def follow_by_asyncio(path: str, words: list[str]) -> None:
    """Do the same in an event loop."""
    state, over = os.open(path, os.O_RDONLY), asyncio.Event()

    def look() -> None:
        word = os.pread(state, 64, 0).decode().strip()
        print(word, flush=True)
        if word in words:
            over.set()

    asyncio.get_running_loop().add_reader(state, look)
    await over.wait()


def follow_by_edges(path: str, words: list[str]) -> None:
    """Do the same by the edges of epoll: one registration, which stays."""
    state = os.open(path, os.O_RDONLY)
    with select.epoll() as epoll:
        epoll.register(state, select.EPOLLPRI | select.EPOLLET)
        while epoll.poll():
            word = os.pread(state, 64, 0).decode().strip()
            print(word, flush=True)
            if word in words:
                return


if __name__ == "__main__":
    way, path, *words = sys.argv[1:]
    ways = {"poll": by_poll, "select": by_select, "epoll": by_epoll, "selectors": by_selectors}
    if way == "asyncio":
        asyncio.run(follow_by_asyncio(path, words))
    elif way == "edges":
        follow_by_edges(path, words)
    else:
        follow(ways[way], path, words)
