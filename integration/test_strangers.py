"""The server among strangers: those who fill it with what never comes, and those behind a proxy."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from integration.box import BIN, WAIT_S, Box, box, listens, wait_until
from pfs.audit.record import record_in

DESCRIPTORS = 800  # of the server, which lets in half as many connections
ADDRESSES = 9


@pytest.fixture
def made() -> Iterator[Box]:
    with box() as made:
        yield made


def start_small(made: Box) -> None:
    """Start a server that may have few descriptors."""
    limit = f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"
    words = ["prlimit", limit, str(BIN / "jobd"), "serve", "--data-root", str(made.data), "--port", str(made.port)]
    process = made.spawn("server", "/usr/bin/env", *words)
    wait_until(lambda: listens(made.port) or process.poll() is not None)
    assert process.poll() is None, made.log_of("server")


def request(made: Box, method: str, path: str, length: int) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {made.token}\r\ncontent-length: {length}"
    return f"{head}\r\n\r\n".encode()


def test_bodies_that_never_come_from_many_addresses_keep_nobody_out(made: Box) -> None:
    start_small(made)
    with contextlib.ExitStack() as stack:
        user = stack.enter_context(socket.create_connection(("127.0.0.1", made.port), timeout=WAIT_S))
        user.sendall(request(made, "PUT", "/api/v1/fs/home/demo/x", 8) + b"half")
        wait_until(lambda: (made.data / "home/demo").is_dir() and any((made.data / "home/demo").iterdir()))

        def begin(number: int) -> None:
            address = (f"127.0.0.{2 + number % ADDRESSES}", 0)
            each = socket.create_connection(("127.0.0.1", made.port), timeout=WAIT_S, source_address=address)
            stack.enter_context(each)
            each.sendall(b"POST /api/v1/login HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")

        def one_more_is_told_of() -> bool:
            """Those that are cut before the server has read what they ask are none to tell of."""
            begin(0)
            return "it had shown no key yet" in made.log_of("server")

        for number in range(DESCRIPTORS):
            begin(number)
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", made.port), timeout=WAIT_S) as other:
                other.sendall(request(made, "GET", "/api/v1/tokens", 0))
                assert other.recv(99).startswith(b"HTTP/1.1 200")
        wait_until(one_more_is_told_of)
        user.sendall(b"full")
        assert user.recv(99).startswith(b"HTTP/1.1 204")
    assert (made.data / "home/demo/x").read_bytes() == b"halffull"


@pytest.mark.parametrize(
    ("options", "source"), [(["--no-tls"], "203.0.113.7"), ([], "127.0.0.1")], ids=["a proxy", "none"]
)
def test_what_a_proxy_says_of_who_asks_counts_where_one_is_told_of(made: Box, options: list[str], source: str) -> None:
    made.start_server(*options)
    body = json.dumps({"user": "demo", "password": "x", "machine": "x"})
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", made.port, timeout=WAIT_S)) as connection:
        connection.request("POST", "/api/v1/login", body, {"X-Forwarded-For": "198.51.100.1, 203.0.113.7"})
        assert connection.getresponse().status == 401
    told = made.run("jobd", "audit", "--data-root", str(made.data))
    records = [record_in(line) for line in told.stdout.splitlines()]
    assert [record.source for record in records if record.what == "login"] == [source], told.stderr
