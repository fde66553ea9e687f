"""What the services of the SDK need of a program: a way to the tree of a datacenter, a clock, and where to block."""

import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from pfs.client.http11 import Body
from pfs.client.immediate import lifted, now

P = ParamSpec("P")
T = TypeVar("T")


class Blocking(Protocol):
    """The tree for who may block (`pfs.client.web.WebClient`)."""

    def read(self, path: str) -> bytes: ...

    def stream(
        self, path: str, start: int = 0, silence_s: float | None = None
    ) -> AbstractContextManager[Iterator[bytes]]: ...

    def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]: ...

    def is_directory(self, path: str) -> bool: ...

    def put(self, path: str, data: bytes, key: str) -> str | None: ...

    def write(self, path: str, data: bytes | Iterable[bytes]) -> None: ...

    def mkdir(self, path: str) -> None: ...

    def rename(self, source: str, target: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def call(self, method: str, url: str, content: Body, key: str | None = None) -> Any: ...

    def answered(
        self, method: str, url: str, content: Body | None = None, headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Iterator[bytes]]: ...


class Tree(Protocol):
    """The tree for who has an event loop (`pfs.client.asking.Asking`)."""

    async def read(self, path: str) -> bytes: ...

    def stream(
        self, path: str, start: int = 0, silence_s: float | None = None
    ) -> AbstractAsyncContextManager[AsyncGenerator[bytes, None]]: ...

    async def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]: ...

    async def put(self, path: str, data: bytes, key: str) -> str | None: ...

    async def write(self, path: str, data: bytes | Iterable[bytes]) -> None: ...

    async def mkdir(self, path: str) -> None: ...

    async def rename(self, source: str, target: str) -> None: ...

    async def remove(self, path: str) -> None: ...

    async def call(self, method: str, url: str, content: Body, key: str | None = None) -> Any: ...


class Way(Protocol):
    """A way to a datacenter."""

    @property
    def tree(self) -> Tree: ...

    async def pause(self, seconds: float) -> None: ...

    def clock_s(self) -> float: ...

    async def aside(self, work: Callable[[Blocking], T]) -> T:
        """Do what blocks."""
        ...

    def rest(self, seconds: float) -> None:
        """Wait, in what blocks."""
        ...

    def goes_on(self, *_: object) -> None:
        """Raise, in what blocks, where whoever asked for it wants it no more."""
        ...

    def tell(self, heard: Callable[[T], object], what: T) -> None:
        """Tell the program something, in what blocks; raise as `goes_on` does, and what the program raises."""
        ...


class Straight:
    """The way of a program without an event loop: all of it blocks, and nothing ever waits."""

    def __init__(self, server: Blocking, sleep: Callable[[float], None] = time.sleep) -> None:
        self._server = server
        self._sleep = sleep
        self.tree = _Straight(server)

    async def pause(self, seconds: float) -> None:
        self._sleep(seconds)

    def clock_s(self) -> float:
        return time.monotonic()

    async def aside(self, work: Callable[[Blocking], T]) -> T:
        return work(self._server)

    def rest(self, seconds: float) -> None:
        self._sleep(seconds)

    def goes_on(self, *_: object) -> None:
        pass  # who stops a program without an event loop stops the work itself

    def tell(self, heard: Callable[[T], object], what: T) -> None:
        heard(what)


def asked(
    server: Blocking, service: Callable[Concatenate[Way, P], Coroutine[Any, Any, T]], *args: P.args, **named: P.kwargs
) -> T:
    """Return what a service does for a program without an event loop, as the commands are."""
    return now(service(Straight(server), *args, **named))


class _Straight:
    """The tree of somebody who blocks, as one that never waits."""

    def __init__(self, server: Blocking) -> None:
        self._server = server

    async def read(self, path: str) -> bytes:
        return self._server.read(path)

    def stream(
        self, path: str, start: int = 0, silence_s: float | None = None
    ) -> AbstractAsyncContextManager[AsyncGenerator[bytes, None]]:
        more: Mapping[str, float] = {} if silence_s is None else {"silence_s": silence_s}
        return lifted(self._server.stream(path, start, **more))

    async def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]:
        return self._server.list(path, each)

    async def put(self, path: str, data: bytes, key: str) -> str | None:
        return self._server.put(path, data, key)

    async def write(self, path: str, data: bytes | Iterable[bytes]) -> None:
        self._server.write(path, data)

    async def mkdir(self, path: str) -> None:
        self._server.mkdir(path)

    async def rename(self, source: str, target: str) -> None:
        self._server.rename(source, target)

    async def remove(self, path: str) -> None:
        self._server.remove(path)

    async def call(self, method: str, url: str, content: Body, key: str | None = None) -> Any:
        return self._server.call(method, url, content, key)
