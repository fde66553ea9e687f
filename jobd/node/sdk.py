"""The docker SDK's client, on one connection that it keeps.

The SDK's own way to a socket in the file system keeps a connection for every address that was ever asked, so that a
container's calls open one each, and leaves a socket open each time that nobody listens.
"""

import socket
from contextlib import ExitStack
from typing import Any

import docker
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

_UNIX = "unix://"


def new_client(base_url: str, version: str, timeout_s: float) -> docker.APIClient:
    """Return a client for one thread at a time; it has not asked the engine anything yet.

    Args:
        base_url: `unix:///path` or `tcp://host:port`.
        version: of the engine's API.
        timeout_s: of every wait for the engine.
    """
    client = docker.APIClient(base_url=base_url, version=version, timeout=timeout_s)
    if base_url.startswith(_UNIX):
        client.mount(client.base_url, _Adapter(base_url.removeprefix(_UNIX), timeout_s))
    return client


class _Connection(HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        with ExitStack() as undo:
            sock = undo.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(self._timeout_s)
            sock.connect(self._path)
            undo.pop_all()
        self.sock = sock


class _Pool(HTTPConnectionPool):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s, maxsize=1)
        self._path = path
        self._timeout_s = timeout_s

    def _new_conn(self) -> _Connection:
        return _Connection(self._path, self._timeout_s)


class _Adapter(HTTPAdapter):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__()
        self._pool = _Pool(path, timeout_s)

    def get_connection_with_tls_context(self, *_request: Any, **_options: Any) -> _Pool:
        return self._pool

    def request_url(self, request: Any, proxies: Any) -> str:
        return str(request.path_url)

    def close(self) -> None:
        self._pool.close()
        super().close()
