"""The docker SDK's client on one kept connection, against a small engine on a socket."""

import gc
import json
import socketserver
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import docker.errors
import pytest
import requests

from jobd.node.sdk import new_client

VERSION = "1.41"


class Asked(BaseHTTPRequestHandler):
    """Answers every question with how many connections there were."""

    protocol_version = "HTTP/1.1"
    connections = 0

    def setup(self) -> None:
        type(self).connections += 1
        super().setup()

    def do_GET(self) -> None:
        text = json.dumps({"Id": self.path, "connections": type(self).connections}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    Asked.connections = 0
    place = tmp_path / "engine"
    with socketserver.ThreadingUnixStreamServer(str(place), Asked) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield place
        server.shutdown()
        thread.join()


def test_all_questions_of_a_client_go_over_one_connection(path: Path) -> None:
    with closing(new_client(f"unix://{path}", VERSION, 20)) as client:
        assert [client.inspect_container(name)["connections"] for name in ("a", "b", "c")] == [1, 1, 1]
        assert client.inspect_container("d")["Id"] == f"/v{VERSION}/containers/d/json"


@pytest.mark.parametrize("there", [False, True])
def test_no_socket_stays_open_where_nobody_listens(tmp_path: Path, there: bool) -> None:
    place = tmp_path / "engine"
    if there:
        socketserver.UnixStreamServer(str(place), Asked).server_close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = new_client(f"unix://{place}", VERSION, 20)
        with closing(client), pytest.raises((requests.ConnectionError, docker.errors.DockerException)):
            client.inspect_container("a")
        gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []


def test_a_client_asks_nothing_by_itself(tmp_path: Path) -> None:
    new_client(f"unix://{tmp_path}/nobody", VERSION, 20).close()
