"""Talking to a container engine: the docker SDK for calls that answer, httpx for those that stream.

The SDK is synchronous and not safe to share between threads, so each call runs in a worker thread with a client of
its own. A thread that reads a stream could not be cancelled, and would be one thread per task: attaching, following
a log, waiting and pulling go over httpx instead, where a cancel scope ends them at once.
"""

import json
import socket
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import docker
import docker.auth
import docker.errors
import docker.utils
import httpcore
import httpx
import trio

from jobd.node.runtime import RuntimeAway

THREADS_MAX = 8
CALL_TIMEOUT_S = 60
READ_BYTES = 64 * 1024
DEFAULT_URL = "unix:///var/run/docker.sock"

# what is read after an upgrade comes from httpcore itself
_LOST = (httpx.TransportError, httpcore.NetworkError, httpcore.ProtocolError)
NOT_FOUND, CONFLICT = 404, 409

_FRAME = struct.Struct(">BxxxI")
_T = TypeVar("_T")


class Refusal(Exception):
    """The engine refused; the text is its own words.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Engine:
    """A container engine at `base_url` (`unix:///path` or `tcp://host:port`)."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._version = "auto"
        self._free: list[docker.APIClient] = []
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        scheme, _, rest = base_url.partition("://")
        transport = httpx.AsyncHTTPTransport(
            uds=rest if scheme == "unix" else None,
            # a pool with a limit loses places when requests are cancelled
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=4),
        )
        where = "http://engine" if scheme == "unix" else f"http://{rest}"
        self._http = httpx.AsyncClient(transport=transport, base_url=where, timeout=httpx.Timeout(None, connect=10))

    async def close(self) -> None:
        """Let go of all connections."""
        await self._http.aclose()
        while self._free:
            self._free.pop().close()

    async def call(self, function: Callable[[docker.APIClient], _T]) -> _T:
        """Run `function` with a client in a thread.

        Raises:
            Refusal, RuntimeAway
        """
        return await trio.to_thread.run_sync(self._call, function, limiter=self._threads)

    def _call(self, function: Callable[[docker.APIClient], _T]) -> _T:
        self._knock()
        give_up_at = time.monotonic() + CALL_TIMEOUT_S / 2
        while time.monotonic() < give_up_at:
            try:
                client = self._free.pop()
            except IndexError:
                break
            try:
                return self._use(client, function)
            except RuntimeAway:
                continue  # its connection may be from before a restart of the engine
        return self._use(self._connect(), function)

    def _use(self, client: docker.APIClient, function: Callable[[docker.APIClient], _T]) -> _T:
        try:
            result = function(client)
        except docker.errors.APIError as error:
            self._free.append(client)
            raise Refusal(error.status_code or 0, str(error.explanation or error)) from None
        except (OSError, docker.errors.DockerException) as error:
            client.close()
            raise self._away(error) from None
        self._free.append(client)
        return result

    def _away(self, error: Exception) -> RuntimeAway:
        return RuntimeAway(f"the container engine at {self.base_url} does not answer ({_short(error)})")

    def _knock(self) -> None:
        """Fail like the SDK would where nobody listens; the SDK leaves a socket open each time."""
        if self.base_url.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(CALL_TIMEOUT_S)
                try:
                    door.connect(self.base_url.removeprefix("unix://"))
                except OSError as error:
                    raise self._away(error) from None

    def _connect(self) -> docker.APIClient:
        try:
            client = docker.APIClient(base_url=self.base_url, version=self._version, timeout=CALL_TIMEOUT_S)
        except (OSError, docker.errors.DockerException) as error:
            raise self._away(error) from None
        self._version = client.api_version
        return client

    @asynccontextmanager
    async def _stream(self, method: str, path: str, **options: Any) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream(method, f"/v{self._version}{path}", **options) as response:
                if response.status_code >= 400:
                    text = await response.aread()
                    raise Refusal(response.status_code, _words(text))
                yield response
        except _LOST as error:
            raise self._away(error) from None

    async def ask(self, path: str) -> Any:
        """Return what the engine answers to `GET path`; unlike `call` it can be cancelled.

        Raises:
            Refusal, RuntimeAway
        """
        async with self._stream("GET", path) as response:
            return json.loads(await response.aread())

    @asynccontextmanager
    async def attach(self, container: str) -> AsyncIterator["Frames"]:
        """Give what a container writes from now on, until it is over."""
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        params = {"stream": 1, "stdout": 1, "stderr": 1}
        async with self._stream("POST", f"/containers/{container}/attach", params=params, headers=headers) as response:
            stream = response.extensions["network_stream"]
            yield Frames(lambda: stream.read(READ_BYTES))

    @asynccontextmanager
    async def logs(self, container: str, *, follow: bool) -> AsyncIterator["Frames"]:
        """Give what the engine keeps of a container's output, from the start."""
        params = {"follow": int(follow), "stdout": 1, "stderr": 1}
        async with self._stream("GET", f"/containers/{container}/logs", params=params) as response:
            chunks = response.aiter_raw()
            assert isinstance(chunks, AsyncGenerator)
            async with aclosing(chunks):
                yield Frames(lambda: anext(chunks, b""))

    async def wait(self, container: str) -> None:
        """Return once the container does not run, or is not there."""
        try:
            async with self._stream("POST", f"/containers/{container}/wait") as response:
                await response.aread()
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise RuntimeAway(str(refusal)) from None

    async def state(self, container: str) -> dict[str, Any] | None:
        """Return what the engine knows of a container's state; None where there is no such container."""
        try:
            found = await self.call(lambda client: client.inspect_container(container))
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise RuntimeAway(str(refusal)) from None
            return None
        return {**found["State"], "Id": found["Id"], "Labels": found["Config"]["Labels"]}

    async def pull(self, image: str) -> None:
        """Fetch an image, with the credentials of this machine's docker configuration.

        Raises:
            Refusal: with the registry's words.
        """
        name, tag = docker.utils.parse_repository_tag(image)
        registry, _ = docker.auth.resolve_repository_name(name)
        header = await self.call(lambda client: docker.auth.get_config_header(client, registry))
        headers = {"X-Registry-Auth": header.decode()} if header else {}
        params = {"fromImage": name, "tag": tag or "latest"}
        async with self._stream("POST", "/images/create", params=params, headers=headers) as response:
            async for line in response.aiter_lines():
                error = json.loads(line).get("error") if line.strip() else None
                if error:
                    raise Refusal(404, str(error))


def _words(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode(errors="replace").strip()


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


class Frames:
    """A container's output as the engine sends it: pieces of stdout and stderr in one stream."""

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._buffer = bytearray()

    async def next(self) -> list[tuple[int, bytes]]:
        """Return the next pieces as (1 stdout | 2 stderr, bytes); nothing at the end."""
        frames: list[tuple[int, bytes]] = []
        while not frames:
            data = await self._read()
            if not data:
                return []
            self._buffer += data
            frames = list(self._whole_ones())
        return frames

    def _whole_ones(self) -> Iterator[tuple[int, bytes]]:
        buffer = self._buffer
        while len(buffer) >= _FRAME.size:
            stream, length = _FRAME.unpack_from(buffer)
            end = _FRAME.size + length
            if len(buffer) < end:
                return
            yield stream, bytes(buffer[_FRAME.size : end])
            del buffer[:end]
