"""The tree over plain HTTP, one request after the other: for commands that look once and end."""

import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from pfs.client.authority import about_hanging_up, authorization, trust, why_unreachable
from pfs.errors import Kind, PfsError
from pfs.keys import Pair
from pfs.protocol.wire import FILES_PATH, decode_error

TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 300.0  # to what takes the server long: its disk has to have what was sent


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
        headers = {"accept-encoding": "identity", **(dict(authorization(token, own)) if shows else {})}
        verify = trust(endpoint, token, ca, own) or False
        self._client = httpx.Client(base_url=endpoint, headers=headers, timeout=TIMEOUT_S, verify=verify)

    def __enter__(self) -> "WebClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def read(self, path: str) -> bytes:
        """Return a whole file; of a stream, what there is."""
        return self._ask("GET", path, params={"wait": "0"}).content

    @contextmanager
    def stream(self, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        """Give what is in a stream, as it comes, until its writer is done; or in a file from `start` on, in bytes."""
        timeout = httpx.Timeout(TIMEOUT_S, read=None)
        headers = {"range": f"bytes={start}-"} if start else {}
        try:
            with self._client.stream("GET", _url(path), timeout=timeout, headers=headers) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response)
                yield response.iter_raw()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]:
        """Return the entries of a directory, with the text of the file `each` in every subdirectory."""
        params = {} if each is None else {"each": each}
        entries: list[dict[str, Any]] = _field(self._ask("GET", path, params=params), "entries")
        return entries

    def put(self, path: str, data: bytes, key: str) -> str | None:
        """Put a whole file; return the path of what came of it, where something did.

        Args:
            key: makes a repetition harmless: the same key again gives the same result.
        """
        response = self._ask("PUT", path, content=data, headers={"idempotency-key": key})
        return str(_field(response, "path")) if response.status_code == 201 else None

    def write(self, path: str, data: bytes) -> None:
        """Write to a file that takes commands."""
        self._ask("PUT", path, content=data)

    def call(self, method: str, url: str, content: bytes | Iterable[bytes]) -> Any:
        """Ask for something beside the tree, such as `/api/v1/trees/blobs`; return the answer: JSON, or None for none.

        Args:
            content: what is sent; pieces are sent as they come, without a bound in time.
        """
        timeout = httpx.Timeout(TIMEOUT_S, read=ANSWER_TIMEOUT_S)
        response = self._request(method, url, content=content, timeout=timeout)
        if response.status_code == 204:
            return None
        try:
            return response.json()
        except ValueError:
            raise _stranger(response) from None

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._request(method, _url(path), **options)

    def _request(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            response = self._client.request(method, url, **options)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if not response.is_success:
            raise _refusal(response)
        return response

    def _unreachable(self, error: httpx.HTTPError) -> PfsError:
        why = _why(self._endpoint, *self._trusted, error)
        if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
            why += about_hanging_up(self._own)
        return PfsError(Kind.UNREACHABLE, f"no answer from the server at {self._endpoint}: {why}")


def _why(endpoint: str, token: str, ca: str | None, error: httpx.HTTPError) -> str:
    bottom: BaseException | None = error
    while bottom is not None and not isinstance(bottom, ssl.SSLError):
        bottom = bottom.__cause__ or bottom.__context__
    if bottom is not None:
        return why_unreachable(endpoint, token, ca, bottom)
    return str(error) or type(error).__name__


def facts(text: str | None) -> Mapping[str, str]:
    """Read flat-keyed facts, one `key value` a line."""
    pairs = (line.partition(" ") for line in (text or "").splitlines())
    return {key: value for key, _, value in pairs}


def _url(path: str) -> str:
    return f"{FILES_PATH}/{quote(path, errors='surrogateescape')}"


def _field(response: httpx.Response, name: str) -> Any:
    try:
        return response.json()[name]
    except (ValueError, KeyError, TypeError):
        raise _stranger(response) from None


def _refusal(response: httpx.Response) -> PfsError:
    try:
        return decode_error(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return _stranger(response)


def _stranger(response: httpx.Response) -> PfsError:
    where = response.url.copy_with(path="/", query=None)
    return PfsError(Kind.UNREACHABLE, f"what answers at {where} is not a pfs server (status {response.status_code})")
