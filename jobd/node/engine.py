"""Talking to a container engine: the docker SDK for calls that answer, httpx for those that stream.

The SDK is synchronous and not safe to share between threads, so each call runs in a worker thread with a client of
its own. A thread that reads a stream could not be cancelled, and would be one thread per task: attaching, following
a log, waiting and pulling go over httpx instead, where a cancel scope ends them at once. So does the start of a
container: it is asked for once, and waited for as long as it takes. An engine that hangs has read a question whose
answer nobody waits for any more; it would start what has ended since once more.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, closing
from typing import Any, TypeVar

import docker
import docker.auth
import docker.errors
import docker.utils
import httpcore
import httpx
import requests
import trio
from docker.constants import DEFAULT_DOCKER_API_VERSION

from jobd.node.enginestreams import Events, Frames
from jobd.node.runtime import RuntimeAway
from jobd.node.sdk import new_client
from jobd.wire import Credential

THREADS_MAX = 8
CALL_TIMEOUT_S = 60
KNOCK_TIMEOUT_S = 5.0
READ_BYTES = 64 * 1024
WORDS_MAX = 200

# what is read after an upgrade comes from httpcore itself
_LOST = (httpx.TransportError, httpcore.NetworkError, httpcore.ProtocolError)
SWITCHED, NOT_FOUND, CONFLICT = 101, 404, 409

_T = TypeVar("_T")


class Refusal(Exception):
    """The engine refused; the text is its own words.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class EngineSilent(RuntimeAway):
    """The engine has not answered for a while; it may be slow, and all that it runs goes on."""


class Engine:
    """A container engine at `base_url` (`unix:///path` or `tcp://host:port`).

    Attributes:
        trouble: why it is not worth asking now (`jobd.node.enginewatch`); None where it is.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.trouble: RuntimeAway | None = None
        self._version = ""
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
        if self.trouble is not None:
            raise type(self.trouble)(str(self.trouble))
        return await trio.to_thread.run_sync(self._call, function, limiter=self._threads)

    def _call(self, function: Callable[[docker.APIClient], _T]) -> _T:
        while True:
            try:
                client = self._free.pop()
            except IndexError:
                return self._use(self._connect(), function)
            try:
                return self._use(client, function)
            except EngineSilent:
                raise
            except RuntimeAway:
                continue  # its connection may be from before a restart of the engine

    def _use(self, client: docker.APIClient, function: Callable[[docker.APIClient], _T]) -> _T:
        try:
            result = function(client)
        except docker.errors.APIError as error:
            self._free.append(client)
            raise Refusal(error.status_code or 0, str(error.explanation or error)) from None
        except (OSError, docker.errors.DockerException) as error:
            client.close()
            if isinstance(error, requests.Timeout):
                raise self._silent(CALL_TIMEOUT_S) from None
            raise self._away(error) from None
        except BaseException:
            client.close()
            raise
        self._free.append(client)
        return result

    def _away(self, error: Exception) -> RuntimeAway:
        return RuntimeAway(f"the container engine at {self.base_url} does not answer ({_short(error)})")

    def _silent(self, for_s: float) -> EngineSilent:
        return EngineSilent(f"the container engine at {self.base_url} has not answered within {for_s:g} s")

    def _connect(self) -> docker.APIClient:
        if not self._version:
            self._version = self._newest_version()
        return new_client(self.base_url, self._version, CALL_TIMEOUT_S)

    def _newest_version(self) -> str:
        """Return the newest version of the API that the engine speaks."""
        with closing(new_client(self.base_url, DEFAULT_DOCKER_API_VERSION, CALL_TIMEOUT_S)) as client:
            try:
                return str(client.version(api_version=False)["ApiVersion"])
            except (OSError, docker.errors.DockerException) as error:
                raise self._away(error) from None
            except (LookupError, TypeError, ValueError):
                raise RuntimeAway(f"what answers at {self.base_url} is no container engine") from None

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

    async def knock(self) -> None:
        """Return once the engine has answered by a connection of its own: one that ends takes no new ones.

        Raises:
            RuntimeAway: it does not within `KNOCK_TIMEOUT_S`, or what it answers is no answer.
        """
        answer = b""
        try:
            with trio.fail_after(KNOCK_TIMEOUT_S):
                async with await self._door() as door:
                    await door.send_all(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
                    while data := await door.receive_some():
                        answer += data
        except trio.TooSlowError:
            raise self._silent(KNOCK_TIMEOUT_S) from None
        except (OSError, trio.BrokenResourceError) as error:
            raise self._away(error) from None
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.partition(b"\r\n")[0].partition(b" ")[2].decode(errors="replace")
        if not status.startswith("200"):
            words = f"{status or 'nothing'} {_words(body)}".strip()
            raise RuntimeAway(f"the container engine at {self.base_url} answers {words[:WORDS_MAX]}")

    async def upgraded(self, path: str, body: dict[str, Any]) -> trio.SocketStream:
        """Return the connection by which the engine gives and takes bytes after it was asked with `POST path`.

        Raises:
            Refusal, RuntimeAway
        """
        text = json.dumps(body).encode()
        head = f"POST /v{self._version}{path} HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        answer = b""
        try:
            door = await self._door()
        except OSError as error:
            raise self._away(error) from None
        try:
            await door.send_all(head.encode() + text)
            while not answer.endswith(b"\r\n\r\n"):
                # byte by byte: what follows the head is not this one's to read
                data = await door.receive_some(1)
                if not data:
                    raise RuntimeAway(f"the container engine at {self.base_url} hung up")
                answer += data
            status = int(answer.split(b" ", 2)[1])
            if status != SWITCHED:
                rest = await door.receive_some(READ_BYTES)
                raise Refusal(status, _words(rest))
        except BaseException as error:
            await trio.aclose_forcefully(door)
            if isinstance(error, trio.BrokenResourceError):
                raise self._away(error) from None
            raise
        return door

    async def _door(self) -> trio.SocketStream:
        scheme, _, rest = self.base_url.partition("://")
        if scheme == "unix":
            return await trio.open_unix_socket(rest)
        host, _, port = rest.partition(":")
        return await trio.open_tcp_stream(host, int(port))

    async def ask(self, path: str) -> Any:
        """Return what the engine answers to `GET path`; unlike `call` it can be cancelled.

        Raises:
            Refusal, RuntimeAway
        """
        async with self._stream("GET", path) as response:
            return json.loads(await response.aread())

    async def start(self, container: str) -> None:
        """Start a container; one that runs is left alone, and one that is over would be started again.

        Raises:
            Refusal, RuntimeAway
        """
        async with self._stream("POST", f"/containers/{container}/start") as response:
            await response.aread()

    @asynccontextmanager
    async def events(self) -> AsyncIterator[Events]:
        """Give what the engine tells of itself from now on, as long as it is there: that it read its settings anew."""
        params = {"filters": json.dumps({"type": ["daemon"], "event": ["reload"]})}
        async with self._stream("GET", "/events", params=params) as response:
            chunks = response.aiter_raw()
            assert isinstance(chunks, AsyncGenerator)
            async with aclosing(chunks):
                yield Events(lambda: anext(chunks, b""))

    @asynccontextmanager
    async def attach(self, container: str) -> AsyncIterator[Frames]:
        """Give what a container writes from now on, until it is over."""
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        params = {"stream": 1, "stdout": 1, "stderr": 1}
        async with self._stream("POST", f"/containers/{container}/attach", params=params, headers=headers) as response:
            stream = response.extensions["network_stream"]
            yield Frames(lambda: stream.read(READ_BYTES))

    @asynccontextmanager
    async def logs(self, container: str, *, follow: bool = False, last: int | None = None) -> AsyncIterator[Frames]:
        """Give what the engine keeps of a container's output, from the start or only so many pieces at its end."""
        params = {"follow": int(follow), "stdout": 1, "stderr": 1, "tail": "all" if last is None else last}
        async with self._stream("GET", f"/containers/{container}/logs", params=params) as response:
            chunks = response.aiter_raw()
            assert isinstance(chunks, AsyncGenerator)
            async with aclosing(chunks):
                try:
                    yield Frames(lambda: anext(chunks, b""))
                finally:
                    # closing it leaves open what it reads from; what is cancelled is closed down to the socket
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        while await anext(chunks, b""):
                            pass

    @asynccontextmanager
    async def next_exit(self, container: str) -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
        """Give what returns once a container that is yet to be started is over.

        It was asked before the start, so an answer says that one engine has seen all of the container's life.
        """
        params = {"condition": "next-exit"}
        async with self._stream("POST", f"/containers/{container}/wait", params=params) as response:
            yield response.aread

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

    @asynccontextmanager
    async def pull(self, image: str, credential: Credential | None) -> AsyncIterator[Events]:
        """Fetch an image; give what the engine tells of it.

        Args:
            credential: for its registry; without, that of this machine's docker configuration.

        Raises:
            Refusal: with the registry's words.
            RuntimeAway
        """
        name, tag = docker.utils.parse_repository_tag(image)
        headers = await self._headers(name, credential)
        params = {"fromImage": name, "tag": tag or "latest"}
        async with self._stream("POST", "/images/create", params=params, headers=headers) as response:
            chunks = response.aiter_raw()
            assert isinstance(chunks, AsyncGenerator)
            async with aclosing(chunks):
                yield Events(lambda: anext(chunks, b""))

    async def registry_has(self, image: str, credential: Credential | None) -> bool:
        """Tell whether the registry of an image says that it has it.

        Raises:
            RuntimeAway
        """
        headers = await self._headers(docker.utils.parse_repository_tag(image)[0], credential)
        try:
            async with self._stream("GET", f"/distribution/{image}/json", headers=headers) as response:
                await response.aread()
        except Refusal:
            return False
        return True

    async def _headers(self, name: str, credential: Credential | None) -> dict[str, str]:
        """Return with what a registry is asked."""
        if credential is None:
            registry, _ = docker.auth.resolve_repository_name(name)
            header = await self.call(lambda client: docker.auth.get_config_header(client, registry))
        else:
            words = {"username": credential.username, "password": credential.password}
            header = docker.auth.encode_header({**words, "serveraddress": credential.server})
        return {"X-Registry-Auth": header.decode()} if header else {}


def _words(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode(errors="replace").strip()


def _short(error: BaseException) -> str:
    # what the system said lies below what two libraries say about it
    cause: BaseException | None = error
    words = ""
    while cause is not None:
        words = (cause.strerror if isinstance(cause, OSError) else "") or words
        cause = cause.__context__
    if words:
        return words
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
