"""The tree over plain HTTP, one request after the other: for commands that look once and end."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from pfs.client.authority import about_hanging_up, authorization, trust, why_unreachable
from pfs.client.http11 import Answer, Body, Http, HttpError, Request
from pfs.errors import Kind, PfsError
from pfs.keys import Pair
from pfs.protocol.wire import FILES_PATH, decode_error

TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 300.0  # to what takes the server long: its disk has to have what was sent


@dataclass(frozen=True, slots=True)
class _Reply:
    """A whole answer."""

    status: int
    body: bytes


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
        self._endpoint = endpoint
        self._trusted = token, ca
        self._own = own
        headers = dict(authorization(token, own)) if shows else {}
        self._http = Http(endpoint, headers, trust(endpoint, token, ca, own), TIMEOUT_S)

    def __enter__(self) -> "WebClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def read(self, path: str) -> bytes:
        """Return a whole file; of a stream, what there is."""
        return self._ask("GET", _url(path, {"wait": "0"})).body

    @contextmanager
    def stream(self, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        """Give what is in a stream, as it comes, until its writer is done; or in a file from `start` on, in bytes."""
        headers = {"range": f"bytes={start}-"} if start else {}
        with self._asking(Request("GET", _url(path), headers, None, None)) as answer:
            yield answer.pieces()

    def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]:
        """Return the entries of a directory, with the text of the file `each` in every subdirectory.

        Raises:
            PfsError: NOT_DIR for a file, whatever is in it.
        """
        request = Request("GET", _url(path, {} if each is None else {"each": each}), {}, None, TIMEOUT_S)
        with self._asking(request) as answer:
            if answer.content_type.startswith("application/octet-stream"):
                raise PfsError(Kind.NOT_DIR, f"{path} is not a directory")
            reply = _Reply(answer.status, answer.read())
        entries: list[dict[str, Any]] = self._field(reply, "entries")
        return entries

    def is_directory(self, path: str) -> bool:
        """Tell whether a directory is there, or a link of the tree's own to one."""
        try:
            with self._asking(Request("GET", _url(path, {"wait": "0"}), {}, None, TIMEOUT_S)) as answer:
                return answer.content_type.startswith("application/json")
        except PfsError as error:
            if error.kind in (Kind.NOT_FOUND, Kind.NOT_DIR, Kind.LOOP):
                return False
            raise

    def put(self, path: str, data: bytes, key: str) -> str | None:
        """Put a whole file; return the path of what came of it, where something did.

        Args:
            key: makes a repetition harmless: the same key again gives the same result.
        """
        reply = self._ask("PUT", _url(path), data, headers={"idempotency-key": key})
        return str(self._field(reply, "path")) if reply.status == 201 else None

    def write(self, path: str, data: bytes | Iterable[bytes]) -> None:
        """Write a whole file in a data domain, or to one that takes commands, which are sent in one piece."""
        self._ask("PUT", _url(path), data, answer_s=ANSWER_TIMEOUT_S)

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        self._ask("POST", _url(path, {"op": "mkdir"}), b"")

    def rename(self, source: str, target: str) -> None:
        """Give a file or directory another name, which replaces what had it."""
        self._ask("POST", _url(source, {"op": "rename", "to": target}), b"")

    def remove(self, path: str) -> None:
        """Remove a file, an empty directory, or a job that is over."""
        self._ask("DELETE", _url(path))

    def call(self, method: str, url: str, content: bytes | Iterable[bytes]) -> Any:
        """Ask for something beside the tree, such as `/api/v1/trees/blobs`; return the answer: JSON, or None for none.

        Args:
            content: what is sent; pieces are sent as they come, without a bound in time.
        """
        reply = self._ask(method, url, content, answer_s=ANSWER_TIMEOUT_S)
        return None if reply.status == 204 else self._read(reply)

    def _ask(
        self,
        method: str,
        url: str,
        content: Body | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        answer_s: float | None = None,
    ) -> _Reply:
        request = Request(method, url, headers or {}, content, TIMEOUT_S if answer_s is None else answer_s)
        with self._asking(request) as answer:
            return _Reply(answer.status, answer.read())

    @contextmanager
    def _asking(self, request: Request) -> Iterator[Answer]:
        """Give the answer to a request that was not refused."""
        try:
            with self._http.asking(request) as answer:
                if not 200 <= answer.status < 300:
                    raise self._refusal(_Reply(answer.status, answer.read()))
                yield answer
        except HttpError as error:
            why = why_unreachable(self._endpoint, *self._trusted, error)
            why += about_hanging_up(self._own) if error.hung_up else ""
            raise PfsError(Kind.UNREACHABLE, f"no answer from the server at {self._endpoint}: {why}") from None

    def _refusal(self, reply: _Reply) -> PfsError:
        try:
            told = json.loads(reply.body)
            if "msg" in told:  # by a door of REST v1
                return decode_error({"kind": told["kind"], "message": told["msg"]})
            return decode_error(told["error"])
        except (ValueError, KeyError, TypeError):
            return self._stranger(reply)

    def _field(self, reply: _Reply, name: str) -> Any:
        try:
            return self._read(reply)[name]
        except (KeyError, TypeError):
            raise self._stranger(reply) from None

    def _read(self, reply: _Reply) -> Any:
        try:
            return json.loads(reply.body)
        except ValueError:
            raise self._stranger(reply) from None

    def _stranger(self, reply: _Reply) -> PfsError:
        text = f"what answers at {self._endpoint} is not a pfs server (status {reply.status})"
        return PfsError(Kind.UNREACHABLE, text)


def facts(text: str | None) -> Mapping[str, str]:
    """Read flat-keyed facts, one `key value` a line."""
    pairs = (line.partition(" ") for line in (text or "").splitlines())
    return {key: value for key, _, value in pairs}


def _url(path: str, params: Mapping[str, str] | None = None) -> str:
    query = f"?{urlencode(params, errors='surrogateescape')}" if params else ""
    return f"{FILES_PATH}/{quote(path, errors='surrogateescape')}{query}"
