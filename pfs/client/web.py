"""The tree over plain HTTP, one request after the other: for commands that look once and end.

What is asked, and what answers mean, is in `pfs.client.asking`; here nothing in it ever waits.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from pfs.client.asking import TIMEOUT_S, Asking
from pfs.client.authority import authorization, trust
from pfs.client.http11 import Answer, Body, Http, Request
from pfs.client.immediate import each, entered, now
from pfs.keys import Pair

T = TypeVar("T")


class WebClient:
    """What the owner of a token may see of the server at `endpoint`.

    Args:
        ca: file with the certificate authority to trust instead of the system's.
        shows: whether the token is shown; else it only tells whom to trust, as an invitation does.
        own: a certificate that tells who we are, beside a token or instead of one.

    Raises:
        PfsError: INVALID or UNAUTHENTICATED for an address, an authority or a token that cannot be one.
    """

    def __init__(
        self, endpoint: str, token: str, ca: str | None = None, *, shows: bool = True, own: Pair | None = None
    ) -> None:
        headers = dict(authorization(token, own)) if shows else {}
        self._http = Http(endpoint, headers, trust(endpoint, token, ca, own), TIMEOUT_S)
        self._asking = Asking(endpoint, (token, ca), own, _Blocking(self._http))

    def __enter__(self) -> "WebClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def read(self, path: str) -> bytes:
        """Return a whole file; of a stream, what there is."""
        return now(self._asking.read(path))

    @contextmanager
    def stream(self, path: str, start: int = 0, silence_s: float | None = None) -> Iterator[Iterator[bytes]]:
        """Give what is in a stream, as it comes, until its writer is done; or in a file from `start` on, in bytes.

        Args:
            silence_s: how long nothing may come; None for as long as the server likes.
        """
        with entered(self._asking.stream(path, start, silence_s)) as pieces:
            yield each(pieces)

    def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]:
        """Return the entries of a directory, with the text of the file `each` in every subdirectory.

        Raises:
            PfsError: NOT_DIR for a file, whatever is in it.
        """
        return now(self._asking.list(path, each))

    def is_directory(self, path: str) -> bool:
        """Tell whether a directory is there, or a link of the tree's own to one."""
        return now(self._asking.is_directory(path))

    def put(self, path: str, data: bytes, key: str) -> str | None:
        """Put a whole file; return the path of what came of it, where something did.

        Args:
            key: makes a repetition harmless: the same key again gives the same result.
        """
        return now(self._asking.put(path, data, key))

    def write(self, path: str, data: bytes | Iterable[bytes]) -> None:
        """Write a whole file in a data domain, or to one that takes commands, which are sent in one piece."""
        now(self._asking.write(path, data))

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        now(self._asking.mkdir(path))

    def rename(self, source: str, target: str) -> None:
        """Give a file or directory another name, which replaces what had it."""
        now(self._asking.rename(source, target))

    def remove(self, path: str) -> None:
        """Remove a file, an empty directory, or a job that is over."""
        now(self._asking.remove(path))

    def call(self, method: str, url: str, content: Body, key: str | None = None) -> Any:
        """Ask for something beside the tree, such as `/api/v1/trees/blobs`; return the answer: JSON, or None for none.

        Args:
            content: what is sent; pieces are sent as they come, without a bound in time.
            key: makes a repetition harmless, as of `put`.
        """
        return now(self._asking.call(method, url, content, key))

    @contextmanager
    def answered(
        self, method: str, url: str, content: Body | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[Iterator[bytes]]:
        """Ask for something beside the tree, as `call` does; give the answer in pieces, as it comes."""
        with entered(self._asking.answered(method, url, content, headers)) as pieces:
            yield each(pieces)


class _Blocking:
    """Carries requests by what blocks."""

    def __init__(self, http: Http) -> None:
        self._http = http

    @asynccontextmanager
    async def asking(self, request: Request) -> AsyncIterator["_Heard"]:
        with self._http.asking(request) as answer:
            yield _Heard(answer)

    async def aside(self, work: Callable[[], T]) -> T:
        return work()


class _Heard:
    """An answer that came by what blocks."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.content_type = answer.content_type
        self._answer = answer

    async def read(self) -> bytes:
        return self._answer.read()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        for piece in self._answer.pieces():
            yield piece


def facts(text: str | None) -> Mapping[str, str]:
    """Read flat-keyed facts, one `key value` a line."""
    pairs = (line.partition(" ") for line in (text or "").splitlines())
    return {key: value for key, _, value in pairs}
